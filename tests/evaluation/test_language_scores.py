"""Scores of texts that are read on: every token once, from all that stands before it in its lane."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from descent.data.lanes import LaneSplit
from descent.evaluation import evaluate
from descent.models.rnn import RNN, RNNConfig
from descent.objectives import Causal, CausalConfig

VOCABULARY = 13


def rnn() -> RNN:
    torch.manual_seed(0)
    model = RNN(RNNConfig(cell="lstm", depth=2, dim=8, vocab_size=VOCABULARY, dropout=0.5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return model


def ids(tokens: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, VOCABULARY, tokens))


@pytest.mark.parametrize(("tokens", "lanes"), [(101, 4), (100, 7), (60, 1), (9, 8), (2, 1)])
def test_a_lane_is_scored_as_one_long_forward(tokens: int, lanes: int) -> None:
    model, text = rnn(), ids(tokens)
    split = LaneSplit(text.numpy(), 6, lanes, bytes=tokens * 3)
    found = evaluate(model, Causal(), split)
    assert model.training
    stretch, total = -(-(tokens - 1) // lanes), 0.0
    model.eval()
    for start in range(0, tokens - 1, stretch):
        row = text[start : start + stretch + 1]
        with torch.no_grad():
            total += float(F.cross_entropy(model(row[None, :-1])[0], row[1:], reduction="sum"))
    assert found.examples == tokens - 1
    assert found.metrics["loss"] == pytest.approx(total / (tokens - 1), rel=1e-5)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(total / (tokens - 1)), rel=1e-4)
    assert found.metrics["bits_per_byte"] == pytest.approx(total / math.log(2) / (tokens * 3), rel=1e-5)


def test_neither_batch_size_nor_chunks_change_it_and_twice_is_the_same() -> None:
    model, split = rnn(), LaneSplit(ids(150).numpy(), 8, 5, bytes=400)
    scores = [evaluate(model, Causal(), split, batch_size=size).metrics for size in (1, 3, 5, 256)]
    assert all(score == scores[0] for score in scores)
    chunked = evaluate(model, Causal(CausalConfig(chunk=7)), split).metrics
    assert chunked == pytest.approx(scores[0], rel=1e-5)


def test_the_state_of_training_is_left_alone() -> None:
    model, split = rnn(), LaneSplit(ids(150).numpy(), 8, 5)
    objective = Causal()
    memory = objective.memory(model, 3)
    for value in memory.values():
        value.fill_(0.25)
    evaluate(model, objective, split)
    assert all((value == 0.25).all() for value in memory.values())
