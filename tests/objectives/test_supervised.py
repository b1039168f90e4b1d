"""Supervised losses against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from descent.errors import UserError
from descent.objectives import Phase, Supervised, SupervisedConfig
from descent.objectives.supervised import supervised_loss

torch.manual_seed(0)
LOGITS, CLASSES = torch.randn(7, 4), torch.tensor([0, 3, 1, 1, 2, 0, 3])
VALUES, WANTED = torch.randn(7, 2), torch.randn(7, 2)
WEIGHTS = (0.5, 2.0, 1.0, 0.1)


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (SupervisedConfig(), nn.CrossEntropyLoss()),
        (SupervisedConfig(label_smoothing=0.1), nn.CrossEntropyLoss(label_smoothing=0.1)),
        (SupervisedConfig(class_weights=WEIGHTS), nn.CrossEntropyLoss(torch.tensor(WEIGHTS))),
    ],
)
def test_class_losses(config: SupervisedConfig, reference: nn.Module) -> None:
    assert_close(supervised_loss(config, LOGITS, CLASSES), reference(LOGITS, CLASSES))


@pytest.mark.parametrize(
    ("config", "reference"),
    [
        (SupervisedConfig(loss="mse"), nn.MSELoss()),
        (SupervisedConfig(loss="l1"), nn.L1Loss()),
        (SupervisedConfig(loss="huber", huber_delta=0.3), nn.HuberLoss(delta=0.3)),
    ],
)
def test_value_losses(config: SupervisedConfig, reference: nn.Module) -> None:
    assert_close(supervised_loss(config, VALUES, WANTED), reference(VALUES, WANTED))


def test_binary_with_and_without_class_weights() -> None:
    logits, classes = VALUES[:, :1], torch.tensor([1, 0, 1, 1, 0, 0, 1])
    plain = supervised_loss(SupervisedConfig(loss="binary"), logits, classes)
    assert_close(plain, nn.BCEWithLogitsLoss()(logits[:, 0], classes.float()))
    weighted = supervised_loss(SupervisedConfig(loss="binary", class_weights=(1.0, 3.0)), logits, classes)
    each = nn.BCEWithLogitsLoss(reduction="none")(logits[:, 0], classes.float())
    weights = torch.tensor([1.0, 3.0])[classes]
    assert_close(weighted, (each * weights).sum() / weights.sum())


def test_a_single_column_of_targets_is_taken_as_it_comes() -> None:
    config = SupervisedConfig(loss="mse")
    assert_close(
        supervised_loss(config, VALUES[:, :1], WANTED[:, 0]), nn.MSELoss()(VALUES[:, 0], WANTED[:, 0])
    )


def test_a_weighted_mean_cannot_be_put_together_from_parts() -> None:
    assert Supervised(SupervisedConfig()).splittable
    assert not Supervised(SupervisedConfig(class_weights=WEIGHTS)).splittable


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "mse", "label_smoothing": 0.1},
        {"loss": "l1", "class_weights": [1.0]},
        {"class_weights": [-1.0]},
        {"label_smoothing": 1.0},
        {"loss": "hinge"},
    ],
)
def test_options_that_mean_nothing_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UserError):
        SupervisedConfig.read(values)


def test_a_phase_owns_whole_names() -> None:
    phase = Phase(modules=("generator",))
    assert phase.owns("generator.layer.weight")
    assert not phase.owns("generator2.weight")
    assert Phase().owns("anything")
