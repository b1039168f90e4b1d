"""DLinear: a trend and what is left of it, each forecast by one linear map."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from descent.config import Config, Field
from descent.models import require_sizes
from descent.nn.level import Level, level


class DLinearConfig(Config):
    """Configuration of `DLinear`.

    Args:
        channels: columns of the history, the targets first; 0 = taken from the data.
        outputs: columns to forecast; 0 = taken from the data.
        history: steps read; 0 = taken from the data.
        horizon: steps to forecast; 0 = taken from the data.
        quantiles: values said of each target and step; 0 = one value, without an axis for it.
        kernel: steps of the moving average that is the trend, an odd number.
        individual: maps of its own for each target; else all share them.
        level: what is taken off a window and given back; "none" as published, "last" makes it NLinear's.
    """

    type: Literal["dlinear"] = "dlinear"
    channels: int = Field(default=0, ge=0)
    outputs: int = Field(default=0, ge=0)
    history: int = Field(default=0, ge=0)
    horizon: int = Field(default=0, ge=0)
    quantiles: int = Field(default=0, ge=0)
    kernel: int = Field(default=25, gt=0)
    individual: bool = False
    level: Level = "last"

    @model_validator(mode="after")
    def _odd(self) -> DLinearConfig:
        if self.kernel % 2 == 0:
            raise ValueError("kernel is an odd number of steps, so that the average is about its middle")
        return self


class DLinear(nn.Module):
    """y = W_t trend(x) + W_r (x - trend(x)) + b, for each target from its own past.

    A. Zeng, M. Chen, L. Zhang, Q. Xu, Are Transformers effective for time series forecasting?, AAAI, 2023
    (arXiv 2205.13504, 2022), section 4.2: trend is a moving average, the ends of the history repeated.

    Differs from the paper: the window's last value is taken off first by default (their NLinear), which
    levels that drift ask for; one bias; all maps start as the mean of the history. Columns that are inputs
    only, and those known in advance, are not read.
    """

    def __init__(self, config: DLinearConfig):
        super().__init__()
        require_sizes(config, "channels", "outputs", "history", "horizon")
        self.config = config
        maps = config.outputs if config.individual else 1
        says = config.horizon * max(config.quantiles, 1)
        self.trend = nn.Parameter(torch.full((maps, config.history, says), 1 / config.history))
        self.rest = nn.Parameter(torch.full((maps, config.history, says), 1 / config.history))
        self.bias = nn.Parameter(torch.zeros(maps, 1, says))

    def forward(
        self,
        history: Float[Tensor, "batch history channels"],
        known: Float[Tensor, "batch steps known"] | None = None,
    ) -> Float[Tensor, "batch horizon outputs *quantiles"]:
        shift, scale = level(history, self.config.level)
        count = self.config.outputs
        x_OBT = ((history - shift) / scale)[..., :count].permute(2, 0, 1)
        trend_OBT = moving_average(x_OBT, self.config.kernel)
        y_OBS = trend_OBT @ self.trend + (x_OBT - trend_OBT) @ self.rest + self.bias
        y_BHOQ = y_OBS.unflatten(-1, (self.config.horizon, -1)).permute(1, 2, 0, 3)
        y_BHOQ = y_BHOQ * scale[..., :count, None] + shift[..., :count, None]
        return y_BHOQ if self.config.quantiles else y_BHOQ[..., 0]


def moving_average(
    x: Float[Tensor, "outputs batch history"], kernel: int
) -> Float[Tensor, "outputs batch history"]:
    """The mean of `kernel` steps about each step; before the first and after the last stand these."""
    padded = F.pad(x, (kernel // 2, kernel // 2), mode="replicate")
    return F.avg_pool1d(padded, kernel, stride=1)
