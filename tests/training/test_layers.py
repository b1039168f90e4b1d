"""Groups of layers from stem to head, what is trained when, and what a frozen layer is spared."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from training_toys import Regression, mlp, regression_batch

from descent.errors import UserError
from descent.models import MODELS, build, config_class
from descent.training.average import EMA
from descent.training.layers import HEADS, Layers, frozen, head_of, layer_groups
from descent.training.loop import Settings, train, train_step
from descent.training.optimizers import (
    AdamConfig,
    AdamWConfig,
    MuonConfig,
    OptimizerConfig,
    SGDConfig,
    build_optimizers,
)
from descent.training.state import State, state_hash

OPTIMIZERS = [
    SGDConfig(learning_rate=0.01, weight_decay=0.1),
    AdamConfig(learning_rate=0.01, weight_decay=0.1),
    AdamWConfig(learning_rate=0.01, weight_decay=0.1),
    MuonConfig(learning_rate=0.01, weight_decay=0.1),
]


class Toy(nn.Module):
    """What a network can be made of: own parameters, a stem, a stack with norms, a norm, a named head."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 5))
        self.stem = nn.Linear(5, 6)
        self.stem_norm = nn.LayerNorm(6)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh()) for _ in range(2)
        )
        self.norm = nn.LayerNorm(6)
        self.classifier = nn.Linear(6, 2)
        self.scale = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem_norm(self.stem(x + self.token))
        for block in self.blocks:
            x = x + block(x)
        return self.scale(self.classifier(self.norm(x)))


def toy(seed: int = 0) -> Toy:
    torch.manual_seed(seed)
    return Toy()


def parameters_by_group(model: nn.Module) -> list[list[str]]:
    layers = Layers(layer_groups(model))
    found: list[list[str]] = [[] for _ in layers.groups]
    for name, _ in model.named_parameters():
        found[layers.group(name)].append(name)
    return found


def test_the_groups_of_a_toy():
    assert parameters_by_group(toy()) == [
        ["token", "stem.weight", "stem.bias", "stem_norm.weight", "stem_norm.bias"],
        [f"blocks.0.{n}" for n in ("0.weight", "1.weight", "1.bias")],
        [
            *(f"blocks.1.{n}" for n in ("0.weight", "1.weight", "1.bias")),
            "norm.weight",
            "norm.bias",
        ],
        ["classifier.weight", "classifier.bias"],
    ]


SMALL = {
    "gpt": {"depth": 2, "dim": 8, "heads": 2},
    "bert": {"depth": 2, "dim": 8, "heads": 2, "head": "tokens"},
    "llama": {"depth": 2, "dim": 8, "heads": 2},
    "alexnet": {"inputs": [3, 67, 67], "channels": [8, 12, 8, 8, 12], "hidden": 16},
    "resnet": {"depths": [2, 1], "widths": [8, 16]},
    "vit": {"depth": 2, "dim": 24, "heads": 3, "patch": 4},
    "rnn": {"inputs": [], "outputs": 0, "depth": 2, "dim": 8},
    "dscnn": {"inputs": [16]},
    "seq2seq": {"dim": 8, "embedding": 4},
    "transformer": {"depth": 2, "dim": 8, "heads": 2, "tied": False},
    "t5": {"depth": 2, "dim": 8, "heads": 2, "tied": False},
}
OF_CLASSES = [name for name in MODELS if name not in ("forecaster", "dlinear")]
"""Forecasters say steps of a series: their last layer is of another size."""


def model_of(name: str, **options: object) -> nn.Module:
    kind = config_class(name)
    sizes = {"inputs": (3, 32, 32), "outputs": 3, "vocab_size": 11}
    known = {key: size for key, size in sizes.items() if key in kind.model_fields}
    return build(kind.read({**known, **SMALL.get(name, {}), **options}))


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("lenet", {}, ["c1", "c3", "c5", "f6", "output"]),
        ("mlp", {"hidden": [4, 5]}, ["layers.0", "layers.1", "layers.2"]),
        ("linear", {}, ["linear"]),
        (
            "gpt",
            {"bigram": True, "value_embedding": True},
            [("tokens", "rotary", "pairs", "values.0", "values.1"), "blocks.0", ("blocks.1", "norm"), "head"],
        ),
    ],
)
def test_the_groups_of_models(name: str, options: dict[str, object], expected: list[str | tuple[str, ...]]):
    groups = [
        tuple(n for n in group if n != "activation") for group in layer_groups(model_of(name, **options))
    ]
    assert groups == [group if isinstance(group, tuple) else (group,) for group in expected]


