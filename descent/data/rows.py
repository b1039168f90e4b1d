"""Examples of tokens laid out in the rows of a batch, several to a row or each in its own.

A batch of texts of unequal length, one a row, is padding for a good part. Packed, several examples share a
row: `documents` numbers them, so that attention stays inside one, and `positions` restart with each. Both
layouts are the same to a model, and give the same loss and the same gradients.

Legend: N rows, T tokens of a row, K examples of the fullest row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from descent.data.dataset import IGNORED, Batch, Indices, Split, compact
from descent.data.packing import fit, rounded

__all__ = ["Packing", "Row", "RowSplit", "in_order", "lay_out"]

Row = dict[str, NDArray[np.int64]]
"""An example: `tokens` (n,); if the data have them `segments` (n,) of 0 and 1; and what it is to be answered
with: `targets` (n,) for an answer a token, `answer` () for one an example, or `span` (2,), the places of the
first and the last token of one."""
Packing = Literal["documents", "padded"]
Alter = Callable[[int, Row, int, int], Row]
"""(number of the example, the example, seed, epoch) -> the example as that epoch sees it."""


def lay_out(
    examples: Sequence[Row], length: int, *, pad: int, packed: bool = True, ordered: bool = False
) -> Batch:
    """The examples as a batch.

    Args:
        examples: at least one; all with the same names.
        length: the most tokens of a row; a longer example has a row of its own.
        pad: the id behind the last example of a row; what pads counts as one more document.
        packed: several examples share a row; else each has its own.
        ordered: row after row the examples keep their order, which packs them less well.

    Returns:
        tokens, documents, positions and, if the examples have them, segments: (N, T), as wide as the fullest
            row; packed, rounded up to 32.
        starts: (N, K), where each example begins; 0 where a row has fewer than K.
        targets: (N, T) of tokens, (N, K) of examples, (N, K, 2) of spans, places counted in the row; -100
            where there is none.
    """
    sizes = [len(example["tokens"]) for example in examples]
    if not packed:
        rows = [[number] for number in range(len(examples))]
    else:
        rows = in_order(sizes, length) if ordered else fit(sizes, length)
    width = max(sum(sizes[number] for number in row) for row in rows)
    width = rounded(width, length) if packed else width
    shape, most = (len(rows), width), max(map(len, rows))
    tokens_NT: NDArray[np.int64] = np.full(shape, pad, dtype=np.int64)
    documents_NT, positions_NT = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    segments_NT = np.zeros(shape, dtype=np.int64)
    starts_NK = np.zeros((len(rows), most), dtype=np.int64)
    answers = _Answers(examples[0], shape, most)
    for place, row in enumerate(rows):
        at = 0
        for turn, number in enumerate(row):
            example, end = examples[number], at + sizes[number]
            tokens_NT[place, at:end] = example["tokens"]
            segments_NT[place, at:end] = example.get("segments", 0)
            documents_NT[place, at:end], positions_NT[place, at:end] = turn, np.arange(sizes[number])
            starts_NK[place, turn] = at
            answers.put(place, turn, at, example)
            at = end
        documents_NT[place, at:], positions_NT[place, at:] = len(row), np.arange(width - at)
    found = {"tokens": tokens_NT, "documents": documents_NT, "positions": positions_NT, "starts": starts_NK}
    if "segments" in examples[0]:
        found["segments"] = segments_NT
    if answers.array is not None:
        found["targets"] = answers.array
    return {name: torch.from_numpy(array) for name, array in found.items()}


def _kind(example: Row) -> str | None:
    """The name under which an example has what it is to be answered with, if it has it."""
    return next((name for name in ("targets", "answer", "span") if name in example), None)


class _Answers:
    """The targets of a batch, laid out as its examples are; None if there are none."""

    def __init__(self, example: Row, shape: tuple[int, int], most: int):
        self.kind, self.array = _kind(example), None
        sizes = {"targets": shape, "answer": (shape[0], most), "span": (shape[0], most, 2)}
        if self.kind is not None:
            self.array = np.full(sizes[self.kind], IGNORED, dtype=np.int64)

    def put(self, place: int, turn: int, at: int, example: Row) -> None:
        if self.kind is None or self.array is None:
            return
        found = example[self.kind]
        if self.kind == "targets":
            self.array[place, at : at + len(found)] = found
        else:
            placed = np.where(found == IGNORED, IGNORED, found + at) if self.kind == "span" else found
            self.array[place, turn] = placed


def in_order(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Pieces put into rows one after another: a new row begins where the next piece does not fit."""
    rows: list[list[int]] = []
    left = -1
    for piece, size in enumerate(sizes):
        if size > left:
            rows.append([])
            left = length
        rows[-1].append(piece)
        left -= size
    return rows


