"""Attention: one function, two paths through it, and the layer around them.

Shapes: B batch, T queries, S keys, H heads, G key/value heads, R = H / G heads of a group, D head size,
C model width.
"""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from descent.errors import UserError
from descent.nn.cache import LayerCache
from descent.nn.position import rotate

NEVER = -3e4
"""The score of a forbidden pair: exp of it is 0 in every type, and being finite it gives no NaN."""


@overload
def attend(q: Tensor, k: Tensor, v: Tensor, *, weights: Literal[False] = False, **options: Any) -> Tensor: ...
@overload
def attend(q: Tensor, k: Tensor, v: Tensor, *, weights: bool, **options: Any) -> Any: ...


def attend(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch groups keys dim"],
    v: Float[Tensor, "batch groups keys dim"],
    *,
    mask: Bool[Tensor, "..."] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    weights: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale * q k^T + bias) v: Vaswani et al. (2017), section 3.2.

    Args:
        q: queries of H heads.
        k, v: keys and values of G heads; G divides H, and H / G neighbouring heads share one (Ainslie et al., 2023).
        mask: True where a query may attend to a key; broadcastable to (batch, heads, queries, keys).
        bias: added to the scores; broadcastable likewise.
        causal: query i sees keys up to i + keys - queries: the queries stand at the end of the keys.
        scale: factor of the scores; 1 / sqrt(dim) by default.
        dropout: probability of dropping an attention weight.
        weights: also return the weights, (batch, heads, queries, keys).

    Returns:
        (batch, heads, queries, dim); zeros for a query that may attend to nothing.
    """
    if q.dtype != k.dtype:  # a cache may hold keys and values in a wider type than the model's
        with torch.autocast(q.device.type, enabled=False):
            wide = attend(
                q.to(k.dtype), k, v, mask=mask, bias=bias, causal=causal, scale=scale, dropout=dropout, weights=weights
            )
        return (wide[0].to(q.dtype), wide[1]) if isinstance(wide, tuple) else wide.to(q.dtype)
    queries, keys = q.shape[2], k.shape[2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    causal = causal and queries > 1
    probabilities = None
    if weights:
        out, probabilities = _plain(q, k, v, _penalty(q, keys, mask, bias, causal), scale, dropout)
    elif _plain_is_faster(q, dropout):
        out = _blocks(q, k, v, mask, bias, causal, scale, dropout)
    else:
        out = _fused(q, k, v, mask, bias, causal, scale, dropout)
    if mask is not None or (causal and keys < queries):
        nowhere = ~_allowed(mask, causal, queries, keys, q.device).any(-1, keepdim=True)
        out = out.masked_fill(nowhere, 0)
        probabilities = None if probabilities is None else probabilities.masked_fill(nowhere, 0)
    return out if probabilities is None else (out, probabilities)


def document_mask(documents: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch 1 time time"]:
    """True where two tokens of a packed row belong to the same document; combine with `causal=True`.

    Args:
        documents: the number of the document each token belongs to.
    """
    return (documents[:, :, None] == documents[:, None, :])[:, None]


class Attention(nn.Module):
    """Multi-head attention of x to itself, or to a context.

        x ------- query -> q (H heads) --(norm)--(rotate)--+
                                                           attend -> join heads -> output
        x or  --- key ---> k (G heads) --(norm)--(rotate)--+
        context - value -> v (G heads) -(+ value)----------+

    Vaswani et al. (2017), section 3.2; grouped heads: Ainslie et al. (2023). Query, key and value of
    self-attention are one matrix `qkv` (rows: all queries, all keys, all values); a layer made with
    `context_dim` has `query` and `key_value`.

    Args:
        dim: width of x and of the output.
        heads: query heads H.
        groups: key/value heads G, a divisor of H; H when not given.
        head_dim: size of a head; dim / heads when not given.
        context_dim: width of the context of a cross-attention layer; self-attention when not given.
        bias: whether the projections of query, key and value have biases.
        out_bias: whether the output projection has one; as `bias` when not given.
        qk_norm: whether queries and keys are scaled to mean square 1, without a gain (Dehghani et al., 2023,
            section 2.1, who use LayerNorm).
        scale: factor of the scores; 1 / sqrt(head_dim) when not given.
        dropout: probability of dropping an attention weight.
        causal: whether a token sees only itself and those before it.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        groups: int | None = None,
        head_dim: int | None = None,
        context_dim: int | None = None,
        bias: bool = True,
        out_bias: bool | None = None,
        qk_norm: bool = False,
        scale: float | None = None,
        dropout: float = 0.0,
        causal: bool = False,
    ):
        super().__init__()
        self.heads, self.groups = heads, groups or heads
        self.head_dim = head_dim or dim // heads
        if self.heads % self.groups:
            raise UserError("heads must be a multiple of groups", got=(heads, groups))
        if head_dim is None and dim % heads:
            raise UserError("the width must be a multiple of the number of heads", got=(dim, heads))
        self.scale, self.dropout, self.causal, self.qk_norm = scale, dropout, causal, qk_norm
        inner, shared = self.heads * self.head_dim, self.groups * self.head_dim
        self.is_cross = context_dim is not None
        if context_dim is None:
            self.qkv = nn.Linear(dim, inner + 2 * shared, bias=bias)
        else:
            self.query = nn.Linear(dim, inner, bias=bias)
            self.key_value = nn.Linear(context_dim, 2 * shared, bias=bias)
        self.output = nn.Linear(inner, dim, bias=bias if out_bias is None else out_bias)

    def forward(
        self,
        x: Float[Tensor, "batch queries dim"],
        context: Float[Tensor, "batch keys context_dim"] | None = None,
        *,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
        cache: LayerCache | None = None,
        value: Float[Tensor, "batch keys shared"] | None = None,
        weights: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The output (batch, queries, dim), and with `weights` also the weights (batch, heads, queries, keys).

        Args:
            x: where the queries come from.
            context: where a cross-attention layer's keys and values come from.
            mask, bias: as in `attend`.
            rotation: cosines and sines of the positions of x, from `Rotary`.
            cache: keys and values of the tokens before x, to which those of x are added.
            value: added to the values (value embeddings).
            weights: whether to return the attention weights too.
        """
        if self.is_cross:
            q_BHTD, k_BGSD, v_BGSD = self._cross(x, context, rotation, cache)
        else:
            q_BHTD, k_BGSD, v_BGSD = self._self(x, rotation, value)
            if cache is not None:
                k_BGSD, v_BGSD = cache.update(k_BGSD, v_BGSD)
        attended = attend(
            q_BHTD,
            k_BGSD,
            v_BGSD,
            mask=mask,
            bias=bias,
            causal=self.causal,
            scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
            weights=weights,
        )
        out_BHTD, probabilities = attended if weights else (attended, None)
        out_BTC = self.output(out_BHTD.transpose(1, 2).flatten(2))
        return (out_BTC, probabilities) if weights else out_BTC

    def _self(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, value: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        qkv_BHTD = self._split(self.qkv(x))
        turned, v_BGSD = qkv_BHTD.split((self.heads + self.groups, self.groups), dim=1)
        if value is not None:
            v_BGSD = v_BGSD + self._split(value).to(v_BGSD.dtype)
        if self.qk_norm:
            turned = F.rms_norm(turned, (self.head_dim,), eps=1e-6)
        if rotation is not None:
            turned = rotate(turned, rotation)
        q_BHTD, k_BGSD = turned.split((self.heads, self.groups), dim=1)
        return q_BHTD, k_BGSD, v_BGSD

    def _cross(
        self, x: Tensor, context: Tensor | None, rotation: tuple[Tensor, Tensor] | None, cache: LayerCache | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        if rotation is not None:
            raise ValueError("a cross-attention layer has no positions to rotate by")

        def project() -> tuple[Tensor, Tensor]:
            if context is None:
                raise ValueError("a cross-attention layer needs a context")
            k_BGSD, v_BGSD = self._split(self.key_value(context)).chunk(2, dim=1)
            return (F.rms_norm(k_BGSD, (self.head_dim,), eps=1e-6) if self.qk_norm else k_BGSD), v_BGSD

        q_BHTD = self._split(self.query(x))
        if self.qk_norm:
            q_BHTD = F.rms_norm(q_BHTD, (self.head_dim,), eps=1e-6)
        k_BGSD, v_BGSD = project() if cache is None else cache.once(project)
        return q_BHTD, k_BGSD, v_BGSD

    def _split(self, x_BTC: Tensor) -> Tensor:
        return x_BTC.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


def _plain_is_faster(q: Tensor, dropout: float) -> bool:
    """Whether holding the scores beats the fused kernel.

    On a CPU in bfloat16 it does: forward and backward take half of the fused kernel's time at 256 and 512 tokens, 0.6
    at 1,024 (memory then speaks against it, which grows with the square). In single precision they are equal to 1,024
    and the fused one wins without a backward pass. The fused kernel has no dropout on a CPU.
    """
    if q.device.type != "cpu":
        return False
    return (q.dtype == torch.bfloat16 and q.shape[2] <= 1024) or dropout > 0


def _blocks(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, causal: bool, scale: float, dropout: float
) -> Tensor:
    """`_plain` for blocks of queries; causal ones then need no scores of the keys after them."""
    queries, keys = q.shape[2], k.shape[2]
    size = queries if not causal or keys < queries else min(256, max(128, queries // 2))
    outs = []
    for start in range(0, queries, size):
        end = min(start + size, queries)
        seen = keys - queries + end if causal else keys
        q_BHtD, k_BGsD, v_BGsD = q[:, :, start:end], k[:, :, :seen], v[:, :, :seen]
        rows, columns = slice(start, end), slice(0, seen)
        penalty = _penalty(q_BHtD, seen, _crop(mask, rows, columns), _crop(bias, rows, columns), causal)
        outs.append(_plain(q_BHtD, k_BGsD, v_BGsD, penalty, scale, dropout)[0])
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)


def _plain(
    q: Tensor, k: Tensor, v: Tensor, penalty: Tensor | None, scale: float, dropout: float
) -> tuple[Tensor, Tensor]:
    """Scores, softmax and weighted sum as three steps: the output and the weights."""
    groups, queries = k.shape[1], q.shape[2]
    q = q * scale
    q_BGXD = q if q.shape[1] == groups else q.unflatten(1, (groups, -1)).flatten(2, 3)  # X = R T
    scores_BHTS = (q_BGXD @ k.transpose(2, 3)).view(*q.shape[:2], queries, -1)
    if penalty is not None:
        scores_BHTS += penalty.to(scores_BHTS.dtype)
    probabilities_BHTS = scores_BHTS.softmax(-1)
    kept_BHTS = F.dropout(probabilities_BHTS, dropout) if dropout else probabilities_BHTS
    out_BGXD = kept_BHTS.view(*q_BGXD.shape[:3], -1) @ v
    return out_BGXD.view(*q.shape[:3], -1), probabilities_BHTS


def _fused(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, causal: bool, scale: float, dropout: float
) -> Tensor:
    """PyTorch's fused kernel, which never holds all scores."""
    queries, keys = q.shape[2], k.shape[2]
    simple = causal and mask is None and bias is None and queries == keys
    if bias is not None:
        added = _penalty(q, keys, mask, bias, causal)
    else:
        added = None if simple else _allowed(mask, causal, queries, keys, q.device)
    grouped = q.shape[1] != k.shape[1]
    return F.scaled_dot_product_attention(q, k, v, added, dropout, simple, scale=scale, enable_gqa=grouped)


def _allowed(mask: Tensor | None, causal: bool, queries: int, keys: int, device: torch.device) -> Tensor | None:
    """The mask and the causal rule as one mask; None when every query may attend to every key."""
    if not causal:
        return mask
    past_TS = torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
    return past_TS if mask is None else past_TS & mask


def _penalty(q: Tensor, keys: int, mask: Tensor | None, bias: Tensor | None, causal: bool) -> Tensor | None:
    """The bias, the mask and the causal rule as one tensor to add to the scores."""
    allowed = _allowed(mask, causal, q.shape[2], keys, q.device)
    if allowed is None:
        return bias
    return torch.where(allowed, q.new_zeros(()) if bias is None else bias, NEVER)


def _crop(x: Tensor | None, rows: slice, columns: slice) -> Tensor | None:
    """The part of a mask or bias that belongs to some queries and keys; an axis of 1 is broadcast, so left alone."""
    if x is None:
        return None
    x = x[..., rows, :] if x.dim() > 1 and x.shape[-2] > 1 else x
    return x[..., columns] if x.shape[-1] > 1 else x
