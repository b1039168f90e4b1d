"""Feed-forward parts, norms and convolutions against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from descent.errors import UserError
from descent.nn.block import Block
from descent.nn.convolution import Convolution, fit
from descent.nn.dropout import dropout
from descent.nn.feedforward import ACTIVATIONS, FeedForward, GatedFeedForward, named_activation
from descent.nn.norm import LayerNorm, RMSNorm

FORMULAS = {
    "relu": lambda x: x.clamp_min(0),
    "relu2": lambda x: x.clamp_min(0) ** 2,
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / 2**0.5)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "quick_gelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "tanh": torch.tanh,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_its_formula_with_its_gradient(name):
    x = torch.linspace(-6, 6, 97, dtype=torch.float64, requires_grad=True)
    found, expected = ACTIVATIONS[name](x), FORMULAS[name](x)
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(y.sum(), x)[0] for y in (found, expected)]
    inner = x.abs() > 0  # relu has no derivative at 0
    torch.testing.assert_close(gradients[0][inner], gradients[1][inner])


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("size", [400, 2**19 + 7])  # more than one piece of the larger kernels
def test_an_activation_in_bfloat16_is_near_its_formula(name, size):
    x = (3 * torch.randn(size)).bfloat16().requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, expected = ACTIVATIONS[name](x), FORMULAS[name](exact)
    found.sum().backward()
    expected.sum().backward()
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=0.01, atol=0.01)
    torch.testing.assert_close(x.grad.double(), exact.grad, rtol=0.01, atol=0.01)


def test_an_unknown_activation_is_named():
    with pytest.raises(UserError, match="no activation is called 'gelo'"):
        named_activation("gelo")


def test_feedforward_parts_are_their_formulas():
    x, w = (
        torch.randn(2, 7, 5),
        {n: nn.Linear(*s) for n, s in {"up": (5, 9), "gate": (5, 9), "down": (9, 5)}.items()},
    )
    plain, gated = FeedForward(5, 9, "tanh"), GatedFeedForward(5, 9, "silu", bias=True)
    for name, layer in w.items():
        for part in (plain, gated):
            if hasattr(part, name):
                getattr(part, name).load_state_dict(layer.state_dict())
    torch.testing.assert_close(plain(x), w["down"](torch.tanh(w["up"](x))))
    torch.testing.assert_close(gated(x), w["down"](F.silu(w["gate"](x)) * w["up"](x)))


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("width", [torch.float32, torch.bfloat16])
def test_dropout_drops_as_many_as_asked_and_keeps_the_mean(probability, width):
    torch.manual_seed(0)
    x = torch.full((333, 301), 2.0, dtype=width, requires_grad=True)
    out = dropout(x, probability)
    kept = out != 0
    assert abs(float((~kept).float().mean()) - probability) < 0.01
    scale = 256 / (256 - round(256 * probability))
    torch.testing.assert_close(out, kept * torch.tensor(2 * scale, dtype=width))
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, kept * torch.tensor(scale, dtype=width))
    rows = kept.float().mean(1)
    assert rows.std() < 0.05  # no row is favoured
    assert not torch.equal(dropout(x, probability), out)
    torch.manual_seed(0)
    assert torch.equal(dropout(x, probability), out)


def test_dropout_never_rounds_to_none():
    out = dropout(torch.ones(100_000), 1e-6)
    assert 100 < int((out == 0).sum()) < 1000


def test_dropout_only_while_training():
    part, x = FeedForward(5, 400, dropout=0.5), torch.randn(2, 5)
    assert not torch.equal(part(x), part(x))
    part.eval()
    torch.testing.assert_close(part(x), part(x))


@pytest.mark.parametrize("width", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_norms_are_their_formulas_with_their_gradients(bias, width):
    torch.manual_seed(0)
    tolerance = {} if width == torch.float32 else {"rtol": 0.02, "atol": 0.05}
    layer, rms, bare = LayerNorm(12, 0.1, bias), RMSNorm(12, 0.1), RMSNorm(12, 0.1, weight=False)
    for parameter in (*layer.parameters(), *rms.parameters()):
        nn.init.normal_(parameter)
    x = torch.randn(3, 4, 12).to(width).requires_grad_()
    exact = x.detach().float().requires_grad_()
    centred = exact - exact.mean(-1, keepdim=True)
    normal = centred / (centred.square().mean(-1, keepdim=True) + 0.1).sqrt() * layer.weight
    scaled = exact / (exact.square().mean(-1, keepdim=True) + 0.1).sqrt()
    expected = (normal if layer.bias is None else normal + layer.bias, scaled * rms.weight, scaled)
    for part, wanted in zip((layer, rms, bare), expected, strict=True):
        found, target = part(x), torch.randn(3, 4, 12)
        torch.testing.assert_close(found.float(), wanted, **tolerance)
        parameters = list(part.parameters())
        ours = torch.autograd.grad((found * target).sum(), [x, *parameters], retain_graph=True)
        theirs = torch.autograd.grad((wanted * target).sum(), [exact, *parameters], retain_graph=True)
        for mine, reference in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine.float(), reference, **tolerance)


def test_a_block_drops_what_its_parts_add():
    torch.manual_seed(0)
    block = Block(nn.Identity(), LayerNorm(400), nn.Identity(), LayerNorm(400), dropout=0.5)
    block.attention.forward = lambda h, **_: h
    x = torch.randn(1, 1, 400)
    changed = (block(x) - x).flatten()
    assert 0.15 < (changed == 0).float().mean() < 0.35
    block.eval()
    assert (block(x) != x).all()


def test_convolution_is_its_parts_in_order():
    part = Convolution(2, 3, 3, stride=2, padding=1, activation="relu", pool=nn.MaxPool2d(2))
    x, conv = torch.randn(2, 2, 9, 8), part.convolution
    expected = F.max_pool2d(F.relu(F.conv2d(x, conv.weight, conv.bias, stride=2, padding=1)), 2)
    torch.testing.assert_close(part(x), expected)
    normed = Convolution(2, 3, 1, norm=nn.BatchNorm2d(3))
    assert normed.convolution.bias is None


def test_fit_pads_a_little_and_resizes_otherwise():
    digit = torch.rand(2, 1, 28, 28)
    padded = fit(digit, 32)
    torch.testing.assert_close(padded[:, :, 2:-2, 2:-2], digit)
    torch.testing.assert_close(padded.sum(), digit.sum())
    assert fit(padded, 32) is padded
    for shape in ((8, 8), (64, 48), (20, 100)):
        flat = fit(torch.full((1, 3, *shape), 0.5), 32)
        torch.testing.assert_close(flat, torch.full((1, 3, 32, 32), 0.5))
