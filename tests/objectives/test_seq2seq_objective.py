"""Teacher forcing: the loss is a mean over the targets that count, smoothed; padding adds nothing to it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from descent.models.seq2seq import Seq2Seq, Seq2SeqConfig
from descent.objectives import Phase
from descent.objectives.seq2seq import Seq2SeqObjective, Seq2SeqObjectiveConfig, target_logits

VOCAB = 7


def model() -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(Seq2SeqConfig(vocab_size=VOCAB, dim=6))


def batch() -> dict[str, Tensor]:
    return {
        "source": torch.tensor([[1, 2, 3, 0], [4, 0, 0, 0]]),
        "source_lengths": torch.tensor([4, 2]),
        "tokens": torch.tensor([[0, 5, 6], [0, 2, 0]]),
        "targets": torch.tensor([[5, 6, 0], [2, 0, -100]]),
    }


def objective(smoothing: float) -> Seq2SeqObjective:
    return Seq2SeqObjective(Seq2SeqObjectiveConfig(label_smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_the_smoothed_mean_over_the_targets_that_count(smoothing: float):
    network, data = model(), batch()
    logs = network(data["source"], data["source_lengths"], data["tokens"]).log_softmax(-1)
    losses = []
    for row, step, target in [(0, 0, 5), (0, 1, 6), (0, 2, 0), (1, 0, 2), (1, 1, 0)]:
        wanted = torch.full((VOCAB,), smoothing / VOCAB)
        wanted[target] += 1 - smoothing
        losses.append(-(wanted * logs[row, step]).sum())
    assert_close(objective(smoothing).loss(network, Phase(), data), torch.stack(losses).mean())
    assert objective(smoothing).targets(Phase(), data) == 5


def test_parts_weighted_by_their_targets_are_the_whole():
    network, data, wants = model(), batch(), objective(0.1)
    whole = wants.loss(network, Phase(), data)
    parts = [{name: tensor[row : row + 1] for name, tensor in data.items()} for row in (0, 1)]
    weighted = sum(wants.loss(network, Phase(), part) * wants.targets(Phase(), part) for part in parts)
    assert_close(weighted / 5, whole)


def test_more_padding_changes_neither_loss_nor_gradients():
    network, data, wants = model(), batch(), objective(0.1)
    wide = {
        "source": torch.nn.functional.pad(data["source"], (0, 3), value=5),
        "source_lengths": data["source_lengths"],
        "tokens": torch.nn.functional.pad(data["tokens"], (0, 2), value=3),
        "targets": torch.nn.functional.pad(data["targets"], (0, 2), value=-100),
    }
    found = []
    for held in (data, wide):
        network.zero_grad()
        loss = wants.loss(network, Phase(), held)
        loss.backward()
        found.append([loss, *(parameter.grad for parameter in network.parameters())])
    assert_close(*found)


def test_only_the_logits_that_count_are_made():
    network, data = model(), batch()
    asked: list[int] = []
    network.head.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    logits, targets = target_logits(network, data)
    assert (logits.shape, targets.tolist(), asked) == ((5, VOCAB), [5, 6, 0, 2, 0], [5])


def test_a_batch_without_targets_has_no_loss():
    network, data = model(), batch()
    data["targets"] = torch.full_like(data["targets"], -100)
    assert objective(0.0).loss(network, Phase(), data) == 0
