"""Attention of asked rows, recomputed under the fused kernel, and attention rollout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explain_toys import Toy, images, small_vit
from torch.nn import functional as F

from descent.errors import UserError
from descent.explain import attention, attention_maps, rollout
from descent.nn import attention as attention_module
from descent.nn.attention import Attention
from descent.nn.position import Rotary

SHAPE = (3, 12, 8)


def all_weights(model, x) -> torch.Tensor:
    """(layers, batch, heads, tokens, tokens) by a forward pass written out, which holds all weights."""
    found = []
    with torch.no_grad():
        h = model.embedding(x).flatten(2).transpose(1, 2)
        if model.class_token is not None:
            h = torch.cat((model.class_token.expand(len(x), -1, -1), h), dim=1)
        h = h + model.positions
        for block in model.blocks:
            out, weights = block.attention(block.attention_norm(h), weights=True)
            found.append(weights)
            h = h + out
            h = h + block.feedforward(block.feedforward_norm(h))
    return torch.stack(found)


def test_rows_are_those_of_all_weights_though_the_pass_is_fused(monkeypatch):
    model, x = small_vit(), images(2, SHAPE)
    expected = all_weights(model, x)
    taken = []
    fused = attention_module._fused
    monkeypatch.setattr(attention_module, "_fused", lambda *given: taken.append(1) or fused(*given))
    found = attention_maps(model, x, rows=[5, 0, 3])
    assert len(taken) == 3
    assert found.layers == ("blocks.0.attention", "blocks.1.attention", "blocks.2.attention")
    torch.testing.assert_close(found.weights, expected[:, :, :, [5, 0, 3]])


def test_unasked_it_is_the_class_token_or_the_mean_row():
    x = images(2, SHAPE)
    model = small_vit()
    found = attention_maps(model, x, layers=["blocks.1.attention"])
    expected = all_weights(model, x)[1:2, :, :, :1]
    torch.testing.assert_close(found.weights, expected)
    assert (found.first, found.grid) == (1, (3, 2))
    torch.testing.assert_close(found.pictures[0, 1, 0, 0], expected[0, 1, 0, 0, 1:].view(3, 2))
    mean = small_vit("mean")
    found = attention_maps(mean, x)
    torch.testing.assert_close(found.weights, all_weights(mean, x).mean(3, keepdim=True))
    assert (found.first, found.pictures.shape[-2:]) == (0, (3, 2))


def test_one_map_is_the_mean_over_the_heads_of_the_last_layer():
    model, x = small_vit(), images(2, SHAPE)
    small = all_weights(model, x)[2, :, :, 0, 1:].mean(1).view(2, 1, 3, 2)
    found = attention(model, x)
    torch.testing.assert_close(found.maps, F.interpolate(small, (12, 8), mode="bilinear")[:, 0])
    assert found.layer == "blocks.2.attention"


@pytest.mark.parametrize("pool", ["class", "mean"])
def test_rollout_by_hand(pool):
    model, x = small_vit(pool), images(2, SHAPE)
    weights = all_weights(model, x).double().numpy().mean(2)
    for image in range(2):
        flow = np.eye(weights.shape[-1])
        for layer in weights[:, image]:
            mixed = 0.5 * layer + 0.5 * np.eye(len(layer))
            flow = (mixed / mixed.sum(1, keepdims=True)) @ flow
        row = flow[0, 1:] if pool == "class" else flow.mean(0)
        small = torch.from_numpy(row.reshape(1, 1, 3, 2)).float()
        expected = F.interpolate(small, (12, 8), mode="bilinear")[0, 0]
        torch.testing.assert_close(rollout(model, x).maps[image], expected)


@pytest.mark.parametrize("causal", [False, True])
def test_weights_of_rows_keep_every_rule_of_a_layer(causal):
    """Masks, biases, turned positions, scaled norms and grouped heads, in fp32 and elementwise."""
    torch.manual_seed(6)
    layer = Attention(12, 6, groups=2, head_dim=4, qk_norm=True, causal=causal, scale=0.7)
    x, bias = torch.randn(2, 7, 12), torch.randn(1, 6, 7, 7)
    mask = torch.rand(2, 1, 7, 7) > 0.4
    mask[0, 0, 4] = False
    rotation = Rotary(4)(torch.arange(7))
    with torch.no_grad():
        _, expected = layer(x, mask=mask, bias=bias, rotation=rotation, weights=True)
        found = layer.weights_of(x, [4, 6, 1], mask=mask, bias=bias, rotation=rotation)
        _, plain = layer(x, weights=True)
        torch.testing.assert_close(layer.weights_of(x, range(7)), plain)
        _, keys = layer(x, mask=mask[:, :, :1], weights=True)
        torch.testing.assert_close(layer.weights_of(x, [2, 3], mask=mask[:, :, :1]), keys[:, :, 2:4])
    torch.testing.assert_close(found, expected[:, :, [4, 6, 1]])


def test_what_has_no_attention_or_no_such_row_is_refused():
    with pytest.raises(UserError, match="a Toy has no attention"):
        attention(Toy(), images(1))
    with pytest.raises(UserError, match="a Toy has no attention"):
        rollout(Toy(), images(1))
    model, x = small_vit(), images(1, SHAPE)
    with pytest.raises(UserError, match="no such token") as caught:
        attention_maps(model, x, rows=[7])
    assert "0 to 6" in str(caught.value)
    with pytest.raises(UserError, match=r"'blocks\.0\.feedforward' is no layer of self-attention"):
        attention_maps(model, x, layers=["blocks.0.feedforward"])
    with pytest.raises(UserError, match=r"no layer is called 'blocks\.9\.attention'"):
        attention(model, x, layer="blocks.9.attention")
