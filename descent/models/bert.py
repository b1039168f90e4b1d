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
from descent.nn.position import Learned, Rotary, document_positions

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
    """Configuration of `BERT`. The defaults are its small modern form; `published` gives those of 2019.

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
        position_offset: rows of the table of learned positions before the first (2 in RoBERTa).
        order: "pre", with a norm before each part and one at the end, or "post" as in 2019.
        feedforward: "geglu", "gelu" as in 2019, or "gelu_tanh".
        bias: whether linear maps and norms have biases.
        norm_eps: added to the variance by the norms.
        head: what the model answers. "masked": the hidden tokens; "next": whether the second text follows the
            first; "pretraining": both; "classes": a class of each example; "tokens": a class of each token;
            "span": where an answer begins and ends; "vector": the mean of an example's tokens; "none": the
            hidden states.
        outputs: classes of the heads "classes" and "tokens"; 0 = taken from the data.
        pooler: whether the first token's state is mapped once more and bent by tanh before "classes".
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
    order: Literal["pre", "post"] = "pre"
    feedforward: Literal["geglu", "gelu", "gelu_tanh"] = "geglu"
    bias: bool = False
    norm_eps: float = Field(default=1e-5, gt=0)
    head: Head = "masked"
    outputs: int = Field(default=0, ge=0)
    pooler: bool = True
    dropout: float = Field(default=0.1, ge=0, lt=1)
    attention_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> BERTConfig:
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        if self.position == "rotary" and self.dim // self.heads % 2:
            raise ValueError("rotary positions turn pairs: dim / heads must be even")
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
        """The BERT called `size`, a key of `SIZES`, as in 2019, with any field changed."""
        if size not in SIZES:
            raise unknown("BERT", size, SIZES)
        original = {
            "vocab_size": 30522,
            "position": "learned",
            "order": "post",
            "feedforward": "gelu",
            "bias": True,
            "norm_eps": 1e-12,
            "head": "pretraining",
            "attention_dropout": 0.1,
        }
        return cls.read({**SIZES[size], **original, **changes})


class BERT(nn.Module):
    """A stack of blocks in which every token sees every other of its example.

        tokens -> embedding (+ segment) (+ learned position) -> norm -> blocks (-> norm) -> head
        post:   norm(x + attention(x)), then norm(x + feedforward(x))                 as in 2019
        pre:    x + attention(norm(x)), then x + feedforward(norm(x)), a norm at the end
        masked: hidden states -> linear -> GELU -> norm -> token embedding transposed + bias

    `BERTConfig.published()` is Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers";
    sizes below base: Turc et al. (2019), "Well-Read Students Learn Better". RoBERTa (Liu et al., 2019) has no
    second segment, a position_offset of 2 and no next-sentence head.

    The defaults follow MosaicBERT (Portes et al., 2023) and ModernBERT (Warner et al., 2024): norms before
    the parts, gated GELU, no biases, rows packed without padding; rotary positions as in the latter. Other
    than there: all layers see the whole example, and segments have embeddings.

    Weights start normal with 0.02, cut off at two deviations, biases and segments' differences at zero.
    """

    def __init__(self, config: BERTConfig):
        super().__init__()
        answers = config.head in ("classes", "tokens")
        require_sizes(config, "vocab_size", *(["outputs"] if answers else []))
        self.config = config
        dim, head = config.dim, config.head
        self.tokens = nn.Embedding(config.vocab_size, dim)
        self.segments = nn.Embedding(config.segments, dim) if config.segments else None
        learned = config.position == "learned"
        self.positions = Learned(config.context + config.position_offset, dim) if learned else None
        self.rotary = None if learned else Rotary(dim // config.heads, config.rotary_base)
        self.embedding_norm = _norm(config)
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = _norm(config) if config.order == "pre" else None
        pools = head in ("next", "pretraining") or (head == "classes" and config.pooler)
        self.pooler = nn.Linear(dim, dim) if pools or (head == "none" and config.pooler) else None
        self.masked = MaskedHead(config) if head in ("masked", "pretraining") else None
        self.next = nn.Linear(dim, 2) if head in ("next", "pretraining") else None
        outputs = {"classes": config.outputs, "tokens": config.outputs, "span": 2}
        # of hidden words the token embedding is the head
        self.head: nn.Module | None = nn.Linear(dim, outputs[head]) if head in outputs else None
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
            documents: for rows packed with several examples or filled up, the number of each token's; none
                sees another.
            positions: (time,) or (rows, time); counted from the start of each example when not given.
            segments: 0 for the first text of an example, 1 for the second; all 0 when not given.
            starts: where each example of a row begins; when not given a row is one example, and answers an
                example lack the axis of the examples.

        Returns:
            "masked": logits (N, T, V); "pretraining": those and the logits of "next"; "next": (N, K, 2), of
            which the second says that the second text does not follow; "classes": (N, K, outputs); "tokens":
            (N, T, outputs); "span": (N, T, 2), first and last token; "vector": (N, K, D); "none": (N, T, D).
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
            index_T = torch.arange(tokens.shape[1], device=tokens.device)
            positions = index_T if documents is None else document_positions(documents)
        x_NTD = self._embed(tokens, positions, segments)
        mask = None if documents is None else document_mask(documents)
        rotation = None if self.rotary is None else self.rotary(positions)
        for block in self.blocks:
            x_NTD = block(x_NTD, mask=mask, rotation=rotation)
        return x_NTD if self.norm is None else self.norm(x_NTD)

    def unembed(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Logits, in single precision, of the tokens behind hidden states."""
        if self.masked is None:
            raise UserError(
                "this BERT has no head for hidden words",
                got=f"head={self.config.head}",
                expected="head=masked",
            )
        return self.masked(hidden, self.tokens.weight).float()

    def answer(
        self,
        hidden: Float[Tensor, "rows time dim"],
        starts: Int[Tensor, "rows examples"] | None = None,
        documents: Int[Tensor, "rows time"] | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """What the head makes of hidden states; see `forward`."""
        kind = self.config.head
        if kind == "masked":
            return self.unembed(hidden)
        if kind == "pretraining":
            return self.unembed(hidden), self.follows(hidden, starts)
        if kind == "next":
            return self.follows(hidden, starts)
        if kind == "vector":
            return self.vectors(hidden, starts, documents)
        if kind == "none":
            return hidden
        assert self.head is not None
        states = self.pooled(hidden, starts) if kind == "classes" else hidden
        return self.head(dropout(states, self.config.dropout, self.training)).float()

    def pooled(
        self, hidden: Float[Tensor, "rows time dim"], starts: Int[Tensor, "rows examples"] | None = None
    ) -> Tensor:
        """tanh(W h + b) of each example's first token, (N, K, D) or (N, D); h itself without a pooler."""
        first = hidden[:, :1] if starts is None else _taken(hidden, starts)
        first = first if self.pooler is None else torch.tanh(self.pooler(first))
        return first[:, 0] if starts is None else first

    def follows(
        self, hidden: Float[Tensor, "rows time dim"], starts: Int[Tensor, "rows examples"] | None = None
    ) -> Tensor:
        """Logits of whether an example's second text follows its first (class 0) or does not (class 1)."""
        if self.next is None:
            raise UserError("this BERT has no next-sentence head", got=f"head={self.config.head}")
        return self.next(self.pooled(hidden, starts)).float()

    def vectors(
        self,
        hidden: Float[Tensor, "rows time dim"],
        starts: Int[Tensor, "rows examples"] | None,
        documents: Int[Tensor, "rows time"] | None,
    ) -> Tensor:
        """The mean of each example's hidden states, in single precision: (N, K, D), or (N, D)."""
        if documents is None:
            return hidden.float().mean(1)
        count = 1 if starts is None else starts.shape[1]
        belongs_NKT = documents[:, None] == torch.arange(count, device=hidden.device)[:, None]
        sizes_NK1 = belongs_NKT.sum(-1, keepdim=True).clamp_min(1)
        means_NKD = torch.matmul(belongs_NKT.float(), hidden.float()) / sizes_NK1
        return means_NKD[:, 0] if starts is None else means_NKD

    def _embed(
        self, tokens: Int[Tensor, "rows time"], positions: Int[Tensor, "..."], segments: Tensor | None
    ) -> Float[Tensor, "rows time dim"]:
        x_NTD = self.tokens(tokens)
        if self.segments is not None:
            x_NTD = x_NTD + (self.segments.weight[0] if segments is None else self.segments(segments))
        if self.positions is not None:
            # what fills a packed row may be longer than an example
            last = self.config.context - 1
            longest = int(positions.max()) if positions.numel() else 0
            if positions.dim() == 1 and longest > last:
                raise UserError(
                    "the row is longer than the context of the model",
                    got=longest + 1,
                    expected=f"at most {self.config.context} tokens",
                )
            x_NTD = x_NTD + self.positions(positions.clamp_max(last) + self.config.position_offset)
        return dropout(self.embedding_norm(x_NTD), self.config.dropout, self.training)

    @torch.no_grad()
    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()


class MaskedHead(nn.Module):
    """Logits of hidden words: a map, GELU and a norm, then the token embedding and a bias a token.

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


def _taken(
    hidden: Float[Tensor, "rows time dim"], starts: Int[Tensor, "rows examples"]
) -> Float[Tensor, "rows examples dim"]:
    """The states at some places of each row."""
    return hidden.gather(1, starts[:, :, None].expand(-1, -1, hidden.shape[2]))


def _norm(config: BERTConfig) -> LayerNorm:
    return LayerNorm(config.dim, config.norm_eps, bias=config.bias)


def _block(config: BERTConfig) -> Block:
    dim, hidden, bias = config.dim, config.hidden_width, config.bias
    if config.feedforward == "geglu":
        feedforward: nn.Module = GatedFeedForward(dim, hidden, "gelu", bias=bias)
    else:
        feedforward = FeedForward(dim, hidden, config.feedforward, bias=bias)
    return Block(
        Attention(dim, config.heads, bias=bias, dropout=config.attention_dropout),
        _norm(config),
        feedforward,
        _norm(config),
        order=config.order,
        dropout=config.dropout,
    )
