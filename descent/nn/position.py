"""Where a token stands: sinusoidal, learned, rotary and how that is stretched, and T5's relative bias.

Shapes: B batch, H heads, T queries, S keys, D head size, P = D / 2 rotated pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from descent.nn.cache import KVCache


def sinusoidal(time: int, dim: int, device: torch.device | str | None = None) -> Float[Tensor, "time dim"]:
    """The fixed position vectors of Vaswani et al. (2017), section 3.5: sines at even places, cosines at odd.

    Args:
        time: number of positions.
        dim: size of a vector, an even number; the wavelengths go from 2 pi to 10,000 * 2 pi.
    """
    return sinusoids(torch.arange(time, device=device), dim)


def sinusoids(positions: Int[Tensor, "*batch time"], dim: int) -> Float[Tensor, "*batch time dim"]:
    """The rows of `sinusoidal` that belong to these positions."""
    rate = 10000.0 ** (-torch.arange(0, dim, 2, device=positions.device).float() / dim)
    angle = positions[..., None].float() * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)


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
        rescale: makes other rates of the P rates base^(-2i/D), for rows longer than those of training:
            `interpolated`, `rescaled_llama3` or `rescaled_yarn` with its numbers filled in.
        magnitude: factor of cosines and sines, so that scores grow by its square (YaRN).
    """

    def __init__(
        self,
        head_dim: int,
        base: float = 10000.0,
        rescale: Callable[[Tensor], Tensor] | None = None,
        magnitude: float = 1.0,
    ):
        super().__init__()
        self.head_dim, self.base = head_dim, base
        self.rescale, self.magnitude = rescale, magnitude

    def forward(self, positions: Int[Tensor, "*batch time"]) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the angles at (time,) or (batch, time) positions, for `rotate`.

        They are the same in every layer, so a model computes them once a forward.
        """
        rate_P = torch.arange(0, self.head_dim, 2, device=positions.device).float() / -self.head_dim
        rate_P = self.base**rate_P
        if self.rescale is not None:
            rate_P = self.rescale(rate_P)
        angle = positions[..., None].float() * rate_P
        if self.magnitude == 1.0:
            return angle.cos(), angle.sin()
        return angle.cos() * self.magnitude, angle.sin() * self.magnitude

    def extra_repr(self) -> str:
        return f"{self.head_dim}, base={self.base}"


def interpolated(rate_P: Float[Tensor, " pairs"], factor: float) -> Float[Tensor, " pairs"]:
    """Every rate divided by `factor`: position t of a long row is turned as t / factor was in training.

    Chen et al. (2023), "Extending Context Window of Large Language Models via Positional Interpolation".
    """
    return rate_P / factor


def rescaled_llama3(
    rate_P: Float[Tensor, " pairs"], factor: float, low: float, high: float, trained: int
) -> Float[Tensor, " pairs"]:
    """Slow pairs are interpolated, fast ones kept, and those between are mixed: Llama 3.1's rule.

    A pair makes n = trained * rate / (2 pi) turns within a row of training. Up to `low` turns its rate is
    divided by `factor`, from `high` turns on it is kept; between, the kept share grows linearly with n.
    Published with the reference code of Llama 3.1 (2024); the numbers stand in its configurations.

    Args:
        rate_P: base^(-2i/D).
        factor: how much longer rows become.
        low, high: turns within a row of training at which the mixing begins and ends.
        trained: longest row of training, in tokens.
    """
    turns_P = rate_P * (trained / (2 * math.pi))
    kept_P = ((turns_P - low) / (high - low)).clamp(0, 1)
    return kept_P * rate_P + (1 - kept_P) * (rate_P / factor)


def rescaled_yarn(
    rate_P: Float[Tensor, " pairs"],
    base: float,
    factor: float,
    fast: float,
    slow: float,
    trained: int,
    whole: bool = True,
) -> Float[Tensor, " pairs"]:
    """As Llama 3.1's rule, but the kept share falls linearly with the pair's number.

    Peng et al. (2023), "YaRN: Efficient Context Window Extension of Large Language Models", section 3.2. The
    paper's ramp is linear in the turns; its code, which the published models follow, has this one.

    Args:
        rate_P: base^(-2i/D).
        base: of the rates.
        factor: how much longer rows become.
        fast: turns within a row of training from which on a pair is kept (32 in the paper).
        slow: turns up to which it is interpolated in full (1 in the paper).
        trained: longest row of training, in tokens.
        whole: round the two ends of the ramp outwards to whole numbers of a pair.
    """
    pairs = len(rate_P)

    def pair_with(turns: float) -> float:
        return pairs * math.log(trained / (turns * 2 * math.pi)) / math.log(base)

    first, last = pair_with(fast), pair_with(slow)
    if whole:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, 2 * pairs - 1)
    number_P = torch.arange(pairs, device=rate_P.device).float()
    stretched_P = ((number_P - first) / ((last - first) or 0.001)).clamp(0, 1)
    return (1 - stretched_P) * rate_P + stretched_P * (rate_P / factor)


def yarn_magnitude(factor: float, slope: float = 1.0) -> float:
    """0.1 * slope * ln(factor) + 1: what cosines and sines are multiplied by: YaRN, section 3.4."""
    return 0.1 * slope * math.log(factor) + 1.0 if factor > 1 else 1.0


def document_positions(documents: Int[Tensor, "batch time"]) -> Int[Tensor, "batch time"]:
    """Positions that begin again with each document of a packed row.

    Args:
        documents: the number of the document each token belongs to; a document's tokens stand together.
    """
    index_T = torch.arange(documents.shape[1], device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return index_T - (index_T * begins).cummax(1).values


def token_positions(
    tokens: Int[Tensor, "batch time"],
    documents: Int[Tensor, "batch time"] | None = None,
    cache: KVCache | None = None,
) -> Int[Tensor, "..."]:
    """Positions of tokens, counted from the start of the row, or of its document, or on from what a cache
    holds: (time,), or (batch, time) where they differ from row to row."""
    if cache is not None:
        return cache.positions(tokens.shape[1])
    if documents is not None:
        return document_positions(documents)
    return torch.arange(tokens.shape[1], device=tokens.device)


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
