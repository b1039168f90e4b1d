"""Llama: the decoder that open language models share, and the numbers in which they differ."""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field
from descent.errors import unknown
from descent.models import require_sizes
from descent.nn.attention import Attention, document_mask
from descent.nn.block import Block
from descent.nn.cache import KVCache, cache_type
from descent.nn.dropout import dropout
from descent.nn.feedforward import GatedFeedForward
from descent.nn.norm import RMSNorm
from descent.nn.position import (
    Rotary,
    interpolated,
    rescaled_llama3,
    rescaled_yarn,
    token_positions,
    yarn_magnitude,
)

HEAD_DIM = 64


class LinearScaling(Config):
    """All positions divided by `factor`: see `interpolated`."""

    type: Literal["linear"] = "linear"
    factor: float = Field(ge=1)


class Llama3Scaling(Config):
    """Slow pairs interpolated, fast ones kept: see `rescaled_llama3`."""

    type: Literal["llama3"] = "llama3"
    factor: float = Field(ge=1)
    low: float = Field(default=1.0, gt=0)
    high: float = Field(default=4.0, gt=0)
    trained: int = Field(default=8192, gt=0, description="longest row of training before the stretching")

    @model_validator(mode="after")
    def _apart(self) -> Llama3Scaling:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be less than high ({self.high})")
        return self


class YarnScaling(Config):
    """Fast pairs kept, the share falling pair by pair: see `rescaled_yarn`."""

    type: Literal["yarn"] = "yarn"
    factor: float = Field(ge=1)
    trained: int = Field(gt=0, description="longest row of training before the stretching")
    fast: float = Field(default=32.0, gt=0)
    slow: float = Field(default=1.0, gt=0)
    magnitude: float = Field(default=0.0, ge=0, description="of the turned pairs; 0 = 0.1 ln(factor) + 1")
    whole: bool = Field(default=True, description="round the ends of the ramp to whole pairs")

    @model_validator(mode="after")
    def _apart(self) -> YarnScaling:
        if self.slow > self.fast:
            raise ValueError(f"slow ({self.slow}) must be at most fast ({self.fast})")
        return self


Scaling = Annotated[LinearScaling | Llama3Scaling | YarnScaling, Field(discriminator="type")]


