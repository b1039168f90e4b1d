"""T5, the text-to-text Transformer, in its first version and in 1.1.

Legend: B batch, S source tokens, T target tokens, K keys, H heads, C model width.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field
from descent.errors import unknown
from descent.models import require_sizes
from descent.nn.attention import NEVER, Attention, document_mask
from descent.nn.block import Block
from descent.nn.cache import KVCache
from descent.nn.dropout import dropout
from descent.nn.feedforward import FeedForward, GatedFeedForward
from descent.nn.norm import RMSNorm
from descent.nn.position import RelativeBias
from descent.nn.sources import Encoded, context_mask, encoded, hold, source_mask, sources_of

SIZES: dict[str, dict[str, dict[str, int]]] = {
    "1.0": {  # Raffel et al. (2020), sections 3.1.1 and 3.7
        "small": {"depth": 6, "dim": 512, "heads": 8, "head_dim": 64, "hidden": 2048},
        "base": {"depth": 12, "dim": 768, "heads": 12, "head_dim": 64, "hidden": 3072},
        "large": {"depth": 24, "dim": 1024, "heads": 16, "head_dim": 64, "hidden": 4096},
        "3B": {"depth": 24, "dim": 1024, "heads": 32, "head_dim": 128, "hidden": 16384},
        "11B": {"depth": 24, "dim": 1024, "heads": 128, "head_dim": 128, "hidden": 65536},
    },
    "1.1": {  # the configurations of the published checkpoints; 3B and 11B are called xl and xxl there
        "small": {"depth": 8, "dim": 512, "heads": 6, "head_dim": 64, "hidden": 1024},
        "base": {"depth": 12, "dim": 768, "heads": 12, "head_dim": 64, "hidden": 2048},
        "large": {"depth": 24, "dim": 1024, "heads": 16, "head_dim": 64, "hidden": 2816},
        "3B": {"depth": 24, "dim": 2048, "heads": 32, "head_dim": 64, "hidden": 5120},
        "11B": {"depth": 24, "dim": 4096, "heads": 64, "head_dim": 64, "hidden": 10240},
    },
}
_VERSIONS: dict[str, dict[str, Any]] = {
    "1.0": {"feedforward": "relu", "tied": True, "dropout": 0.1},
    "1.1": {"feedforward": "gated_gelu", "tied": False, "dropout": 0.0},
}


class T5Config(Config):
    """Configuration of `T5`.

    Args:
        depth: blocks of the encoder.
        decoder_depth: blocks of the decoder; 0 = as many.
        dim: width.
        heads: attention heads.
        head_dim: size of a head; 0 = dim / heads, but any will do.
        hidden: width inside the feed-forward part; 0 = 4 * dim, or for "gated_gelu", which has three matrices
            in place of two, 8/3 * dim rounded up to a multiple of 32.
        vocab_size: number of tokens, of both sides; 0 = taken from the data.
        feedforward: "relu" as in T5 1.0, or "gated_gelu" as in 1.1.
        tied: whether the output head is the token embedding, the states divided by sqrt(dim) before it (1.0),
            or a matrix of its own (1.1).
        buckets: of distances between tokens, each with a learned number a head.
        max_distance: from which on all distances are alike.
        norm_eps: added to the mean square by the norms.
        dropout: probability of dropping an element after the embeddings, inside and after every part of a
            block, after the last norm, and of dropping an attention weight.
    """

    type: Literal["t5"] = "t5"
    depth: int = Field(default=4, gt=0)
    decoder_depth: int = Field(default=0, ge=0)
    dim: int = Field(default=256, gt=0)
    heads: int = Field(default=4, gt=0)
    head_dim: int = Field(default=0, ge=0)
    hidden: int = Field(default=0, ge=0)
    vocab_size: int = Field(default=0, ge=0)
    feedforward: Literal["relu", "gated_gelu"] = "gated_gelu"
    tied: bool = True
    buckets: int = Field(default=32, ge=4)
    max_distance: int = Field(default=128, gt=0)
    norm_eps: float = Field(default=1e-6, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> T5Config:
        if not self.head_dim and self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads}), or give head_dim")
        if self.max_distance <= self.buckets // 2:
            raise ValueError(
                f"max_distance ({self.max_distance}) must be over half of buckets ({self.buckets})"
            )
        return self

    @property
    def head_width(self) -> int:
        return self.head_dim or self.dim // self.heads

    @property
    def hidden_width(self) -> int:
        if self.hidden:
            return self.hidden
        return 4 * self.dim if self.feedforward == "relu" else 32 * math.ceil(self.dim / 12)

    @classmethod
    def published(cls, size: str = "small", version: str = "1.1", **changes: Any) -> T5Config:
        """The published T5 of a size and version, keys of `SIZES`, with any field changed.

        Its vocabulary is the published one with the rows that fill it up to a multiple of 128.
        """
        if version not in SIZES:
            raise unknown("version of T5", version, SIZES)
        if size not in SIZES[version]:
            raise unknown(f"T5 {version}", size, SIZES[version])
        return cls.read({"vocab_size": 32128, **_VERSIONS[version], **SIZES[version][size], **changes})


class T5(nn.Module):
    """An encoder and a decoder whose attention knows distances instead of positions.

        source -> embedding -> encoder -> norm -> memory
        tokens -> embedding -> decoder (causal, sees the memory) -> norm -> (/ sqrt(dim)) -> head -> logits
        block:  x + attention(norm(x)), x + cross(norm(x), memory) in the decoder, x + feedforward(norm(x))
        scores: q k^T + bias(distance), one bias a stack and none between decoder and memory

    Raffel et al. (2020), "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
    section 2.1: RMSNorm before each part, no biases in the maps, scores that are not divided by
    sqrt(head_dim), which the queries start smaller for. Version 1.1 has a gated GELU (Shazeer, 2020, "GLU
    Variants Improve Transformer") and a head of its own.

    Weights start as those of the authors: normal with 1 for embeddings, 1 / sqrt(inputs) for maps, and
    1 / sqrt(inputs * head_dim) for queries; the head of 1.1 as any map, so that the first logits are of
    the size of the tied ones.
    """

    def __init__(self, config: T5Config):
        super().__init__()
        require_sizes(config, "vocab_size")
        self.config = config
        dim, eps, distances = config.dim, config.norm_eps, (config.heads, config.buckets, config.max_distance)
        self.tokens = nn.Embedding(config.vocab_size, dim)
        self.encoder_bias = RelativeBias(*distances, bidirectional=True)
        self.encoder = nn.ModuleList(_block(config, decodes=False) for _ in range(config.depth))
        self.encoder_norm = RMSNorm(dim, eps)
        self.decoder_bias = RelativeBias(*distances, bidirectional=False)
        self.decoder = nn.ModuleList(
            _block(config, decodes=True) for _ in range(config.decoder_depth or config.depth)
        )
        self.decoder_norm = RMSNorm(dim, eps)
        self.head = None if config.tied else nn.Linear(dim, config.vocab_size, bias=False)
        self._initialise()

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        tokens: Int[Tensor, "batch time"],
        *,
        source_lengths: Int[Tensor, " batch"] | None = None,
        source_documents: Int[Tensor, "batch source"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time vocab"]:
        """Logits of the token after each token of the target.

        Args:
            source: ids.
            tokens: what the decoder has written so far: a mark that begins it, then ids.
            source_lengths: real ids of each source, which is padded behind with anything; all when not given.
            source_documents, documents: for rows packed with several pairs, the number of each token's on
                either side; a target sees itself and the source of its number, nothing else.
        """
        lengths, numbers = source_lengths, source_documents
        hidden = self.features(
            source, tokens, source_lengths=lengths, source_documents=numbers, documents=documents
        )
        return self.unembed(hidden)

    def features(
        self,
        source: Int[Tensor, "batch source"],
        tokens: Int[Tensor, "batch time"],
        *,
        source_lengths: Int[Tensor, " batch"] | None = None,
        source_documents: Int[Tensor, "batch source"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """What `unembed` turns into logits; arguments as in `forward`."""
        memory = self.encode(source, source_lengths, source_documents=source_documents)
        return self.decode(tokens, memory, documents=documents)

    def unembed(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Logits, in single precision, of what `features` or `decode` gave."""
        if self.config.tied:
            hidden = hidden * self.config.dim**-0.5
        logits = F.linear(hidden, self.tokens.weight) if self.head is None else self.head(hidden)
        return logits.float()

    def encode(
        self,
        source: Int[Tensor, "batch source"],
        source_lengths: Int[Tensor, " batch"] | None = None,
        *,
        source_documents: Int[Tensor, "batch source"] | None = None,
    ) -> dict[str, Tensor]:
        """All that the decoder needs of the sources; arguments as in `forward`."""
        size = source.shape[1]
        bias = _with(self.encoder_bias(size, size), source_mask(source, source_lengths, source_documents))
        x_BSC = self._dropped(self.tokens(source))
        for block in self.encoder:
            x_BSC = block(x_BSC, bias=bias)
        memory_BSC = self._dropped(self.encoder_norm(x_BSC))
        return encoded(memory_BSC, source_lengths, source_documents)

    def decode(
        self,
        tokens: Int[Tensor, "batch time"],
        encoded: Encoded | None = None,
        *,
        documents: Int[Tensor, "batch time"] | None = None,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """What `unembed` turns into logits, for sources that are encoded already.

        Args:
            tokens: ids; with a cache those that follow what it holds.
            encoded: from `encode`, without a cache.
            documents: as in `forward`.
            cache: from `new_cache`; holds what was encoded, and is left holding the tokens too.
        """
        held, count = sources_of(encoded, cache), tokens.shape[1]
        context, context_allowed = held["memory"], context_mask(held, documents)
        mask = None if documents is None else document_mask(documents)
        mask = mask if cache is None else cache.mask(count)
        keys = count if cache is None else cache.length + count
        past_TK = torch.ones(count, keys, dtype=torch.bool, device=tokens.device).tril(keys - count)
        bias = _with(self.decoder_bias(count, keys), past_TK if mask is None else mask & past_TK)
        x_BTC = self._dropped(self.tokens(tokens))
        for index, block in enumerate(self.decoder):
            layer = None if cache is None else cache.layer(index)
            x_BTC = block(x_BTC, context, bias=bias, context_mask=context_allowed, cache=layer)
        if cache is not None:
            cache.advance(count)
        return self._dropped(self.decoder_norm(x_BTC))

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        start: Int[Tensor, " batch"] | None = None,
        *,
        encoded: Encoded,
    ) -> KVCache:
        """A cache for `batch` rows of up to `length` tokens (512 when not given) that holds their sources."""
        config, weight = self.config, self.tokens.weight
        cache = KVCache(
            len(self.decoder),
            batch,
            config.heads,
            length or 512,
            config.head_width,
            dtype=dtype or weight.dtype,
            device=device or weight.device,
            start=start,
        )
        return hold(cache, encoded)

    def _dropped(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        return dropout(x, self.config.dropout, self.training)

    @torch.no_grad()
    def _initialise(self) -> None:
        config = self.config
        for name, parameter in self.named_parameters():
            if name == "tokens.weight":
                parameter.normal_()
            elif "_bias." in name:
                parameter.normal_(std=config.dim**-0.5)
            elif parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
        for module in self.modules():
            if isinstance(module, Attention):
                weight = module.query.weight if module.is_cross else module.qkv.weight
                weight[: config.heads * config.head_width] *= config.head_width**-0.5


def _with(
    bias: Float[Tensor, "1 heads queries keys"], mask: Bool[Tensor, "..."] | None
) -> Float[Tensor, "rows heads queries keys"]:
    """The bias and the mask as one tensor, made once for all layers of a stack."""
    return bias if mask is None else torch.where(mask, bias, NEVER)


def _block(config: T5Config, decodes: bool) -> Block:
    dim, heads = config.dim, config.heads
    common: dict[str, Any] = {"bias": False, "dropout": config.dropout}
    shape: dict[str, Any] = {"head_dim": config.head_width, "scale": 1.0, **common}
    if config.feedforward == "relu":
        feedforward = FeedForward(dim, config.hidden_width, "relu", **common)
    else:
        feedforward = GatedFeedForward(dim, config.hidden_width, "gelu_tanh", **common)
    return Block(
        # Whom a token may not see, the bias says, so that one tensor serves all layers.
        Attention(dim, heads, **shape),
        RMSNorm(dim, config.norm_eps),
        feedforward,
        RMSNorm(dim, config.norm_eps),
        cross=Attention(dim, heads, context_dim=dim, **shape) if decodes else None,
        cross_norm=RMSNorm(dim, config.norm_eps) if decodes else None,
        dropout=config.dropout,
    )
