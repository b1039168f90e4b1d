"""From a new file to a forecaster's inputs, and from its outputs to values in their own units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from descent.data.clock import Step, Times, calendar, written
from descent.data.series_config import SeriesData
from descent.data.series_file import Columns, even, filled, ordered, read_columns
from descent.errors import UserError

__all__ = ["NewWindow", "forecast_values", "prepare_series"]


@dataclass(frozen=True)
class NewWindow:
    """The last steps of a series, as a forecaster takes them.

    Attributes:
        history: (T, C), standardised.
        known: (T + H, K): calendar and columns known in advance.
        times: the H times that are to be forecast.
    """

    history: Float[Tensor, "history columns"]
    known: Float[Tensor, "steps known"]
    times: Times

    def batch(self) -> dict[str, Tensor]:
        """A batch of this window alone: the arguments of the model."""
        return {"history": self.history[None], "known": self.known[None]}


def prepare_series(preparation: Mapping[str, Any], path: str | Path) -> NewWindow:
    """The model's inputs for what follows a file's last row that holds a target.

    Args:
        preparation: of the series the model was trained on.
        path: a file with the same columns; rows before the last `history` ones are not needed. Columns that
            are known in advance must go on for the horizon, in rows whose targets are empty.

    Raises:
        UserError: too few rows, another step, a column that is missing, or any fault of the file.
    """
    if preparation.get("kind") != "series":
        raise UserError("this model was not trained on a time series", got=preparation.get("kind"))
    names = {use: list(preparation[use]) for use in ("targets", "inputs", "known")}
    config = SeriesData.read({**preparation["reading"], **names, "path": str(path)})
    needed = [name for group in names.values() for name in group]
    step, history, horizon = (
        Step.read(preparation["step"]), int(preparation["history"]), int(preparation["horizon"]),
    )  # fmt: skip
    columns, _ = even(ordered(read_columns(config, needed), config.duplicates), config.gaps, step)
    columns, end = _from_origin(columns, names["targets"], history, horizon)
    ahead = step.after(columns.times[end - 1], horizon)
    if names["known"]:
        ahead = _planned_times(columns, end, names["known"], ahead, step)
    values = {}
    for name, column in columns.values.items():
        own = column if name in names["known"] else column[:end]
        values[name], _ = filled(own, config.missing, f"{path}: {name}", columns.times)
    times = np.concatenate([columns.times[:end], ahead])
    marks = calendar(times, preparation["calendar"])
    planned = _scaled(preparation, values, names["known"], len(times))
    return NewWindow(
        history=torch.from_numpy(_scaled(preparation, values, [*names["targets"], *names["inputs"]], end)),
        known=torch.from_numpy(np.concatenate([marks, planned], axis=1)),
        times=ahead,
    )


def _from_origin(columns: Columns, targets: Sequence[str], history: int, horizon: int) -> tuple[Columns, int]:
    """The last `history` rows up to the last target, at most `horizon` after it, and where these begin."""
    there = ~np.isnan(np.stack([columns.values[name] for name in targets])).all(axis=0)
    rows = np.flatnonzero(there)
    end = int(rows[-1]) + 1 if len(rows) else 0
    if end < history:
        raise UserError(
            f"{columns.where} is too short for a forecast",
            got=f"{end:,} steps",
            expected=f"at least {history:,}, the history that the model reads",
        )
    window = slice(end - history, end + horizon)
    values = {name: column[window] for name, column in columns.values.items()}
    return Columns(columns.times[window], values, columns.where), history


def _planned_times(columns: Columns, end: int, known: Sequence[str], ahead: Times, step: Step) -> Times:
    """The times of the rows after the history, once they hold the whole plan."""
    given = columns.times[end:]
    lacking = [name for name in known if np.isnan(columns.values[name][end:]).any()]
    on_time = step.unit in ("rows", "weekdays") or np.array_equal(given, ahead)
    if len(given) == len(ahead) and on_time and not lacking:
        return given
    rows = f"{len(given):,} rows after {written(columns.times[end - 1])}"
    raise UserError(
        f"{columns.where}: {', '.join(known)} must be known for the {len(ahead):,} steps of the forecast",
        got=f"{rows}, empty cells in {', '.join(lacking)}" if lacking else rows,
        expected=f"{len(ahead):,} rows, their targets left empty",
    )


def _scaled(
    preparation: Mapping[str, Any], values: Mapping[str, np.ndarray], names: Sequence[str], length: int
) -> Float[np.ndarray, "steps columns"]:
    mean, std = preparation["mean"], preparation["std"]
    found = np.zeros((length, len(names)), np.float32)
    for place, name in enumerate(names):
        found[:, place] = (values[name] - mean[name]) / std[name]
    return found


def forecast_values(
    preparation: Mapping[str, Any],
    outputs: Float[Tensor, "horizon targets *quantiles"],
    times: Times,
    quantiles: Sequence[float] = (),
) -> list[dict[str, Any]]:
    """A forecast in the units of the data, one mapping a step.

    Args:
        outputs: of the model for one window.
        times: of that window.
        quantiles: what the last axis of the outputs holds, if the model says quantiles.

    Returns:
        `time`, each target's value by its name (the median, where there are quantiles), and `quantiles`: for
        each target its values by quantile, rising (V. Chernozhukov et al., Quantile and probability curves
        without crossing, Econometrica 78, 2010: sorted).
    """
    names = list(preparation["targets"])
    values = outputs.detach().double().cpu().numpy()
    values = values[..., None] if values.ndim == 2 else np.sort(values, axis=2)
    scale = np.array([preparation["std"][name] for name in names])[:, None]
    shift = np.array([preparation["mean"][name] for name in names])[:, None]
    values = values * scale + shift
    middle = values.shape[2] // 2
    found: list[dict[str, Any]] = []
    for time, row in zip(times, values, strict=True):
        said: dict[str, Any] = {"time": written(time)}
        said |= {name: float(row[place, middle]) for place, name in enumerate(names)}
        if len(quantiles):
            said["quantiles"] = {
                name: dict(zip(map(str, quantiles), row[place].tolist(), strict=True))
                for place, name in enumerate(names)
            }
        found.append(said)
    return found
