"""What a recipe's `[data]` table may say of a time series. The class imports neither torch nor numpy."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from descent.config import Field, Items
from descent.data.config import Fraction, Sourced

__all__ = ["CALENDAR", "Calendar", "SeriesData"]

Calendar = Literal["minute", "hour", "weekday", "day", "month"]
CALENDAR: dict[Calendar, str] = {
    "minute": "the time within the hour",
    "hour": "the time of day",
    "weekday": "the day of the week",
    "day": "the day of the month",
    "month": "the time of year",
}


class SeriesData(Sourced):
    """Columns of numbers over time, to be forecast.

    A model sees `history` steps and says the next `horizon` ones. Every column is standardised by its
    training part. The parts follow one another in time: training, validation, test; a window of a later
    part may look back into the one before it, its targets lie wholly in its own.

    Attributes:
        source: a registered series.
        path: a `.csv` or `.tsv` file with a column of times.
        time: that column; empty = the first whose cells are times.
        time_format: how times are written, in the letters of `strptime` (`%d/%m/%Y %H:%M`), or `unix` for
            seconds since 1970; empty = year first, as in `2026-07-01 13:30` or `2026/7/1`.
        targets: the columns to forecast; empty = all columns of numbers that nothing else is said of.
        inputs: columns that are read in the history, but not forecast.
        known: columns that are known for the horizon too, such as holidays or planned prices.
        calendar: what is read off the clock for each step, history and horizon: any of `minute` (of the
            hour), `hour` (of the day), `weekday`, `day` (of the month) and `month` (of the year). One that
            never changes, or of which the training part does not see a whole round, is left out.
        history: steps a forecast is made from.
        horizon: steps it is made for.
        season: steps of a season, for the seasonal baseline and MASE; 0 = by the step (24 for hours, 7 for
            days, 5 for trading days, 52 for weeks, 12 for months).
        missing: what stands for an empty cell: `forward`, the last value before it; `interpolate`, a straight
            line to the next value, which a forecaster would not know yet; or `refuse` the file. A filled
            value is never a target, neither in training nor in evaluation.
        gaps: what to do where steps are missing: `fill` them as `missing` says, `ignore` the clock and take
            row after row (trading days without any weekend are taken so), or `refuse` the file.
        duplicates: what to do with rows of the same time: `refuse` them, or keep the `first`, the `last` or
            their `mean`.
        validation: the share of the rows before the test part, held out for validation (a registered series
            keeps its own parts).
        test: the share of the rows at the end.
    """

    type: Literal["series"] = "series"
    time: str = ""
    time_format: str = ""
    targets: Items[str] = ()
    inputs: Items[str] = ()
    known: Items[str] = ()
    calendar: Items[Calendar] = ("hour", "weekday", "month")
    history: int = Field(default=96, gt=0, le=100_000)
    horizon: int = Field(default=24, gt=0, le=100_000)
    season: int = Field(default=0, ge=0, le=1_000_000)
    missing: Literal["forward", "interpolate", "refuse"] = "forward"
    gaps: Literal["fill", "ignore", "refuse"] = "fill"
    duplicates: Literal["refuse", "first", "last", "mean"] = "refuse"
    validation: Fraction = 0.1
    test: Fraction = 0.2

    @model_validator(mode="after")
    def _one_use(self) -> SeriesData:
        named = [*self.targets, *self.inputs, *self.known, *([self.time] if self.time else [])]
        twice = sorted({name for name in named if named.count(name) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice among time, targets, inputs and known")
        return self
