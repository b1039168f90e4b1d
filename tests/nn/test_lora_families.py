"""Adapters on every family of models: merged = adapted, unmerged = the base, and every one learns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from descent.errors import UserError
from descent.models import build, config_class
from descent.nn.lora import adapted_layers, add_lora, merge_lora

TOKENS = torch.arange(12).view(2, 6)
TEXT = {"vocab_size": 23, "depth": 2, "dim": 16, "heads": 2}


def of_tokens(model: nn.Module) -> Tensor:
    return model(TOKENS)


def of_images(model: nn.Module) -> Tensor:
    return model(torch.linspace(-1, 1, 2 * 64).view(2, 1, 8, 8))


def of_pairs(model: nn.Module) -> Tensor:
    return model(TOKENS, TOKENS.flip(1))


FAMILIES: dict[str, tuple[dict[str, Any], Callable[[nn.Module], Tensor]]] = {
    "gpt": ({**TEXT, "context": 16, "zero_init": False}, of_tokens),
    "llama": ({**TEXT, "groups": 1, "bias": "qkv"}, of_tokens),
    "bert": ({**TEXT, "head": "classes", "outputs": 3}, of_tokens),
    "t5": ({**TEXT, "head_dim": 5, "hidden": 9}, of_pairs),
    "transformer": (TEXT, of_pairs),
    "vit": ({"inputs": (1, 8, 8), "outputs": 3, "depth": 2, "dim": 8, "heads": 2, "patch": 4}, of_images),
}


def made(name: str) -> tuple[nn.Module, Callable[[nn.Module], Tensor]]:
    options, run = FAMILIES[name]
    torch.manual_seed(3)
    model = build(config_class(name).read({"type": name, **options}))
    with torch.no_grad():  # heads that start at zero would hide every difference
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return model.eval(), run


def adapt(model: nn.Module) -> None:
    add_lora(model, 3, 6.0)
    with torch.no_grad():
        for layer in adapted_layers(model).values():
            layer.lora_up.normal_(std=0.3)


@pytest.mark.parametrize("name", FAMILIES)
def test_merged_it_computes_what_it_did_adapted(name: str) -> None:
    model, run = made(name)
    before = run(model)
    adapt(model)
    adapted = run(model)
    assert (adapted - before).abs().max() > 1e-2
    merge_lora(model)
    assert not adapted_layers(model)
    assert_close(run(model), adapted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_unmerged_it_is_the_base_bit_for_bit(name: str) -> None:
    (model, run), (base, _) = made(name), made(name)
    adapt(model)
    merge_lora(model, keep=False)
    held = base.state_dict()
    assert model.state_dict().keys() == held.keys()
    assert all(torch.equal(tensor, held[key]) for key, tensor in model.state_dict().items())
    assert torch.equal(run(model), run(base))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_adapter_is_computed_with_and_learns(name: str) -> None:
    model, run = made(name)
    adapt(model)
    run(model).square().sum().backward()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert set(trained) == {
        f"{layer}.lora_{part}" for layer in adapted_layers(model) for part in ("down", "up")
    }
    still = [key for key, p in trained.items() if p.grad is None or not p.grad.any()]
    assert not still


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rnn", {"vocab_size": 23, "dim": 8}),
        ("resnet", {"inputs": (1, 8, 8), "outputs": 3, "depths": (1, 1), "widths": (4, 8), "stem": "small"}),
    ],
)
def test_a_model_whose_layers_are_not_linear_says_so(name: str, options: dict[str, Any]) -> None:
    model = build(config_class(name).read({"type": name, **options}))
    linear = [key for key, module in model.named_modules() if type(module) is nn.Linear]
    with pytest.raises(UserError, match="no linear layer to adapt outside its head") as caught:
        add_lora(model, 2, 4.0, trained=linear)
    assert type(model).__name__ in str(caught.value)
    assert "transfer.decay or transfer.frozen" in str(caught.value)
