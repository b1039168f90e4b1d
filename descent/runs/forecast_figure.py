"""A forecast drawn beside what came true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from descent.data.clock import written
from descent.data.dataset import Split
from descent.data.series import windows_of
from descent.errors import UserError
from descent.evaluation.baselines import forecasts
from descent.objectives.forecast import Forecast, forecast_of
from descent.runs.figure import INK, MUTED, drawing, headline, png, save, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Drawn", "draw_forecast", "forecast_window"]

FORECAST, BAND, LINEAR = "#2f6fb5", "#a9cbee", "#d9622b"
PANELS = 4


@dataclass(frozen=True)
class Drawn:
    """One window of a split in the units of the data.

    Attributes:
        times: of history and horizon.
        history: (T, O) targets before the forecast.
        truth: (H, O), NaN where nothing is known.
        forecast: (H, O), the median where there are quantiles.
        quantiles: (H, O, Q), rising; Q is 0 where the model says one value.
        linear: (H, O), the linear baseline.
    """

    names: tuple[str, ...]
    times: np.ndarray
    history: Float[np.ndarray, "history targets"]
    truth: Float[np.ndarray, "horizon targets"]
    forecast: Float[np.ndarray, "horizon targets"]
    quantiles: Float[np.ndarray, "horizon targets quantiles"]
    linear: Float[np.ndarray, "horizon targets"]

    def arrays(self) -> dict[str, np.ndarray]:
        names = ("times", "history", "truth", "forecast", "quantiles", "linear")
        return {"names": np.array(self.names), **{name: getattr(self, name) for name in names}}


def forecast_window(
    model: nn.Module, objective: Forecast, split: Split, window: int | None = None, device: str = "cpu"
) -> Drawn:
    """A model's forecast of one window.

    Args:
        model: in evaluation mode.
        window: its number in the split, from the end where negative; by default the one in the middle.

    Raises:
        UserError: the split is of no series, or has no such window.
    """
    split = windows_of(split)
    series = split.series
    window = len(split) // 2 if window is None else window + len(split) if window < 0 else window
    if not 0 <= window < len(split):
        raise UserError("there is no such window", got=window, expected=f"0 to {len(split) - 1:,}")
    batch = split.gather(np.array([window]))
    with torch.inference_mode():
        placed = {name: value.to(device) for name, value in batch.items()}
        said = forecast_of(model, placed, objective.config).double().cpu().numpy()[0]
    count, origin = len(series.names), split.first + window
    asked = len(objective.config.quantiles)
    quantiles = np.sort(said.reshape(series.horizon, count, -1), axis=2)
    forecast, quantiles = quantiles[..., asked // 2], quantiles[..., :asked]

    def own(values: Any) -> np.ndarray:
        return np.asarray(values, dtype=np.float64) * series.std + series.mean

    return Drawn(
        names=series.names,
        times=series.times[origin - series.history : origin + series.horizon],
        history=own(batch["history"][0, :, :count]),
        truth=own(batch["targets"][0]),
        forecast=own(forecast),
        quantiles=own(quantiles.transpose(2, 0, 1)).transpose(1, 2, 0),
        linear=own(forecasts(split, np.array([window]))["linear"][0]),
    )


def draw_forecast(drawn: Drawn, path: Path | str, title: str, quantiles: Sequence[float] = ()) -> list[Path]:
    """Draws a window: the last of its history, what came true, the forecast and its interval.

    At most the first four targets get a panel; the arrays hold all.

    Args:
        drawn: from `forecast_window`.
        path: the PNG to write; the arrays go beside it, with the ending `.npz`.
        title: stands above the picture.
        quantiles: what the last axis of `drawn.quantiles` is.

    Returns:
        The two files written.
    """
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    path = png(path)
    panels = min(PANELS, len(drawn.names))
    with drawing(9.0, 1.9 * panels + 1.1) as figure:
        grid = figure.subplots(panels, 1, sharex=True, squeeze=False)[:, 0]
        for place, axes in enumerate(grid):
            _panel(axes, drawn, place, quantiles)
        handles, labels = grid[0].get_legend_handles_labels()
        grid[0].legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1), ncols=5, handlelength=1.6)
        ticks = AutoDateLocator(maxticks=8)
        grid[-1].xaxis.set_major_locator(ticks)
        grid[-1].xaxis.set_major_formatter(ConciseDateFormatter(ticks))
        figure.align_ylabels(list(grid))
        origin = drawn.times[len(drawn.history)]
        shown = f"; the first {panels} of {len(drawn.names)} targets" if panels < len(drawn.names) else ""
        headline(figure, title, f"{len(drawn.truth):,} steps from {written(origin)}{shown}")
        save(figure, path)
    arrays = path.with_suffix(".npz")
    np.savez(arrays, **drawn.arrays())  # type: ignore[arg-type]
    return [path, arrays]


def _panel(axes: Axes, drawn: Drawn, place: int, quantiles: Sequence[float]) -> None:
    before = min(len(drawn.history), max(3 * len(drawn.truth), 48))
    past, ahead = drawn.times[: len(drawn.history)][-before:], drawn.times[len(drawn.history) :]
    # one line on from the last value that was seen
    joined = np.concatenate([past[-1:], ahead])

    def on(values: np.ndarray) -> np.ndarray:
        return np.concatenate([drawn.history[-1:, place], values])

    alone = {"marker": "o", "markersize": 3} if len(ahead) == 1 else {}
    axes.plot(past, drawn.history[-before:, place], color=MUTED, linewidth=1.2)
    if drawn.quantiles.shape[2]:
        low, high = drawn.quantiles[:, place, 0], drawn.quantiles[:, place, -1]
        share = f"{100 * (quantiles[-1] - quantiles[0]):.0f}% interval" if len(quantiles) else "interval"
        axes.fill_between(joined, on(low), on(high), color=BAND, alpha=0.7, linewidth=0, label=share)
    axes.plot(joined, on(drawn.truth[:, place]), color=INK, linewidth=1.4, label="truth", **alone)
    axes.plot(joined, on(drawn.linear[:, place]), color=LINEAR, linewidth=1.0, linestyle="--", label="linear")
    axes.plot(joined, on(drawn.forecast[:, place]), color=FORECAST, linewidth=1.8, label="forecast", **alone)
    axes.axvline(past[-1], color=MUTED, linewidth=0.8, linestyle=":")
    axes.set_ylabel(short(drawn.names[place], 18))
    axes.margins(x=0.01)
