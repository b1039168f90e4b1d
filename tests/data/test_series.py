"""Series: windows, parts, standardisation, the calendar, and the embedded and published sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.data.dataset import ArraySplit, Dataset
from descent.data.series import Series, SeriesSplit, load_series, windows_of
from descent.data.series_config import SeriesData
from descent.data.series_entries import SERIES
from descent.errors import UserError

HOURS = 400


def hourly(count: int = HOURS) -> list[str]:
    """Two columns and a planned one, whose value at hour n can be read off n."""
    times = np.datetime64("2026-03-02T00") + np.arange(count)
    return [
        "time,load,oil,plan",
        *(f"{t},{n},{n * n % 97},{n % 5}".replace("T", " ") for n, t in enumerate(times)),
    ]


def load(folder: Path, lines: list[str], **options: object) -> Dataset:
    (folder / "s.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return load_series(SeriesData(path=str(folder / "s.csv"), **options), None, [])  # type: ignore[arg-type]


def of(dataset: Dataset, part: str = "train") -> tuple[SeriesSplit, Series]:
    split = dataset.splits[part]
    assert isinstance(split, SeriesSplit)
    return split, split.series


def own(values: torch.Tensor, series: Series) -> torch.Tensor:
    """Targets as the file has them."""
    std, mean = torch.from_numpy(series.std), torch.from_numpy(series.mean)
    return (values * std + mean).round().long()


def test_every_window_lies_where_it_should(tmp_path: Path):
    dataset = load(tmp_path, hourly(), targets=("load",), history=10, horizon=3, validation=0.25, test=0.25)
    # 100 test rows, a quarter of the other 300 to validate on, 225 to train on
    assert dataset.sizes == {"channels": 1, "outputs": 1, "known": 4, "history": 10, "horizon": 3}
    starts = {"train": (0, 225), "validation": (225, 300), "test": (300, 400)}
    for part, (start, end) in starts.items():
        split, series = of(dataset, part)
        first = start + 10 if part == "train" else start
        assert len(split) == split.whole == end - first - 3 + 1
        batch = split.gather(np.arange(len(split)))
        assert (batch["history"].shape[1:], batch["known"].shape[1:], batch["targets"].shape[1:]) == (
            (10, 1), (13, 4), (3, 1),
        )  # fmt: skip
        origins = torch.arange(first, end - 2)[:, None]
        assert torch.equal(own(batch["history"], series)[..., 0], origins + torch.arange(-10, 0))
        assert torch.equal(own(batch["targets"], series)[..., 0], origins + torch.arange(3))
    # augmentation is none: a seed changes nothing
    split, _ = of(dataset)
    some = np.array([3, 0, 7])
    for name, tensor in split.gather(some, seed=4, epoch=2).items():
        assert torch.equal(tensor, split.gather(some)[name])


def test_columns_are_standardised_by_the_training_part(tmp_path: Path):
    dataset = load(
        tmp_path, hourly(), inputs=("oil",), known=("plan",), targets=("load",), history=10, horizon=3
    )
    _, series = of(dataset)
    end = series.parts["train"][1]
    assert (end, series.values.shape) == (288, (HOURS, 2))
    assert_close(series.values[:end].mean(0), np.zeros(2, np.float32), atol=1e-5, rtol=0)
    assert_close(series.values[:end].std(0), np.ones(2, np.float32), atol=1e-5, rtol=0)
    assert series.mean[0] == pytest.approx((end - 1) / 2)
    assert series.names == ("load",)
    # known: hour and weekday as sine and cosine, then the planned column
    plan = series.known[:, 4]
    assert len(np.unique(plan)) == 5
    assert_close(np.argsort(plan[:5]), np.arange(5))


def test_the_calendar_says_what_the_clock_says(tmp_path: Path):
    dataset = load(tmp_path, hourly(), targets=("load",), history=10, horizon=3)
    _, series = of(dataset)
    assert dataset.preparation["calendar"] == ["hour", "weekday"]  # of no year a whole round is seen
    hours, days = np.arange(HOURS) % 24, np.arange(HOURS) // 24 % 7  # the first is a Monday
    angles = (2 * np.pi * hours / 24, 2 * np.pi * days / 7)
    expected = np.stack([turn(angle) for angle in angles for turn in (np.sin, np.cos)], axis=1)
    assert_close(series.known, expected.astype(np.float32), atol=1e-6, rtol=0)
    none = load(tmp_path, hourly(), targets=("load",), history=10, horizon=3, calendar=())
    assert none.sizes["known"] == 0
    assert of(none)[0].gather(np.array([0]))["known"].shape == (1, 13, 0)


def test_columns_are_chosen_and_words_left_out(tmp_path: Path):
    lines = [f"{line},{'place' if n == 0 else 'north'}" for n, line in enumerate(hourly())]
    dataset = load(tmp_path, lines, history=10, horizon=3, known=("plan",))
    assert dataset.preparation["targets"] == ["load", "oil"]
    assert "columns without numbers left out: place" in dataset.summary()
    with pytest.raises(UserError, match=r"no column 'laod'(.|\n)*did you mean 'load'"):
        load(tmp_path, lines, targets=("laod",))
    with pytest.raises(UserError, match="named twice"):
        SeriesData.read({"path": "s.csv", "targets": ["a"], "inputs": ["a"]})


def test_what_was_missing_is_no_target(tmp_path: Path):
    lines = hourly(100)
    for hour in (30, 31, 32):
        lines[hour + 1] = lines[hour + 1].replace(f",{hour},", ",,")
    for policy, filled in (("forward", [29, 29, 29]), ("interpolate", [30, 31, 32])):
        dataset = load(tmp_path, lines, targets=("load",), history=5, horizon=4, missing=policy)
        split, series = of(dataset)
        assert own(torch.tensor(series.values[30:33]), series)[:, 0].tolist() == filled
        targets = split.gather(np.array([24]))["targets"][0, :, 0]  # hours 29 to 32
        assert targets.isnan().tolist() == [False, True, True, True]
        assert "load: 3 missing values filled" in dataset.notes
    # the statistics are those of what was there
    there = [n for n in range(72) if n not in (30, 31, 32)]
    assert series.mean[0] == pytest.approx(np.mean(there))
    with pytest.raises(UserError, match=r"3 values are missing, the first at 2026-03-03 06:00"):
        load(tmp_path, lines, targets=("load",), missing="refuse")


def test_rows_at_the_end_without_a_target_are_left_out(tmp_path: Path):
    lines = hourly(100)
    lines[-2:] = [line.split(",")[0] + ",,,3" for line in lines[-2:]]
    dataset = load(tmp_path, lines, targets=("load",), known=("plan",), history=5, horizon=4)
    assert len(of(dataset)[1].times) == 98
    assert "2 rows at the end without any target left out" in dataset.notes


def test_the_fingerprint_is_of_content_and_windows(tmp_path: Path):
    base = load(tmp_path, hourly(), targets=("load",), history=10, horizon=3).fingerprint
    assert load(tmp_path, hourly(), targets=("load",), history=10, horizon=3).fingerprint == base
    changed = [*hourly()[:-1], hourly()[-1].replace("399", "398")]
    assert load(tmp_path, changed, targets=("load",), history=10, horizon=3).fingerprint != base
    assert load(tmp_path, hourly(), targets=("load",), history=11, horizon=3).fingerprint != base


def test_google_stock_needs_no_download():
    entry = next(item for item in SERIES if item.name == "google-stock")
    config = SeriesData(source="google-stock", targets=("close",), history=20, horizon=5)
    dataset = load_series(config, entry, [])
    _, series = of(dataset)
    assert (len(series.times), series.season) == (1047, 5)
    assert dataset.preparation["step"] == {"unit": "weekdays", "count": 1}
    first = series.values[0, 0] * series.std[0] + series.mean[0]
    assert first == pytest.approx(100.34, abs=1e-3)


def test_etth1_has_the_parts_of_the_field(local_data: Path):
    entry = next(item for item in SERIES if item.name == "etth1")
    config = SeriesData(source="etth1", history=96, horizon=24)
    dataset = load_series(config, entry, [local_data / "ett" / "ETTh1.csv"])
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 8640 - 96 - 24 + 1, "validation": 2880 - 24 + 1, "test": 2880 - 24 + 1,
    }  # fmt: skip
    split, series = of(dataset, "test")
    assert series.season == 24
    assert series.names == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    assert str(series.times[split.first])[:13] == "2017-10-24T00"


def test_other_splits_are_of_no_series():
    with pytest.raises(UserError, match="a forecast is of a time series"):
        windows_of(ArraySplit({"inputs": torch.zeros(2, 1)}))
