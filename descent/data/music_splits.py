"""Pieces of music as training rows and as whole pieces: frames of a piano's keys, or tokens of voices.

In training a piece that is longer than a row is cut into rows, at other places in every epoch, and moved
up or down by some semitones; both are drawn from (seed, epoch, row). A sweep gives whole pieces as they are.

Legend: P pieces, N rows of a batch, T steps, K keys (88), V voices.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from descent.data.dataset import IGNORED, Batch, Indices, Split
from descent.data.midi import KEYS
from descent.data.random import bits

__all__ = ["END", "REST", "FrameSplit", "PieceSplit", "VoiceSplit", "pitches_of", "tokens_of"]

END, REST, _FIRST = 0, 1, 2
"""The tokens of a piece's ends and of a voice that is silent; after them come the pitches."""


def tokens_of(pitches: Int[np.ndarray, "*shape"], lowest: int) -> Int[np.ndarray, "*shape"]:
    """The tokens of MIDI notes, where `lowest` is the lowest one in the vocabulary; -1 is a rest."""
    return np.where(pitches < 0, REST, pitches - lowest + _FIRST)


def pitches_of(tokens: Int[np.ndarray, "*shape"], lowest: int) -> Int[np.ndarray, "*shape"]:
    """The MIDI notes of tokens, -1 for a rest; the inverse of `tokens_of`."""
    return np.where(tokens < _FIRST, -1, tokens - _FIRST + lowest)


