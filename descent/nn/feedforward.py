"""The position-wise feed-forward parts of a block, plain and gated, and the activations by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from descent.errors import unknown
from descent.nn.dropout import dropout


def relu2(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """max(x, 0)^2: So et al. (2021), "Primer: Searching for Efficient Transformers", section 4."""
    return F.relu(x).square()


def quick_gelu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x * sigmoid(1.702 x), the approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), GELU as GPT-2 computes it.

    Hendrycks, Gimpel (2016), "Gaussian Error Linear Units", section 2.
    """
    trained = x.requires_grad and torch.is_grad_enabled()
    if trained and x.dtype == torch.bfloat16 and x.device.type == "cpu" and x.numel() >= 2 * _GeluTanh.PIECE:
        return _GeluTanh.apply(x)
    return F.gelu(x, approximate="tanh")


class _GeluTanh(torch.autograd.Function):
    """The same in bfloat16 on a CPU with half the time of PyTorch's, for tanh is its slowest function there.

    As 0.5 (1 + tanh(z / 2)) = sigmoid(z), y = x s with s = sigmoid(z) and z = c x + k x^3. The slope
    s + s (1 - s) x z' is computed beside it, x z' being 3 z - 2 c x, and kept in the place of x: backward is
    one product. A piece at a time, so that what is computed in single precision stays in the cache.
    """

    PIECE = 2**18
    C = 2 * math.sqrt(2 / math.pi)
    K = 0.044715 * C

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y, slope = (torch.empty(x.shape, dtype=x.dtype) for _ in range(2))
        size = min(_GeluTanh.PIECE, x.numel())
        room, c = torch.empty(3, size), torch.tensor(_GeluTanh.C)
        pieces = zip(*(tensor.reshape(-1).split(size) for tensor in (x, y, slope)), strict=True)
        for x_N, y_N, slope_N in pieces if size else ():
            wide, z, s = (row[: len(x_N)] for row in room)
            wide.copy_(x_N)
            torch.mul(wide, wide, out=z)
            torch.add(c, z, alpha=_GeluTanh.K, out=z).mul_(wide)
            torch.sigmoid(z, out=s)
            z.mul_(3).sub_(wide, alpha=2 * _GeluTanh.C)
            y_N.copy_(wide.mul_(s))
            torch.addcmul(s, s, s, value=-1, out=wide)
            slope_N.copy_(s.addcmul_(wide, z))
        ctx.save_for_backward(slope)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": relu2,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "silu": F.silu,
    "tanh": torch.tanh,
}


def named_activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation called `name`, a key of `ACTIVATIONS`; any other raises a `UserError`."""
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name]


class FeedForward(nn.Module):
    """down(activation(up(x))): Vaswani et al. (2017), section 3.3.

    Args:
        dim: size of input and output.
        hidden: size between the two maps.
        activation: a key of `ACTIVATIONS`.
        bias: whether the two maps have biases.
        dropout: probability of dropping a hidden unit.
    """

    def __init__(
        self, dim: int, hidden: int, activation: str = "gelu", bias: bool = True, dropout: float = 0.0
    ):
        super().__init__()
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)
        self.activation = named_activation(activation)
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        hidden = self.activation(self.up(x))
        return self.down(dropout(hidden, self.dropout, self.training))


class GatedFeedForward(nn.Module):
    """down(activation(gate(x)) * up(x)): Shazeer (2020), "GLU Variants Improve Transformer".

    With "silu" this is SwiGLU (Llama), with "gelu_tanh" the gated GELU of T5 v1.1. Arguments as in
    `FeedForward`; at equal parameters `hidden` is 2/3 of what a plain one has.
    """

    def __init__(
        self, dim: int, hidden: int, activation: str = "silu", bias: bool = False, dropout: float = 0.0
    ):
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=bias)
        self.up = nn.Linear(dim, hidden, bias=bias)
        self.down = nn.Linear(hidden, dim, bias=bias)
        self.activation = named_activation(activation)
        self.dropout = dropout

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        hidden = self.activation(self.gate(x)) * self.up(x)
        return self.down(dropout(hidden, self.dropout, self.training))
