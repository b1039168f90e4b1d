"""Whole documents packed into rows of one length.

Every document is `mark, its tokens, mark`: it begins from the end mark of "the one before" and
ends by predicting it, so generation can begin from the mark alone. A row holds several documents;
`documents` numbers them, so that attention stays inside one, and `positions` restart with each.

Legend: N rows, T row length.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from descent.data.dataset import IGNORED, Batch, Indices, Split, compact

__all__ = ["PackedSplit", "fit", "pack", "rounded"]


class PackedSplit(Split):
    """Documents packed into rows of T tokens; a longer one is cut into pieces of T.

    What is left of a row is padded with marks whose targets are ignored; the padding counts as one
    more document. Rows are the examples, and their content is the same in every epoch.

    Args:
        documents: the ids of each document, without marks.
        length: T.
        end: the mark's id.
        vocab_size: decides how compactly ids are kept.
        bytes: UTF-8 bytes of the texts.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[int] | NDArray[np.integer]],
        length: int,
        end: int,
        vocab_size: int,
        bytes: int | None = None,
    ):
        self.length, self.bytes, self.documents = length, bytes, len(documents)
        self.tokens = sum(len(ids) + 1 for ids in documents)
        pieces = [
            (row, start) for row, ids in enumerate(documents) for start in range(0, len(ids) + 1, length)
        ]
        sizes = [min(length, len(documents[row]) + 1 - start) for row, start in pieces]
        rows = pack(sizes, length)
        shape = (len(rows), length)
        small = np.uint16 if length < 1 << 16 else np.uint32
        self._tokens_NT = compact(np.full(shape, end), vocab_size)
        self._targets_NT = self._tokens_NT.copy()
        self._documents_NT, self._positions_NT = np.empty(shape, small), np.empty(shape, small)
        self._used_N = np.array([sum(sizes[piece] for piece in row) for row in rows], dtype=np.int64)
        mark = np.array([end])
        marked = [np.concatenate([mark, np.asarray(ids, dtype=np.int64), mark]) for ids in documents]
        for number, row in enumerate(rows):
            at = 0
            for piece in row:
                place, start = pieces[piece]
                size = sizes[piece]
                self._tokens_NT[number, at : at + size] = marked[place][start : start + size]
                self._targets_NT[number, at : at + size] = marked[place][start + 1 : start + size + 1]
                at += size
            spans = [*(sizes[piece] for piece in row), length - at]
            starts = np.cumsum([0, *spans[:-1]])
            self._documents_NT[number] = np.repeat(np.arange(len(spans)), spans)
            self._positions_NT[number] = np.arange(length) - np.repeat(starts, spans)

    def __len__(self) -> int:
        return len(self._used_N)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        targets = self._targets_NT[indices].astype(np.int64)
        targets[np.arange(self.length) >= self._used_N[indices][:, None]] = IGNORED
        return {
            "tokens": torch.from_numpy(self._tokens_NT[indices].astype(np.int64)),
            "targets": torch.from_numpy(targets),
            "documents": torch.from_numpy(self._documents_NT[indices].astype(np.int64)),
            "positions": torch.from_numpy(self._positions_NT[indices].astype(np.int64)),
        }

    def describe(self) -> str:
        filled = self.tokens / (len(self) * self.length)
        rows = f"{len(self):,} rows ({filled:.0%} filled)"
        return f"{self.documents:,} documents, {self.tokens:,} tokens in {rows}"


def pack(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Pieces put into rows, in order: each into the row it fills best, or into a new one.

    Returns the piece numbers of every row. Best fit needs at most 1.7 times the fewest rows
    (D. Johnson et al., SIAM J. Computing 3, 1974), in practice a few percent more.
    """
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}
    rooms: list[int] = []  # the different amounts of room that open rows have, ascending
    for piece, size in enumerate(sizes):
        at = bisect_left(rooms, size)
        if at == len(rooms):
            row, room = len(rows), length
            rows.append([])
        else:
            room = rooms[at]
            row = open_rows[room].pop()
            if not open_rows[room]:
                del open_rows[room], rooms[at]
        rows[row].append(piece)
        left = room - size
        if left:
            if left not in open_rows:
                open_rows[left] = []
                insort(rooms, left)
            open_rows[left].append(row)
    return rows


def fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """As `pack`, but the longest first, which fills rows better; a longer one than a row has its own."""
    order = sorted(range(len(sizes)), key=lambda piece: -sizes[piece])
    packed = pack([sizes[piece] for piece in order], max(length, *sizes))
    return [[order[place] for place in row] for row in packed]


def rounded(width: int, length: int) -> int:
    """The width of a batch whose fullest row has `width` tokens, at most `length` unless that is longer.

    Few different widths let kernels and memory be used again from step to step.
    """
    return max(width, min(length, -(-width // 32) * 32))