@pytest.mark.parametrize("name", OF_CLASSES)
def test_every_model_has_a_head_that_gives_its_outputs_and_groups_that_hold_all_parameters(name: str):
    model = model_of(name)
    head = model.get_submodule(head_of(model))
    assert isinstance(head, nn.Linear)
    assert head.out_features in (3, 11)
    found = parameters_by_group(model)
    assert all(found), "no group is empty"
    assert found[-1] == [n for n, _ in model.named_parameters() if n.startswith(f"{head_of(model)}.")]
    assert sorted(name for group in found for name in group) == sorted(n for n, _ in model.named_parameters())


def test_a_tied_head_is_the_token_embedding():
    model = model_of("gpt", tied=True, position="learned")
    assert head_of(model) == "tokens"
    assert parameters_by_group(model)[0] == ["positions.weight"]
    assert parameters_by_group(model)[-1] == ["tokens.weight"]


def test_a_head_is_known_by_its_name_or_is_the_last_linear():
    for name in HEADS:
        model = nn.Module()
        model.add_module(name, nn.Linear(2, 3))
        model.add_module("auxiliary", nn.Linear(2, 3))
        assert head_of(model) == name
    stack = nn.Module()
    stack.classifier = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3))
    assert head_of(stack) == "classifier.2"
    assert layer_groups(stack) == (("classifier.0", "classifier.1"), ("classifier.2",))
    with pytest.raises(UserError, match=r"Module has no head(.|\n)*and no Linear"):
        head_of(nn.Module())


def test_rates_fall_from_the_head_to_the_stem():
    layers = Layers(layer_groups(toy()), decay=0.5)
    rates = {name: layers.rate(name) for name, _ in toy().named_parameters()}
    assert rates["classifier.weight"] == 1.0
    assert rates["norm.bias"] == rates["blocks.1.0.weight"] == 0.5
    assert rates["blocks.0.1.bias"] == 0.25
    assert rates["token"] == rates["stem.weight"] == 0.125


def test_layers_thaw_from_the_head_down_as_steps_are_counted():
    groups = layer_groups(toy())
    assert [Layers(groups, thaw=3).first(step) for step in range(11)] == [3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0]
    assert [Layers(groups).first(step) for step in (0, 99)] == [0, 0]
    assert [Layers(groups, frozen=True).first(step) for step in (0, 99)] == [3, 3]
    assert [Layers.of(toy(), 1.0, thaw, False, 200).thaw for thaw in (0, 7, 0.05, 1e-4, 0.0)] == [
        0,
        7,
        10,
        1,
        0,
    ]


def state_of(config: OptimizerConfig, layers: Layers, seed: int = 0) -> State:
    model = toy(seed)
    return State(model, {"train": build_optimizers(config, model, layers=layers)}, EMA(model, 0.9))


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda config: config.type)
def test_what_is_frozen_keeps_every_bit_and_has_no_optimizer_state(config: OptimizerConfig):
    layers = Layers(layer_groups(toy()), thaw=2)
    state = state_of(config, layers)
    assert state.average is not None
    settings = Settings(steps=8, layers=layers, clip_norm=1.0)
    for step in range(8):
        before = {n: t.clone() for n, t in state.model.state_dict().items()}
        averages = {n: t.clone() for n, t in state.average.tensors.items()}
        train_step(state, Regression(), regression_batch(step), settings)
        still = {n for n in before if layers.group(n) < layers.first(step)}
        assert len(still) == [19, 19, 11, 11, 5, 5, 0, 0][step]
        for name, tensor in state.model.state_dict().items():
            assert torch.equal(tensor, before[name]) == (name in still), (step, name)
        for name in averages:
            assert torch.equal(state.average.tensors[name], averages[name]) == (name in still)
        stepped = {
            n
            for n, p in state.model.named_parameters()
            if any(p in o.state for o in state.optimizers["train"])
        }
        assert stepped == {n for n, _ in state.model.named_parameters()} - still
    assert all(p.requires_grad for p in state.model.parameters())
    assert all(module.training for module in state.model.modules())


