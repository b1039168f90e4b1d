"""One decoder for every model with the cache protocol: sampling, streaming, stop strings, beam search."""

from __future__ import annotations

from descent.generation.beam import BeamSettings, Hypothesis, beam_search
from descent.generation.decode import Completion, Step, generate, stream
from descent.generation.prepare import prepare
from descent.generation.protocol import Decodable, context_limit
from descent.generation.settings import Settings

__all__ = [
    "BeamSettings",
    "Completion",
    "Decodable",
    "Hypothesis",
    "Settings",
    "Step",
    "beam_search",
    "context_limit",
    "generate",
    "prepare",
    "stream",
]
