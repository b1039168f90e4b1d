"""The baselines: the last value, the last season, and the linear map with the least error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from descent.data.series import SeriesSplit, load_series
from descent.data.series_config import SeriesData
from descent.evaluation import baselines
from descent.evaluation.baselines import RIDGES, fit_linear, forecasts
from descent.models.dlinear import DLinear, DLinearConfig

T, H = 8, 5


def dataset(folder: Path, values: np.ndarray, **options: object) -> dict[str, SeriesSplit]:
    times = np.datetime64("2026-03-02T00") + np.arange(len(values))
    lines = [f"{t}," + ",".join(f"{v:.6f}" for v in row) for t, row in zip(times, values, strict=True)]
    header = "when," + ",".join(f"c{n}" for n in range(values.shape[1]))
    (folder / "s.csv").write_text("\n".join([header, *lines]) + "\n")
    given = {"path": str(folder / "s.csv"), "history": T, "horizon": H, **options}
    splits = load_series(SeriesData(**given), None, []).splits  # type: ignore[arg-type]
    return {name: split for name, split in splits.items() if isinstance(split, SeriesSplit)}


def noisy(count: int = 300, columns: int = 2) -> np.ndarray:
    draw = np.random.default_rng(0)
    waves = np.sin(np.arange(count)[:, None] / np.arange(2, 2 + columns))
    return (
        waves + 0.3 * draw.normal(size=(count, columns)) + 0.02 * draw.normal(size=(count, columns)).cumsum(0)
    )


def test_last_and_seasonal_repeat_what_was_seen(tmp_path: Path):
    split = dataset(tmp_path, np.arange(200.0)[:, None] ** 1.5, season=3)["test"]
    rows = split.series.values[:, 0]
    windows = np.array([0, 4, len(split) - 1])
    found = forecasts(split, windows)
    for place, window in enumerate(windows):
        origin = split.first + window
        assert found["last"][place, :, 0].tolist() == [rows[origin - 1]] * H
        # three steps back while that is known, then six
        expected = [rows[origin - 3], rows[origin - 2], rows[origin - 1], rows[origin - 3], rows[origin - 2]]
        assert found["seasonal"][place, :, 0].tolist() == expected


def test_a_season_longer_than_the_past_falls_back_on_the_last_value(tmp_path: Path):
    split = dataset(tmp_path, noisy(), season=20)["train"]
    found = forecasts(split, np.array([0, 30]))
    np.testing.assert_array_equal(found["seasonal"][0], found["last"][0])  # 8 steps were seen
    rows = split.series.values
    np.testing.assert_array_equal(found["seasonal"][1], rows[split.first + 30 - 20 : split.first + 30 - 15])


def test_the_linear_map_is_ridge_regression(tmp_path: Path):
    from sklearn.linear_model import Ridge

    splits = dataset(tmp_path, noisy())
    found = fit_linear(splits["train"].series)

    def windows(name: str) -> tuple[np.ndarray, np.ndarray]:
        batch = splits[name].gather(np.arange(len(splits[name])))
        pairs = [batch[key].double().transpose(1, 2).flatten(0, 1).numpy() for key in ("history", "targets")]
        return pairs[0] - pairs[0][:, -1:], pairs[1] - pairs[0][:, -1:]

    x, y = windows("train")
    centred = x - x.mean(0)
    scale = np.square(centred).sum() / T  # as many times the mean square of an input as there are windows
    fitted = {ridge: Ridge(alpha=ridge * scale).fit(x, y) for ridge in RIDGES}
    judged = {ridge: np.square(model.predict(windows("validation")[0]) - windows("validation")[1]).mean()
              for ridge, model in fitted.items()}  # fmt: skip
    best = min(judged, key=lambda ridge: judged[ridge])
    assert found.ridge == best
    np.testing.assert_allclose(found.weight, fitted[best].coef_.T, atol=1e-8)
    np.testing.assert_allclose(found.bias, fitted[best].intercept_, atol=1e-8)
    test_x, test_y = windows("test")
    said = (
        forecasts(splits["test"], np.arange(len(splits["test"])))["linear"].transpose(0, 2, 1).reshape(-1, H)
    )
    last = splits["test"].gather(np.arange(len(splits["test"])))["history"][:, -1].reshape(-1, 1).numpy()
    np.testing.assert_allclose(said - last, fitted[best].predict(test_x), atol=1e-5)
    assert len(test_y) == len(said)


def test_dlinear_trained_reaches_the_map_in_closed_form(tmp_path: Path):
    """The same class of functions: with full batches and no noise both find the same forecasts."""
    values = np.sin(np.arange(200)[:, None] / 2)
    split = dataset(tmp_path, values)["train"]
    linear = forecasts(split, np.arange(len(split)))["linear"]
    batch = split.gather(np.arange(len(split)))
    torch.manual_seed(0)
    model = DLinear(DLinearConfig(channels=1, outputs=1, history=T, horizon=H, kernel=3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (model(batch["history"]) - batch["targets"]).square().mean().backward()
        optimizer.step()
    assert (model(batch["history"]) - batch["targets"]).square().mean().item() < 1e-3
    assert np.square(linear - batch["targets"].numpy()).mean() < 1e-3


def test_it_is_fitted_once_and_thinned_where_windows_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    splits = dataset(tmp_path, noisy())
    calls: list[object] = []
    fit = baselines.fit_linear
    monkeypatch.setattr(baselines, "fit_linear", lambda series: calls.append(series) or fit(series))
    for name in ("train", "validation", "test", "test"):
        forecasts(splits[name], np.arange(3))
    assert len(calls) == 1
    whole = fit(splits["train"].series)
    monkeypatch.setattr(baselines, "MOST_WINDOWS", 40)
    thinned = fit(splits["train"].series)
    assert not np.array_equal(thinned.weight, whole.weight)
    assert np.isfinite(thinned.weight).all()


def test_a_series_that_stands_still_is_forecast_to_stand_still(tmp_path: Path):
    splits = dataset(tmp_path, np.full((100, 1), 3.0), validation=0.0)
    for said in forecasts(splits["test"], np.arange(4)).values():
        np.testing.assert_array_equal(said, np.zeros((4, H, 1)))
