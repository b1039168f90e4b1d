"""The Transformer: an encoder and a decoder of nothing but attention and feed-forward parts.

Legend: B batch, S source tokens, T target tokens, C model width.
"""

from __future__ import annotations

from typing import Any, Literal

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
from descent.nn.cache import KVCache
from descent.nn.dropout import dropout
from descent.nn.feedforward import FeedForward
from descent.nn.norm import LayerNorm
from descent.nn.position import sinusoids, token_positions
from descent.nn.sources import Encoded, context_mask, encoded, hold, source_mask, sources_of

SIZES: dict[str, dict[str, Any]] = {  # Vaswani et al. (2017), table 3; dropout for English to German
    "base": {"depth": 6, "dim": 512, "heads": 8, "hidden": 2048, "dropout": 0.1},
    "big": {"depth": 6, "dim": 1024, "heads": 16, "hidden": 4096, "dropout": 0.3},
}


class TransformerConfig(Config):
    """Configuration of `Transformer`.

    Args:
        depth: blocks of the encoder and of the decoder.
        dim: width, an even number.
        heads: attention heads.
        hidden: width inside the feed-forward part; 0 = 4 * dim.
        vocab_size: number of tokens, of both sides; 0 = taken from the data.
        order: "post" has a norm after each addition, as in 2017; "pre" one before each part and one at the
            end of each stack, which learns without a warm-up (Xiong et al., 2020, "On Layer Normalization in
            the Transformer Architecture").
        activation: of the feed-forward part.
        tied: whether the output head is the token embedding.
        head_bias: whether the logits have a bias.
        norm_eps: added to the variance by the norms.
        dropout: probability of dropping an element after the embeddings and after every part of a block.
        attention_dropout: probability of dropping an attention weight.
    """

    type: Literal["transformer"] = "transformer"
    depth: int = Field(default=3, gt=0)
    dim: int = Field(default=256, gt=0)
    heads: int = Field(default=4, gt=0)
    hidden: int = Field(default=0, ge=0)
    vocab_size: int = Field(default=0, ge=0)
    order: Literal["post", "pre"] = "post"
    activation: Literal["relu", "gelu", "silu"] = "relu"
    tied: bool = True
    head_bias: bool = False
    norm_eps: float = Field(default=1e-5, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> TransformerConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        if self.dim % 2:
            raise ValueError(f"dim ({self.dim}) must be even: positions are pairs of a sine and a cosine")
        return self

    @property
    def hidden_width(self) -> int:
        return self.hidden or 4 * self.dim

    @classmethod
    def published(cls, size: str = "base", **changes: Any) -> TransformerConfig:
        """The Transformer called `size` in the paper, a key of `SIZES`, with any field changed."""
        if size not in SIZES:
            raise unknown("Transformer", size, SIZES)
        return cls.read({**SIZES[size], **changes})


class Transformer(nn.Module):
    """A stack of blocks reads the source; another, which looks at its output, writes the target.

        source -> embedding + positions -> encoder -> memory
        tokens -> embedding + positions -> decoder (causal, looks at the memory) -> head -> logits
        block:  norm(x + attention(x)), norm(x + cross(x, memory)) in the decoder, norm(x + feedforward(x))

    Vaswani et al. (2017), "Attention Is All You Need". The embedding, which source, target and (`tied`) the
    head share, is multiplied by sqrt(dim), and positions are sinusoids, so rows may be of any length.

    Other than there: the projections of attention have biases, as in the implementations people use
    (fairseq, Marian); label smoothing, the warm-up and the averaging of checkpoints belong to the recipe.
    Linear maps start as in Glorot and Bengio (2010), embeddings with a length of about 1.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        require_sizes(config, "vocab_size")
        self.config = config
        pre, dim, eps = config.order == "pre", config.dim, config.norm_eps
        self.tokens = nn.Embedding(config.vocab_size, dim)
        self.encoder = nn.ModuleList(_block(config, decodes=False) for _ in range(config.depth))
        self.encoder_norm = LayerNorm(dim, eps) if pre else None
        self.decoder = nn.ModuleList(_block(config, decodes=True) for _ in range(config.depth))
        self.decoder_norm = LayerNorm(dim, eps) if pre else None
        self.head = None if config.tied else nn.Linear(dim, config.vocab_size, bias=False)
        self.head_bias = nn.Parameter(torch.zeros(config.vocab_size)) if config.head_bias else None
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
        logits = F.linear(hidden, self.tokens.weight) if self.head is None else self.head(hidden)
        return logits.float() if self.head_bias is None else logits.float() + self.head_bias

    def encode(
        self,
        source: Int[Tensor, "batch source"],
        source_lengths: Int[Tensor, " batch"] | None = None,
        *,
        source_documents: Int[Tensor, "batch source"] | None = None,
    ) -> dict[str, Tensor]:
        """All that the decoder needs of the sources; arguments as in `forward`."""
        mask = source_mask(source, source_lengths, source_documents)
        x_BSC = self._embed(source, token_positions(source, source_documents))
        for block in self.encoder:
            x_BSC = block(x_BSC, mask=mask)
        memory_BSC = x_BSC if self.encoder_norm is None else self.encoder_norm(x_BSC)
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
        held = sources_of(encoded, cache)
        context, context_allowed = held["memory"], context_mask(held, documents)
        mask = None if documents is None else document_mask(documents)
        mask = mask if cache is None else cache.mask(tokens.shape[1])
        x_BTC = self._embed(tokens, token_positions(tokens, documents, cache))
        for index, block in enumerate(self.decoder):
            layer = None if cache is None else cache.layer(index)
            x_BTC = block(x_BTC, context, mask=mask, context_mask=context_allowed, cache=layer)
        if cache is not None:
            cache.advance(tokens.shape[1])
        return x_BTC if self.decoder_norm is None else self.decoder_norm(x_BTC)

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
        size = config.dim // config.heads
        cache = KVCache(
            config.depth,
            batch,
            config.heads,
            length or 512,
            size,
            dtype=dtype or weight.dtype,
            device=device or weight.device,
            start=start,
        )
        return hold(cache, encoded)

    def _embed(self, tokens: Int[Tensor, "batch time"], positions: Tensor) -> Float[Tensor, "batch time dim"]:
        x = self.tokens(tokens) * self.config.dim**0.5
        return dropout(
            x + sinusoids(positions, self.config.dim).to(x.dtype), self.config.dropout, self.training
        )

    @torch.no_grad()
    def _initialise(self) -> None:
        """Glorot's uniform numbers for every map by itself, where several are kept as one matrix, too."""
        self.tokens.weight.normal_(std=self.config.dim**-0.5)
        for module in self.modules():
            stacked = module.stacked if isinstance(module, Attention) else {}
            for name, layer in module.named_children():
                if isinstance(layer, nn.Linear):
                    for part in layer.weight.split(stacked.get(name, len(layer.weight))):
                        nn.init.xavier_uniform_(part)
                    if layer.bias is not None:
                        layer.bias.zero_()


def _block(config: TransformerConfig, decodes: bool) -> Block:
    dim, heads, drop = config.dim, config.heads, config.attention_dropout
    cross = Attention(dim, heads, context_dim=dim, dropout=drop) if decodes else None
    return Block(
        Attention(dim, heads, dropout=drop, causal=decodes),
        LayerNorm(dim, config.norm_eps),
        FeedForward(dim, config.hidden_width, config.activation),
        LayerNorm(dim, config.norm_eps),
        cross=cross,
        cross_norm=LayerNorm(dim, config.norm_eps) if decodes else None,
        order=config.order,
        dropout=config.dropout,
    )
