"""Attention: one function, two paths through it, and the layer around them.

Shapes: B batch, T queries, S keys, H heads, G key/value heads, R = H / G heads of a group, D head size,
C model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from descent.errors import UserError
from descent.nn.cache import LayerCache
from descent.nn.dropout import dropout
from descent.nn.norm import rms_norm
from descent.nn.position import rotate

NEVER = -3e4
"""The score of a forbidden pair: exp of it is 0 in every type, and being finite it gives no NaN."""


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
        k, v: keys and values of G heads; G divides H, and H / G neighbouring heads of queries share one
            (Ainslie et al., 2023, "GQA").
        mask: True where a query may attend to a key; broadcastable to (batch, heads, queries, keys).
        bias: added to the scores; broadcastable likewise.
        causal: query i sees keys up to i + keys - queries: the queries stand at the end of the keys.
        scale: factor of the scores; 1 / sqrt(dim) by default.
        dropout: probability of dropping an attention weight.
        weights: also return the weights, (batch, heads, queries, keys).

    Returns:
        (batch, heads, queries, dim); zeros for a query that may attend to nothing.
    """
    factor: float = q.shape[-1] ** -0.5 if scale is None else scale
    rules = _Rules(mask, bias, causal and q.shape[2] > 1, factor, dropout)
    if q.dtype == k.dtype:
        out, probabilities = _by_a_path(q, k, v, rules, weights)
    else:  # a cache may hold keys and values in a wider type than the model's
        with torch.autocast(q.device.type, enabled=False):
            out, probabilities = _by_a_path(q.to(k.dtype), k, v, rules, weights)
        out = out.to(q.dtype)
    if mask is not None or (rules.causal and k.shape[2] < q.shape[2]):
        nowhere = ~rules.allowed(q, k).any(-1, keepdim=True)
        out = out.masked_fill(nowhere, 0)
        probabilities = None if probabilities is None else probabilities.masked_fill(nowhere, 0)
    return out if probabilities is None else (out, probabilities)


def document_mask(documents: Int[Tensor, "batch time"]) -> Bool[Tensor, "batch 1 time time"]:
    """True where two tokens of a packed row belong to the same document; combine with `causal=True`.

    Args:
        documents: the number of the document each token belongs to.
    """
    return (documents[:, :, None] == documents[:, None, :])[:, None]


class _Rules(NamedTuple):
    """How scores become weights: the arguments of `attend` that all paths share."""

    mask: Tensor | None
    bias: Tensor | None
    causal: bool
    scale: float
    dropout: float

    def allowed(self, q: Tensor, k: Tensor) -> Tensor:
        """The mask and the causal rule as one mask."""
        if not self.causal:
            return q.new_ones((), dtype=torch.bool) if self.mask is None else self.mask
        queries, keys = q.shape[2], k.shape[2]
        past_TS = torch.ones(queries, keys, dtype=torch.bool, device=q.device).tril(keys - queries)
        return past_TS if self.mask is None else past_TS & self.mask

    def penalty(self, q: Tensor, k: Tensor) -> Tensor | None:
        """The bias, the mask and the causal rule as one tensor to add to the scores."""
        if self.mask is None and not self.causal:
            return self.bias
        if self.mask is None and self.bias is None:
            return _future(q.shape[2], k.shape[2], q.dtype, q.device)
        bias = q.new_zeros(()) if self.bias is None else self.bias
        return torch.where(self.allowed(q, k), bias, NEVER)

    def block(self, rows: slice, columns: slice) -> _Rules:
        """The rules of some queries and keys; an axis of size 1 is broadcast, so it stays whole."""

        def crop(x: Tensor | None) -> Tensor | None:
            if x is None:
                return None
            x = x[..., rows, :] if x.dim() > 1 and x.shape[-2] > 1 else x
            return x[..., columns] if x.shape[-1] > 1 else x

        return self._replace(mask=crop(self.mask), bias=crop(self.bias))


