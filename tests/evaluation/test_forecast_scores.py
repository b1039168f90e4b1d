"""Scores of a forecast by their definitions, over every window, what is missing left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from descent.data.dataset import ArraySplit
from descent.data.series import SeriesSplit, load_series
from descent.data.series_config import SeriesData
from descent.errors import UserError
from descent.evaluation.forecast import NAMES, names, score
from descent.objectives.forecast import Forecast, ForecastConfig

T, H = 6, 4
QUANTILES = (0.1, 0.5, 0.9)


class Drift(nn.Module):
    """Says the last value, higher with every step; of quantiles one a step below and one above."""

    def __init__(self, spread: float = 0.0):
        super().__init__()
        self.spread = spread

    def forward(self, history: Tensor, known: Tensor) -> Tensor:
        said = history[:, -1:, :2] + 0.1 * torch.arange(1, H + 1)[:, None]
        spread = self.spread
        return torch.stack([said + spread, said, said - spread], dim=3) if spread else said


@pytest.fixture
def split(tmp_path: Path) -> SeriesSplit:
    """Two noisy targets and one that never changes; two values of the test part are missing."""
    draw = np.random.default_rng(0)
    values = 50 + 10 * np.sin(np.arange(90) / 4)[:, None] + draw.normal(size=(90, 2)) * (1, 9)
    times = np.datetime64("2026-03-02T00") + np.arange(90)
    lines = [f"{t},{a:.4f},{b:.4f}" for t, (a, b) in zip(times, values, strict=True)]
    lines[80] = lines[80].rsplit(",", 1)[0] + ","
    lines[84] = lines[84].split(",")[0] + ",,40"
    (tmp_path / "s.csv").write_text("\n".join(["when,a,b", *lines]) + "\n")
    config = SeriesData(path=str(tmp_path / "s.csv"), history=T, horizon=H, season=5)
    found = load_series(config, None, []).splits["test"]
    assert isinstance(found, SeriesSplit)
    return found


def everything(split: SeriesSplit, model: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    batch = split.gather(np.arange(len(split)))
    targets = batch.pop("targets").double().numpy()
    return targets, model(**batch).double().numpy()


def test_scores_are_what_they_are_defined_to_be(split: SeriesSplit):
    true, said = everything(split, Drift())
    there = np.isfinite(true)
    # rows 80 and 84 are each seen by as many windows as the horizon has steps
    assert (there.size - there.sum(), len(split)) == (2 * H, 18 - H + 1)
    series = split.series
    own_true, own_said = (v * series.std + series.mean for v in (true, said))
    end = series.parts["train"][1]
    train = series.values[:end].astype(np.float64) * series.std + series.mean
    naive = np.abs(train[5:] - train[:-5]).mean(0)
    expected = {
        "loss": np.square(true - said)[there].mean(),
        "mse": np.square(true - said)[there].mean(),
        "mae": np.abs(true - said)[there].mean(),
        "smape": (200 * np.abs(own_true - own_said) / (np.abs(own_true) + np.abs(own_said)))[there].mean(),
        "mase": (np.abs(own_true - own_said) / naive)[there].mean(),
    }
    found = score(Drift(), Forecast(), split, 4)
    assert found.examples == len(split)
    assert tuple(found.metrics) == NAMES == names(Forecast())
    for name, value in expected.items():
        assert found.metrics[name] == pytest.approx(value, rel=1e-5), name
    # the size of a batch does not show
    assert score(Drift(), Forecast(), split, 256).metrics == pytest.approx(found.metrics, rel=1e-9)


def test_quantiles_are_scored_by_their_median_and_their_interval(split: SeriesSplit):
    objective = Forecast(ForecastConfig(quantiles=QUANTILES))
    true, said = everything(split, Drift())
    there = np.isfinite(true)
    found = score(Drift(0.5), objective, split, 7).metrics
    assert tuple(found) == names(objective)
    assert found["mse"] == pytest.approx(np.square(true - said)[there].mean(), rel=1e-5)
    # the quantiles come in the wrong order: an interval is from the lowest to the highest
    assert found["coverage"] == pytest.approx((np.abs(true - said) <= 0.5)[there].mean())
    assert 0.1 < found["coverage"] < 0.9
    assert found["width"] == pytest.approx(1.0, rel=1e-5)


def test_a_target_that_never_changes_has_no_scaled_error(tmp_path: Path):
    times = np.datetime64("2026-03-02T00") + np.arange(90)
    lines = [f"{t},{n % 7},{0 if n < 70 else 3}" for n, t in enumerate(times)]
    (tmp_path / "c.csv").write_text("\n".join(["when,a,still", *lines]) + "\n")
    config = SeriesData(path=str(tmp_path / "c.csv"), history=T, horizon=H)
    split = load_series(config, None, []).splits["test"]
    found = score(Drift(), Forecast(), split, 64).metrics
    assert all(np.isfinite(value) for value in found.values())
    alone = load_series(config.replace(targets=("a", "still")), None, []).splits["test"]
    assert score(Drift(), Forecast(), alone, 64).metrics == pytest.approx(found)


def test_where_nothing_changes_over_a_season_there_is_no_scaled_error(tmp_path: Path):
    lines = [f"{np.datetime64('2026-03-02T00') + n},{n % 24}" for n in range(200)]
    (tmp_path / "c.csv").write_text("\n".join(["when,a", *lines]) + "\n")
    config = SeriesData(path=str(tmp_path / "c.csv"), history=T, horizon=H)
    found = score(Drift(), Forecast(), load_series(config, None, []).splits["test"], 64).metrics
    assert set(NAMES) - set(found) == {"mase"}
    assert all(np.isfinite(value) for value in found.values())


def test_the_baselines_are_scored_beside_it_and_once(split: SeriesSplit, monkeypatch: pytest.MonkeyPatch):
    from descent.evaluation import forecast

    seen: list[int] = []
    original = forecast.forecasts
    monkeypatch.setattr(forecast, "forecasts", lambda s, w: seen.append(len(w)) or original(s, w))
    first = score(Drift(), Forecast(), split, 8).metrics
    assert sum(seen) == len(split)
    second = score(Drift(0.0), Forecast(), split, 8).metrics
    assert sum(seen) == len(split)
    assert first == second
    flat = first["mse_last"]
    true, _ = everything(split, Drift())
    last = split.series.values[split.first + np.arange(len(split)) - 1][:, None].astype(np.float64)
    assert flat == pytest.approx(np.nanmean(np.square(true - last)), rel=1e-6)


def test_a_part_without_any_target_is_no_perfect_score(split: SeriesSplit):
    start, end = split.series.parts["test"]
    there = split.series.there.copy()
    there[start:end] = False
    for spared in ((), (end - 1,)):
        there[list(spared), 1] = True
        bare = SeriesSplit(replace(split.series, there=there), "test")
        if spared:
            assert np.isfinite(score(Drift(), Forecast(), bare, 8).metrics["mse"])
            continue
        with pytest.raises(UserError, match="in the test part every value of a, b is missing"):
            score(Drift(), Forecast(), bare, 8)


def test_only_series_are_forecast():
    with pytest.raises(UserError, match="a forecast is of a time series"):
        score(Drift(), Forecast(), ArraySplit({"inputs": torch.zeros(3, 1)}), 8)
