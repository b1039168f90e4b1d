"""What every row of the contract is made with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor



@dataclass(frozen=True)
class Row:
    """One equivalence.

    Attributes:
        name: what is claimed equal to what.
        tolerance: the largest difference allowed; 0 = equal bit for bit.
        worst: the largest difference found; None if the row does not apply.
        note: how it was measured, or why it does not apply.
    """

    name: str
    tolerance: float
    worst: float | None
    note: str = ""

    @property
    def ok(self) -> bool:
        """False if the difference is over the tolerance (a NaN is)."""
        return self.worst is None or self.worst <= self.tolerance


class NotApplicable(Exception):
    """Why a row has nothing to measure in this model."""


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference, relative to the largest expected value where that is over 1."""
    found, expected = found.double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