@lru_cache(maxsize=32)
def _future(queries: int, keys: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The penalty of the causal rule alone, made once a shape: every layer of every step adds it."""
    with torch.inference_mode(False):
        return torch.full((queries, keys), NEVER, dtype=dtype, device=device).triu(keys - queries + 1)


def _by_a_path(q: Tensor, k: Tensor, v: Tensor, rules: _Rules, weights: bool) -> tuple[Tensor, Tensor | None]:
    """The output, and the weights where they are asked for.

    On a CPU in bfloat16 holding the scores pays: forward and backward take half of the fused kernel's time at
    256 and 512 tokens and 0.6 of it at 1,024, beyond which the memory speaks against it. In single precision
    the two are about equal with a backward pass, and the fused one wins without. It has no dropout on a CPU.
    """
    if weights:
        return _plain(q, k, v, rules)
    cpu, small = q.device.type == "cpu", q.dtype == torch.bfloat16 and q.shape[2] <= 1024
    return (_blocks if cpu and (small or rules.dropout) else _fused)(q, k, v, rules), None


def _fused(q: Tensor, k: Tensor, v: Tensor, rules: _Rules) -> Tensor:
    """PyTorch's fused kernel, which never holds all scores."""
    simple = rules.causal and rules.mask is None and rules.bias is None and q.shape[2] == k.shape[2]
    if rules.bias is not None:
        added = rules.penalty(q, k)
    else:
        added = rules.allowed(q, k) if rules.mask is not None or (rules.causal and not simple) else None
    return F.scaled_dot_product_attention(
        q, k, v, added, rules.dropout, simple, scale=rules.scale, enable_gqa=q.shape[1] != k.shape[1]
    )


def _blocks(q: Tensor, k: Tensor, v: Tensor, rules: _Rules) -> Tensor:
    """`_plain` on blocks of queries: those of a causal one need no scores of the keys after the block."""
    queries, keys = q.shape[2], k.shape[2]
    if not rules.causal or keys < queries:
        return _plain(q, k, v, rules)[0]
    size = min(256, max(128, queries // 2))
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    if queries <= size:
        return _plain(q, k, v, rules)[0]
    outs = []
    for start in range(0, queries, size):
        end = min(start + size, queries)
        rows, seen = slice(start, end), slice(0, keys - queries + end)
        outs.append(_plain(q[:, :, rows], k[:, :, seen], v[:, :, seen], rules.block(rows, seen))[0])
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)


def _plain(q: Tensor, k: Tensor, v: Tensor, rules: _Rules) -> tuple[Tensor, Tensor]:
    """Scores, softmax and weighted sum as three steps: the output and the weights."""
    groups, queries = k.shape[1], q.shape[2]
    q_BGXD = q if q.shape[1] == groups else q.unflatten(1, (groups, -1)).flatten(2, 3)  # X = R T
    probabilities_BHTS = _scores(q, q_BGXD, k, rules).view(*q.shape[:2], queries, -1).softmax(-1)
    kept_BHTS = dropout(probabilities_BHTS, rules.dropout)
    out_BGXD = kept_BHTS.view(*q_BGXD.shape[:3], -1) @ v
    return out_BGXD.view(*q.shape[:3], -1), probabilities_BHTS


def _scores(q: Tensor, q_BGXD: Tensor, k: Tensor, rules: _Rules) -> Tensor:
    """scale * q k^T + penalty; in one call where the penalty is none, or the same for all rows and heads."""
    penalty = rules.penalty(q, k)
    shared = penalty is None or (penalty.dim() == 2 and not penalty.requires_grad)
    if shared and q_BGXD is q:
        left, right = q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)
        start, weight = (q.new_empty(1, 1, 1), 0) if penalty is None else (penalty.to(q.dtype), 1)
        return torch.baddbmm(start, left, right, beta=weight, alpha=rules.scale)
    scores_BHTS = ((q_BGXD * rules.scale) @ k.transpose(2, 3)).view(*q.shape[:3], -1)
    return scores_BHTS if penalty is None else scores_BHTS.add_(penalty.to(scores_BHTS.dtype))


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
            "Scaling Vision Transformers to 22 Billion Parameters", section 2.1, with LayerNorm); or the norms
            of queries and of keys, applied to each head before it is turned (with gains, as in Qwen3).
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
        qk_norm: bool | tuple[nn.Module, nn.Module] = False,
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
        self.scale, self.dropout, self.causal, self.qk_norm = scale, dropout, causal, qk_norm is True
        self.query_norm, self.key_norm = qk_norm if isinstance(qk_norm, tuple) else (None, None)
        inner, shared = self.heads * self.head_dim, self.groups * self.head_dim
        # Rows of matrices that are kept as one for speed, for an optimizer that must tell them apart.
        self.stacked = {"qkv": (inner, shared, shared), "key_value": (shared, shared)}
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
        """The output (batch, queries, dim); with `weights` also the weights (batch, heads, queries, keys).

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
        out_BHTD, probabilities = attended if isinstance(attended, tuple) else (attended, None)
        out_BTC = self.output(out_BHTD.transpose(1, 2).flatten(2))
        return out_BTC if probabilities is None else (out_BTC, probabilities)

    def weights_of(
        self,
        x: Float[Tensor, "batch queries dim"],
        rows: Sequence[int],
        context: Float[Tensor, "batch keys context_dim"] | None = None,
        *,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "batch heads rows keys"]:
        """The attention weights of some queries, without those of the others.

        Those rows of what `forward` gives with `weights`, for less memory and time.

        Args:
            x: the input of the layer.
            rows: numbers of the queries.
            context, mask, bias, rotation: as in `forward`.
        """
        asked = torch.as_tensor(list(rows), device=x.device)
        if self.is_cross:
            q_BHRD, k_BGSD, v_BGSD = self._cross(x[:, asked], context, rotation, None)
        else:
            q_BHTD, k_BGSD, v_BGSD = self._self(x, rotation, None)
            q_BHRD = q_BHTD[:, :, asked]

        def crop(rule: Tensor | None) -> Tensor | None:
            if rule is None or rule.dim() < 2 or rule.shape[-2] == 1:
                return rule
            return rule[..., asked, :]

        allowed, keys = crop(mask), k_BGSD.shape[2]
        if self.causal:
            past_RS = torch.arange(keys, device=x.device) <= asked[:, None] + keys - x.shape[1]
            allowed = past_RS if allowed is None else allowed & past_RS
        found = attend(q_BHRD, k_BGSD, v_BGSD, mask=allowed, bias=crop(bias), scale=self.scale, weights=True)
        return found[1]

    def values_of(
        self,
        x: Float[Tensor, "batch queries dim"],
        context: Float[Tensor, "batch keys context_dim"] | None = None,
        *,
        value: Float[Tensor, "batch keys shared"] | None = None,
    ) -> Float[Tensor, "batch heads keys head_dim"]:
        """What each head's weights are weights of; arguments as in `forward`."""
        parts = self._cross(x[:, :0], context, None, None) if self.is_cross else self._self(x, None, value)
        return parts[2].repeat_interleave(self.heads // self.groups, dim=1)

    def _self(
        self, x: Tensor, rotation: tuple[Tensor, Tensor] | None, value: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        qkv_BHTD = self._split(self.qkv(x))
        turned, v_BGSD = qkv_BHTD.split((self.heads + self.groups, self.groups), dim=1)
        if value is not None:
            v_BGSD = v_BGSD + self._split(value).to(v_BGSD.dtype)
        if self.query_norm is not None and self.key_norm is not None:
            q_BHTD, k_BGSD = turned.split((self.heads, self.groups), dim=1)
            turned = torch.cat((self.query_norm(q_BHTD), self.key_norm(k_BGSD)), dim=1)
        if rotation is not None:
            turned = rotate(turned, rotation)
        if self.qk_norm:  # turning changes no norm, so the order is free: this one leaves less to copy
            turned = rms_norm(turned)
        q_BHTD, k_BGSD = turned.split((self.heads, self.groups), dim=1)
        return q_BHTD, k_BGSD, v_BGSD

    def _cross(
        self,
        x: Tensor,
        context: Tensor | None,
        rotation: tuple[Tensor, Tensor] | None,
        cache: LayerCache | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        if rotation is not None:
            raise ValueError("a cross-attention layer has no positions to rotate by")

        def project() -> tuple[Tensor, Tensor]:
            if context is None:
                raise ValueError("a cross-attention layer needs a context")
            k_BGSD, v_BGSD = self._split(self.key_value(context)).chunk(2, dim=1)
            return self._normed(k_BGSD, self.key_norm), v_BGSD

        q_BHTD = self._normed(self._split(self.query(x)), self.query_norm)
        k_BGSD, v_BGSD = project() if cache is None else cache.once(project)
        return q_BHTD, k_BGSD, v_BGSD

    def _normed(self, x_BHTD: Tensor, norm: nn.Module | None) -> Tensor:
        if norm is not None:
            return norm(x_BHTD)
        return rms_norm(x_BHTD) if self.qk_norm else x_BHTD

    def _split(self, x_BTC: Tensor) -> Tensor:
        return x_BTC.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
