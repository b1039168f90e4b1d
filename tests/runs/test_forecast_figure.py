"""The figure of a forecast: its values in their own units, and the files that are written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from descent.data.dataset import ArraySplit
from descent.data.series import SeriesSplit, load_series
from descent.data.series_config import SeriesData
from descent.errors import UserError
from descent.objectives.forecast import Forecast, ForecastConfig
from descent.runs.forecast_figure import draw_forecast, forecast_window

T, H = 30, 6


class Flat(nn.Module):
    def __init__(self, quantiles: int = 0):
        super().__init__()
        self.quantiles = quantiles

    def forward(self, history: Tensor, known: Tensor) -> Tensor:
        said = history[:, -1:].expand(-1, H, -1)
        return torch.stack([said + 1, said, said - 1], dim=3) if self.quantiles else said


@pytest.fixture
def split(tmp_path: Path) -> SeriesSplit:
    times = np.datetime64("2026-03-02T00") + np.arange(300)
    lines = [f"{t}," + ",".join(str(n * (c + 1) % 50) for c in range(5)) for n, t in enumerate(times)]
    (tmp_path / "s.csv").write_text("\n".join(["when,a,b,c,温度,e", *lines]) + "\n", encoding="utf-8")
    found = load_series(SeriesData(path=str(tmp_path / "s.csv"), history=T, horizon=H), None, []).splits[
        "test"
    ]
    assert isinstance(found, SeriesSplit)
    return found


def test_a_window_is_in_the_units_of_the_data(split: SeriesSplit):
    drawn = forecast_window(Flat(), Forecast(), split, window=7)
    origin = split.first + 7
    hours = np.arange(origin - T, origin)[:, None] * np.arange(1, 6)
    np.testing.assert_allclose(drawn.history, hours % 50, atol=1e-4)
    ahead = np.arange(origin, origin + H)[:, None] * np.arange(1, 6)
    np.testing.assert_allclose(drawn.truth, ahead % 50, atol=1e-4)
    np.testing.assert_allclose(drawn.forecast, np.broadcast_to(hours[-1:] % 50, (H, 5)), atol=1e-4)
    assert (drawn.times[T], drawn.quantiles.shape) == (split.series.times[origin], (H, 5, 0))
    last = forecast_window(Flat(), Forecast(), split, window=-1)
    assert last.times[-1] == split.series.times[-1]
    with pytest.raises(UserError, match="no such window"):
        forecast_window(Flat(), Forecast(), split, window=10_000)
    with pytest.raises(UserError, match="of a time series"):
        forecast_window(Flat(), Forecast(), ArraySplit({"inputs": torch.zeros(2, 1)}))


@pytest.mark.parametrize("quantiles", [(), (0.1, 0.5, 0.9)])
def test_the_picture_and_its_arrays_are_written(
    split: SeriesSplit, tmp_path: Path, quantiles: tuple[float, ...]
):
    objective = Forecast(ForecastConfig(quantiles=quantiles))
    drawn = forecast_window(Flat(len(quantiles)), objective, split)
    if quantiles:
        spread = drawn.quantiles - drawn.forecast[..., None]
        expected = np.array([-1, 0, 1]) * split.series.std[:, None]
        np.testing.assert_allclose(spread, np.broadcast_to(expected, spread.shape), rtol=1e-5, atol=1e-6)
    paths = draw_forecast(drawn, tmp_path / "plots" / "forecast.png", "a forecast", quantiles)
    assert [path.name for path in paths] == ["forecast.png", "forecast.npz"]
    with Image.open(paths[0]) as picture:
        assert picture.size[0] == 1350
    with np.load(paths[1], allow_pickle=False) as held:
        assert held["names"].tolist() == ["a", "b", "c", "温度", "e"]
        np.testing.assert_array_equal(held["forecast"], drawn.forecast)
        np.testing.assert_array_equal(held["times"], drawn.times)
    with pytest.raises(UserError, match="must be a PNG"):
        draw_forecast(drawn, tmp_path / "f.pdf", "a forecast")
