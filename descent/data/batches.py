"""`batch(step)`: what a step trains on is computed from the seed and the step alone.

Position p = step * batch_size + i of the endless run of examples lies in epoch p // N, at place
p % N of that epoch's keyed permutation (or, of a split whose examples follow one another, at p % N). So
resuming needs no state, and the order of examples does not depend on how many processes share a batch.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from descent.data.dataset import Batch, Split
from descent.data.random import permutation
from descent.errors import UserError

__all__ = ["Batches", "prefetch", "sweep"]

T = TypeVar("T")


class Batches:
    """The batches of a run.

    Args:
        split: what to draw from.
        batch_size: examples of a step, over all ranks.
        seed: keys the order, the shifts of a stream and the augmentation.
        ranks: processes that share each batch; `batch_size` must be a multiple.
        rank: which of them this is; it gets its own consecutive part of the batch.
    """

    def __init__(self, split: Split, batch_size: int, seed: int, *, ranks: int = 1, rank: int = 0):
        if batch_size < 1 or batch_size % ranks:
            raise UserError(
                f"a batch of {batch_size} cannot be shared by {ranks} processes",
                expected=f"a multiple of {ranks}",
            )
        self.split, self.batch_size, self.seed = split, batch_size, seed
        self._first, self._share = rank * (batch_size // ranks), batch_size // ranks
        self._orders: dict[int, NDArray[np.int64]] = {}

    def batch(self, step: int) -> Batch:
        """The batch of that step (steps count from 0)."""
        start = step * self.batch_size + self._first
        end, size = start + self._share, len(self.split)
        parts = []
        for epoch in range(start // size, (end - 1) // size + 1):
            first, last = max(start - epoch * size, 0), min(end - epoch * size, size)
            parts.append(self.split.gather(self._order(epoch)[first:last], self.seed, epoch))
        if len(parts) == 1:
            return parts[0]
        return self.split.join(parts)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            kept = list(self._orders.items())[-1:]
            size = len(self.split)
            order = np.arange(size) if self.split.ordered else permutation(self.seed, epoch, size)
            self._orders = {**dict(kept), epoch: order}
        return self._orders[epoch]


def sweep(split: Split, batch_size: int) -> Iterator[Batch]:
    """The whole split once, in order, unaltered; the last batch may be smaller."""
    for start in range(0, split.whole, batch_size):
        yield split.gather(np.arange(start, min(start + batch_size, split.whole)))


def prefetch(batch_at: Callable[[int], T], start: int, stop: int, depth: int = 2) -> Prefetch[T]:
    """Computes `batch_at(step)` for the steps `start..stop-1` on a thread, at most `depth` ahead.

    Iterate over it inside `with`; leaving the block ends the thread. An error of the thread is raised
    where the batch would have been.
    """
    return Prefetch(batch_at, start, stop, depth)


class Prefetch(Generic[T]):
    """What `prefetch` gives: a context that is iterated over once."""

    def __init__(self, batch_at: Callable[[int], T], start: int, stop: int, depth: int):
        self._batch_at, self._steps = batch_at, range(start, stop)
        self._ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(max(1, depth))
        self._closing, self._settled = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, name="descent-prefetch", daemon=True)

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        if self._thread.ident is None:
            self._start()
        for _ in self._steps:
            batch, error = self._ready.get()
            if error is not None:
                self.close()
                raise error
            yield batch  # type: ignore[misc]  # None only beside an error

    def close(self) -> None:
        """Ends the thread and waits for it."""
        self._closing.set()
        while self._thread.is_alive():
            while not self._ready.empty():
                self._ready.get_nowait()
            self._thread.join(0.01)

    def _start(self) -> None:
        # A thread that sets its number of threads also sets the one that threads without a number of
        # their own will take, this one among them if it has computed nothing yet: so put it back.
        threads = torch.get_num_threads()
        self._thread.start()
        self._settled.wait()
        torch.set_num_threads(threads)

    def _work(self) -> None:
        # the cores belong to the training step; two teams of threads on the same cores slow both
        torch.set_num_threads(1)
        self._settled.set()
        for step in self._steps:
            try:
                item = (self._batch_at(step), None)
            except BaseException as error:
                item = (None, error)
            while not self._closing.is_set():
                try:
                    self._ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if self._closing.is_set() or item[1] is not None:
                return
