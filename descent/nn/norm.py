"""Normalisation over the last axis: to mean 0 and variance 1, or only to mean square 1."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
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
        return F.rms_norm(x, (self.dim,), self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.dim}, eps={self.eps}, weight={self.weight is not None}"
