"""A tokenizer of whole words, and texts for it, for tests of masked data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class ToyPieces(NamedTuple):
    ids: list[int]
    spans: list[tuple[int, int]]


class ToyTokenizer:
    """Every two letters are a piece: id 5 + a hash of them; marks are 0 to 4."""

    vocab_size = 105
    fingerprint = "toy"
    pad, unknown, begin, separator, mask = range(5)
    end = separator
    special = frozenset(range(5))
    sentinels: tuple[int, ...] = ()

    def pieces(self, text: str) -> ToyPieces:
        spans = [match.span() for match in re.finditer(r"\w{1,2}|[^\w\s]", text)]
        return ToyPieces([5 + sum(map(ord, text[a:b])) * 7 % 100 for a, b in spans], spans)

    def pieces_batch(self, texts: Sequence[str]) -> list[ToyPieces]:
        return [self.pieces(text) for text in texts]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.pieces(text).ids for text in texts]


def toy_texts(documents: int, seed: int = 0, most: int = 12) -> list[str]:
    """Documents of one to `most` sentences of three to nine words."""
    draw = np.random.default_rng(seed)

    def word() -> str:
        return "".join(draw.choice(list("abcdefghij"), int(draw.integers(1, 8))))

    def sentence() -> str:
        return " ".join(word() for _ in range(int(draw.integers(3, 10)))) + "."

    return [" ".join(sentence() for _ in range(int(draw.integers(1, most + 1)))) for _ in range(documents)]
