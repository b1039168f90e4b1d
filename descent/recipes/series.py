"""Recipes on time series. `data.horizon` may be set to any number of steps; the models follow it."""

from __future__ import annotations

from descent.data.series_config import SeriesData
from descent.models.dlinear import DLinearConfig
from descent.models.forecaster import ForecasterConfig
from descent.objectives import ForecastConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.training.optimizers import AdamConfig, AdamWConfig
from descent.training.schedules import CosineConfig


def lstm_etth1() -> Recipe:
    """An LSTM that reads two weeks a day at a time, each of the seven columns from its own past.

    Chosen on the validation part alone: columns apart, and the last value as the level. Half a minute on one
    core; `model.dim=256 model.dropout=0.1` takes three times as long and is a little better.
    """
    return Recipe(
        name="lstm-etth1",
        about="an LSTM that forecasts transformer loads and temperature",
        precision="fp32",
        clip_norm=1.0,
        data=SeriesData(source="etth1", history=336, horizon=24),
        model=ForecasterConfig(cell="lstm", dim=128, patch=24),
        objective=ForecastConfig(loss="mse"),
        optimizer=AdamWConfig(learning_rate=2e-3, weight_decay=0.05, betas=(0.9, 0.99)),
        schedule=CosineConfig(warmup=0.05),
        budget=Budget(steps=300, batch_size=64),
        evaluation=EvaluationPlan(every=100, metric="mse", batch_size=128),
    )


def dlinear_etth1() -> Recipe:
    """DLinear on the same windows, trained by gradient descent."""
    return lstm_etth1().replace(
        name="dlinear-etth1",
        about="the linear forecaster DLinear on the same series",
        clip_norm=0.0,
        model=DLinearConfig().table(),
        optimizer=AdamConfig(learning_rate=1e-3).table(),
        budget=Budget(steps=600, batch_size=64).table(),
        evaluation=EvaluationPlan(every=200, metric="mse", batch_size=128).table(),
    )


def lstm_stock() -> Recipe:
    """A small LSTM with 80% intervals on trading days, where the last value is hard to beat."""
    return lstm_etth1().replace(
        name="lstm-stock",
        about="an LSTM that forecasts a share's price with intervals (embedded, no download)",
        data=SeriesData(source="google-stock", targets=("close", "volume"), history=30, horizon=5).table(),
        model=ForecasterConfig(cell="lstm", dim=32, patch=5, dropout=0.2).table(),
        objective=ForecastConfig(quantiles=(0.1, 0.5, 0.9)).table(),
        budget=Budget(steps=300, batch_size=32).table(),
        evaluation=EvaluationPlan(every=100, metric="loss", batch_size=256).table(),
    )
