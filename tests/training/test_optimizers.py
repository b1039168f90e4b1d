"""Optimizers: who steps what, Muon against torch's, and state that goes into named tensors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from training_toys import GAN, mlp

from descent.errors import UserError
from descent.training.muon import Muon, orthogonal
from descent.training.optimizer_state import load_state_tensors, state_tensors
from descent.training.optimizers import (
    AdamConfig,
    AdamWConfig,
    MuonConfig,
    OptimizerConfig,
    SGDConfig,
    build_optimizers,
    roles,
)

CONFIGS = [
    SGDConfig(momentum=0.0),
    SGDConfig(momentum=0.9, nesterov=True, weight_decay=0.01),
    AdamConfig(weight_decay=0.01),
    AdamWConfig(),
    MuonConfig(weight_decay=0.01),
]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(6, 4)
        self.convolution = nn.Conv2d(2, 3, 5)
        self.norm = nn.LayerNorm(4)
        self.inner = nn.Linear(4, 4)
        self.gain = nn.Parameter(torch.ones(2, 3, 4))
        self.head = nn.Linear(4, 6)


def give_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)


def stepped(config: OptimizerConfig, model: nn.Module, steps: int) -> dict[str, list[torch.optim.Optimizer]]:
    optimizers = {"train": build_optimizers(config, model)}
    for step in range(steps):
        give_gradients(model, step)
        for optimizer in optimizers["train"]:
            optimizer.step()
    return optimizers


def test_roles():
    assert roles(Net()) == {
        "tokens.weight": "embedding",
        "convolution.weight": "kernel",
        "convolution.bias": "vector",
        "norm.weight": "vector",
        "norm.bias": "vector",
        "inner.weight": "matrix",
        "inner.bias": "vector",
        "gain": "vector",
        "head.weight": "head",
        "head.bias": "vector",
    }
    tied = Net()
    tied.head.weight = tied.tokens.weight
    assert roles(tied)["tokens.weight"] == "embedding"
    assert "head.weight" not in roles(tied)


def placed(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, tuple[str, float, float]]:
    """Of every parameter: who steps it, its initial rate, its weight decay."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (type(optimizer).__name__, group["initial_lr"], group["weight_decay"])
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


def test_only_matrices_decay():
    model = Net()
    found = placed(model, build_optimizers(AdamWConfig(learning_rate=0.1, weight_decay=0.2), model))
    assert set(found) == set(roles(model))
    decayed = {name for name, (_, rate, decay) in found.items() if decay == 0.2 and rate == 0.1}
    assert decayed == {"convolution.weight", "inner.weight", "head.weight"}
    config = AdamWConfig(weight_decay=0.2, decay_embeddings=True)
    assert placed(model, build_optimizers(config, model))["tokens.weight"][2] == 0.2


def test_muon_takes_matrices_and_kernels_and_adam_the_rest():
    model = Net()
    config = MuonConfig(
        learning_rate=0.1,
        adam_learning_rate=0.2,
        embedding_learning_rate=0.3,
        head_learning_rate=0.4,
        weight_decay=0.5,
    )
    assert placed(model, build_optimizers(config, model)) == {
        "inner.weight": ("Muon", 0.1, 0.5),
        "convolution.weight": ("Muon", 0.1, 0.5),
        "tokens.weight": ("AdamW", 0.3, 0.0),
        "head.weight": ("AdamW", 0.4, 0.5),
        "head.bias": ("AdamW", 0.2, 0.0),
        "convolution.bias": ("AdamW", 0.2, 0.0),
        "norm.weight": ("AdamW", 0.2, 0.0),
        "norm.bias": ("AdamW", 0.2, 0.0),
        "inner.bias": ("AdamW", 0.2, 0.0),
        "gain": ("AdamW", 0.2, 0.0),
    }


def test_a_phase_gets_the_parameters_of_its_modules():
    model = GAN()
    found = placed(model, build_optimizers(MuonConfig(), model, modules=("generator",)))
    assert set(found) == {name for name, _ in model.named_parameters() if name.startswith("generator")}


@pytest.mark.parametrize("shape", [(7, 7), (12, 5), (5, 12)])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_equals_torchs(shape: tuple[int, int], nesterov: bool):
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for _ in range(3)]
    theirs = copy.deepcopy(ours)
    numbers: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.9, "nesterov": nesterov}
    optimizers = Muon(ours, **numbers), torch.optim.Muon(theirs, **numbers)
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(shape)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, rtol=0, atol=1e-4)  # the products are in bfloat16


def test_orthogonal_matrices_have_singular_values_near_one():
    torch.manual_seed(0)
    for shape in ((2, 30, 20), (2, 20, 30), (1, 25, 25)):
        matrices = torch.randn(shape) * torch.tensor(1e-3)
        result = orthogonal(matrices, dtype=torch.float32)
        left, _, right = torch.linalg.svd(matrices, full_matrices=False)
        values = left.mT @ result @ right.mT  # diagonal, as the singular vectors stay
        diagonal = values.diagonal(dim1=-2, dim2=-1)
        assert_close(values, torch.diag_embed(diagonal), rtol=0, atol=1e-3)
        assert 0.3 < diagonal.min() < diagonal.max() < 1.3
    scaled = orthogonal(matrices * 1e4, dtype=torch.float32)
    assert_close(scaled, result, rtol=0, atol=1e-3)
    assert orthogonal(torch.zeros(1, 3, 4)).abs().max() == 0


