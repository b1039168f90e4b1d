"""Normalisation over the last axis: to mean 0 and variance 1, or only to mean square 1."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class LayerNorm(nn.Module):
    """Layer normalisation: y = (x - mean) / sqrt(variance + eps) * weight + bias.

    Ba, Kiros, Hinton (2016), "Layer Normalization".

    Args:
        dim: size of the last axis.
        eps: added to the variance (1e-5 in GPT-2 and CLIP, 1e-12 in BERT and ViT).
        bias: whether a bias is learned.
    """

    def __init__(self, dim: int, eps: float = 1e-5, bias: bool = True):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return F.layer_norm(x, (self.dim,), self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}, bias={self.bias is not None}"


class RMSNorm(nn.Module):
    """Root-mean-square normalisation: y = x / sqrt(mean(x^2) + eps) * weight.

    Zhang, Sennrich (2019), "Root Mean Square Layer Normalization"; as in T5 and Llama.

    Args:
        dim: size of the last axis.
        eps: added to the mean square (1e-6 in T5 and the first Llama).
        weight: whether a gain is learned; without it the norm has no parameters.
    """

    def __init__(self, dim: int, eps: float = 1e-6, weight: bool = True):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if weight else None

    def forward(self, x: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        return rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}, weight={self.weight is not None}"


def rms_norm(
    x: Float[Tensor, "*batch dim"], weight: Float[Tensor, " dim"] | None = None, eps: float = 1e-6
) -> Float[Tensor, "*batch dim"]:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis."""
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return _RMSNorm.apply(x, weight, eps)
    return F.rms_norm(x, x.shape[-1:], None if weight is None else weight.to(x.dtype), eps)


class _RMSNorm(torch.autograd.Function):
    """The same with a backward pass of its own; PyTorch's, of many small steps on a CPU, takes twice as long.

    With r = 1 / sqrt(mean(x^2) + eps), n = r x and g = gradient * weight, that of x is r (g - n mean(g n)).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        precise = torch.promote_types(x.dtype, torch.float32)
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=precise).square_()
        inverse = square.div_(x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)
        normal = x * inverse
        ctx.save_for_backward(normal, inverse, weight)
        return normal if weight is None else normal * weight

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (gradient,) = gradients
        normal, inverse, weight = ctx.saved_tensors
        of_weight = None
        if weight is not None:
            of_weight = (gradient * normal).flatten(0, -2).sum(0).to(weight.dtype)
            gradient = gradient * weight
        mean = (gradient * normal).sum(-1, keepdim=True).div_(-normal.shape[-1])
        of_x = torch.addcmul(gradient, normal, mean).mul_(inverse)
        return of_x.to(normal.dtype), of_weight, None
