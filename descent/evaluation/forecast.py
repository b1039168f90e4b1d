"""How good a forecast is, over every window of a split, and beside it the baselines."""

from __future__ import annotations

from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float
from torch import nn

from descent.data.dataset import Split
from descent.data.series import Series, windows_of
from descent.errors import UserError
from descent.evaluation.baselines import BASELINES, forecasts
from descent.evaluation.result import Evaluation
from descent.objectives.forecast import Forecast, forecast_loss, forecast_of

__all__ = ["NAMES", "names", "score"]

ERRORS = ("mse", "mae", "smape", "mase")
NAMES = ("loss", *ERRORS, *(f"mse_{name}" for name in BASELINES))
INTERVALS = ("coverage", "width")

_scored: WeakKeyDictionary[Split, dict[str, float]] = WeakKeyDictionary()


def names(objective: Forecast, outputs: int = 0) -> tuple[str, ...]:
    """The metrics `score` gives; with quantiles also those of the outermost interval."""
    return NAMES + (INTERVALS if objective.config.quantiles else ())


def score(
    model: nn.Module, objective: Forecast, split: Split, batch_size: int = 256, device: str = "cpu"
) -> Evaluation:
    """Scores a forecaster, and the baselines once for a split.

    With y the truth, f the forecast, over all windows, steps of the horizon and targets that are there:

    - `loss`: the objective's.
    - `mse`, `mae`: mean of (y - f)^2 and |y - f|, standardised by the training part, as published.
    - `smape`: mean of 200 |y - f| / (|y| + |f|) in own units, in percent, 0 where both are 0
      (S. Makridakis et al., The M4 Competition, 2020).
    - `mase`: mean of |y - f| / s, where s of a target is the mean of |y_t - y_(t - m)| over the training
      part, m steps being a season (R. Hyndman, A. Koehler, Another look at measures of forecast accuracy,
      2006, with m = 1; the M4 Competition with seasons). A target that never changes there has no s and is
      left out; where none does, so is `mase`.
    - `mse_last`, `mse_seasonal`, `mse_linear`: the same of the baselines, see `baselines.forecasts`.
    - `coverage`: the share of truths between the lowest and the highest quantile; `width`: the mean
      distance of these, standardised.

    Args:
        split: of a time series; every window is scored.

    Raises:
        UserError: no target is there in the whole split.
    """
    split = windows_of(split)
    series = split.series
    _check_targets(series, split.part)
    scale = _naive_errors(series)
    sums = _Sums(series, scale)
    loss, inside, width = 0.0, 0, 0.0
    quantiles = objective.config.quantiles
    own = _scored.get(split)
    baselines = {name: _Sums(series, scale) for name in (BASELINES if own is None else ())}
    for start in range(0, split.whole, batch_size):
        windows = np.arange(start, min(start + batch_size, split.whole))
        batch = {name: value.to(device) for name, value in split.gather(windows).items()}
        outputs = forecast_of(model, batch, objective.config)
        loss += float(forecast_loss(objective.config, outputs.double(), batch["targets"].double())[0])
        truth, said = batch["targets"].double().cpu().numpy(), outputs.double().cpu().numpy()
        if quantiles:
            said = np.sort(said, axis=3)
            low, high, said = said[..., 0], said[..., -1], said[..., len(quantiles) // 2]
            there = np.isfinite(truth)
            inside += int(((truth >= low) & (truth <= high))[there].sum())
            width += float((high - low)[there].sum())
        sums.add(truth, said)
        if baselines:
            for name, forecast in forecasts(split, windows).items():
                baselines[name].add(truth, forecast.astype(np.float64))
    if own is None:
        own = {f"mse_{name}": sums_of.means()["mse"] for name, sums_of in baselines.items()}
        _scored[split] = own
    count = sums.count
    values = {"loss": loss / count, **sums.means(), **own}
    if quantiles:
        values |= {"coverage": inside / count, "width": width / count}
    return Evaluation(values, split.whole)


@dataclass
class _Sums:
    """Errors added up over windows; see `score`."""

    series: Series
    scale: Float[np.ndarray, " targets"]
    count: int = 0
    scaled: int = 0
    totals: dict[str, float] = field(default_factory=lambda: dict.fromkeys(ERRORS, 0.0))

    def add(
        self, truth: Float[np.ndarray, "w horizon targets"], said: Float[np.ndarray, "w horizon targets"]
    ) -> None:
        there = np.isfinite(truth)
        error = np.abs(truth - said)
        own_truth, own_said = (values * self.series.std + self.series.mean for values in (truth, said))
        size = np.abs(own_truth) + np.abs(own_said)
        shares = 200 * error * self.series.std / np.where(size > 0, size, 1.0)
        usable = there & np.isfinite(self.scale)
        self.totals["mse"] += float(np.square(error[there]).sum())
        self.totals["mae"] += float(error[there].sum())
        self.totals["smape"] += float(shares[there].sum())
        self.totals["mase"] += float((error / self.scale)[usable].sum())
        self.count += int(there.sum())
        self.scaled += int(usable.sum())

    def means(self) -> dict[str, float]:
        counts = {name: self.scaled if name == "mase" else self.count for name in ERRORS}
        return {name: self.totals[name] / count for name, count in counts.items() if count}


def _check_targets(series: Series, part: str) -> None:
    if not series.there[slice(*series.parts[part])].any():
        raise UserError(
            f"nothing to score: in the {part} part every value of {', '.join(series.names)} is missing",
            hint="score another part, or give data in which some of these values are there",
        )


def _naive_errors(series: Series) -> Float[np.ndarray, " targets"]:
    """For each target the mean change over a season in the training part, standardised; NaN where it is 0."""
    end = series.parts["train"][1]
    values = series.values[:end, : len(series.names)].astype(np.float64)
    there = series.there[:end]
    lag = series.season if series.season < end else 1
    both = there[lag:] & there[:-lag]
    change = np.where(both, np.abs(values[lag:] - values[:-lag]), 0.0).sum(0) / np.maximum(both.sum(0), 1)
    return np.where(change > 0, change, np.nan)
