"""Attention: one function, two paths through it, and the layer around them.

Shapes: B batch, T queries, S keys, H heads, G key/value heads, R = H / G heads of a group, D head size,
C model width.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from descent.errors import UserError
from descent.nn.cache import LayerCache
from descent.nn.position import rotate


@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    weights: Literal[False] = False,
) -> Tensor: ...


@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    dropout: float = 0.0,
    weights: Literal[True],
) -> tuple[Tensor, Tensor]: ...


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
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    allowed = _allowed(q, k, mask, causal)
    if weights or _plain_is_faster(q, k):
        out, probabilities = _plain(q, k, v, allowed, bias, scale, dropout)
    else:
        out, probabilities = _fused(q, k, v, allowed, bias, scale, dropout), None
    if allowed is not None and (mask is not None or k.shape[2] < q.shape[2]):
        nowhere = ~allowed.any(-1, keepdim=True)
        out = out.masked_fill(nowhere, 0)
        probabilities = probabilities.masked_fill(nowhere, 0) if weights else None
    return (out, probabilities) if weights else out


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
        out_BHTD, probabilities = attend(
            q_BHTD, k_BGSD, v_BGSD, mask=mask, bias=bias, causal=self.causal, scale=self.scale,
            dropout=self.dropout if self.training else 0.0, weights=True,
        ) if weights else (attend(
            q_BHTD, k_BGSD, v_BGSD, mask=mask, bias=bias, causal=self.causal, scale=self.scale,
            dropout=self.dropout if self.training else 0.0,
        ), None)
        out_BTC = self.output(out_BHTD.transpose(1, 2).flatten(2))
        return out_BTC if probabilities is None else (out_BTC, probabilities)

    def _self(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, value: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        qkv_BHTD = self._split(self.qkv(x))
        both, turned = self.heads + self.groups, qkv_BHTD[:, : self.heads + self.groups]
        v_BGSD = qkv_BHTD[:, both:] if value is None else qkv_BHTD[:, both:] + self._split(value)
        if self.qk_norm:
            turned = F.rms_norm(turned, (self.head_dim,), eps=1e-6)
        if rotation is not None:
            turned = rotate(turned, rotation)
        return turned[:, : self.heads], turned[:, self.heads :], v_BGSD

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


def _allowed(q: Tensor, k: Tensor, mask: Tensor | None, causal: bool) -> Tensor | None:
    """The mask and the causal rule as one mask; None when every query may attend to every key."""
    queries, keys = q.shape[2], k.shape[2]
    if not causal or queries == 1:
        return mask
    past = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
    return past if mask is None else past & mask


def _plain_is_faster(q: Tensor, k: Tensor) -> bool:
    return False


def _plain(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, bias: Tensor | None, scale: float, dropout: float
) -> tuple[Tensor, Tensor]:
    """Scores, softmax and sum as three steps; the scores are held."""
    queries, groups = q.shape[2], k.shape[1]
    q_BGXD = (q * scale).unflatten(1, (groups, -1)).flatten(2, 3)  # X = R T: heads of a group as more queries
    scores = (q_BGXD @ k.transpose(2, 3)).unflatten(2, (-1, queries)).flatten(1, 2)
    if bias is not None:
        scores = scores + bias
    if allowed is not None:
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    probabilities = scores.softmax(-1)
    dropped = F.dropout(probabilities, dropout)
    out_BGXD = dropped.unflatten(1, (groups, -1)).flatten(2, 3) @ v
    return out_BGXD.unflatten(2, (-1, queries)).flatten(1, 2), probabilities


def _fused(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, bias: Tensor | None, scale: float, dropout: float
) -> Tensor:
    """PyTorch's fused kernel; the scores are never held."""
    if bias is not None and allowed is not None:
        bias = bias.masked_fill(~allowed, torch.finfo(bias.dtype).min)
    return F.scaled_dot_product_attention(
        q, k, v, attn_mask=allowed if bias is None else bias, dropout_p=dropout, scale=scale,
        enable_gqa=q.shape[1] != k.shape[1],
    )
