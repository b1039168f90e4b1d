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

__all__ = ["PackedSplit", "pack"]


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
        # One column more than T: targets are the next token, and a document's last target is its mark,
        # which is also how the next document of the row begins.
        self._tokens_NT1 = compact(np.full((len(rows), length + 1), end), vocab_size)
        self._sizes = [[sizes[piece] for piece in row] for row in rows]
        for number, row in enumerate(rows):
            at = 0
            for piece in row:
                place, start = pieces[piece]
                ids = documents[place]
                # inputs are (mark, ids), targets (ids, mark): token j of the inputs is ids[j - 1]
                if start == 0:
                    head = ids[: sizes[piece]]
                    self._tokens_NT1[number, at + 1 : at + 1 + len(head)] = head
                else:
                    part = ids[start - 1 : start + sizes[piece]]
                    self._tokens_NT1[number, at : at + len(part)] = part
                at += sizes[piece]
        small = np.uint16 if length < 1 << 16 else np.uint32
        self._documents_NT = np.empty((len(rows), length), dtype=small)
        self._positions_NT = np.empty((len(rows), length), dtype=small)
        self._used = np.array([sum(row) for row in self._sizes], dtype=np.int64)
        for number, row in enumerate(self._sizes):
            spans = [*row, length - sum(row)]
            self._documents_NT[number] = np.repeat(np.arange(len(spans)), spans)
            starts = np.cumsum([0, *spans[:-1]])
            self._positions_NT[number] = np.arange(length) - np.repeat(starts, spans)

    def __len__(self) -> int:
        return len(self._used)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        tokens = self._tokens_NT1[indices].astype(np.int64)
        inside = np.arange(self.length) < self._used[indices][:, None]
        return {
            "tokens": torch.from_numpy(tokens[:, :-1].copy()),
            "targets": torch.from_numpy(np.where(inside, tokens[:, 1:], IGNORED)),
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
