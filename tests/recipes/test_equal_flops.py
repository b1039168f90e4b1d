"""The networks compared on CIFAR-10 are given the same number of floating-point operations."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from descent.models import build
from descent.recipes import get

COMPARED = ("resnet-cifar", "alexnet-cifar", "vit-cifar")


def training_flops(name: str) -> float:
    """Of all forward and backward passes; the products of Muon itself, 1% to 18% of them, are left out."""
    recipe = get(name)
    model = build(recipe.model.replace(inputs=(3, 32, 32), outputs=10)).train()
    with FlopCounterMode(display=False) as counter:
        model(torch.randn(2, 3, 32, 32)).sum().backward()
    return counter.get_total_flops() / 2 * recipe.budget.batch_size * recipe.budget.steps


@pytest.mark.parametrize("name", COMPARED)
def test_each_has_the_flops_of_the_fast_network(name: str) -> None:
    assert training_flops(name) == pytest.approx(training_flops("airbench-cifar"), rel=0.005)
