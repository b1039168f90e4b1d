"""The position-wise feed-forward parts of a block, plain and gated, and the activations by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from descent.errors import unknown
from descent.nn.dropout import dropout


def relu2(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """max(x, 0)^2: So et al. (2021), "Primer: Searching for Efficient Transformers", section 4."""
    return F.relu(x).square()


def quick_gelu(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """x * sigmoid(1.702 x), the approximation of GELU that CLIP was trained with."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": relu2,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
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