class PieceSplit(Split):
    """Pieces cut into rows; what a row becomes is for the kinds of music below.

    Args:
        pieces: arrays whose first axis is time.
        rooms: (P, 2) the most semitones that each piece may be moved down and up.
        length: steps of a training row; 0 = those of the longest piece.
    """

    noun: str

    def __init__(self, pieces: Sequence[NDArray[np.generic]], rooms: Int[np.ndarray, "p 2"], length: int = 0):
        self.pieces, self.rooms = list(pieces), rooms
        self.length = length or max(map(len, pieces))
        self._counts = np.array([-(-len(piece) // self.length) for piece in pieces])
        self._piece_of = np.repeat(np.arange(len(pieces)), self._counts)
        self._part_of = np.arange(len(self._piece_of)) - np.repeat(
            np.cumsum(self._counts) - self._counts, self._counts
        )

    def __len__(self) -> int:
        return len(self._piece_of)

    @property
    def whole(self) -> int:
        return len(self.pieces)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        if seed is None:
            chosen = [self.pieces[number] for number in indices.tolist()]
            spans = [(0, len(piece)) for piece in chosen]
            return self._rows(chosen, spans, [0] * len(chosen), max((end for _, end in spans), default=0))
        # Rows of one piece are cut by one offset, so that together they are all of it.
        offsets, shifts = bits(seed, epoch, "offset", 2 * len(self.pieces)).reshape(2, -1)
        chosen, spans, moved = [], [], []
        for number, part in zip(
            self._piece_of[indices].tolist(), self._part_of[indices].tolist(), strict=True
        ):
            piece = self.pieces[number]
            slack = int(self._counts[number]) * self.length - len(piece)
            start = part * self.length - int(offsets[number] % np.uint64(slack + 1))
            down, up = self.rooms[number].tolist()
            chosen.append(piece)
            spans.append((max(start, 0), min(start + self.length, len(piece))))
            moved.append(int(shifts[number] % np.uint64(down + up + 1)) - down)
        return self._rows(chosen, spans, moved, self.length)

    @abstractmethod
    def _rows(
        self, pieces: list[NDArray], spans: list[tuple[int, int]], shifts: list[int], length: int
    ) -> Batch:
        """The steps `start..end-1` of each piece, moved by so many semitones, padded to so many steps."""

    def describe(self) -> str:
        steps = sum(map(len, self.pieces))
        return f"{len(self.pieces):,} piece{'s'[: len(self.pieces) != 1]}, {steps:,} {self.noun}"


class FrameSplit(PieceSplit):
    """Piano rolls: at each step the frame before it, and as target the frame itself.

    `inputs` and `targets` are (N, T, 88) of 0 and 1, `lengths` (N,) the real steps of each row. What comes
    before the first frame of a piece is silence.

    Args:
        rolls: of each piece, (T, 88) bool.
        transpose: the most semitones a training piece is moved.
        bounds: lowest and highest key that a piece may be moved to.
        length: see `PieceSplit`.
    """

    noun = "frames"

    def __init__(
        self,
        rolls: Sequence[Bool[np.ndarray, "_ 88"]],
        transpose: int = 0,
        bounds: tuple[int, int] = (0, KEYS - 1),
        length: int = 0,
    ):
        rooms = []
        for roll in rolls:
            keys = np.flatnonzero(roll.any(axis=0))
            low, high = (int(keys[0]), int(keys[-1])) if len(keys) else bounds
            rooms.append((min(transpose, max(low - bounds[0], 0)), min(transpose, max(bounds[1] - high, 0))))
        super().__init__(rolls, np.array(rooms), length)

    def _rows(
        self, pieces: list[NDArray], spans: list[tuple[int, int]], shifts: list[int], length: int
    ) -> Batch:
        rows_NTK = np.zeros((len(pieces), length + 1, KEYS), dtype=np.float32)
        for row, piece, (start, end), shift in zip(rows_NTK, pieces, spans, shifts, strict=True):
            first = max(start - 1, 0)
            moved = np.roll(piece[first:end], shift, axis=1)  # what would come round is silent
            row[end - start + 1 - len(moved) : end - start + 1] = moved
        lengths = torch.tensor([end - start for start, end in spans], dtype=torch.int64)
        rows = torch.from_numpy(rows_NTK)
        inputs = rows[:, :-1].clone()
        inputs[torch.arange(length) >= lengths[:, None]] = 0  # the last frame stands behind the row's end
        return {"inputs": inputs, "lengths": lengths, "targets": rows[:, 1:].clone()}


class VoiceSplit(PieceSplit):
    """Voices as tokens, step by step and within a step from the first voice to the last.

    A piece is `END`, its tokens, `END`; `tokens` and `targets` are (N, V T + 1), the targets one token
    later and, where a row has no more, ignored. A row that does not begin a piece begins with the last
    token before it, so the first target of every row is the first voice's.

    Args:
        pieces: MIDI notes (T, V) of each piece, -1 for silence.
        ranges: lowest and highest note that each voice may be moved to.
        lowest: the lowest note of the vocabulary.
        transpose: the most semitones a training piece is moved.
        length: see `PieceSplit`.
    """

    noun = "steps"

    def __init__(
        self,
        pieces: Sequence[Int[np.ndarray, "_ voices"]],
        ranges: Sequence[tuple[int, int]],
        lowest: int,
        transpose: int = 0,
        length: int = 0,
    ):
        self.voices, self.lowest = len(ranges), lowest
        rooms = []
        for piece in pieces:
            down = up = transpose
            for notes, (low, high) in zip(piece.T, ranges, strict=True):
                if (notes >= 0).any():
                    down = min(down, int(notes[notes >= 0].min()) - low)
                    up = min(up, high - int(notes.max()))
            rooms.append((max(down, 0), max(up, 0)))
        super().__init__(pieces, np.array(rooms), length)

    def _rows(
        self, pieces: list[NDArray], spans: list[tuple[int, int]], shifts: list[int], length: int
    ) -> Batch:
        size = self.voices * length + 1
        tokens_NT = np.full((len(pieces), size), END, dtype=np.int64)
        targets_NT = np.full((len(pieces), size), IGNORED, dtype=np.int64)
        for number, (piece, (start, end), shift) in enumerate(zip(pieces, spans, shifts, strict=True)):
            pitches = piece[max(start - 1, 0) : end].astype(np.int64)
            ids = tokens_of(np.where(pitches < 0, pitches, pitches + shift), self.lowest).reshape(-1)
            before = ids[self.voices - 1 : self.voices] if start else [END]
            ids = ids[self.voices :] if start else ids
            after = [END] if end == len(piece) else []
            row = np.concatenate([before, ids, after]).astype(np.int64)
            tokens_NT[number, : len(row) - 1] = row[:-1]
            targets_NT[number, : len(row) - 1] = row[1:]
        return {"tokens": torch.from_numpy(tokens_NT), "targets": torch.from_numpy(targets_NT)}