class RowSplit(Split):
    """Examples of tokens, to be laid out in rows when a batch is gathered (see `lay_out`).

    An evaluation's batch keeps the order of the examples, so that answers taken row by row are in it.

    Args:
        examples: see `Row`.
        length: the most tokens of a row.
        pad: the id that fills a row.
        vocab_size: decides how compactly ids are kept.
        packing: "documents" packs several examples into a row, "padded" gives each its own.
        alter: changes an example for a training epoch (to mask it anew).
        noun: what an example is called.
    """

    def __init__(
        self,
        examples: Sequence[Row],
        length: int,
        *,
        pad: int,
        vocab_size: int,
        packing: Packing = "documents",
        alter: Alter | None = None,
        noun: str = "texts",
    ):
        self.length, self.pad, self.packing, self.alter, self.noun = length, pad, packing, alter, noun
        self._ends = np.cumsum([len(example["tokens"]) for example in examples], dtype=np.int64)
        joined = np.concatenate([example["tokens"] for example in examples])
        self._tokens = compact(joined, vocab_size)
        self._segments: NDArray[np.uint8] | None = None
        if "segments" in examples[0]:
            self._segments = np.concatenate([example["segments"] for example in examples]).astype(np.uint8)
        self.kind = kind = _kind(examples[0])
        self._answers = [example[kind] for example in examples] if kind else []

    def __len__(self) -> int:
        return len(self._ends)

    def example(self, number: int) -> Row:
        """One example, as it is."""
        part = slice(int(self._ends[number - 1]) if number else 0, int(self._ends[number]))
        found: Row = {"tokens": self._tokens[part].astype(np.int64)}
        if self._segments is not None:
            found["segments"] = self._segments[part].astype(np.int64)
        if self.kind is not None:
            found[self.kind] = np.asarray(self._answers[number], dtype=np.int64)
        return found

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        examples = [self.example(int(number)) for number in indices]
        if seed is not None and self.alter is not None:
            numbered = zip(indices, examples, strict=True)
            examples = [self.alter(int(number), example, seed, epoch) for number, example in numbered]
        packed = self.packing == "documents"
        return lay_out(examples, self.length, pad=self.pad, packed=packed, ordered=seed is None)

    def join(self, parts: Sequence[Batch]) -> Batch:
        """The rows of several batches in one, each filled up as `lay_out` fills."""
        by_example = {"starts", *(["targets"] if self.kind in ("answer", "span") else [])}
        fills = {"tokens": self.pad, "targets": IGNORED}
        rows: Batch = {}
        for name in parts[0]:
            likewise = "starts" if name in by_example else "tokens"
            size = max(part[likewise].shape[1] for part in parts)
            held = [_widened(part[name], size, fills.get(name, 0)) for part in parts]
            rows[name] = torch.cat(held)
        for part, first in zip(parts, np.cumsum([0, *(len(part["tokens"]) for part in parts)]), strict=False):
            own, width = part["documents"], part["documents"].shape[1]
            rows["documents"][first : first + len(own), width:] = own.amax(1, keepdim=True) + 1
        return rows

    def describe(self) -> str:
        return f"{len(self):,} {self.noun} of {len(self._tokens):,} tokens"


def _widened(tensor: Tensor, size: int, fill: int) -> Tensor:
    """The tensor with its second axis filled up."""
    extra = size - tensor.shape[1]
    return torch.cat([tensor, tensor.new_full((len(tensor), extra, *tensor.shape[2:]), fill)], dim=1)
