"""The moving average, and the two helpers that judge evaluations."""

from __future__ import annotations

import math
from contextlib import suppress

import torch
from torch import nn
from torch.testing import assert_close

from descent.training.average import EMA
from descent.training.stopping import best_index, better, should_stop


def test_the_average_follows_its_formula():
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    average = EMA(model, 0.7)
    expected = model.weight.detach().double()
    for step in range(30):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 2))
        average.update(model, step)
        decay = min(0.7, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    assert_close(average.tensors["weight"].double(), expected, rtol=0, atol=1e-6)


def test_the_average_stands_in_and_the_weights_come_back():
    model = nn.Linear(2, 1, bias=False)
    average = EMA(model, 0.9)
    own, pointer = model.weight.detach().clone(), model.weight.data_ptr()
    average.tensors["weight"].fill_(2.0)
    with suppress(KeyboardInterrupt), average.swapped(model):
        assert model(torch.ones(1, 2)).item() == 4.0
        raise KeyboardInterrupt
    assert torch.equal(model.weight, own)
    assert model.weight.data_ptr() == pointer
    assert torch.equal(average.tensors["weight"], torch.full((1, 2), 2.0))


def test_low_precision_weights_are_averaged_in_fp32():
    model = nn.Linear(1, 1, bias=False, dtype=torch.bfloat16)
    average = EMA(model, 0.999)
    before = average.tensors["weight"].clone()
    with torch.no_grad():
        model.weight.add_(1)
    average.update(model, step=10**6)
    assert average.tensors["weight"].dtype == torch.float32
    assert_close(average.tensors["weight"] - before, torch.full((1, 1), 0.001), rtol=0.01, atol=0)


def test_tied_weights_are_averaged_once():
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    average = EMA(model, 0.5)
    assert list(average.tensors) == ["0.weight"]
    with average.swapped(model):
        assert model[1].weight.data_ptr() == average.tensors["0.weight"].data_ptr()


def test_better():
    assert better(1.0, None)
    assert better(1.0, 2.0)
    assert not better(2.0, 2.0)
    assert not better(1.95, 2.0, margin=0.1)
    assert better(3.0, 2.0, higher=True)
    assert not better(1.0, 2.0, higher=True)
    for value in (math.nan, math.inf, -math.inf):
        assert not better(value, None)


def test_best_index():
    assert best_index([3.0, 1.0, 2.0, 1.0]) == 1
    assert best_index([3.0, 1.0, math.nan, 5.0], higher=True) == 3
    assert best_index([math.nan]) is None
    assert best_index([]) is None


def test_should_stop():
    values = [3.0, 2.0, 2.1, 2.2, 2.3]
    assert [should_stop(values[:count], 3) for count in range(6)] == [False] * 5 + [True]
    assert not should_stop(values, 4)
    assert not should_stop(values, 0)
    assert should_stop([math.nan] * 3, 2)
    assert should_stop([1.0, 2.0, 1.5, 1.0], 2, higher=True)
