"""Metrics over whole splits, whatever the size of the evaluation batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from descent.data.dataset import ArraySplit, StreamSplit
from descent.evaluation import calibration, evaluate, metric_names
from descent.models.gpt import GPT, GPTConfig
from descent.objectives import Causal, Supervised, SupervisedConfig

torch.manual_seed(0)
OUTPUTS = torch.randn(53, 7)
TARGETS = torch.randint(7, (53,))


class Table(nn.Module):
    """Looks its outputs up by the number of the example, so every output is known."""

    def __init__(self, outputs: Tensor):
        super().__init__()
        self.outputs = outputs
        self.drop = nn.Dropout(0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.drop(self.outputs[inputs.long().flatten()])


def split(targets: Tensor) -> ArraySplit:
    return ArraySplit({"inputs": torch.arange(len(targets)).float()[:, None], "targets": targets})


@pytest.mark.parametrize("batch_size", [1, 3, 7, 1000])
def test_classes(batch_size: int) -> None:
    model = Table(OUTPUTS).train()
    found = evaluate(model, Supervised(SupervisedConfig()), split(TARGETS), batch_size=batch_size)
    assert found.examples == 53
    assert found.metrics["accuracy"] == sk.accuracy_score(TARGETS, OUTPUTS.argmax(1))
    assert found.metrics["top5"] == pytest.approx(
        sk.top_k_accuracy_score(TARGETS, OUTPUTS, k=5, labels=range(7))
    )
    assert found.metrics["loss"] == pytest.approx(
        nn.CrossEntropyLoss()(OUTPUTS.double(), TARGETS).item(), rel=1e-12
    )
    assert found.confusion == sk.confusion_matrix(TARGETS, OUTPUTS.argmax(1), labels=range(7)).tolist()
    assert found.predictions is not None
    np.testing.assert_allclose(found.predictions.probabilities, OUTPUTS.double().softmax(1), rtol=1e-12)
    np.testing.assert_array_equal(found.predictions.targets, TARGETS)
    assert found.metrics["ece"] == calibration(found.predictions).ece > 0.05
    assert tuple(found.metrics) == metric_names(Supervised(SupervisedConfig()), 7)
    assert model.training


def test_class_weights_are_those_of_the_whole_split() -> None:
    config = SupervisedConfig(class_weights=(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0))
    expected = nn.CrossEntropyLoss(torch.arange(1.0, 8).double())(OUTPUTS.double(), TARGETS).item()
    for size in (2, 100):
        found = evaluate(Table(OUTPUTS), Supervised(config), split(TARGETS), batch_size=size)
        assert found.metrics["loss"] == pytest.approx(expected, rel=1e-9)


def test_two_classes_by_one_logit() -> None:
    logits, classes = OUTPUTS[:, :1], (TARGETS > 3).long()
    found = evaluate(Table(logits), Supervised(SupervisedConfig(loss="binary")), split(classes))
    assert found.metrics["accuracy"] == ((logits[:, 0] > 0).long() == classes).double().mean().item()
    assert np.array(found.confusion).sum() == 53
    assert tuple(found.metrics) == metric_names(Supervised(SupervisedConfig(loss="binary")), 1)
    assert "top5" not in found.metrics
    assert found.predictions is not None
    shares = torch.stack([1 - logits[:, 0].double().sigmoid(), logits[:, 0].double().sigmoid()], 1)
    np.testing.assert_allclose(found.predictions.probabilities, shares, rtol=1e-12)
    np.testing.assert_array_equal(found.predictions.targets, classes)


@pytest.mark.parametrize("batch_size", [1, 5, 1000])
def test_numbers(batch_size: int) -> None:
    wanted = torch.randn(53, generator=torch.Generator().manual_seed(3))
    found = evaluate(
        Table(OUTPUTS[:, :1]), Supervised(SupervisedConfig(loss="mse")), split(wanted), batch_size=batch_size
    )
    predicted = OUTPUTS[:, 0].double().numpy()
    true = wanted.double().numpy()
    assert found.metrics["r2"] == pytest.approx(sk.r2_score(true, predicted))
    assert found.metrics["rmse"] == pytest.approx(math.sqrt(((predicted - true) ** 2).mean()))
    assert found.metrics["mae"] == pytest.approx(np.abs(predicted - true).mean())
    assert found.predictions is found.confusion is None


def test_every_token_of_a_text_counts_once_and_bytes_are_those_of_the_text() -> None:
    # An untrained head of zeros gives every token the same probability.
    model = GPT(GPTConfig(depth=1, dim=16, heads=2, context=8, vocab_size=5))
    assert model.head is not None
    nn.init.zeros_(model.head.weight)
    tokens = np.arange(30) % 5
    for size in (1, 4, 100):
        found = evaluate(model, Causal(), StreamSplit(tokens, 8, bytes=58), batch_size=size)
        assert found.examples == 29
        assert found.metrics["loss"] == pytest.approx(math.log(5), rel=1e-6)
        assert found.metrics["perplexity"] == pytest.approx(5, rel=1e-5)
        assert found.metrics["bits_per_byte"] == pytest.approx(29 * math.log2(5) / 58, rel=1e-6)
