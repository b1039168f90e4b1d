"""Times as a file writes them, the step between them, and what a calendar says of each.

Times are microseconds since 1970 (`datetime64[us]`). A step is a length of time, a number of months (from
the same day to the same day, or from end to end), or the next weekday; its JSON form is
{"unit": "microseconds" | "months" | "month_ends" | "weekdays" | "rows", "count": n}.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from descent.data.series_config import Calendar
from descent.errors import UserError

__all__ = ["Step", "Times", "calendar", "infer", "parse_time", "rounds", "written"]

Times = np.ndarray
"""One dimension, of `datetime64[us]` (a type that shape checkers do not know)."""
Unit = Literal["microseconds", "months", "month_ends", "weekdays", "rows"]
BY_MONTH = ("months", "month_ends")

SECOND = 1_000_000
MINUTE, HOUR, DAY = 60 * SECOND, 3600 * SECOND, 86400 * SECOND
_ROUNDS: dict[Calendar, int] = {
    "minute": HOUR, "hour": DAY, "weekday": 7 * DAY, "day": 31 * DAY, "month": 365 * DAY,
}  # fmt: skip
_WRITTEN = re.compile(
    r"(\d{4})([-/.])(\d{1,2})(?:\2(\d{1,2}))?"
    r"(?:[ T]+(\d{1,2})(?::(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?)?\s*(Z|UTC|[+-]\d{2}:?\d{2})?",
    re.ASCII,
)


def parse_time(text: str, form: str = "") -> np.datetime64 | None:
    """A time as written, in UTC where it says how far it is from it; None if it is no time.

    Args:
        text: year first, such as `2026-07-01`, `2026/7/1 9:05`, `2026-07-01T09:05:00.5+08:00` or `2026-07`.
        form: as `data.time_format`.
    """
    try:
        if form == "unix":
            return np.datetime64(round(float(text) * SECOND), "us")
        if form:
            found = datetime.strptime(text, form)
            shift = found.utcoffset() or timedelta()
            return np.datetime64(found.replace(tzinfo=None) - shift, "us")
        parts = _WRITTEN.fullmatch(text.strip())
        if parts is None:
            return None
        year, _, month, day, hour, minute, second, fraction, zone = parts.groups()
        moment = datetime(
            int(year), int(month), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0)
        )
        moment += timedelta(microseconds=int(((fraction or "") + "000000")[:6]))
        return np.datetime64(moment - _offset(zone), "us")
    except (ValueError, OverflowError):
        return None


def _offset(zone: str | None) -> timedelta:
    if zone in (None, "Z", "UTC"):
        return timedelta()
    digits = zone[1:].replace(":", "")
    away = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return -away if zone[0] == "-" else away


def written(time: np.datetime64) -> str:
    """A time as text: the day alone at midnight, else to the minute, or as finely as it must be."""
    text = str(time.astype("datetime64[us]"))
    for tail, shorter in (("T00:00:00.000000", ""), (":00.000000", ""), (".000000", "")):
        if text.endswith(tail):
            return (text.removesuffix(tail) + shorter).replace("T", " ")
    return text.replace("T", " ")


@dataclass(frozen=True)
class Step:
    """The time between two rows."""

    unit: Unit
    count: int

    @classmethod
    def read(cls, table: Mapping[str, Any]) -> Step:
        return cls(table["unit"], int(table["count"]))

    def table(self) -> dict[str, Any]:
        return asdict(self)

    def places(self, times: Times) -> NDArray[np.int64]:
        """How many steps each time lies after the first.

        Raises:
            UserError: a time lies between two steps; the message names it.
        """
        if self.unit in ("weekdays", "rows"):
            return np.arange(len(times))
        counted = _months(times) if self.unit in BY_MONTH else times.astype(np.int64)
        away = counted - counted[0]
        off = np.flatnonzero(away % self.count)
        if len(off):
            row = int(off[0])
            raise UserError(
                f"the times are not evenly spaced: most are {self} apart, but {written(times[row])} lies"
                " between two steps",
                hint="take row after row, whatever the clock says, with data.gaps=ignore",
            )
        return away // self.count

    def after(self, last: np.datetime64, count: int) -> Times:
        """The next `count` times after one."""
        steps = np.arange(1, count + 1)
        if self.unit == "weekdays":
            days = np.busday_offset(last.astype("datetime64[D]"), steps * self.count, roll="backward")
            return days.astype("datetime64[us]") + (last - last.astype("datetime64[D]"))
        if self.unit not in BY_MONTH:
            return last + (steps * self.count).astype("timedelta64[us]")
        month = last.astype("datetime64[M]")
        first = month + steps * self.count
        days = (last.astype("datetime64[D]") - month.astype("datetime64[D]")).astype(int)
        lengths = ((first + 1).astype("datetime64[D]") - first.astype("datetime64[D]")).astype(int)
        days = lengths - 1 if self.unit == "month_ends" else np.minimum(days, lengths - 1)
        return (first.astype("datetime64[D]") + days).astype("datetime64[us]") + (
            last - last.astype("datetime64[D]")
        )

    @property
    def season(self) -> int:
        """Steps of the round that such steps mostly follow: an hour, a day, a week or a year; 1 for none."""
        if self.unit in BY_MONTH:
            return max(1, 12 // self.count)
        if self.unit == "weekdays":
            return 5
        for longest, around in ((MINUTE, HOUR), (DAY, DAY), (7 * DAY, 7 * DAY)):
            if self.count < longest:
                return max(1, around // self.count)
        return max(1, 52 * 7 * DAY // self.count)

    @property
    def length(self) -> int:
        """About how many microseconds."""
        return self.count * {"months": 30 * DAY, "month_ends": 30 * DAY, "weekdays": DAY}.get(self.unit, 1)

    def __str__(self) -> str:
        if self.unit == "weekdays":
            return "a trading day"
        if self.unit in BY_MONTH:
            return "a month" if self.count == 1 else f"{self.count} months"
        for size, name in (
            (7 * DAY, "week"),
            (DAY, "day"),
            (HOUR, "hour"),
            (MINUTE, "minute"),
            (SECOND, "second"),
        ):
            if self.count % size == 0:
                count = self.count // size
                return f"{count} {name}s" if count > 1 else f"an {name}" if name == "hour" else f"a {name}"
        return f"{self.count / SECOND:g} seconds"


def infer(times: Times, ignore: bool = False) -> Step:
    """The step of times that rise: the commonest difference, or months where it is counted in these.

    Args:
        ignore: rows count as steps whatever their times; a daily series without any weekend does so anyway.
    """
    differences = np.diff(times).astype(np.int64)
    sizes, counts = np.unique(differences, return_counts=True)
    commonest = int(sizes[counts.argmax()])
    days = times.astype("datetime64[D]")
    if commonest == DAY and (differences % DAY == 0).all() and np.is_busday(days).all() and sizes.max() > DAY:
        return Step("weekdays", 1)
    if ignore:
        return Step("rows", commonest)
    unit = _by_month(times) if sizes.min() >= 28 * DAY else None
    if unit is not None:
        months, seen = np.unique(np.diff(_months(times)), return_counts=True)
        return Step(unit, int(months[seen.argmax()]))
    return Step("microseconds", commonest)


def _months(times: Times) -> NDArray[np.int64]:
    return times.astype("datetime64[M]").astype(np.int64)


def _by_month(times: Times) -> Unit | None:
    """The unit of times that are all on the same day of their months, or all on the last."""
    days = times.astype("datetime64[D]")
    if len(np.unique(times - days)) > 1:
        return None
    if len(np.unique(days - days.astype("datetime64[M]"))) == 1:
        return "months"
    at_end = (days + 1).astype("datetime64[M]") != days.astype("datetime64[M]")
    return "month_ends" if at_end.all() else None


def rounds(names: Sequence[Calendar], step: Step, span: int) -> list[Calendar]:
    """Those of the calendar's rounds that a part of so many microseconds sees whole, step by step."""
    return [name for name in names if step.length < _ROUNDS[name] <= span]


def calendar(times: Times, names: Sequence[Calendar]) -> NDArray[np.float32]:
    """Where each time stands in each round, as the sine and cosine of an angle: (times, 2 names)."""
    micros, days = times.astype(np.int64), times.astype("datetime64[D]")
    months, years = times.astype("datetime64[M]"), times.astype("datetime64[Y]")
    in_month = (times - months.astype("datetime64[us]")).astype(np.int64)
    in_year = (times - years.astype("datetime64[us]")).astype(np.int64)
    month_long = ((months + 1).astype("datetime64[us]") - months.astype("datetime64[us]")).astype(np.int64)
    year_long = ((years + 1).astype("datetime64[us]") - years.astype("datetime64[us]")).astype(np.int64)
    shares = {
        "minute": micros % HOUR / HOUR,
        "hour": micros % DAY / DAY,
        "weekday": (days.astype(np.int64) + 3) % 7 / 7,  # day 0, the first of 1970, was a Thursday
        "day": in_month / month_long,
        "month": in_year / year_long,
    }
    columns = [turn(2 * np.pi * shares[name]) for name in names for turn in (np.sin, np.cos)]
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((len(times), 0), np.float32)
