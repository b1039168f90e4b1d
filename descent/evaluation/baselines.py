"""What a forecaster is measured by: the last value, the last season, and the best linear map.

Legend: N steps of the series, W windows, T history, H horizon, O targets.
"""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from descent.data.series import Series, SeriesSplit

__all__ = ["BASELINES", "LinearMap", "fit_linear", "forecasts"]

BASELINES = ("last", "seasonal", "linear")
MOST_WINDOWS = 100_000
"""Training windows, of all targets together, that the linear map is fitted on; more are thinned evenly."""
RIDGES = tuple(10.0**power for power in range(-5, 3))
"""Regularisers that are tried, as multiples of the mean square of an input."""

_fitted: WeakKeyDictionary[Series, LinearMap] = WeakKeyDictionary()


@dataclass(frozen=True)
class LinearMap:
    """y = x_T + W (x - x_T) + b for each target alone, with the weights all of them share.

    Attributes:
        weight: (T, H).
        bias: (H,).
        ridge: the regulariser that the validation part chose.
    """

    weight: Float[np.ndarray, "history horizon"]
    bias: Float[np.ndarray, " horizon"]
    ridge: float


def forecasts(
    split: SeriesSplit, windows: NDArray[np.int64]
) -> dict[str, Float[np.ndarray, "w horizon targets"]]:
    """What each baseline says of some windows of a split, standardised as the targets are.

    `last`: the value before the forecast. `seasonal`: the value a whole number of seasons before each
    step, the last one known (the last value where the series does not reach back so far). `linear`: see
    `fit_linear`; it is fitted once for a series.
    """
    series = split.series
    count = len(series.names)
    values = series.values[:, :count]
    origins = split.first + windows
    steps = np.arange(series.horizon)
    last = values[origins - 1][:, None]
    back = series.season * (steps // series.season + 1)
    places = origins[:, None] + steps - back
    seasonal = np.where((places >= 0)[:, :, None], values[np.maximum(places, 0)], last)
    if series not in _fitted:
        _fitted[series] = fit_linear(series)
    linear = _fitted[series]
    history_WTO = values[origins[:, None] + np.arange(-series.history, 0)]
    moved_WOT = (history_WTO - last).transpose(0, 2, 1)
    mapped_WHO = (moved_WOT @ linear.weight.astype(np.float32)).transpose(0, 2, 1)
    mapped_WHO = mapped_WHO + linear.bias.astype(np.float32)[:, None] + last
    return {"last": np.broadcast_to(last, seasonal.shape), "seasonal": seasonal, "linear": mapped_WHO}


def fit_linear(series: Series) -> LinearMap:
    """The linear map from history to horizon with the least squared error on the training windows.

    It is the class of functions of DLinear, whose two maps of trend and remainder are together one linear
    map, and of NLinear, which takes the last value off (A. Zeng et al., 2023); here fitted in closed form
    by ridge regression, whose regulariser is the one with the least error on the validation windows (on the
    training windows where there is no validation part). Missing values stand as they were filled.
    """
    gram, cross, mean_x, mean_y = _moments(series, "train", None)
    size = float(np.trace(gram)) / len(gram) or 1.0
    eigenvalues, vectors = np.linalg.eigh(gram)
    turned = vectors.T @ cross
    judge = (
        _moments(series, "validation", (mean_x, mean_y)) if "validation" in series.parts else (gram, cross)
    )
    best: tuple[float, float, Float[np.ndarray, "history horizon"]] | None = None
    for ridge in RIDGES:
        weight = vectors @ (turned / (np.maximum(eigenvalues, 0) + ridge * size)[:, None])
        # the squared error but for what no weight changes
        error = float((weight * (judge[0] @ weight)).sum() - 2 * (weight * judge[1]).sum())
        if best is None or error < best[0]:
            best = error, ridge, weight
    assert best is not None
    return LinearMap(best[2], mean_y - mean_x @ best[2], best[1])


def _moments(
    series: Series, part: str, means: tuple[NDArray[np.float64], NDArray[np.float64]] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean products of the windows' histories with themselves and with their targets, and the means.

    Args:
        means: what histories and targets are centred by; by default their own means.
    """
    first, end = series.parts[part]
    history, horizon, count = series.history, series.horizon, len(series.names)
    windows = end - first - horizon + 1
    stride = -(-windows * count // MOST_WINDOWS)
    gram, cross = np.zeros((history, history)), np.zeros((history, horizon))
    sum_x, sum_y, seen = np.zeros(history), np.zeros(horizon), 0
    for column in range(count):
        values = series.values[first - history : end, column].astype(np.float64)
        whole = np.lib.stride_tricks.sliding_window_view(values, history + horizon)[::stride]
        moved = whole - whole[:, history - 1 : history]
        x, y = moved[:, :history], moved[:, history:]
        gram, cross = gram + x.T @ x, cross + x.T @ y
        sum_x, sum_y, seen = sum_x + x.sum(0), sum_y + y.sum(0), seen + len(x)
    own_x, own_y = sum_x / seen, sum_y / seen
    mean_x, mean_y = means or (own_x, own_y)
    gram = gram / seen - np.outer(own_x, mean_x) - np.outer(mean_x, own_x) + np.outer(mean_x, mean_x)
    cross = cross / seen - np.outer(own_x, mean_y) - np.outer(mean_x, own_y) + np.outer(mean_x, mean_y)
    return gram, cross, mean_x, mean_y
