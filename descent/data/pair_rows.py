"""Pairs of texts as rows of tokens: each in a row of its own, or several packed into one.

Legend: B pairs of a batch, N packed rows, S tokens of the longest source, T tokens of the longest target.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from descent.data.dataset import IGNORED, Batch, Indices, Split, compact
from descent.data.packing import fit, rounded

__all__ = ["PairSplit"]


class PairSplit(Split):
    """Rows of source and target ids.

    Padded, a batch holds `source` (B, S), `source_lengths` (B,), `tokens` (B, T), which is `start` and the
    target but its last token, and `targets` (B, T). Padding is 0, of targets -100.

    Packed, several pairs share a row, on both sides: `source` (N, S), `source_documents` (N, S), `tokens`,
    `documents` and `targets` (N, T). The documents of a row are numbered from 0; a pair has one number on
    both sides, what fills the row the next. So are training's batches with `room`, never an evaluation's.

    Args:
        rows: (source, target) of each pair, none empty, end marks included.
        start: the id the decoder begins with.
        vocab_size: of both sides.
        room: the most tokens of a packed row, on either side; 0 = pairs are not packed.
        decode: turns ids into text, for scores of texts.
    """

    def __init__(
        self,
        rows: Iterable[tuple[list[int], list[int]]],
        start: int,
        vocab_size: int,
        room: int = 0,
        decode: Callable[[list[int]], str] | None = None,
    ):
        sources, targets = zip(*rows, strict=True)
        self._sources, self._targets = _Rows(sources, vocab_size), _Rows(targets, vocab_size)
        self.start, self.room = start, room
        self._decode = decode

    def __len__(self) -> int:
        return len(self._sources)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        if self.room and seed is not None:
            return self._packed(indices)
        source, lengths = self._sources.padded(indices, 0)
        targets, _ = self._targets.padded(indices, IGNORED)
        before = np.where(targets[:, :-1] == IGNORED, 0, targets[:, :-1])
        tokens = np.concatenate([np.full((len(targets), 1), self.start), before], axis=1)
        found = {"source": source, "source_lengths": lengths, "tokens": tokens, "targets": targets}
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def _packed(self, indices: Indices) -> Batch:
        sources, targets = self._sources.listed(indices), self._targets.listed(indices)
        sizes = [max(len(one), len(other)) for one, other in zip(sources, targets, strict=True)]
        rows = fit(sizes, self.room)
        source, source_documents = self._side(rows, sources, 0)
        wanted, documents = self._side(rows, targets, IGNORED)
        starts = np.array([self.start])
        before = [np.concatenate([starts, target[:-1]]) for target in targets]
        tokens, _ = self._side(rows, before, 0)
        found = {"source": source, "source_documents": source_documents, "tokens": tokens}
        found |= {"documents": documents, "targets": wanted}
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def _side(
        self, rows: list[list[int]], ids: Sequence[NDArray[np.int64]], padding: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One side of packed pairs and the number of the pair that each token belongs to."""
        width = rounded(max(sum(len(ids[pair]) for pair in row) for row in rows), self.room)
        found = np.full((len(rows), width), padding, dtype=np.int64)
        documents = np.empty_like(found)
        for place, row in enumerate(rows):
            joined = np.concatenate([ids[pair] for pair in row])
            found[place, : len(joined)], documents[place] = joined, len(row)
            documents[place, : len(joined)] = np.repeat(np.arange(len(row)), [len(ids[pair]) for pair in row])
        return found, documents

    def join(self, parts: Sequence[Batch]) -> Batch:
        """The rows of several batches in one; what they are filled up with is one more document."""
        rows = super().join(parts)
        firsts = np.cumsum([0, *(len(part["tokens"]) for part in parts)])
        for part, first in zip(parts, firsts, strict=False):
            for name in ("documents", "source_documents"):
                if name in part:
                    held = part[name]
                    rows[name][first : first + len(held), held.shape[1] :] = _fill(part)[:, None]
        return rows

    def decode(self, ids: list[int]) -> str:
        """The text of a target; of ids as they are where no tokenizer is known."""
        known = [index for index in ids if index != IGNORED]
        return self._decode(known) if self._decode else " ".join(map(str, known))

    def describe(self) -> str:
        return f"{len(self):,} pairs"


def _fill(part: Batch) -> Tensor:
    """The number, behind those of its pairs, of what fills each row."""
    return torch.maximum(part["documents"].amax(1), part["source_documents"].amax(1)) + 1


class _Rows:
    """Rows of unequal length, one after another in one array."""

    def __init__(self, rows: tuple[list[int], ...], vocab_size: int):
        self.ends = np.cumsum([len(row) for row in rows], dtype=np.int64)
        self.ids = compact([index for row in rows for index in row], vocab_size)

    def __len__(self) -> int:
        return len(self.ends)

    def padded(self, indices: Indices, padding: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows of these numbers, filled up to the longest of them, and their own lengths."""
        starts = np.where(indices > 0, self.ends[indices - 1], 0)
        lengths = self.ends[indices] - starts
        places = starts[:, None] + np.arange(lengths.max(initial=0))
        inside = places < self.ends[indices][:, None]
        return np.where(inside, self.ids[np.where(inside, places, 0)].astype(np.int64), padding), lengths

    def listed(self, indices: Indices) -> list[NDArray[np.int64]]:
        """The rows of these numbers."""
        starts = np.where(indices > 0, self.ends[indices - 1], 0)
        both = zip(starts, self.ends[indices], strict=True)
        return [self.ids[start:end].astype(np.int64) for start, end in both]