def test_a_kernel_is_stepped_as_the_matrix_on_its_patches():
    torch.manual_seed(0)
    kernel = nn.Parameter(torch.randn(4, 2, 3, 3))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    for parameter in (kernel, matrix):
        parameter.grad = torch.arange(72.0).sin().view(parameter.shape)
        Muon([parameter]).step()
    assert torch.equal(kernel.flatten(1), matrix)


def test_muon_refuses_vectors():
    with pytest.raises(ValueError, match=r"not a parameter of shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))])


def test_sgd_with_momentum_follows_its_formula():
    weight = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        weight.weight.fill_(1.0)
    config = SGDConfig(learning_rate=0.1, momentum=0.5, nesterov=True, weight_decay=0.2)
    (optimizer,) = build_optimizers(config, weight)
    expected, velocity = 1.0, 0.0
    for step in range(4):
        gradient = step + 0.2 * expected
        velocity = gradient if not step else 0.5 * velocity + gradient
        expected -= 0.1 * (gradient + 0.5 * velocity)
        weight.weight.grad = torch.full((1, 1), float(step))
        optimizer.step()
    assert weight.weight.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.type)
def test_state_goes_through_named_tensors_bit_for_bit(config: OptimizerConfig):
    one = Net()
    optimizers = stepped(config, one, 3)
    kept = {name: tensor.clone() for name, tensor in state_tensors(one, optimizers).items()}
    other = copy.deepcopy(one)
    restored = {"train": build_optimizers(config, other)}
    load_state_tensors(other, restored, kept, "here")
    again = state_tensors(other, restored)
    assert again.keys() == kept.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in kept.items())
    for model, group in ((one, optimizers), (other, restored)):
        give_gradients(model, 9)
        for optimizer in group["train"]:
            optimizer.step()
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)


def test_state_is_keyed_by_the_parameters_name():
    model = nn.Linear(3, 2)
    names = set(state_tensors(model, stepped(MuonConfig(), model, 1)))
    assert names == {
        "train/0/weight/momentum_buffer",
        "train/1/bias/exp_avg",
        "train/1/bias/exp_avg_sq",
        "train/1/bias/step",
    }


def test_state_that_does_not_fit_is_listed_and_nothing_changes():
    model = mlp()
    optimizers = stepped(AdamWConfig(), model, 2)
    kept = {name: tensor.clone() for name, tensor in state_tensors(model, optimizers).items()}
    wrong = dict(kept)
    wrong["train/0/0.weight/exp_avg"] = torch.zeros(3, 3)
    wrong["train/0/gone/exp_avg"] = torch.zeros(1)
    del wrong["train/0/2.bias/step"]
    with pytest.raises(UserError) as caught:
        load_state_tensors(model, optimizers, wrong, "here")
    assert caught.value.what.splitlines() == [
        "here does not fit this run's optimizers: 3 differences",
        "  train/0/0.weight/exp_avg: shape 3x3, the parameter's is 16x5",
        "  train/0/2.bias: has exp_avg, exp_avg_sq; expected exp_avg, exp_avg_sq, step",
        "  train/0/gone/exp_avg: no optimizer here has such a state",
    ]
    after = state_tensors(model, optimizers)
    assert all(torch.equal(after[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize(
    ("table", "field"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"betas": [0.9]}, "betas"),
        ({"betas": [0.9, 1.0]}, "betas"),
        ({"eps": -1.0}, "eps"),
        ({"learing_rate": 0.1}, "did you mean 'learning_rate'"),
    ],
)
def test_numbers_out_of_range_are_refused(table: dict[str, object], field: str):
    with pytest.raises(UserError, match=field):
        AdamWConfig.read(table)


def test_nesterov_needs_momentum():
    with pytest.raises(UserError, match="nesterov needs a momentum over 0"):
        SGDConfig.read({"nesterov": True, "momentum": 0.0})


def test_biases_and_gains_have_a_rate_of_their_own_in_sgd():
    model = Net()
    config = SGDConfig(learning_rate=0.1, weight_decay=0.2, bias_factor=64.0)
    found = placed(model, build_optimizers(config, model))
    fast = {name for name, (_, rate, decay) in found.items() if rate == 6.4 and decay == 0.0}
    assert fast == {name for name, role in roles(model).items() if role == "vector"}
    assert {rate for name, (_, rate, _) in found.items() if name not in fast} == {0.1}
    first = build_optimizers(config, nn.BatchNorm1d(3))[0].param_groups[0]
    assert first["initial_lr"] == 6.4
