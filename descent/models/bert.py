"""BERT: an encoder that reads in both directions, pretrained by guessing hidden words; and its modern form.

Legend: N rows, T tokens of a row, K examples of a row, D width, V vocabulary.
"""

from __future__ import annotations

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
from descent.nn.dropout import dropout
from descent.nn.feedforward import FeedForward, GatedFeedForward, named_activation
from descent.nn.norm import LayerNorm
from descent.nn.pooling import means, taken
from descent.nn.position import Learned, Rotary, token_positions

SIZES: dict[str, dict[str, int]] = {  # Devlin et al. (2019), section 3; the small ones: Turc et al. (2019)
    "tiny": {"depth": 2, "dim": 128, "heads": 2},
    "mini": {"depth": 4, "dim": 256, "heads": 4},
    "small": {"depth": 4, "dim": 512, "heads": 8},
    "medium": {"depth": 8, "dim": 512, "heads": 8},
    "base": {"depth": 12, "dim": 768, "heads": 12},
    "large": {"depth": 24, "dim": 1024, "heads": 16},
}

Head = Literal["none", "masked", "pretraining", "next", "classes", "tokens", "span", "vector"]


class BERTConfig(Config):
    """Configuration of `BERT`. The defaults are its modern form; `published` gives that of 2019.

    Args:
        depth: number of blocks.
        dim: width.
        heads: attention heads.
        hidden: width inside the feed-forward part; 0 = 4 * dim, or for "geglu", which has three matrices in
            place of two, 8/3 * dim rounded up to a multiple of 32.
        context: longest example, in tokens.
        vocab_size: number of tokens; 0 = taken from the data.
        segments: kinds of text in an example (first and second) that have an embedding; 0 = none.
        position: "rotary", or "learned" as in 2019.
        rotary_base: base of the rotary wavelengths.
        position_offset: rows of the table of learned positions before the first one's (2 in RoBERTa).
        embedding_norm: whether the embeddings are normalised; with order "pre" this is then the first norm of
            the first block, too.
        order: "pre", with a norm before each part and one at the end, or "post" as in 2019.
        feedforward: "geglu", "gelu" as in 2019, or "gelu_tanh".
        bias: whether the linear maps and norms of blocks and of the head for hidden words have biases.
        norm_eps: added to the variance by the norms.
        head: what the model answers. "masked": the hidden tokens; "next": whether the second text follows the
            first; "pretraining": both; "classes": a class of each example; "tokens": a class of each token;
            "span": where an answer begins and ends; "vector": the mean of an example's tokens; "none": the
            hidden states.
        outputs: classes of the heads "classes" and "tokens"; 0 = taken from the data.
        pooler: whether "classes" (and "none") start from the map of the first token that "next" and
            "pretraining" train; otherwise the head for classes has such a map of its own, as RoBERTa's.
        pooling: "classes" are told from the "mean" of an example's tokens, or from its "first" as in 2019.
        dropout: probability of dropping an element after the embeddings, after every part of a block and
            before the head.
        attention_dropout: probability of dropping an attention weight.
    """

    type: Literal["bert"] = "bert"
    depth: int = Field(default=4, gt=0)
    dim: int = Field(default=256, gt=0)
    heads: int = Field(default=4, gt=0)
    hidden: int = Field(default=0, ge=0)
    context: int = Field(default=512, gt=0)
    vocab_size: int = Field(default=0, ge=0)
    segments: int = Field(default=2, ge=0)
    position: Literal["rotary", "learned"] = "rotary"
    rotary_base: float = Field(default=10000.0, gt=1)
    position_offset: int = Field(default=0, ge=0)
    embedding_norm: bool = True
    order: Literal["pre", "post"] = "pre"
    feedforward: Literal["geglu", "gelu", "gelu_tanh"] = "geglu"
    bias: bool = False
    norm_eps: float = Field(default=1e-5, gt=0)
    head: Head = "masked"
    outputs: int = Field(default=0, ge=0)
    pooler: bool = False
    pooling: Literal["mean", "first"] = "mean"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> BERTConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        if self.position == "rotary" and self.dim // self.heads % 2:
            raise ValueError("rotary positions turn pairs: dim / heads must be even")
        if self.pooler and self.pooling == "mean":
            raise ValueError("a pooler reads the first token: it belongs to pooling=first")
        if self.position_offset and self.position != "learned":
            raise ValueError("position_offset belongs to position=learned")
        return self

    @property
    def hidden_width(self) -> int:
        if self.hidden:
            return self.hidden
        return 32 * -(-self.dim // 12) if self.feedforward == "geglu" else 4 * self.dim

    @classmethod
    def published(cls, size: str = "base", **changes: Any) -> BERTConfig:
        """The BERT of 2019 called `size`, a key of `SIZES`, as it was pretrained, with any field changed."""
        form = {
            "position": "learned",
            "order": "post",
            "feedforward": "gelu",
            "bias": True,
            "norm_eps": 1e-12,
            "pooling": "first",
        }
        trained = {"vocab_size": 30522, "head": "pretraining", "pooler": True, "attention_dropout": 0.1}
        return cls.modern(size, **{**form, **trained, **changes})

    @classmethod
    def roberta(cls, size: str = "base", **changes: Any) -> BERTConfig:
        """RoBERTa called `size` ("base" and "large" were published), with any field changed."""
        form = {"segments": 1, "position_offset": 2, "norm_eps": 1e-5}
        trained = {"vocab_size": 50265, "head": "masked", "pooler": False}
        return cls.published(size, **{**form, **trained, **changes})

    @classmethod
    def modern(cls, size: str = "small", **changes: Any) -> BERTConfig:
        """The modern form at the width and depth of `size`, a key of `SIZES`, with any field changed."""
        if size not in SIZES:
            raise unknown("BERT", size, SIZES)
        return cls.read({**SIZES[size], **changes})


class BERT(nn.Module):
    """A stack of blocks in which every token sees every other of its example.

        tokens -> embedding (+ segment) (+ learned position) (-> norm) -> blocks (-> norm) -> head
        post:    norm(x + attention(x)), then norm(x + feedforward(x))                     as in 2019
        pre:     x + attention(norm(x)), then x + feedforward(norm(x)), and a norm at the end
        masked:  hidden states -> linear -> GELU -> norm -> token embedding transposed + bias
        classes: mean or first token -> linear -> tanh -> linear;   tokens, span: every token -> linear

    `BERTConfig.published()` is Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers";
    the sizes below base: Turc et al. (2019), "Well-Read Students Learn Better". `BERTConfig.roberta()` is Liu
    et al. (2019), "RoBERTa": one kind of segment, no next sentences, positions that start at row 2.

    The defaults (`BERTConfig.modern()`) are in the manner of MosaicBERT (Portes et al., 2023) and ModernBERT
    (Warner et al., 2024): norms before the parts, gated GELU, no biases in blocks, rotary positions, packed
    rows. Other than here the former has norms after the parts and ALiBi for positions; the latter lets two
    layers of three see 128 tokens alone, and has no segments.

    Weights start normal with 0.02, drawn anew beyond two deviations as in the authors' code; biases at 0.
    """

    def __init__(self, config: BERTConfig):
        super().__init__()
        head, dim = config.head, config.dim
        require_sizes(config, "vocab_size", *(["outputs"] if head in ("classes", "tokens") else []))
        self.config = config
        learned = config.position == "learned"
        self.tokens = nn.Embedding(config.vocab_size, dim)
        self.positions = Learned(config.context + config.position_offset, dim) if learned else None
        self.rotary = None if learned else Rotary(dim // config.heads, config.rotary_base)
        self.segments = nn.Embedding(config.segments, dim) if config.segments else None
        self.embedding_norm = _norm(config) if config.embedding_norm else None
        self.blocks = nn.ModuleList(_block(config, index) for index in range(config.depth))
        self.norm = _norm(config) if config.order == "pre" else None
        follows = head in ("next", "pretraining")
        pools = follows or (config.pooler and head in ("classes", "none"))
        self.pooler = nn.Linear(dim, dim) if pools else None
        self.next = nn.Linear(dim, 2) if follows else None
        self.masked = MaskedHead(config) if head in ("masked", "pretraining") else None
        self.head = _head(config)  # None: for hidden words it is the token embedding
        self._initialise()

    def forward(
        self,
        tokens: Int[Tensor, "rows time"],
        *,
        documents: Int[Tensor, "rows time"] | None = None,
        positions: Int[Tensor, "..."] | None = None,
        segments: Int[Tensor, "rows time"] | None = None,
        starts: Int[Tensor, "rows examples"] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """What the head answers.

        Args:
            tokens: ids.
            documents: for rows packed with several examples or filled up, the number of each token's example,
                0, 1, ... along a row; what fills it up is one more. None sees another.
            positions: (time,) or (rows, time); counted from the start of each example when not given.
            segments: 0 for an example's first text, 1 for the second; all 0 when not given, or of one kind.
            starts: where each example of a row begins, in their order; rows with fewer repeat any place. When
                not given a row is one example, and the answers below lack the axis K.

        Returns:
            "masked": logits (N, T, V); "next": (N, K, 2), it follows or does not; "pretraining": both;
            "classes": (N, K, outputs); "tokens": (N, T, outputs); "span": (N, T, 2), first and last token;
            "vector": (N, K, D); "none": (N, T, D). All but the last are in single precision.
        """
        hidden_NTD = self.features(tokens, documents=documents, positions=positions, segments=segments)
        return self.answer(hidden_NTD, starts, documents)

    def features(
        self,
        tokens: Int[Tensor, "rows time"],
        *,
        documents: Int[Tensor, "rows time"] | None = None,
        positions: Int[Tensor, "..."] | None = None,
        segments: Int[Tensor, "rows time"] | None = None,
    ) -> Float[Tensor, "rows time dim"]:
        """The hidden states after the last block; arguments as in `forward`."""
        if positions is None:
            positions = token_positions(tokens, documents)
        x_NTD = self._embed(tokens, documents, positions, segments)
        mask = None if documents is None else document_mask(documents)
        rotation = None if self.rotary is None else self.rotary(positions)
        for block in self.blocks:
            x_NTD = block(x_NTD, mask=mask, rotation=rotation)
        return x_NTD if self.norm is None else self.norm(x_NTD)

    def unembed(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Logits, in single precision, of the tokens behind hidden states."""
        if self.masked is None:
            raise self._lacks("no head for hidden words", "masked or pretraining")
        return self.masked(hidden, self.tokens.weight).float()

    def answer(
        self,
        hidden: Float[Tensor, "rows time dim"],
        starts: Int[Tensor, "rows examples"] | None = None,
        documents: Int[Tensor, "rows time"] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """What the head makes of hidden states; see `forward`."""
        match self.config.head:
            case "masked":
                return self.unembed(hidden)
            case "next":
                return self.follows(hidden, starts)
            case "pretraining":
                return self.unembed(hidden), self.follows(hidden, starts)
            case "vector":
                return self.vectors(hidden, starts, documents)
        if self.head is None:
            return hidden
        states = self._summary(hidden, starts, documents) if self.config.head == "classes" else hidden
        rate = 0.0 if self.config.head == "span" else self.config.dropout
        return self.head(dropout(states, rate, self.training)).float()

    def pooled(
        self, hidden: Float[Tensor, "rows time dim"], starts: Int[Tensor, "rows examples"] | None = None
    ) -> Tensor:
        """tanh(W h + b) of each example's first token, (N, K, D) or (N, D); h itself without a pooler."""
        first = hidden[:, 0] if starts is None else taken(hidden, starts)
        return first if self.pooler is None else torch.tanh(self.pooler(first))

    def _summary(self, hidden: Tensor, starts: Tensor | None, documents: Tensor | None) -> Tensor:
        """What stands for each example before its class is told."""
        if self.config.pooling == "first":
            return self.pooled(hidden, starts)
        return self.vectors(hidden, starts, documents).to(hidden.dtype)

    def follows(
        self, hidden: Float[Tensor, "rows time dim"], starts: Int[Tensor, "rows examples"] | None = None
    ) -> Tensor:
        """Logits of whether an example's second text follows its first (class 0) or does not (class 1)."""
        if self.next is None:
            raise self._lacks("no head for next sentences", "next or pretraining")
        return self.next(self.pooled(hidden, starts)).float()

    def vectors(
        self,
        hidden: Float[Tensor, "rows time dim"],
        starts: Int[Tensor, "rows examples"] | None = None,
        documents: Int[Tensor, "rows time"] | None = None,
    ) -> Tensor:
        """The mean of each example's hidden states, in single precision: (N, K, D), or (N, D)."""
        found_NKD = means(hidden, documents, 1 if starts is None else starts.shape[1])
        return found_NKD[:, 0] if starts is None else found_NKD

    def _embed(
        self, tokens: Tensor, documents: Tensor | None, positions: Tensor, segments: Tensor | None
    ) -> Float[Tensor, "rows time dim"]:
        x_NTD = self.tokens(tokens)
        if self.positions is not None:
            if tokens.shape[1] > self.config.context:
                positions = self._within(positions, documents)
            x_NTD = x_NTD + self.positions(positions + self.config.position_offset)
        if self.segments is not None:
            alike = segments is None or self.config.segments == 1  # of one kind all are that one
            x_NTD = x_NTD + (self.segments.weight[0] if alike else self.segments(segments))
        if self.embedding_norm is not None:
            x_NTD = self.embedding_norm(x_NTD)
        return dropout(x_NTD, self.config.dropout, self.training)

    def _within(self, positions: Tensor, documents: Tensor | None) -> Tensor:
        """Positions of rows wider than the context, whose examples are not; what fills them up may be."""
        last = self.config.context - 1
        beyond = positions > last
        if documents is not None:  # what fills a row up is the last of several documents
            beyond = beyond & ((documents == 0) | (documents < documents.amax(1, keepdim=True)))
        if beyond.any():
            raise UserError(
                "an example is longer than the context of the model",
                got=int(positions[beyond].max()) + 1,
                expected=f"at most {self.config.context} tokens",
            )
        return positions.clamp_max(last)

    def _lacks(self, what: str, expected: str) -> UserError:
        return UserError(
            f"this BERT has {what}", got=f"model.head={self.config.head}", expected=f"model.head={expected}"
        )

    @torch.no_grad()
    def _initialise(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=0.02, a=-0.04, b=0.04)
            elif name.endswith("bias"):
                parameter.zero_()


class MaskedHead(nn.Module):
    """Logits of hidden words: a map, GELU and a norm, then the token embedding and a bias for each token.

    Devlin et al. (2019), section 3.1; the map is that of the authors' code. Arguments: the model's
    configuration.
    """

    def __init__(self, config: BERTConfig):
        super().__init__()
        self.dense = nn.Linear(config.dim, config.dim, bias=config.bias)
        self.norm = _norm(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.activation = named_activation("gelu_tanh" if config.feedforward == "gelu_tanh" else "gelu")

    def forward(
        self, hidden: Float[Tensor, "*batch dim"], table: Float[Tensor, "vocab dim"]
    ) -> Float[Tensor, "*batch vocab"]:
        return F.linear(self.norm(self.activation(self.dense(hidden))), table, self.bias)


class ClassHead(nn.Module):
    """W tanh(dense(h)) + b, with dropout before W: RoBERTa's head for classes, all of which is new to a task.

    Args:
        dim: size of h.
        outputs: number of classes.
        dropout: probability of dropping an element.
    """

    def __init__(self, dim: int, outputs: int, dropout: float):
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.weight = nn.Parameter(torch.empty(outputs, dim))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.dropout = dropout

    def forward(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch outputs"]:
        bent = torch.tanh(self.dense(hidden))
        return F.linear(dropout(bent, self.dropout, self.training), self.weight, self.bias)


def _head(config: BERTConfig) -> nn.Module | None:
    """The part that is new to a task."""
    if config.head == "classes" and not config.pooler:
        return ClassHead(config.dim, config.outputs, config.dropout)
    outputs = {"classes": config.outputs, "tokens": config.outputs, "span": 2}.get(config.head)
    return None if outputs is None else nn.Linear(config.dim, outputs)


def _norm(config: BERTConfig) -> LayerNorm:
    return LayerNorm(config.dim, config.norm_eps, bias=config.bias)


def _block(config: BERTConfig, index: int) -> Block:
    dim, hidden, bias = config.dim, config.hidden_width, config.bias
    if config.feedforward == "geglu":
        feedforward: nn.Module = GatedFeedForward(dim, hidden, "gelu", bias=bias)
    else:
        feedforward = FeedForward(dim, hidden, config.feedforward, bias=bias)
    normed = index == 0 and config.order == "pre" and config.embedding_norm
    return Block(
        Attention(dim, config.heads, bias=bias, dropout=config.attention_dropout),
        nn.Identity() if normed else _norm(config),
        feedforward,
        _norm(config),
        order=config.order,
        dropout=config.dropout,
    )
