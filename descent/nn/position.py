"""Where a token stands: sinusoidal, learned, rotary, and T5's relative bias.

Shapes: B batch, H heads, T queries, S keys, D head size, P = D / 2 rotated pairs.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def sinusoidal(time: int, dim: int, device: torch.device | str | None = None) -> Float[Tensor, "time dim"]:
    """The fixed position vectors of Vaswani et al. (2017), section 3.5: sines at even places, cosines at odd.

    Args:
        time: number of positions.
        dim: size of a vector, an even number; the wavelengths go from 2 pi to 10,000 * 2 pi.
    """
    rate = 10000.0 ** (-torch.arange(0, dim, 2, device=device).float() / dim)
    angle = torch.arange(time, device=device).float()[:, None] * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)


class Learned(nn.Embedding):
    """One learned vector for each of `length` positions."""

    def __init__(self, length: int, dim: int):
        super().__init__(length, dim)


class Rotary(nn.Module):
    """Rotary positions: pair i of a head at position t is turned by the angle t * base^(-2i/D).

    Su et al. (2021), "RoFormer". A score then depends on the distance between query and key only.
    Place i is paired with place i + D/2 (the layout of Llama's published weights), not with its neighbour
    as in the paper; the two differ by a fixed permutation of each head.

    Args:
        head_dim: size of a head, an even number.
        base: greatest wavelength / (2 pi).
    """

    def __init__(self, head_dim: int, base: float = 10000.0):
        super().__init__()
        self.head_dim, self.base = head_dim, base

    def forward(self, positions: Int[Tensor, "*batch time"]) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the angles at (time,) or (batch, time) positions, for `rotate`.

        They are the same in every layer, so a model computes them once a forward.
        """
        rate_P = torch.arange(0, self.head_dim, 2, device=positions.device).float() / -self.head_dim
        angle = positions[..., None].float() * self.base**rate_P
        return angle.cos(), angle.sin()

    def extra_repr(self) -> str:
        return f"{self.head_dim}, base={self.base}"


def rotate(
    x: Float[Tensor, "batch heads time dim"], rotation: tuple[Tensor, Tensor]
) -> Float[Tensor, "batch heads time dim"]:
    """Turns the pairs (x_i, x_{i + D/2}) of every head by the angles `Rotary` gives."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    if cos.dim() == 3:
        cos, sin = cos[:, None], sin[:, None]
    return _Rotation.apply(x, cos, sin)


class _Rotation(torch.autograd.Function):
    """(a, b) -> (a cos - b sin, b cos + a sin); its gradient is turned back by the same angle.

    Written without intermediate tensors, it takes half the time of the formula; the result lies in memory
    head by head, as attention wants it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        cos, sin = ctx.saved_tensors
        return _turned(gradients[0], cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, direction: int) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    out_a, out_b = out.chunk(2, dim=-1)
    torch.mul(a, cos, out=out_a).addcmul_(b, sin, value=-direction)
    torch.mul(b, cos, out=out_b).addcmul_(a, sin, value=direction)
    return out


class RelativeBias(nn.Module):
    """T5's relative positions: a learned number for each head and bucket of distances, added to the scores.

    Raffel et al. (2020), section 2.1. Half of the buckets hold one distance each, the others grow
    logarithmically up to `max_distance`, beyond which all distances share the last.

    Args:
        heads: heads of the attention.
        buckets: number of buckets.
        max_distance: the distance, in tokens, from which on all are alike.
        bidirectional: whether keys after the query have half of the buckets (encoder) or none (decoder).
    """

    def __init__(self, heads: int, buckets: int = 32, max_distance: int = 128, bidirectional: bool = True):
        super().__init__()
        self.buckets, self.max_distance, self.bidirectional = buckets, max_distance, bidirectional
        self.weight = nn.Parameter(torch.empty(buckets, heads))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, queries: int, keys: int) -> Float[Tensor, "1 heads queries keys"]:
        """The bias for `queries` positions aligned to the end of `keys` positions."""
        device = self.weight.device
        query_T1 = torch.arange(keys - queries, keys, device=device)[:, None]
        bucket_TS = self.bucket(torch.arange(keys, device=device) - query_T1)
        return self.weight[bucket_TS].permute(2, 0, 1)[None]

    def bucket(self, offset: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
        """The bucket of each offset = key position - query position."""
        buckets, first = self.buckets, torch.zeros_like(offset)
        if self.bidirectional:
            buckets //= 2
            first = (offset > 0) * buckets
            distance = offset.abs()
        else:
            distance = (-offset).clamp_min(0)
        exact = buckets // 2
        growth = torch.log(distance.clamp_min(1) / exact) / math.log(self.max_distance / exact)
        large = (exact + (growth * (buckets - exact)).long()).clamp_max(buckets - 1)
        return first + torch.where(distance < exact, distance, large)

    def extra_repr(self) -> str:
        return f"buckets={self.buckets}, max_distance={self.max_distance}, bidirectional={self.bidirectional}"
