"""From a new file to a forecaster's inputs, and from its outputs to values with their times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.data.series import SeriesSplit, load_series
from descent.data.series_config import SeriesData
from descent.data.series_new import forecast_values, prepare_series
from descent.errors import UserError

HISTORY, HORIZON, COUNT = 8, 3, 120


def rows(start: int, end: int) -> list[str]:
    """Hours of two targets, an input and a planned column, each to be read off the hour."""
    first = np.datetime64("2026-03-02T00", "h")
    return [f"{first + n},{n},{n * n % 31},{n % 11},{n % 4}" for n in range(start, end)]


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(["when,a,b,wind,plan", *lines]) + "\n", encoding="utf-8")
    return path


def trained(folder: Path, **changes: Any) -> tuple[SeriesSplit, dict[str, Any]]:
    options = {"targets": ("a", "b"), "inputs": ("wind",), "known": ("plan",), **changes}
    path = write(folder / "s.csv", rows(0, COUNT))
    dataset = load_series(
        SeriesData(path=str(path), history=HISTORY, horizon=HORIZON, **options), None, []  # type: ignore[arg-type]
    )  # fmt: skip
    split = dataset.splits["test"]
    assert isinstance(split, SeriesSplit)
    return split, json.loads(json.dumps(dataset.preparation))


def test_a_new_window_is_prepared_as_the_same_window_of_the_data_was(tmp_path: Path):
    split, preparation = trained(tmp_path)
    origin = split.first + 5
    planned = [
        ",".join((line.split(",")[0], "", "", "", line.split(",")[4]))
        for line in rows(origin, origin + HORIZON)
    ]
    new = prepare_series(preparation, write(tmp_path / "new.csv", [*rows(origin - 20, origin), *planned]))
    expected = split.gather(np.array([5]))
    assert_close(new.batch()["history"], expected["history"])
    assert_close(new.batch()["known"], expected["known"], atol=1e-6, rtol=0)
    np.testing.assert_array_equal(new.times, split.series.times[origin : origin + HORIZON])
    # any later row of the plan is not read, nor is the order of the rows
    more = [*rows(origin - 20, origin), *planned, "2027-01-01T00,,,,1"]
    again = prepare_series(preparation, write(tmp_path / "new.csv", more[-2::-1]))
    assert_close(again.known, new.known)


def test_without_planned_columns_the_clock_goes_on(tmp_path: Path):
    split, preparation = trained(tmp_path, known=())
    new = prepare_series(preparation, write(tmp_path / "new.csv", rows(COUNT - HISTORY, COUNT)))
    last = split.series.times[-1]
    np.testing.assert_array_equal(new.times, last + np.arange(1, 4) * np.timedelta64(3_600_000_000, "us"))
    assert (new.history.shape, new.known.shape) == ((HISTORY, 3), (HISTORY + HORIZON, 2))
    hours = (np.arange(COUNT - HISTORY, COUNT + HORIZON)) % 24
    assert_close(
        new.known[:, 0], torch.tensor(np.sin(2 * np.pi * hours / 24), dtype=torch.float32), atol=1e-6, rtol=0
    )


def test_what_a_new_file_lacks_is_said(tmp_path: Path):
    _, preparation = trained(tmp_path)
    new = tmp_path / "new.csv"
    with pytest.raises(UserError, match=r"too short for a forecast(.|\n)*5 steps(.|\n)*at least 8"):
        prepare_series(preparation, write(new, rows(0, 5)))
    with pytest.raises(
        UserError, match=r"plan must be known for the 3 steps(.|\n)*0 rows after 2026-03-03 15:00"
    ):
        prepare_series(preparation, write(new, rows(0, 40)))
    blank = [f"2026-03-03T{hour},,,," for hour in (16, 17, 18)]
    with pytest.raises(UserError, match=r"plan must be known for the 3 steps(.|\n)*empty cells"):
        prepare_series(preparation, write(new, [*rows(0, 40), *blank]))
    new.write_text("when,a,b,plan\n2026-03-02T00,1,2,3\n")
    with pytest.raises(UserError, match="no column 'wind'"):
        prepare_series(preparation, new)
    with pytest.raises(UserError, match="not evenly spaced"):
        prepare_series(preparation, write(new, [*rows(0, 40), "2026-03-03T16:20,1,1,1,1"]))
    with pytest.raises(UserError, match="not trained on a time series"):
        prepare_series({"kind": "table"}, new)


def test_outputs_come_back_in_their_own_units_with_their_times(tmp_path: Path):
    split, preparation = trained(tmp_path, known=())
    new = prepare_series(preparation, write(tmp_path / "new.csv", rows(COUNT - HISTORY, COUNT)))
    outputs = split.gather(np.array([0]))["targets"][0]
    found = forecast_values(preparation, outputs, new.times)
    expected = [
        {"time": f"2026-03-07 0{hour}:00".removesuffix(" 00:00"), "a": n, "b": n * n % 31}
        for hour, n in enumerate(range(split.first, split.first + 3))
    ]
    assert [row["time"] for row in found] == [row["time"] for row in expected]
    for row, wanted in zip(found, expected, strict=True):
        assert (row["a"], row["b"]) == (
            pytest.approx(wanted["a"], abs=1e-3),
            pytest.approx(wanted["b"], abs=1e-3),
        )
        assert "quantiles" not in row


def test_quantiles_are_sorted_and_the_median_is_the_value(tmp_path: Path):
    _, preparation = trained(tmp_path, known=())
    new = prepare_series(preparation, write(tmp_path / "new.csv", rows(COUNT - HISTORY, COUNT)))
    outputs = torch.zeros(HORIZON, 2, 3)
    outputs[0, 1] = torch.tensor([0.5, 0.0, -1.0])
    row = forecast_values(preparation, outputs, new.times, (0.1, 0.5, 0.9))[0]
    mean, std = preparation["mean"]["b"], preparation["std"]["b"]
    assert row["quantiles"]["b"] == {
        "0.1": pytest.approx(mean - std), "0.5": pytest.approx(mean), "0.9": pytest.approx(mean + std / 2),
    }  # fmt: skip
    assert row["b"] == pytest.approx(mean)
