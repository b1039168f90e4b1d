"""Text read on from step to step: lanes that run side by side through a long text.

Truncated back-propagation through time (Mikolov et al., 2010; Williams, Peng, 1990) trains on one piece of a
text after another and carries the state of the network over, so that it sees further than a piece is long.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from descent.data.dataset import IGNORED, Batch, Indices, Split
from descent.data.random import bits
from descent.errors import UserError

__all__ = ["LaneSplit"]


class LaneSplit(Split):
    """A row of tokens cut into lanes of equal length, each lane into pieces of T inputs and T targets.

    Example i is piece i // lanes of lane i % lanes, so a batch of as many rows as there are lanes holds one
    piece of each, and the next batch the pieces that follow: examples keep their order. `carried` tells
    whether a row goes on from the batch before. In training every epoch starts at an offset drawn from (seed,
    epoch), and what does not fill whole pieces is left out; a sweep predicts every token but the first once.

    Args:
        tokens: the ids.
        length: T.
        lanes: how many.
        bytes: UTF-8 bytes of the text from the second token on.
        pad: the id that fills the last pieces of a sweep.
    """

    ordered = True

    def __init__(
        self, tokens: NDArray[np.integer], length: int, lanes: int, bytes: int | None = None, pad: int = 0
    ):
        self.tokens, self.length, self.lanes, self.bytes, self.pad = tokens, length, lanes, bytes, pad
        self._targets = len(tokens) - 1
        if self._targets < 1:
            raise UserError("the text is too short", got=f"{len(tokens)} tokens", expected="2 or more")
        self._pieces = self._targets // lanes // length

    def check_trainable(self, name: str) -> None:
        """Raises a `UserError` if there is less than one piece of every lane."""
        if not self._pieces:
            raise UserError(
                f"{name}: the text is too short for its lanes",
                got=f"{len(self.tokens):,} tokens",
                expected=f"at least {self.lanes * self.length + 1:,}: {self.lanes} lanes of {self.length}",
                hint="a smaller budget.batch_size (the number of lanes) or data.length, or more text",
            )

    def __len__(self) -> int:
        return self._pieces * self.lanes

    @property
    def whole(self) -> int:
        return -(-self._stretch // self.length) * self.lanes

    @property
    def _stretch(self) -> int:
        """Targets of a lane in a sweep; the last lane may have fewer."""
        return -(-self._targets // self.lanes)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        piece, lane = indices // self.lanes, indices % self.lanes
        step = np.arange(self.length + 1)
        if seed is not None:
            starts = lane * self._pieces * self.length + piece * self.length + self._offset(seed, epoch)
            rows = self.tokens[starts[:, None] + step].astype(np.int64)
            inputs, targets = rows[:, :-1].copy(), rows[:, 1:].copy()
        else:
            within = piece[:, None] * self.length + step
            places = lane[:, None] * self._stretch + within
            rows = self.tokens[np.minimum(places, self._targets)].astype(np.int64)
            given = (within[:, 1:] <= self._stretch) & (places[:, 1:] <= self._targets)
            inputs = np.where(given, rows[:, :-1], self.pad)
            targets = np.where(given, rows[:, 1:], IGNORED)
        return {
            "tokens": torch.from_numpy(inputs),
            "targets": torch.from_numpy(targets),
            "carried": torch.from_numpy(piece > 0),
        }

    def _offset(self, seed: int, epoch: int) -> int:
        slack = self._targets - len(self) * self.length
        return int(bits(seed, epoch, "offset", 1)[0] % np.uint64(slack + 1))

    def describe(self) -> str:
        return f"{len(self.tokens):,} tokens in {self.lanes} lanes"
