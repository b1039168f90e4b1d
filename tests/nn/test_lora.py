"""Adapters: nothing changes at first, only they learn, and merging changes no output."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.gpt import GPT, GPTConfig
from descent.nn.lora import LoRALinear, adapted_layers, adapter_state, add_lora, load_adapter, merge_lora


def gpt() -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(depth=2, dim=32, heads=2, vocab_size=23, context=16, bias=True, zero_init=False))
    return model.eval()


TOKENS = torch.arange(12).view(2, 6)


def test_an_adapted_model_starts_as_it_was_and_keeps_its_names() -> None:
    model, before = gpt(), gpt()
    names = add_lora(model, 4, 8.0, trained=["head"])
    assert len(names) == 2 * 4
    assert_close(model(TOKENS), before(TOKENS), rtol=0, atol=0)
    held = before.state_dict()
    own = model.state_dict()
    assert set(held) <= set(own)
    assert all(torch.equal(own[name], held[name]) for name in held)


def test_only_adapters_and_the_head_learn() -> None:
    model = gpt()
    add_lora(model, 4, 8.0, trained=["head"])
    nn.functional.cross_entropy(model(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned == {
        name for name, _ in model.named_parameters() if "lora" in name or name.startswith("head")
    }
    assert learned == set(adapter_state(model))


def test_the_formula() -> None:
    torch.manual_seed(1)
    linear = nn.Linear(5, 7)
    weight, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    layer = LoRALinear(linear, 3, 6.0)
    with torch.no_grad():
        layer.lora_up.normal_()
    x = torch.randn(4, 5)
    wanted = x @ weight.T + bias + 2.0 * (x @ layer.lora_down.T @ layer.lora_up.T)
    assert_close(layer(x), wanted)
    assert_close(layer.merged()(x), wanted)
    assert torch.equal(layer.weight, weight)
    layer.train()
    layer.dropout = 0.9
    assert not torch.allclose(layer(x), wanted)


@pytest.mark.parametrize("keep", [True, False])
def test_merged_the_model_is_plain_and_computes_the_same(keep: bool) -> None:
    model, before = gpt(), gpt()
    add_lora(model, 4, 8.0)
    with torch.no_grad():
        for layer in adapted_layers(model).values():
            layer.lora_up.normal_()
    adapted = model(TOKENS)
    assert not torch.allclose(adapted, before(TOKENS))
    merge_lora(model, keep)
    assert not adapted_layers(model)
    assert model.state_dict().keys() == before.state_dict().keys()
    assert_close(model(TOKENS), adapted if keep else before(TOKENS), rtol=1e-4, atol=1e-5)
    assert all(p.requires_grad for p in model.parameters())
    assert type(model.get_submodule("blocks.0.attention.qkv")) is nn.Linear


def test_an_adapter_moves_to_another_copy_of_the_model() -> None:
    one, other = gpt(), gpt()
    for model in (one, other):
        add_lora(model, 4, 8.0, targets=["qkv"])
    with torch.no_grad():
        for layer in adapted_layers(one).values():
            layer.lora_up.normal_()
    state = adapter_state(one)
    assert sum(t.numel() for t in state.values()) < 0.2 * sum(p.numel() for p in one.parameters())
    load_adapter(other, state)
    assert_close(other(TOKENS), one(TOKENS), rtol=0, atol=0)
    with pytest.raises(UserError, match="does not fit"):
        load_adapter(other, dict(list(state.items())[1:]))


def test_a_target_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="did you mean qkv"):
        add_lora(gpt(), 4, 8.0, targets=["qvk"])
    with pytest.raises(UserError, match="no linear layer to adapt"):
        add_lora(nn.Sequential(nn.Linear(2, 2)), 1, 1.0, trained=["0"])
