"""Texts in, texts out, by an encoder-decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from descent.data.pairs import source_ids
from descent.errors import UserError
from descent.generation.beam import BeamSettings, beam_search
from descent.generation.conditioned import Conditioned, condition
from descent.generation.decode import Completion, generate
from descent.generation.protocol import device_of
from descent.generation.settings import Settings
from descent.text.tokenizer import Tokenizer

AT_ONCE = 64
"""Texts encoded and decoded together."""


def translate(
    model: nn.Module,
    texts: Sequence[str],
    tokenizer: Tokenizer,
    settings: Settings | None = None,
    *,
    beams: int = 1,
    start: Sequence[int] = (),
) -> list[Completion]:
    """What the model writes for each text.

    Args:
        model: an encoder-decoder, see `generation.conditioned`.
        texts: sources.
        tokenizer: of both sides.
        settings: greedy when not given; with beams only `max_new_tokens`, `stop_ids` and `forbidden` count.
            The tokenizer's end mark is always a stop id.
        beams: over 1, the most probable text found by beam search of that width.
        start: what the decoder begins with; what the tokenizer pads with when empty.

    Raises:
        UserError: stop strings with beam search.
    """
    chosen = settings or Settings(temperature=0.0)
    chosen = chosen.replace(stop_ids=sorted({tokenizer.end, *chosen.stop_ids}))
    found: list[Completion] = []
    for first in range(0, len(texts), AT_ONCE):
        part = texts[first : first + AT_ONCE]
        twin, prompts = begin(model, part, tokenizer, start)
        if beams > 1:
            found += _beams(twin, prompts, chosen, beams, tokenizer)
        else:
            seeds = [chosen.seed + first + row for row in range(len(part))]
            found += generate(twin, prompts, chosen, detokenise=tokenizer.stream, seeds=seeds)
    return found


def begin(
    model: Any, texts: Sequence[str], tokenizer: Tokenizer, start: Sequence[int] = ()
) -> tuple[Conditioned, list[list[int]]]:
    """The model bound to these texts, and the prompts that its decoder begins with: what `stream` takes."""
    rows = [source_ids(text, tokenizer) for text in texts]
    lengths = torch.tensor([len(row) for row in rows])
    source = torch.full((len(rows), int(lengths.max())), tokenizer.end)
    for number, row in enumerate(rows):
        source[number, : len(row)] = torch.tensor(row)
    device, prompt = device_of(model), list(start) or [tokenizer.pad]
    return condition(model, source.to(device), lengths.to(device)), [prompt] * len(rows)


def _beams(
    twin: Conditioned, prompts: list[list[int]], chosen: Settings, beams: int, tokenizer: Tokenizer
) -> list[Completion]:
    if chosen.stop:
        raise UserError("beam search ends at token ids, not at texts", hint="leave out stop, or beams")
    settings = BeamSettings.of(chosen, beams)
    best = [found[0] for found in beam_search(twin, prompts, settings)]
    return [Completion(one.tokens, [], tokenizer.decode(one.tokens), one.reason) for one in best]
