"""What a user may set about sampling, checked once."""

from __future__ import annotations

from typing import Annotated

from pydantic import StringConstraints

from descent.config import Config, Field, Items


class Settings(Config):
    """How tokens are drawn and when a completion ends.

    The defaults sample from the model's own distribution. `temperature=0` is greedy: the most
    probable token, the lowest id among equals. The filters apply in this order: forbidden tokens,
    repetition penalty, temperature, top-k, top-p, min-p; each is a function in `processors.py`.

    Attributes:
        max_new_tokens: greatest number of tokens drawn for a row.
        temperature: divisor of the logits.
        top_k: keep the k most probable tokens (0 keeps all).
        top_p: keep the most probable tokens that together hold this much probability (1 keeps all).
        min_p: keep tokens at least this share as probable as the most probable one (0 keeps all).
        repetition_penalty: above 1 makes tokens already in the row less probable.
        seed: row i of a batch draws from the stream of `seed + i`.
        forbidden: tokens that are never drawn.
        stop_ids: tokens that end a row; they are not part of the completion.
        stop: strings that end a row's text; no part of one is ever shown.
        sliding: at the end of the model's context go on from the last half of it, instead of stopping.
    """

    max_new_tokens: int = Field(default=128, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    min_p: float = Field(default=0.0, ge=0, le=1)
    repetition_penalty: float = Field(default=1.0, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**63)
    forbidden: Items[Annotated[int, Field(ge=0)]] = ()
    stop_ids: Items[Annotated[int, Field(ge=0)]] = ()
    stop: Items[Annotated[str, StringConstraints(min_length=1)]] = ()
    sliding: bool = False
