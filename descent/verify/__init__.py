"""The equivalence contract: what should be equal is measured, on the user's own checkpoint."""

from __future__ import annotations

from descent.verify.contract import verify
from descent.verify.measure import Row

__all__ = ["Row", "verify"]
