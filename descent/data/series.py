"""Time series: windows of a history and what comes after it, in parts that follow one another.

Legend: N steps of the series, B windows, T history, H horizon, C columns of the history (the targets
first), O targets, K columns known in advance (the calendar's first).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from descent.data.clock import Times, calendar, rounds, written
from descent.data.dataset import Batch, Dataset, Indices, Split
from descent.data.registry import Entry
from descent.data.series_config import SeriesData
from descent.data.series_file import Columns, even, filled, ordered, read_columns
from descent.data.splits import NAMES, fingerprint
from descent.errors import UserError

__all__ = ["Series", "SeriesSplit", "load_series", "windows_of"]

OFFICIAL = {"ett": (12 * 30 * 24, 4 * 30 * 24, 4 * 30 * 24)}
"""Rows to train, validate and test on; what follows them in the file is not used (H. Zhou et al., 2021)."""


@dataclass(frozen=True, eq=False)
class Series:
    """A whole series, standardised, of which the splits are windows.

    Attributes:
        values: (N, C), no blanks left.
        there: (N, O), False where a target's value was filled in.
        known: (N, K).
        times: (N,).
        names: of the targets.
        mean: of the targets in the training part, in their own units.
        std: likewise.
        parts: for each split the rows its targets lie in, first and end; train leaves room for a history.
        season: steps of a season.
    """

    values: Float[np.ndarray, "n columns"]
    there: Bool[np.ndarray, "n targets"]
    known: Float[np.ndarray, "n known"]
    times: Times
    names: tuple[str, ...]
    mean: Float[np.ndarray, " targets"]
    std: Float[np.ndarray, " targets"]
    parts: dict[str, tuple[int, int]]
    history: int
    horizon: int
    season: int


class SeriesSplit(Split):
    """Every window whose targets lie in one part of a series, one step apart.

    A batch holds `history` (B, T, C), `known` (B, T + H, K) and `targets` (B, H, O); a target that was
    missing in the file is NaN, which no loss and no metric counts.
    """

    def __init__(self, series: Series, part: str):
        self.series, self.part = series, part
        self.first, end = series.parts[part]
        self._count = end - self.first - series.horizon + 1
        targets = series.values[:, : len(series.names)]
        self._targets = np.where(series.there, targets, np.float32(np.nan))

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        origins = self.first + indices[:, None]
        before = origins + np.arange(-self.series.history, 0)
        after = origins + np.arange(self.series.horizon)
        return {
            "history": torch.from_numpy(self.series.values[before]),
            "known": torch.from_numpy(self.series.known[np.concatenate([before, after], axis=1)]),
            "targets": torch.from_numpy(self._targets[after]),
        }

    def describe(self) -> str:
        return f"{len(self):,} windows of {self.series.history:,} + {self.series.horizon:,} steps"


def load_series(config: SeriesData, item: Entry | None, files: list[Path]) -> Dataset:
    """A series as a dataset; see `SeriesData` for what the options mean.

    Raises:
        UserError: the file cannot be read as a series, or a part is too short for one window or holds no
            value to forecast.
    """
    columns = _read(config, item, files)
    chosen, columns = _choose(config, ordered(columns, config.duplicates))
    columns, step = even(columns, config.gaps)
    columns = _ended(columns, chosen["targets"])
    values, there = _fill(columns, config.missing)
    sizes = _parts(config, item, columns)
    used = rounds(config.calendar, step, _span(columns.times[: sizes[0]]) + step.length)
    notes = list(columns.notes)
    mean, std = _statistics(values, there, sizes[0], notes, chosen["targets"])
    history = [*chosen["targets"], *chosen["inputs"]]
    preparation = {
        "kind": "series",
        **chosen,
        "calendar": used,
        "mean": mean,
        "std": std,
        "history": config.history,
        "horizon": config.horizon,
        "step": step.table(),
        "season": config.season or step.season,
        "reading": _reading(config, columns.time),
    }
    planned = _scaled(values, chosen["known"], mean, std)
    series = Series(
        values=_scaled(values, history, mean, std),
        there=np.stack([there[name] for name in chosen["targets"]], axis=1),
        known=np.concatenate([calendar(columns.times, used), planned], axis=1),
        times=columns.times,
        names=tuple(chosen["targets"]),
        mean=np.array([mean[name] for name in chosen["targets"]]),
        std=np.array([std[name] for name in chosen["targets"]]),
        parts=_rows(sizes, config.history),
        history=config.history,
        horizon=config.horizon,
        season=preparation["season"],
    )
    _check_targets(series, columns.where)
    splits: dict[str, Split] = {part: SeriesSplit(series, part) for part in series.parts}
    about = ", ".join(f"{part} {size:,}" for part, size in zip(NAMES, sizes, strict=True))
    return Dataset(
        name=config.source or Path(str(config.path)).name,
        splits=splits,
        sizes={
            "channels": len(history), "outputs": len(chosen["targets"]), "known": series.known.shape[1],
            "history": config.history, "horizon": config.horizon,
        },
        unit="windows",
        fingerprint=_fingerprint(series, preparation),
        preparation=preparation,
        about=f"steps of {step} in order of time: {about}",
        notes=tuple(notes),
    )  # fmt: skip


def _span(times: Times) -> int:
    return int((times[-1] - times[0]).astype(np.int64))


def _read(config: SeriesData, item: Entry | None, files: list[Path]) -> Columns:
    if item is None:
        return read_columns(config, _named(config))
    if item.parser == "google-stock":
        return _google_stock()
    return read_columns(config.replace(source=None, path=str(files[0])), _named(config))


def _google_stock() -> Columns:
    folder = Path(import_module("matplotlib").get_data_path())
    path = folder / "sample_data" / "goog.npz"
    if not path.is_file():
        raise UserError("this matplotlib comes without its sample data", got=str(path))
    with np.load(path, allow_pickle=False) as held:
        table = held["price_data"]
    names = [name for name in table.dtype.names if name != "date"]
    values = {name: table[name].astype(np.float64) for name in names}
    return Columns(table["date"].astype("datetime64[us]"), values, "google-stock", "date")


def _named(config: SeriesData) -> list[str]:
    """The columns a file is read for; none when the targets are whatever holds numbers."""
    return [*config.targets, *config.inputs, *config.known] if config.targets else []


def _choose(config: SeriesData, columns: Columns) -> tuple[dict[str, list[str]], Columns]:
    """The names by use, and the columns that are used."""
    for name in (*config.targets, *config.inputs, *config.known):
        if name not in columns.values:
            raise UserError(
                f"{columns.where}: there is no column {name!r} of numbers",
                expected="one of " + ", ".join(columns.values),
            )
    others = [name for name in columns.values if name not in (*config.inputs, *config.known)]
    chosen = {
        "targets": list(config.targets) or others, "inputs": list(config.inputs), "known": list(config.known),
    }  # fmt: skip
    if not chosen["targets"]:
        raise UserError(f"{columns.where}: no column of numbers is left to forecast")
    used = [name for names in chosen.values() for name in names]
    notes = columns.notes
    if columns.left_out:
        notes = (*notes, "columns without numbers left out: " + ", ".join(columns.left_out))
    values = {name: columns.values[name] for name in used}
    return chosen, Columns(columns.times, values, columns.where, columns.time, (), notes)


def _ended(columns: Columns, targets: list[str]) -> Columns:
    """Without the steps at the end that hold no target: a future that is planned, not known."""
    rows = np.flatnonzero(~np.isnan(np.stack([columns.values[name] for name in targets])).all(axis=0))
    if not len(rows):
        raise UserError(f"{columns.where}: the columns to forecast are empty")
    end = int(rows[-1]) + 1
    if end == len(columns.times):
        return columns
    note = f"{len(columns.times) - end:,} rows at the end without any target left out"
    values = {name: column[:end] for name, column in columns.values.items()}
    return Columns(columns.times[:end], values, columns.where, columns.time, (), (*columns.notes, note))


def _fill(
    columns: Columns, policy: str
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.bool_]]]:
    values, there = {}, {}
    for name, column in columns.values.items():
        values[name], there[name] = filled(column, policy, f"{columns.where}: {name}", columns.times)
    return values, there


def _parts(config: SeriesData, item: Entry | None, columns: Columns) -> tuple[int, int, int]:
    """Rows of the three parts, each long enough for a window."""
    count, window = len(columns.times), config.history + config.horizon
    official = OFFICIAL.get(item.parser) if item else None
    test = round(count * config.test)
    validation = round((count - test) * config.validation)
    sizes = official or (count - validation - test, validation, test)
    hint = "give more rows, or make data.history or data.horizon smaller"
    if sizes[0] < window:
        raise UserError(
            f"{columns.where}: the training part is too short for one window",
            got=f"{sizes[0]:,} steps of {count:,}",
            expected=f"at least {window:,}: history {config.history:,} and horizon {config.horizon:,}",
            hint=hint,
        )
    for name, size in zip(NAMES[1:], sizes[1:], strict=True):
        if 0 < size < config.horizon:
            raise UserError(
                f"{columns.where}: the {name} part is shorter than the horizon",
                got=f"{size:,} steps of {count:,}",
                expected=f"at least {config.horizon:,}",
                hint=f"{hint}; or set data.{name}=0",
            )
    return sizes


def _rows(sizes: tuple[int, int, int], history: int) -> dict[str, tuple[int, int]]:
    ends = np.cumsum(sizes).tolist()
    starts = [history, ends[0], ends[1]]
    parts = zip(NAMES, starts, ends, sizes, strict=True)
    return {name: (start, end) for name, start, end, size in parts if size}


def _check_targets(series: Series, where: str) -> None:
    """Refuses a part in which every target was filled in: nothing would be learnt from it, or scored."""
    for part, (start, end) in series.parts.items():
        if not series.there[start:end].any():
            first, last = written(series.times[start]), written(series.times[end - 1])
            raise UserError(
                f"{where}: the {part} part holds no value of {', '.join(series.names)}",
                got=f"{end - start:,} rows from {first} to {last}, all of them missing",
                hint="choose other shares with data.validation and data.test",
            )


def _statistics(
    values: dict[str, NDArray[np.float64]],
    there: dict[str, NDArray[np.bool_]],
    end: int,
    notes: list[str],
    targets: list[str],
) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and deviation of each column in the training part; what was filled in does not count."""
    mean, std, constant = {}, {}, []
    for name, column in values.items():
        train = column[:end][there[name][:end]]
        if not len(train):
            raise UserError(f"{name} is empty in the training part", hint="leave the column out")
        mean[name], spread = float(train.mean()), float(train.std())
        if spread <= 1e-12 * max(1.0, abs(mean[name])):
            constant.append(name)
            spread = 1.0
        std[name] = spread
        blank = int((~there[name]).sum())
        if blank:
            notes.append(f"{name}: {blank:,} missing values filled")
    if constant:
        notes.append(f"constant in the training part, not scaled: {', '.join(constant)}")
    if set(targets) <= set(constant):
        notes.append("no target changes in the training part: nothing is to be learnt, and there is no mase")
    return mean, std


