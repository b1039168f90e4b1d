"""A file of columns over time, read strictly: times sorted and told apart, steps even, blanks filled.

Legend: N rows of the file or steps of the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from descent.data.clock import Step, Times, infer, parse_time, written
from descent.data.preparation import BLANKS
from descent.data.series_config import SeriesData
from descent.data.textfiles import missing, placed_rows
from descent.errors import UserError, nearest

__all__ = ["Columns", "even", "filled", "ordered", "read_columns"]

_LOOK = 20
_NAMED = 3
_NEARLY = 0.8
"""The share of a column's cells that are times, from which on the others are taken for mistakes."""


@dataclass(frozen=True)
class Columns:
    """Columns of numbers (NaN = nothing there) over rising times.

    Attributes:
        time: the name of the column the times stood in.
        left_out: columns that hold no numbers.
        notes: what was decided for the user.
    """

    times: Times
    values: dict[str, Float[np.ndarray, "n"]]
    where: str
    time: str = ""
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_columns(config: SeriesData, needed: Sequence[str] = ()) -> Columns:
    """The times and the columns of numbers of a `.csv` or `.tsv` file, in the file's order.

    Args:
        config: its `path`, `time` and `time_format`.
        needed: the columns to read; empty = all, those without any number left out.

    Raises:
        UserError: no times, a cell that is no number, no such column; with its line.
    """
    path = Path(str(config.path)).expanduser()
    if path.is_dir():
        raise UserError(
            f"{path} is a folder", expected="a series: a .csv or .tsv file with a column of times"
        )
    if not path.is_file():
        raise missing(path)
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise UserError("a series is a .csv or .tsv file with a column of times", got=str(path))
    header, rows, lines = placed_rows(path)
    cells = {name: [row[place].strip() for row in rows] for place, name in enumerate(header)}
    time = _time_column(cells, lines, config, path)
    for name in needed:
        if name not in cells or name == time:
            raise _absent(name, [other for other in header if other != time], path)
    times = _times(cells[time], lines, config.time_format, f"{path}: {_called(time)}")
    values, left_out = {}, []
    for name in needed or [name for name in header if name != time]:
        column = _numbers(cells[name], times, lines, f"{path}: {name}", name in needed)
        if column is None or not name:
            left_out.append(name or "the unnamed one")
        else:
            values[name] = column
    return Columns(times, values, str(path), time, tuple(left_out))


def _absent(name: str, columns: Sequence[str], path: Path) -> UserError:
    near = nearest(name, columns)
    return UserError(
        f"{path}: there is no column {name!r}",
        expected="one of " + ", ".join(columns),
        hint=f"did you mean {near!r}?" if near else None,
    )


def _called(name: str) -> str:
    return name or "the unnamed column"


def _time_column(cells: dict[str, list[str]], lines: Sequence[int], config: SeriesData, path: Path) -> str:
    """The column that is named, or the first whose first cells are all times.

    Raises:
        UserError: there is none; if all but a few cells of a column are times, the first that is none is
            named.
    """
    if config.time:
        if config.time not in cells:
            raise _absent(config.time, list(cells), path)
        return config.time
    held: list[str] = []
    used = {*config.targets, *config.inputs, *config.known}
    for name, column in cells.items():
        first = [cell for cell in column if cell not in BLANKS][:_LOOK]
        numeric = config.time_format == "unix"  # any number would be such a time
        if name in used or not first or numeric:
            continue
        if all(parse_time(cell, config.time_format) is not None for cell in first):
            return name
        held.append(name)
    for name in held:
        known = [parse_time(cell, config.time_format) is not None for cell in cells[name]]
        if sum(known) >= _NEARLY * len(known):
            _times(cells[name], lines, config.time_format, f"{path}: {_called(name)}")
    raise UserError(
        f"{path}: no column holds times",
        got={name: column[0] for name, column in list(cells.items())[:6]},
        expected="one written like 2026-07-01 13:30, the year first",
        hint="name the column with data.time=..., and say how it is written, for example "
        "data.time_format='%d/%m/%Y %H:%M' (or unix)",
    )


def _times(cells: list[str], lines: Sequence[int], form: str, where: str) -> Times:
    times = [parse_time(cell, form) for cell in cells]
    for row, time in enumerate(times):
        if time is None:
            raise UserError(
                f"{where}: no time in line {lines[row]:,}",
                got=cells[row],
                expected=form or "a time such as 2026-07-01 13:30",
            )
    return np.array(times, dtype="datetime64[us]")


def _numbers(
    cells: list[str], times: Times, lines: Sequence[int], where: str, needed: bool
) -> Float[np.ndarray, "n"] | None:
    """A column's numbers; None where it holds no single one and nobody asked for it."""
    found = np.full(len(cells), np.nan)
    wrong: list[int] = []
    for row, cell in enumerate(cells):
        if cell in BLANKS:
            continue
        try:
            found[row] = float(cell if "_" not in cell else "no number")  # Python reads 1_0 as 10
        except ValueError:
            wrong.append(row)
    if np.isnan(found).all() and not needed:
        return None
    wrong += np.flatnonzero(np.isinf(found)).tolist()
    if wrong:
        row = min(wrong)
        others = len(wrong) - 1
        more = "; nor is one other" if others == 1 else f"; nor are {others:,} others" if others else ""
        raise UserError(
            f"{where}: line {lines[row]:,} ({written(times[row])}) is no number{more}",
            got=cells[row],
            expected="a number, or an empty cell",
        )
    return found