def test_a_frozen_norm_computes_with_its_running_statistics():
    model, layers = toy(), Layers(layer_groups(toy()), frozen=True)
    for step in range(5):
        model(regression_batch(step)["inputs"])
    inputs = regression_batch(9)["inputs"]
    expected = copy.deepcopy(model).eval()(inputs)
    with frozen(model, layers, 0):
        assert_close(model(inputs), expected, rtol=0, atol=0)
        assert [n for n, p in model.named_parameters() if p.requires_grad] == [
            "classifier.weight",
            "classifier.bias",
        ]
    assert not torch.allclose(model(inputs), expected)


def test_no_backward_is_spent_below_the_lowest_trained_group():
    model, layers = toy(), Layers(layer_groups(toy()), thaw=1)
    seen: list[bool] = []
    model.norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].requires_grad))
    for step in range(2):
        with frozen(model, layers, step):
            model(regression_batch(0)["inputs"])
    assert seen == [False, True]


def test_freezing_restores_flags_there_were_before():
    model, layers = toy(), Layers(layer_groups(toy()), frozen=True)
    model.stem.weight.requires_grad_(False)
    model.blocks[0].get_submodule("1").eval()
    with pytest.raises(KeyboardInterrupt), frozen(model, layers, 0):
        raise KeyboardInterrupt
    assert [n for n, p in model.named_parameters() if not p.requires_grad] == ["stem.weight"]
    assert [n for n, m in model.named_modules() if not m.training] == ["blocks.0.1"]


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda config: config.type)
def test_a_stopped_and_resumed_thaw_ends_with_the_same_bits(config: OptimizerConfig):
    layers = Layers(layer_groups(toy()), decay=0.5, thaw=3)
    settings = Settings(steps=12, layers=layers)
    whole, parts = state_of(config, layers), state_of(config, layers)
    train(whole, Regression(), regression_batch, settings=settings)
    train(
        parts, Regression(), regression_batch, settings=settings, after_step=lambda report: report.step == 5
    )
    train(parts, Regression(), regression_batch, settings=settings)
    assert state_hash(whole) == state_hash(parts)


@pytest.mark.parametrize("config", OPTIMIZERS, ids=lambda config: config.type)
def test_one_step_of_a_decayed_rate_is_a_step_of_that_share(config: OptimizerConfig):
    """The first step of each optimizer goes along the rate, so half of it is half the way."""
    plain, halved = (Layers(layer_groups(toy()), decay=decay) for decay in (1.0, 0.5))
    start, moved = toy(), []
    for layers in (plain, halved):
        state = state_of(config, layers)
        train_step(state, Regression(), regression_batch(0), Settings(steps=1))
        moved.append({n: p.detach() - start.get_parameter(n) for n, p in state.model.named_parameters()})
    for name, whole in moved[0].items():
        assert_close(moved[1][name], whole * halved.rate(name), rtol=1e-3, atol=1e-6)


def test_the_first_rate_is_the_highest_below_the_head_or_the_configured_one():
    layers = Layers(layer_groups(toy()), decay=0.5)
    for config in OPTIMIZERS:
        first = build_optimizers(config, toy(), layers=layers)[0].param_groups[0]["initial_lr"]
        assert first == config.learning_rate * (0.5 if config.type == "muon" else 1.0)  # its head is AdamW's


def test_without_layers_nothing_changes():
    ones = build_optimizers(AdamWConfig(), mlp())
    others = build_optimizers(AdamWConfig(), mlp(), layers=Layers(layer_groups(mlp())))
    assert [[p.shape for p in g["params"]] for o in ones for g in o.param_groups] == [
        [p.shape for p in g["params"]] for o in others for g in o.param_groups
    ]
