"""Which evaluation was the best so far, and whether to wait for a better one."""

from __future__ import annotations

import math
from collections.abc import Sequence


def better(value: float, best: float | None, *, higher: bool = False, margin: float = 0.0) -> bool:
    """Whether a value beats the best so far by more than `margin`. A NaN or infinity beats nothing."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return value > best + margin if higher else value < best - margin


def best_index(values: Sequence[float], *, higher: bool = False, margin: float = 0.0) -> int | None:
    """The index of the first value that no later one beats; None if none is finite."""
    best: int | None = None
    for index, value in enumerate(values):
        if better(value, None if best is None else values[best], higher=higher, margin=margin):
            best = index
    return best


def should_stop(values: Sequence[float], patience: int, *, higher: bool = False, margin: float = 0.0) -> bool:
    """Whether the last `patience` evaluations brought nothing better (0 = never stop).

    A function of the values alone, so that a resumed run stops where an uninterrupted one does.
    """
    if not patience or len(values) <= patience:
        return False
    best = best_index(values, higher=higher, margin=margin)
    return best is None or len(values) - 1 - best >= patience