def ordered(columns: Columns, duplicates: str) -> Columns:
    """Rows in the order of their times, one a time.

    Raises:
        UserError: times stand twice and `duplicates` is "refuse"; they are named.
    """
    order = np.argsort(columns.times, kind="stable")
    notes = list(columns.notes)
    if (order != np.arange(len(order))).any():
        notes.append("rows sorted by time")
    times = columns.times[order]
    values = {name: column[order] for name, column in columns.values.items()}
    unique, first, counts = np.unique(times, return_index=True, return_counts=True)
    twice = unique[counts > 1]
    if len(twice) and duplicates == "refuse":
        named = ", ".join(map(written, twice[:_NAMED])) + (", ..." if len(twice) > _NAMED else "")
        said = "one time stands" if len(twice) == 1 else f"{len(twice):,} times stand"
        raise UserError(
            f"{columns.where}: {said} in more than one row: {named}",
            hint="keep one row of each with data.duplicates=first, last or mean",
        )
    if len(twice):
        notes.append(f"{len(times) - len(unique):,} rows of times that stand twice: {duplicates} kept")
        last = first + counts - 1
        values = {name: _one_each(column, first, last, counts, duplicates) for name, column in values.items()}
    return replace(columns, times=unique, values=values, notes=tuple(notes))


def _one_each(
    column: Float[np.ndarray, "n"],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    counts: NDArray[np.int64],
    duplicates: str,
) -> Float[np.ndarray, "m"]:
    if duplicates != "mean":
        return column[first if duplicates == "first" else last]
    there = ~np.isnan(column)
    sums = np.add.reduceat(np.where(there, column, 0.0), first)
    seen = np.add.reduceat(there.astype(np.int64), first)
    return np.where(seen > 0, sums / np.maximum(seen, 1), np.nan)


def even(columns: Columns, gaps: str, step: Step | None = None) -> tuple[Columns, Step]:
    """The columns with a row for every step; rows that the file lacks are empty.

    Args:
        columns: from `ordered`.
        gaps: as `data.gaps`.
        step: of the series; by default inferred.

    Raises:
        UserError: fewer than three rows, uneven times, or gaps that are refused or longer than the data.
    """
    times = columns.times
    if len(times) < 3 and step is None:
        raise UserError(
            f"{columns.where}: too few rows to tell the step", got=len(times), expected="3 or more"
        )
    inferred = step is None
    step = step or infer(times, gaps == "ignore")
    notes = list(columns.notes)
    if inferred and step.unit == "weekdays":
        notes.append("no weekend stands in it: rows are taken as trading days")
    try:
        places = step.places(times)
    except UserError as error:
        raise UserError(f"{columns.where}: {error.what}", hint=error.hint) from None
    size = int(places[-1]) + 1
    lacking = size - len(times)
    if not lacking:
        return replace(columns, notes=tuple(notes)), step
    place = int(np.flatnonzero(np.diff(places) > 1)[0])
    said = f"{lacking:,} steps of {step} are missing, the first after {written(times[place])}"
    if gaps == "refuse":
        raise UserError(f"{columns.where}: {said}", hint="fill them with data.gaps=fill")
    if lacking > len(times):
        raise UserError(
            f"{columns.where}: {said}: more than the {len(times):,} that are there",
            hint="take row after row with data.gaps=ignore",
        )
    whole = np.concatenate([times[:1], step.after(times[0], size - 1)])
    spread = {}
    for name, column in columns.values.items():
        spread[name] = np.full(size, np.nan)
        spread[name][places] = column
    return replace(columns, times=whole, values=spread, notes=(*notes, said)), step


def filled(
    column: Float[np.ndarray, "n"], policy: str, where: str, times: Times
) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """A column without blanks, and which of its values were there.

    A blank at the start takes the first value, as nothing stands before it.

    Args:
        column: NaN = blank.
        policy: as `data.missing`.
        where: the file and the column, for messages.
        times: of the rows, for messages.
    """
    there = ~np.isnan(column)
    if there.all():
        return column, there
    if not there.any():
        raise UserError(f"{where}: the column is empty")
    if policy == "refuse":
        first = written(times[int(np.flatnonzero(~there)[0])])
        raise UserError(
            f"{where}: {int((~there).sum()):,} values are missing, the first at {first}",
            hint="fill them with data.missing=forward (or interpolate)",
        )
    rows = np.arange(len(column))
    if policy == "interpolate":
        return np.interp(rows, rows[there], column[there]), there
    last = np.maximum.accumulate(np.where(there, rows, -1))
    return column[np.where(last < 0, rows[there][0], last)], there
