"""Forecasting: the error of values, or of the quantiles that bound them."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from descent.config import Config, Field, Items
from descent.errors import UserError
from descent.objectives.objective import Batch, Objective, Phase

__all__ = ["Forecast", "ForecastConfig", "forecast_loss", "forecast_of", "pinball"]


class ForecastConfig(Config):
    """Configuration of `Forecast`.

    Args:
        loss: of one value for each target: `mse`, `l1` or `huber`.
        huber_delta: where Huber turns from square to linear.
        quantiles: shares such as 0.1, 0.5, 0.9: the model says these quantiles, trained by the pinball loss
            in place of `loss`. They rise, an odd number of them; the median, in the middle, is the forecast.
    """

    type: Literal["forecast"] = "forecast"
    loss: Literal["mse", "l1", "huber"] = "mse"
    huber_delta: float = Field(default=1.0, gt=0)
    quantiles: Items[Annotated[float, Field(gt=0, lt=1)]] = ()

    @model_validator(mode="after")
    def _about_the_median(self) -> ForecastConfig:
        shares = self.quantiles
        if shares and (len(shares) % 2 == 0 or shares[len(shares) // 2] != 0.5):
            raise ValueError("quantiles are an odd number, with 0.5 in the middle, such as [0.1, 0.5, 0.9]")
        if any(one >= other for one, other in pairwise(shares)):
            raise ValueError("quantiles must rise")
        return self


class Forecast(Objective):
    """The mean loss of `model(history=..., known=...)` over the targets that are there (not NaN)."""

    def __init__(self, config: ForecastConfig | None = None):
        self.config = config or ForecastConfig()

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int(batch["targets"].isfinite().sum())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        total, count = forecast_loss(self.config, forecast_of(model, batch, self.config), batch["targets"])
        return total / max(count, 1)


def forecast_of(
    model: Any, batch: Batch, config: ForecastConfig
) -> Float[Tensor, "batch horizon targets *quantiles"]:
    """What the model says of a batch, in fp32.

    Raises:
        UserError: it says another number of quantiles than the objective has.
    """
    found = model(**{name: value for name, value in batch.items() if name != "targets"}).float()
    says = found.shape[3] if found.dim() == 4 else 0
    if says != len(config.quantiles):
        raise UserError(
            "the model and objective.quantiles do not fit together",
            got=f"{says} quantiles of the model",
            expected=f"{len(config.quantiles)}",
            hint=f"set model.quantiles={len(config.quantiles)}",
        )
    return found


def forecast_loss(
    config: ForecastConfig,
    outputs: Float[Tensor, "batch horizon targets *quantiles"],
    targets: Float[Tensor, "batch horizon targets"],
) -> tuple[Float[Tensor, ""], int]:
    """The loss summed over the targets that are there, and how many these are; quantiles are averaged."""
    there = targets.isfinite()
    chosen, wanted = outputs[there], targets[there]
    if config.quantiles:
        losses = pinball(chosen, wanted, config.quantiles).mean(-1)
    elif config.loss == "mse":
        losses = (chosen - wanted).square()
    elif config.loss == "l1":
        losses = (chosen - wanted).abs()
    else:
        losses = nn.functional.huber_loss(chosen, wanted, reduction="none", delta=config.huber_delta)
    return losses.sum(), len(wanted)


def pinball(
    outputs: Float[Tensor, "n quantiles"], targets: Float[Tensor, " n"], quantiles: tuple[float, ...]
) -> Float[Tensor, "n quantiles"]:
    """max(q e, (q - 1) e), where e is the target less the output; least for the q-quantile.

    R. Koenker, G. Bassett, Regression quantiles, Econometrica 46, 1978.
    """
    q = torch.tensor(quantiles, dtype=outputs.dtype, device=outputs.device)
    error = targets[:, None] - outputs
    return torch.maximum(q * error, (q - 1) * error)
