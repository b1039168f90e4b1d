"""The level of a window: what is taken off a history before a model sees it, and given back to the forecast.

A series drifts, so the values of a later part lie where no training window lay. Forecasting differences to
the window's own level keeps a model at home there (NLinear: A. Zeng et al., Are Transformers effective for
time series forecasting?, AAAI, 2023, section 4.2; RevIN: T. Kim et al., Reversible instance normalization,
ICLR, 2022, here without the learned affine map).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Level", "level"]

Level = Literal["last", "mean", "standard", "none"]
_LEAST = 1e-2


def level(
    history: Float[Tensor, "batch history columns"], kind: Level
) -> tuple[Float[Tensor, "batch 1 columns"], Float[Tensor, "batch 1 columns"]]:
    """What to take off each column of a window, and what to divide the rest by.

    Args:
        kind: "last" the last value, "mean" the window's mean, "standard" that and its deviation, "none".
    """
    ones = torch.ones_like(history[:, :1])
    if kind == "none":
        return torch.zeros_like(ones), ones
    if kind == "last":
        return history[:, -1:], ones
    mean = history.mean(1, keepdim=True)
    if kind == "mean":
        return mean, ones
    # a column that stands still in a window must not be blown up
    return mean, (history.var(1, keepdim=True, correction=0) + _LEAST**2).sqrt()