class LlamaConfig(Config):
    """Configuration of `Llama`: one dial, `depth`; a size that is 0 is derived from it.

    Args:
        depth: number of blocks.
        dim: width; 0 = 64 * depth.
        heads: query heads; 0 = dim / 64.
        groups: heads that keys and values have; 0 = as many as queries.
        head_dim: size of a head; 0 = dim / heads.
        hidden: width inside the feed-forward part; 0 = 8/3 * dim, rounded up to a multiple of 32: as many
            parameters as a plain one of 4 * dim.
        context: longest row, in tokens. Longer ones are computed, but were never trained.
        vocab_size: number of tokens; 0 = taken from the data.
        rotary_base: base of the rotary wavelengths; a larger one serves longer rows.
        scaling: how rotary positions are stretched beyond the rows of training; none when not given.
        norm_eps: added to the mean square in every norm.
        bias: which maps of attention have biases: "none"; "qkv", those to queries, keys and values, as in
            Qwen2; or "attention", its output too.
        qk_norm: whether queries and keys are normalised head by head, with a gain, as in Qwen3.
        tied: whether the output head is the token embedding.
        dropout: probability of dropping an element after the embeddings and after every part of a block.
        attention_dropout: probability of dropping an attention weight.
    """

    type: Literal["llama"] = "llama"
    depth: int = Field(default=4, gt=0)
    dim: int = Field(default=0, ge=0)
    heads: int = Field(default=0, ge=0)
    groups: int = Field(default=0, ge=0)
    head_dim: int = Field(default=0, ge=0)
    hidden: int = Field(default=0, ge=0)
    context: int = Field(default=256, gt=0)
    vocab_size: int = Field(default=0, ge=0)
    rotary_base: float = Field(default=10000.0, gt=1)
    scaling: Scaling | None = None
    norm_eps: float = Field(default=1e-5, gt=0)
    bias: Literal["none", "qkv", "attention"] = "none"
    qk_norm: bool = False
    tied: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> LlamaConfig:
        if not self.head_dim and self.width % self.head_count:
            raise ValueError(
                f"dim ({self.width}) must be a multiple of heads ({self.head_count}), or head_dim be given"
            )
        if self.head_width % 2:
            raise ValueError(f"rotary positions turn pairs: a head's size ({self.head_width}) must be even")
        if self.head_count % self.group_count:
            raise ValueError(f"heads ({self.head_count}) must be a multiple of groups ({self.groups})")
        return self

    @property
    def width(self) -> int:
        return self.dim or HEAD_DIM * self.depth

    @property
    def head_count(self) -> int:
        return self.heads or max(1, self.width // HEAD_DIM)

    @property
    def group_count(self) -> int:
        return self.groups or self.head_count

    @property
    def head_width(self) -> int:
        return self.head_dim or self.width // self.head_count

    @property
    def hidden_width(self) -> int:
        return self.hidden or 32 * math.ceil(self.width / 12)

    @classmethod
    def published(cls, size: str, **changes: Any) -> LlamaConfig:
        """The published model called `size`, a key of `SIZES`, with any field changed."""
        if size not in SIZES:
            raise unknown("published Llama", size, SIZES)
        return cls.read({**SIZES[size], **changes})


def _sizes(
    depth: int, dim: int, hidden: int, heads: int, groups: int, vocab: int, context: int, **rest: Any
) -> dict[str, Any]:
    sizes = {"depth": depth, "dim": dim, "hidden": hidden, "heads": heads, "groups": groups}
    return {**sizes, "vocab_size": vocab, "context": context, **rest}


_LLAMA3 = {"rotary_base": 500000.0, "norm_eps": 1e-5}
_SMOL = {"rotary_base": 100000.0, "norm_eps": 1e-5, "tied": True}
_QWEN2 = {"rotary_base": 1000000.0, "norm_eps": 1e-6, "bias": "qkv"}
_QWEN3 = {"rotary_base": 1000000.0, "norm_eps": 1e-6, "qk_norm": True, "head_dim": 128}
_BY_8, _BY_32 = ({"scaling": {"type": "llama3", "factor": factor}} for factor in (8.0, 32.0))

SIZES: dict[str, dict[str, Any]] = {  # each from the config.json that was published with the weights
    "llama-2-7b": _sizes(32, 4096, 11008, 32, 32, 32000, 4096),
    "llama-3.1-8b": _sizes(32, 4096, 14336, 32, 8, 128256, 131072, **_LLAMA3, **_BY_8),
    "llama-3.2-1b": _sizes(16, 2048, 8192, 32, 8, 128256, 131072, **_LLAMA3, **_BY_32, tied=True),
    "llama-3.2-3b": _sizes(28, 3072, 8192, 24, 8, 128256, 131072, **_LLAMA3, **_BY_32, tied=True),
    "mistral-7b-v0.3": _sizes(32, 4096, 14336, 32, 8, 32768, 32768, rotary_base=1000000.0),
    "qwen2.5-0.5b": _sizes(24, 896, 4864, 14, 2, 151936, 32768, **_QWEN2, tied=True),
    "qwen2.5-1.5b": _sizes(28, 1536, 8960, 12, 2, 151936, 131072, **_QWEN2, tied=True),
    "qwen2.5-3b": _sizes(36, 2048, 11008, 16, 2, 151936, 32768, **_QWEN2, tied=True),
    "qwen2.5-7b": _sizes(28, 3584, 18944, 28, 4, 152064, 131072, **_QWEN2),
    "qwen3-0.6b": _sizes(28, 1024, 3072, 16, 8, 151936, 40960, **_QWEN3, tied=True),
    "qwen3-1.7b": _sizes(28, 2048, 6144, 16, 8, 151936, 40960, **_QWEN3, tied=True),
    "qwen3-4b": _sizes(36, 2560, 9728, 32, 8, 151936, 40960, **_QWEN3, tied=True),
    "qwen3-8b": _sizes(36, 4096, 12288, 32, 8, 151936, 40960, **_QWEN3),
    "smollm2-135m": _sizes(30, 576, 1536, 9, 3, 49152, 8192, **_SMOL),
    "smollm2-360m": _sizes(32, 960, 2560, 15, 5, 49152, 8192, **_SMOL),
    "smollm2-1.7b": _sizes(24, 2048, 8192, 32, 32, 49152, 8192, **{**_SMOL, "rotary_base": 130000.0}),
}


class Llama(nn.Module):
    """A stack of causal blocks between a token embedding and a head over the vocabulary.

        tokens -> embedding -> blocks -> norm -> head -> logits
        block:  x + attention(norm(x)), then x + down(silu(gate(norm(x))) * up(norm(x)))

    Touvron et al. (2023), "LLaMA: Open and Efficient Foundation Language Models", section 2.2: RMSNorm with a
    gain before each part, SwiGLU, rotary positions, no biases. Llama 3 (Grattafiori et al., 2024) groups the
    heads of keys and values and stretches positions; Qwen2 (Yang et al., 2024) has biases in queries, keys
    and values; Qwen3 (2025) norms queries and keys instead; Mistral 7B (Jiang et al., 2023) and SmolLM2 are
    of Llama's form. A sliding window of attention is not computed here.

    Weights start normal with 0.02, those of the output projections divided by sqrt(2 depth) as in GPT-2; the
    papers do not say how theirs did.
    """

    def __init__(self, config: LlamaConfig):
        super().__init__()
        require_sizes(config, "vocab_size")
        self.config = config
        self.tokens = nn.Embedding(config.vocab_size, config.width)
        self.rotary = _rotary(config)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.head = None if config.tied else nn.Linear(config.width, config.vocab_size, bias=False)
        self._initialise()

    def forward(
        self,
        tokens: Int[Tensor, "batch time"],
        *,
        documents: Int[Tensor, "batch time"] | None = None,
        positions: Int[Tensor, "..."] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch time vocab"]:
        """Logits of the token after each token.

        Args:
            tokens: ids.
            documents: for rows packed with several documents, the number of each token's; none sees another.
            positions: (time,) or (batch, time); counted from the start of the row or document when not given.
            cache: what was seen before `tokens`; from `new_cache`.
        """
        return self.unembed(self.features(tokens, documents=documents, positions=positions, cache=cache))

    def features(
        self,
        tokens: Int[Tensor, "batch time"],
        *,
        documents: Int[Tensor, "batch time"] | None = None,
        positions: Int[Tensor, "..."] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """The normalised hidden states that `unembed` turns into logits; arguments as in `forward`."""
        if cache is not None and documents is not None:
            raise ValueError("a cache holds one document a row: give documents or a cache, not both")
        if positions is None:
            positions = token_positions(tokens, documents, cache)
        mask = None if documents is None else document_mask(documents)
        mask = mask if cache is None else cache.mask(tokens.shape[1])
        rotation = self.rotary(positions)
        x = dropout(self.tokens(tokens), self.config.dropout, self.training)
        for index, block in enumerate(self.blocks):
            layer = None if cache is None else cache.layer(index)
            x = block(x, mask=mask, rotation=rotation, cache=layer)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return self.norm(x)

    def unembed(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Logits, in single precision, of hidden states that `features` gave."""
        logits = F.linear(hidden, self.tokens.weight) if self.head is None else self.head(hidden)
        return logits.float()

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        start: Int[Tensor, " batch"] | None = None,
    ) -> KVCache:
        """An empty cache for `batch` rows of up to `length` tokens (the context when not given)."""
        weight, config = self.tokens.weight, self.config
        return KVCache(
            config.depth,
            batch,
            config.group_count,
            length or config.context,
            config.head_width,
            dtype=dtype or cache_type(weight, device),
            device=device or weight.device,
            start=start,
        )

    @torch.no_grad()
    def _initialise(self) -> None:
        residual = 0.02 / math.sqrt(2 * self.config.depth)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            elif parameter.dim() > 1:
                parameter.normal_(std=residual if name.endswith(("output.weight", "down.weight")) else 0.02)


def _rotary(config: LlamaConfig) -> Rotary:
    """The positions, stretched as the configuration says."""
    base, scaling = config.rotary_base, config.scaling
    if scaling is None:
        return Rotary(config.head_width, base)
    if isinstance(scaling, LinearScaling):
        return Rotary(config.head_width, base, partial(interpolated, factor=scaling.factor))
    rule = {"factor": scaling.factor, "trained": scaling.trained}
    if isinstance(scaling, Llama3Scaling):
        rescale = partial(rescaled_llama3, **rule, low=scaling.low, high=scaling.high)
        return Rotary(config.head_width, base, rescale)
    ends = {"fast": scaling.fast, "slow": scaling.slow, "whole": scaling.whole}
    rescale = partial(rescaled_yarn, base=base, **rule, **ends)
    return Rotary(config.head_width, base, rescale, scaling.magnitude or yarn_magnitude(scaling.factor))


def _block(config: LlamaConfig) -> Block:
    def norm(size: int) -> RMSNorm:
        return RMSNorm(size, config.norm_eps)

    head = config.head_width
    attention = Attention(
        config.width,
        config.head_count,
        groups=config.group_count,
        head_dim=head,
        bias=config.bias != "none",
        out_bias=config.bias == "attention",
        qk_norm=(norm(head), norm(head)) if config.qk_norm else False,
        dropout=config.attention_dropout,
        causal=True,
    )
    feedforward = GatedFeedForward(config.width, config.hidden_width, "silu")
    return Block(attention, norm(config.width), feedforward, norm(config.width), dropout=config.dropout)
