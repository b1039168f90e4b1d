"""GPT: GPT-2 exactly, and what became of it."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field
from descent.errors import UserError, unknown
from descent.models import require_sizes
from descent.nn.attention import Attention, document_mask
from descent.nn.block import Block
from descent.nn.cache import KVCache, cache_type
from descent.nn.dropout import dropout
from descent.nn.feedforward import FeedForward, GatedFeedForward
from descent.nn.norm import LayerNorm, RMSNorm, rms_norm
from descent.nn.position import Learned, Rotary, token_positions

SIZES: dict[str, dict[str, int]] = {  # Radford et al. (2019), table 2; heads from the published checkpoints
    "124M": {"depth": 12, "dim": 768, "heads": 12},
    "355M": {"depth": 24, "dim": 1024, "heads": 16},
    "774M": {"depth": 36, "dim": 1280, "heads": 20},
    "1558M": {"depth": 48, "dim": 1600, "heads": 25},
}

HEAD_DIM = 64
BIGRAM_LIMIT = 512


class GPTConfig(Config):
    """Configuration of `GPT`: one dial, `depth`; a size that is 0 is derived from it.

    Args:
        depth: number of blocks.
        dim: width; 0 = 64 * depth, the ratio of the smallest GPT-2, near which the loss hardly depends on it
            (Kaplan et al., 2020, "Scaling Laws for Neural Language Models", section 3.1).
        heads: attention heads; 0 = heads of 64, the size all GPT-2 models have.
        groups: heads that keys and values have; 0 = as many as queries.
        context: longest row, in tokens.
        vocab_size: number of tokens; 0 = taken from the data.
        position: "rotary", or "learned" as in GPT-2.
        rotary_base: base of the rotary wavelengths.
        norm: "rms" (without a gain: the matrix after it can hold one), or "layer" as in GPT-2.
        feedforward: "relu2", "swiglu", "gelu" (its tanh approximation) as in GPT-2, or "gelu_exact".
        hidden: width inside the feed-forward part; 0 = 4 * dim, or for "swiglu", which has three matrices in
            place of two, 8/3 * dim rounded up to a multiple of 32.
        bias: whether the linear maps have biases.
        qk_norm: whether queries and keys are normalised.
        tied: whether the output head is the token embedding.
        softcap: logits are bent to stay within +- softcap; 0 = off.
        zero_init: whether the output projections and an untied head start at zero, so that every block starts
            as the identity, and the other matrices with variance 1 / fan-in; otherwise as GPT-2's.
        embedding_norm: whether the embeddings are normalised before the first block (RMS, no gain).
        bigram: whether the pair (previous token, token) has an embedding of its own; up to 512 tokens.
        value_embedding: whether tokens have embeddings that are added to the values of attention.
        dropout: probability of dropping an element after the embeddings and after every part of a block.
        attention_dropout: probability of dropping an attention weight.
    """

    type: Literal["gpt"] = "gpt"
    depth: int = Field(default=4, gt=0)
    dim: int = Field(default=0, ge=0)
    heads: int = Field(default=0, ge=0)
    groups: int = Field(default=0, ge=0)
    context: int = Field(default=256, gt=0)
    vocab_size: int = Field(default=0, ge=0)
    position: Literal["rotary", "learned"] = "rotary"
    rotary_base: float = Field(default=10000.0, gt=1)
    norm: Literal["rms", "layer"] = "rms"
    feedforward: Literal["relu2", "swiglu", "gelu", "gelu_exact"] = "relu2"
    hidden: int = Field(default=0, ge=0)
    bias: bool = False
    qk_norm: bool = True
    tied: bool = False
    softcap: float = Field(default=15.0, ge=0)
    zero_init: bool = True
    embedding_norm: bool = True
    bigram: bool = False
    value_embedding: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> GPTConfig:
        if self.width % self.head_count:
            raise ValueError(f"dim ({self.width}) must be a multiple of heads ({self.head_count})")
        if self.position == "rotary" and self.width // self.head_count % 2:
            raise ValueError("rotary positions turn pairs: dim / heads must be even")
        if self.groups and self.head_count % self.groups:
            raise ValueError(f"heads ({self.head_count}) must be a multiple of groups ({self.groups})")
        if self.bigram and self.vocab_size > BIGRAM_LIMIT:
            raise ValueError(f"bigram needs a row for every pair: vocab_size must be at most {BIGRAM_LIMIT}")
        return self

    @property
    def width(self) -> int:
        return self.dim or HEAD_DIM * self.depth

    @property
    def head_count(self) -> int:
        """`heads`, or the smallest number that divides the width into even heads of at most 64."""
        if self.heads:
            return self.heads
        counts = range(math.ceil(self.width / HEAD_DIM), self.width)
        return next((count for count in counts if self.width % (2 * count) == 0), self.width)

    @property
    def group_count(self) -> int:
        return self.groups or self.head_count

    @property
    def hidden_width(self) -> int:
        if self.hidden:
            return self.hidden
        return 32 * math.ceil(self.width / 12) if self.feedforward == "swiglu" else 4 * self.width

    @classmethod
    def gpt2(cls, size: str = "124M", **changes: Any) -> GPTConfig:
        """The published GPT-2 called `size`, a key of `SIZES`, with any field changed."""
        if size not in SIZES:
            raise unknown("GPT-2", size, SIZES)
        published = {
            **SIZES[size],
            "context": 1024,
            "vocab_size": 50257,
            "position": "learned",
            "norm": "layer",
            "feedforward": "gelu",
            "bias": True,
            "qk_norm": False,
            "tied": True,
            "softcap": 0.0,
            "zero_init": False,
            "embedding_norm": False,
        }
        return cls.read({**published, **changes})


class GPT(nn.Module):
    """A stack of causal blocks between a token embedding and a head over the vocabulary.

        tokens -> embedding (+ learned positions | + bigram) -> blocks -> norm -> head -> (softcap) -> logits
        block:  x + attention(norm(x)), then x + feedforward(norm(x))

    `GPTConfig.gpt2()` is GPT-2: Radford et al. (2019), "Language Models are Unsupervised Multitask Learners":
    learned positions, LayerNorm, GELU, biases, the head tied to the embedding; weights start as there, normal
    with 0.02, those of the output projections divided by sqrt(2 depth).

    The defaults are what the years since have shown to learn faster: rotary positions (Su et al., 2021),
    RMSNorm (Zhang, Sennrich, 2019), normalised queries and keys (Dehghani et al., 2023), ReLU^2 (So et al.,
    2021) or SwiGLU (Shazeer, 2020), a soft cap on the logits (Gemma 2, 2024), no biases, an untied head, and
    output projections that start at zero (Zhang et al., 2019, "Fixup"), so that every block starts as the
    identity. `bigram` and `value_embedding` give the first layers what they otherwise have to learn: which
    token came before, and values that do not pass through the residual stream (Zhou et al., 2024, "Value
    Residual Learning").
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        require_sizes(config, "vocab_size")
        self.config = config
        vocab, dim = config.vocab_size, config.width
        head_dim = dim // config.head_count
        self.tokens = nn.Embedding(vocab, dim)
        self.positions = Learned(config.context, dim) if config.position == "learned" else None
        self.rotary = Rotary(head_dim, config.rotary_base) if config.position == "rotary" else None
        self.pairs = nn.Embedding((vocab + 1) * vocab, dim) if config.bigram else None
        valued, shared = config.depth * config.value_embedding, config.group_count * head_dim
        self.values = nn.ModuleList(nn.Embedding(vocab, shared) for _ in range(valued))
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = _norm(config)
        self.head = None if config.tied else nn.Linear(dim, vocab, bias=False)
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
        rotation = None if self.rotary is None else self.rotary(positions)
        x = dropout(self._embed(tokens, positions, cache), self.config.dropout, self.training)
        for index, block in enumerate(self.blocks):
            x = block(
                x,
                mask=mask,
                rotation=rotation,
                cache=None if cache is None else cache.layer(index),
                value=self.values[index](tokens) if self.values else None,
            )
        if cache is not None:
            cache.advance(tokens.shape[1])
        return self.norm(x)

    def unembed(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Logits, in single precision, of hidden states that `features` gave."""
        logits = F.linear(hidden, self.tokens.weight) if self.head is None else self.head(hidden)
        logits = logits.float()
        cap = self.config.softcap
        return torch.tanh(logits / cap) * cap if cap else logits

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
            config.width // config.head_count,
            dtype=dtype or cache_type(weight, device),
            device=device or weight.device,
            start=start,
        )

    def _embed(self, tokens: Tensor, positions: Tensor, cache: KVCache | None) -> Tensor:
        x = self.tokens(tokens)
        if self.positions is not None:
            length = tokens.shape[1] + (0 if cache is None else cache.length)
            padded = cache is not None and cache.start is not None  # then positions are fewer than places
            if length > self.config.context and not padded:
                raise UserError(
                    "the row is longer than the context of the model",
                    got=length,
                    expected=f"at most {self.config.context} tokens",
                )
            x = x + self.positions(positions)
        if self.pairs is not None:
            x = x + self.pairs(self._previous(tokens, positions, cache) * self.config.vocab_size + tokens)
        return rms_norm(x) if self.config.embedding_norm else x

    def _previous(self, tokens: Tensor, positions: Tensor, cache: KVCache | None) -> Tensor:
        """The token before each token; at position 0 the reserved id vocab_size, which stands for none."""
        none = self.config.vocab_size
        carried = None if cache is None else cache.memory.get("previous")
        first = torch.full_like(tokens[:, :1], none) if carried is None else carried
        if cache is not None:
            cache.memory["previous"] = tokens[:, -1:]
        return torch.cat((first, tokens[:, :-1]), dim=1).masked_fill(positions == 0, none)

    @torch.no_grad()
    def _initialise(self) -> None:
        """GPT-2's weights, or, with `zero_init`, ones scaled by fan-in with output projections at zero."""
        config = self.config
        residual = 0.02 / math.sqrt(2 * config.depth)
        for name, parameter in self.named_parameters():
            table = name.startswith(("tokens", "values"))
            if name.endswith("bias") or name.startswith("pairs"):
                parameter.zero_()
            elif name.endswith(("output.weight", "down.weight")):
                parameter.normal_(std=0.0 if config.zero_init else residual)
            elif config.zero_init and name == "head.weight":
                parameter.zero_()
            elif config.embedding_norm and name == "tokens.weight" and not config.tied:
                parameter.normal_(std=1.0)  # as large as the norm makes it
            elif config.zero_init and not table and parameter.dim() > 1 and not name.startswith("positions"):
                bound = math.sqrt(3 / parameter.shape[1])
                parameter.uniform_(-bound, bound)
            elif parameter.dim() > 1:
                parameter.normal_(std=0.02)


def _block(config: GPTConfig) -> Block:
    attention = Attention(
        config.width,
        config.head_count,
        groups=config.group_count,
        bias=config.bias,
        qk_norm=config.qk_norm,
        dropout=config.attention_dropout,
        causal=True,
    )
    if config.feedforward == "swiglu":
        feedforward = GatedFeedForward(config.width, config.hidden_width, "silu", config.bias)
    else:
        name = {"gelu": "gelu_tanh", "gelu_exact": "gelu", "relu2": "relu2"}[config.feedforward]
        feedforward = FeedForward(config.width, config.hidden_width, name, config.bias)
    return Block(attention, _norm(config), feedforward, _norm(config), dropout=config.dropout)


def _norm(config: GPTConfig) -> LayerNorm | RMSNorm:
    return (
        LayerNorm(config.width, bias=config.bias)
        if config.norm == "layer"
        else RMSNorm(config.width, weight=False)
    )
