"""The losses of a forecast: over what is there, and the quantiles that make the pinball loss least."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from descent.errors import UserError
from descent.objectives.forecast import Forecast, ForecastConfig, forecast_loss, forecast_of, pinball
from descent.objectives.objective import Phase

torch.manual_seed(0)
SAID, TRUE = torch.randn(4, 5, 3), torch.randn(4, 5, 3)


class Says(nn.Module):
    def __init__(self, value: Tensor):
        super().__init__()
        self.value = nn.Parameter(value)

    def forward(self, history: Tensor, known: Tensor) -> Tensor:
        return self.value


def batch(targets: Tensor) -> dict[str, Tensor]:
    return {"history": torch.zeros(4, 2, 3), "known": torch.zeros(4, 7, 0), "targets": targets}


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (ForecastConfig(), F.mse_loss(SAID, TRUE)),
        (ForecastConfig(loss="l1"), F.l1_loss(SAID, TRUE)),
        (ForecastConfig(loss="huber", huber_delta=0.4), F.huber_loss(SAID, TRUE, delta=0.4)),
    ],
)
def test_losses_are_those_of_torch(config: ForecastConfig, reference: Tensor):
    objective = Forecast(config)
    assert_close(objective.loss(Says(SAID), Phase(), batch(TRUE)), reference)
    assert objective.targets(Phase(), batch(TRUE)) == TRUE.numel()


def test_what_is_missing_counts_neither_in_the_loss_nor_in_its_gradient():
    holes = TRUE.clone()
    holes[0, :2], holes[3, 4, 1] = torch.nan, torch.nan
    objective, model = Forecast(), Says(SAID.clone())
    loss = objective.loss(model, Phase(), batch(holes))
    there = holes.isfinite()
    assert_close(loss, F.mse_loss(SAID[there], TRUE[there]))
    assert objective.targets(Phase(), batch(holes)) == int(there.sum()) == TRUE.numel() - 7
    loss.backward()
    assert_close(model.value.grad, torch.where(there, 2 * (SAID - TRUE) / there.sum(), 0.0))
    nothing = objective.loss(model, Phase(), batch(torch.full_like(TRUE, torch.nan)))
    assert nothing.item() == 0


def test_parts_weighted_by_their_targets_make_the_whole():
    holes = TRUE.clone()
    holes[0] = torch.nan
    objective = Forecast()
    parts = [
        (objective.loss(Says(SAID[i : i + 2]), Phase(), part), objective.targets(Phase(), part))
        for i in (0, 2)
        for part in [{name: value[i : i + 2] for name, value in batch(holes).items()}]
    ]
    whole = objective.loss(Says(SAID), Phase(), batch(holes))
    assert_close(sum(loss * count for loss, count in parts) / sum(count for _, count in parts), whole)


def test_pinball_is_that_of_scikit_learn():
    quantiles = (0.1, 0.5, 0.9)
    said, true = torch.randn(50, 3), torch.randn(50)
    found = pinball(said, true, quantiles).mean(0)
    expected = [mean_pinball_loss(true, said[:, i], alpha=q) for i, q in enumerate(quantiles)]
    assert_close(found, torch.tensor(expected))
    total, count = forecast_loss(
        ForecastConfig(quantiles=quantiles), said.reshape(5, 5, 2, 3), true.reshape(5, 5, 2)
    )
    assert (count, total.item()) == (50, pytest.approx(sum(expected) / 3 * 50, rel=1e-5))


def test_pinball_is_least_at_the_quantile():
    values = torch.arange(101.0)
    for q in (0.1, 0.5, 0.9):
        losses = torch.stack(
            [pinball(torch.full((101, 1), float(v)), values, (q,)).mean() for v in range(101)]
        )
        assert losses.argmin().item() == round(100 * q)


def test_quantiles_must_suit_model_and_each_other():
    with pytest.raises(UserError, match=r"do not fit together(.|\n)*model.quantiles=3"):
        forecast_of(Says(SAID), batch(TRUE), ForecastConfig(quantiles=(0.1, 0.5, 0.9)))
    with pytest.raises(UserError, match="3 quantiles of the model"):
        forecast_of(Says(SAID[..., None].expand(-1, -1, -1, 3)), batch(TRUE), ForecastConfig())
    for wrong, message in (
        ([0.1, 0.9], "odd number"),
        ([0.1, 0.4, 0.9], "0.5 in the middle"),
        ([0.9, 0.5, 0.1], "rise"),
    ):
        with pytest.raises(UserError, match=message):
            ForecastConfig.read({"quantiles": wrong})
