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


SHARES = torch.tensor([[0.3, 0.7, 0, 0], [0, 1, 0, 0], [0.25] * 4, [0, 0, 0.9, 0.1], [1, 0, 0, 0]])


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("class_weights", [(), WEIGHTS])
def test_shares_of_classes(smoothing: float, class_weights: tuple[float, ...]) -> None:
    config = SupervisedConfig(label_smoothing=smoothing, class_weights=class_weights)
    wanted = (1 - smoothing) * SHARES + smoothing / 4
    weights = torch.tensor(class_weights or (1.0,) * 4)
    expected = -(weights * wanted * LOGITS[:5].log_softmax(1)).sum() / 5
    assert_close(supervised_loss(config, LOGITS[:5], SHARES), expected)
    doubled = supervised_loss(config, LOGITS[:5].double(), SHARES)
    assert_close(doubled, expected.double())


def test_whole_shares_are_class_numbers() -> None:
    rows = nn.functional.one_hot(CLASSES, 4).float()
    for config in (SupervisedConfig(), SupervisedConfig(label_smoothing=0.1)):
        assert_close(supervised_loss(config, LOGITS, rows), supervised_loss(config, LOGITS, CLASSES))


def test_shares_of_two_classes() -> None:
    logits, second = VALUES[:, :1], torch.tensor([1, 0, 0.25, 0.5, 0, 0.125, 1])
    shares = torch.stack([1 - second, second], dim=1)
    plain = supervised_loss(SupervisedConfig(loss="binary"), logits, shares)
    assert_close(plain, nn.BCEWithLogitsLoss()(logits[:, 0], second))
    weighted = supervised_loss(SupervisedConfig(loss="binary", class_weights=(1.0, 3.0)), logits, shares)
    each = 3 * second * (-logits[:, 0]).exp().log1p() + (1 - second) * logits[:, 0].exp().log1p()
    assert_close(weighted, each.mean())


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