def _scaled(
    values: dict[str, NDArray[np.float64]], names: list[str], mean: dict[str, float], std: dict[str, float]
) -> Float[np.ndarray, "n columns"]:
    length = len(next(iter(values.values())))
    scaled = [(values[name] - mean[name]) / std[name] for name in names]
    return np.stack(scaled, axis=1).astype(np.float32) if scaled else np.zeros((length, 0), np.float32)


def _reading(config: SeriesData, time: str) -> dict[str, Any]:
    """How a new file is read: as this one was."""
    kept = {name: getattr(config, name) for name in ("time_format", "missing", "gaps", "duplicates")}
    return {"time": time, **kept}


def _fingerprint(series: Series, preparation: dict[str, Any]) -> str:
    arrays = (series.values, series.there, series.known, series.times.astype(np.int64))
    parts = [part for array in arrays for part in (str(array.shape), np.ascontiguousarray(array).tobytes())]
    return fingerprint([*parts, repr(sorted(series.parts.items())), repr(sorted(preparation.items()))])


def windows_of(split: Split) -> SeriesSplit:
    """The split, as one of windows of a series.

    Raises:
        UserError: it is a split of other data.
    """
    if not isinstance(split, SeriesSplit):
        raise UserError("a forecast is of a time series", got=type(split).__name__)
    return split
