"""Times as they are written, and the steps between them."""

from __future__ import annotations

import numpy as np
import pytest

from descent.data.clock import Step, calendar, infer, parse_time, rounds, written
from descent.errors import UserError

DAY = 86_400_000_000
MICRO = "microseconds"


def times(*written: str) -> np.ndarray:
    return np.array(written, dtype="datetime64[us]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-07-01", "2026-07-01T00:00"),
        ("2026-07", "2026-07-01T00:00"),
        ("2026/7/1 9:05", "2026-07-01T09:05"),
        ("2026.07.01 09:05:07", "2026-07-01T09:05:07"),
        ("2026-07-01T09:05:07.25Z", "2026-07-01T09:05:07.25"),
        ("2026-07-01 09:05:00+08:00", "2026-07-01T01:05"),
        ("2026-07-01 09:05:00-0330", "2026-07-01T12:35"),
    ],
)
def test_times_that_are_understood(text: str, expected: str):
    assert parse_time(text) == np.datetime64(expected, "us")


@pytest.mark.parametrize(
    "text", ["", "1", "2026", "2026-13-01", "2026-02-30", "01/02/2026", "2026-07/01", "3.5", "x"]
)
def test_what_is_no_time(text: str):
    assert parse_time(text) is None


def test_times_in_a_form_of_ones_own():
    assert parse_time("1.7.2026", "%d.%m.%Y") == np.datetime64("2026-07-01")
    assert parse_time("1949", "%Y") == np.datetime64("1949-01-01")
    assert parse_time("2026-07-01 09:00 +0200", "%Y-%m-%d %H:%M %z") == np.datetime64("2026-07-01T07:00")
    assert parse_time("1700000000.5", "unix") == np.datetime64("2023-11-14T22:13:20.5", "us")
    assert parse_time("2026-07-01", "%d.%m.%Y") is None
    assert parse_time("inf", "unix") is None


def test_times_are_written_as_finely_as_they_must_be():
    texts = ["2026-07-01", "2026-07-01 09:05", "2026-07-01 09:05:07", "2026-07-01 09:05:07.250000"]
    assert [written(parse_time(text)) for text in texts] == texts  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "unit", "count", "season", "name"),
    [
        (["2026-01-01T00", "2026-01-01T01", "2026-01-01T02"], MICRO, DAY // 24, 24, "an hour"),
        (["2026-01-01T00:00", "2026-01-01T00:15", "2026-01-01T00:30"], MICRO, DAY // 96, 96, "15 minutes"),
        (["2026-01-01T00:00:00", "2026-01-01T00:00:02"], MICRO, 2_000_000, 1800, "2 seconds"),
        (["2026-01-01", "2026-01-02", "2026-01-03"], MICRO, DAY, 7, "a day"),
        (["2026-01-01", "2026-01-08", "2026-01-15"], MICRO, 7 * DAY, 52, "a week"),
        (["2026-01-01", "2026-02-01", "2026-03-01", "2026-05-01"], "months", 1, 12, "a month"),
        (["2025-11-30", "2025-12-31", "2026-01-31", "2026-02-28"], "month_ends", 1, 12, "a month"),
        (["2026-02-28", "2026-03-28", "2026-05-28"], "months", 1, 12, "a month"),
        (["2026-01-15", "2026-04-15", "2026-07-15"], "months", 3, 4, "3 months"),
        (["2024-01-01", "2025-01-01", "2026-01-01"], "months", 12, 1, "12 months"),
        (["2026-03-05", "2026-03-06", "2026-03-09", "2026-03-10"], "weekdays", 1, 5, "a trading day"),
    ],
)  # fmt: skip
def test_steps_are_inferred(texts: list[str], unit: str, count: int, season: int, name: str):
    stamps = times(*texts)
    step = infer(stamps)
    assert (step.unit, step.count, step.season, str(step)) == (unit, count, season, name)
    assert Step.read(step.table()) == step
    if unit != "weekdays":
        places = step.places(stamps)
        rebuilt = np.concatenate([stamps[:1], step.after(stamps[0], int(places[-1]))])[places]
        np.testing.assert_array_equal(rebuilt, stamps)


def test_what_comes_after():
    friday = np.datetime64("2026-03-06T16:00", "us")
    assert Step("weekdays", 1).after(friday, 3).astype(str).tolist() == [
        f"2026-03-{day}T16:00:00.000000" for day in ("09", "10", "11")
    ]
    ends = Step("month_ends", 1).after(np.datetime64("2026-02-28", "us"), 3)
    np.testing.assert_array_equal(ends, times("2026-03-31", "2026-04-30", "2026-05-31"))
    np.testing.assert_array_equal(
        Step("months", 1).after(np.datetime64("2026-01-30T06", "us"), 2),
        times("2026-02-28T06", "2026-03-30T06"),
    )


def test_a_time_between_two_steps_is_refused():
    with pytest.raises(UserError, match=r"most are an hour apart, but 2026-01-01 02:30"):
        Step("microseconds", DAY // 24).places(times("2026-01-01T00", "2026-01-01T01", "2026-01-01T02:30"))


def test_only_rounds_that_are_seen_whole_and_in_parts_are_used():
    everything = ("minute", "hour", "weekday", "day", "month")
    hour, day, month = Step("microseconds", DAY // 24), Step("microseconds", DAY), Step("months", 1)
    assert rounds(everything, hour, 40 * DAY) == ["hour", "weekday", "day"]
    assert rounds(everything, day, 400 * DAY) == ["weekday", "day", "month"]
    assert rounds(everything, month, 4000 * DAY) == ["day", "month"]
    assert rounds(everything, hour, DAY // 2) == []


def test_the_calendar_turns_once_a_round():
    stamps = times("2026-01-01T06:00", "2026-01-01T06:15", "2026-07-02T12:00", "2024-12-31T18:00")
    found = calendar(stamps, ["minute", "hour", "weekday", "day", "month"])
    year = [0.25 / 365, (0.25 + 1 / 96) / 365, 182.5 / 365, 365.75 / 366]
    shares = np.array(
        [
            [0, 6 / 24, 3 / 7, 0.25 / 31],
            [0.25, 6.25 / 24, 3 / 7, (0.25 + 1 / 96) / 31],
            [0, 0.5, 3 / 7, 1.5 / 31],
            [0, 0.75, 1 / 7, 30.75 / 31],
        ]
    )  # fmt: skip
    angles = 2 * np.pi * np.column_stack([shares, year])
    np.testing.assert_allclose(found[:, ::2], np.sin(angles), atol=1e-6)
    np.testing.assert_allclose(found[:, 1::2], np.cos(angles), atol=1e-6)
    assert calendar(stamps, []).shape == (4, 0)
