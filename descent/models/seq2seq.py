"""Sequence to sequence: a recurrent encoder, and a recurrent decoder that looks back at it by attention.

Legend: B batch, S source steps, T target steps, E embedding, D width (of a state, an annotation, a context),
L layers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import model_validator
from torch import Tensor, nn

from descent.config import Config, Field
from descent.errors import UserError
from descent.models import require_sizes
from descent.nn import cells
from descent.nn.cache import StateCache
from descent.nn.dropout import dropout
from descent.nn.recurrent import Recurrent

Encoded = dict[str, Tensor]


class Seq2SeqConfig(Config):
    """Configuration of `Seq2Seq`.

    Args:
        cell: "lstm" or "gru", of the encoder and the decoder.
        attention: "bahdanau" (additive, asked by the state before the step), "luong" (multiplicative, asked
            by the state after it, with input feeding) or "none" (the encoder's last state is all there is).
        score: of Luong's attention, "general" (s . W h) or "dot" (s . h).
        depth: layers of the encoder and of the decoder.
        dim: width of the decoder's states; each direction of the encoder has half of it.
        embedding: width of the token embedding, which both sides share; 0 = dim.
        vocab_size: number of tokens; 0 = taken from the data.
        dropout: probability of dropping a number of the embeddings, between layers and before the head.
        forget_bias: what the forget gates of an LSTM start with.
    """

    type: Literal["seq2seq"] = "seq2seq"
    cell: Literal["lstm", "gru"] = "lstm"
    attention: Literal["bahdanau", "luong", "none"] = "bahdanau"
    score: Literal["general", "dot"] = "general"
    depth: int = Field(default=1, gt=0)
    dim: int = Field(default=128, gt=0)
    embedding: int = Field(default=0, ge=0)
    vocab_size: int = Field(default=0, ge=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    forget_bias: float = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> Seq2SeqConfig:
        if self.dim % 2:
            raise ValueError(f"dim ({self.dim}) must be even: the encoder's two directions share it")
        if self.score == "dot" and self.attention != "luong":
            raise ValueError("score=dot belongs to attention=luong")
        return self


class Additive(nn.Module):
    """score(s, h) = v . tanh(W s + U h + b): Bahdanau, Cho, Bengio (2015), appendix A.1.2."""

    def __init__(self, dim: int):
        super().__init__()
        self.query = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim)
        self.score = nn.Linear(dim, 1, bias=False)

    def keys(self, annotations: Float[Tensor, "batch source dim"]) -> Float[Tensor, "batch source dim"]:
        """U h + b, the same for every step of the decoder."""
        return self.key(annotations)

    def forward(
        self, state: Float[Tensor, "batch dim"], keys: Float[Tensor, "batch source dim"]
    ) -> Float[Tensor, "batch source"]:
        return self.score(torch.tanh(self.query(state)[:, None] + keys)).squeeze(2)


class Multiplicative(nn.Module):
    """score(s, h) = s . W h, or s . h without a matrix: Luong, Pham, Manning (2015), section 3.1."""

    def __init__(self, dim: int, general: bool):
        super().__init__()
        self.key = nn.Linear(dim, dim, bias=False) if general else None

    def keys(self, annotations: Float[Tensor, "batch source dim"]) -> Float[Tensor, "batch source dim"]:
        """W h, the same for every step of the decoder."""
        return annotations if self.key is None else self.key(annotations)

    def forward(
        self, state: Float[Tensor, "batch dim"], keys: Float[Tensor, "batch source dim"]
    ) -> Float[Tensor, "batch source"]:
        return torch.matmul(keys, state[:, :, None].to(keys.dtype)).squeeze(2)


class Seq2Seq(nn.Module):
    """An encoder of both directions, and a decoder that weighs its annotations anew for every token.

        source -> embedding -> encoder (both directions) -> annotations h_1 ... h_S
        a_t = softmax over the source of score(s, h);  c_t = sum of a_t h              the context

        Bahdanau:  c_t asks with s_{t-1};  s_t = cell([y_t; c_t]);  o_t = tanh(V [s_t; c_t; y_t])
        Luong:     s_t = cell([y_t; o_{t-1}]);  c_t asks with s_t;  o_t = tanh(V [c_t; s_t])
        none:      s_t = cell(y_t);  o_t = s_t
        logits = head(o_t)

    Bahdanau, Cho, Bengio (2015), "Neural Machine Translation by Jointly Learning to Align and Translate";
    Luong, Pham, Manning (2015), "Effective Approaches to Attention-based Neural Machine Translation" (global,
    with input feeding); without attention Sutskever, Vinyals, Le (2014), "Sequence to Sequence Learning with
    Neural Networks".

    Other than there: both sides share one embedding; the decoder's layers start from the encoder's last
    states, both directions side by side, with no map between; Bahdanau's output has a tanh for the maxout;
    the encoder reads in both directions also for Luong and without attention, where the papers stack
    layers of one direction, and Sutskever's reads the source reversed.
    """

    def __init__(self, config: Seq2SeqConfig):
        super().__init__()
        require_sizes(config, "vocab_size")
        self.config = config
        dim, width = config.dim, config.embedding or config.dim
        looks = config.attention != "none"
        options = {"layers": config.depth, "dropout": config.dropout, "forget_bias": config.forget_bias}
        self.tokens = nn.Embedding(config.vocab_size, width)
        self.encoder = Recurrent(config.cell, width, dim // 2, bidirectional=True, **options)
        self.attention = _attention(config)
        self.decoder = Recurrent(config.cell, width + dim * looks, dim, **options)
        gathered = {"bahdanau": 2 * dim + width, "luong": 2 * dim}
        self.readout = nn.Linear(gathered[config.attention], dim) if looks else None
        self.head = nn.Linear(dim, config.vocab_size)
        self._initialise()

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        source_lengths: Int[Tensor, " batch"],
        tokens: Int[Tensor, "batch time"],
    ) -> Float[Tensor, "batch time vocab"]:
        """Logits of the token after each token of the target.

        Args:
            source: ids, padded behind with anything.
            source_lengths: real ids of each row, at least 1.
            tokens: what the decoder has written so far: a mark that begins it, then ids.
        """
        return self.unembed(self.features(source, source_lengths, tokens))

    def features(
        self,
        source: Int[Tensor, "batch source"],
        source_lengths: Int[Tensor, " batch"],
        tokens: Int[Tensor, "batch time"],
    ) -> Float[Tensor, "batch time dim"]:
        """What `unembed` turns into logits; arguments as in `forward`."""
        return self.decode(tokens, self.encode(source, source_lengths))

    def unembed(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Logits, in single precision, of what `features` or `decode` gave."""
        return self.head(hidden).float()

    def encode(
        self, source: Int[Tensor, "batch source"], source_lengths: Int[Tensor, " batch"]
    ) -> dict[str, Tensor]:
        """All that the decoder needs of a source, as named rows: its states to start from and, with
        attention, the annotations, their keys and which of them are real."""
        config = self.config
        annotations_BSD, ends = self.encoder(self._embed(source), lengths=source_lengths)
        # (B, L * 2, D / 2): the two directions of a layer stand side by side
        encoded = {name: end.reshape(len(source), config.depth, config.dim) for name, end in ends.items()}
        if self.attention is not None:
            index_S = torch.arange(source.shape[1], device=source.device)
            encoded["annotations"] = annotations_BSD
            encoded["keys"] = self.attention.keys(annotations_BSD)
            encoded["real"] = index_S < source_lengths[:, None]
        if config.attention == "luong":
            encoded["fed"] = torch.zeros_like(encoded["hidden"][:, 0])
        return encoded

    def decode(
        self,
        tokens: Int[Tensor, "batch time"],
        encoded: Mapping[str, Tensor] | None = None,
        *,
        cache: StateCache | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """What `unembed` turns into logits, for sources that are encoded already.

        Args:
            tokens: ids; with a cache those that follow what it has read.
            encoded: from `encode`, without a cache.
            cache: from `new_cache`; holds what was encoded, and is left holding the state after the tokens.
        """
        if (encoded is None) == (cache is None):
            raise ValueError("give what was encoded, or a cache that holds it")
        held = encoded if cache is None else cache.state
        assert held is not None
        waits_TB = None if cache is None else _waits(cache, tokens.shape[1])
        features, state, _ = self._unroll(tokens, held, waits_TB)
        if cache is not None:
            cache.advance({**held, **state}, tokens.shape[1])
        return dropout(features, self.config.dropout, self.training)

    def attention_weights(
        self,
        source: Int[Tensor, "batch source"],
        source_lengths: Int[Tensor, " batch"],
        tokens: Int[Tensor, "batch time"],
    ) -> Float[Tensor, "batch time source"]:
        """How much each step of the decoder looks at each of the source: rows add up to 1, padding has 0.

        Raises:
            UserError: the model has no attention.
        """
        if self.attention is None:
            raise UserError(
                "this model has no attention", hint="train one with model.attention=bahdanau or luong"
            )
        _, _, weights = self._unroll(tokens, self.encode(source, source_lengths))
        return torch.stack(weights, dim=1)

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        start: Int[Tensor, " batch"] | None = None,
        *,
        encoded: Mapping[str, Tensor],
    ) -> StateCache:
        """What the decoder begins with for sources that `encode` was given, one for each of `batch` rows.

        It holds as much for a long target as for a short one, in the type and the place of the sources.
        """
        if any(len(tensor) != batch for tensor in encoded.values()):
            raise ValueError("a cache takes one source for each row")
        return StateCache(dict(encoded), start)

    def _embed(self, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time embedding"]:
        return dropout(self.tokens(tokens), self.config.dropout, self.training)

    def _unroll(
        self,
        tokens: Int[Tensor, "batch time"],
        encoded: Mapping[str, Tensor],
        waits: Bool[Tensor, "time batch"] | None = None,
    ) -> tuple[Float[Tensor, "batch time dim"], Encoded, list[Tensor]]:
        """The outputs o, the state after the last step, and the attention weights of every step; a row that
        waits keeps its state."""
        x_BTE = self._embed(tokens)
        names = [name for name in ("hidden", "cell", "fed") if name in encoded]
        state: Encoded = {name: encoded[name] for name in names}
        if self.attention is None and waits is None:  # nothing comes between the steps
            outputs_BTD, state = self.decoder(x_BTE, state)
            return outputs_BTD, state, []
        layers = [self.decoder.weights(f"_l{index}") for index in range(self.config.depth)]
        outputs: list[Tensor] = []
        weights: list[Tensor] = []
        for t, x_BE in enumerate(x_BTE.unbind(1)):
            before = state
            output_BD, state = self._step(x_BE, state, encoded, layers, weights)
            if waits is not None:
                state = {k: torch.where(_like(waits[t], new), before[k], new) for k, new in state.items()}
            outputs.append(output_BD)
        found = torch.stack(outputs, dim=1)
        if (
            self.config.attention == "bahdanau" and self.readout is not None
        ):  # not fed back: all steps at once
            found = torch.tanh(self.readout(found))
        return found, state, weights

    def _step(
        self,
        x: Float[Tensor, "batch embedding"],
        state: Encoded,
        encoded: Mapping[str, Tensor],
        layers: list[cells.Weights],
        weights: list[Tensor],
    ) -> tuple[Tensor, Encoded]:
        """One token: what the output is made of, and the state after it; the weights are appended."""
        if self.config.attention == "bahdanau":
            context_BD = self._look(state["hidden"][:, -1], encoded, weights)
            state = self._move(torch.cat((x, context_BD), dim=1), state, layers)
            return torch.cat((state["hidden"][:, -1], context_BD, x), dim=1), state
        if self.readout is not None:
            moved = self._move(torch.cat((x, state["fed"]), dim=1), state, layers)
            top_BD = moved["hidden"][:, -1]
            context_BD = self._look(top_BD, encoded, weights)
            output_BD = torch.tanh(self.readout(torch.cat((context_BD, top_BD), dim=1)))
            return output_BD, {**moved, "fed": output_BD}
        state = self._move(x, state, layers)
        return state["hidden"][:, -1], state

    def _look(
        self, state: Float[Tensor, "batch dim"], encoded: Mapping[str, Tensor], weights: list[Tensor]
    ) -> Float[Tensor, "batch dim"]:
        assert self.attention is not None
        scores_BS = self.attention(state, encoded["keys"]).float().masked_fill(~encoded["real"], -torch.inf)
        weights.append(scores_BS.softmax(dim=1))
        annotations_BSD = encoded["annotations"]
        return torch.matmul(weights[-1][:, None].to(annotations_BSD.dtype), annotations_BSD).squeeze(1)

    def _move(self, x: Float[Tensor, "batch inputs"], state: Encoded, layers: list[cells.Weights]) -> Encoded:
        """The states of all layers one step later."""
        kept = ("hidden", "cell") if self.config.cell == "lstm" else ("hidden",)
        moved: list[cells.Step] = []
        for index, weights in enumerate(layers):
            x = dropout(x, self.config.dropout, self.training) if index else x
            moved.append(cells.step(self.config.cell, x, {k: state[k][:, index] for k in kept}, weights))
            x = moved[-1]["hidden"]
        return {k: torch.stack([layer[k] for layer in moved], dim=1) for k in kept}

    @torch.no_grad()
    def _initialise(self) -> None:
        """Embeddings of about length 1; the other maps by Glorot and Bengio (2010), biases zero."""
        self.tokens.weight.normal_(std=self.tokens.embedding_dim**-0.5)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    module.bias.zero_()


def _attention(config: Seq2SeqConfig) -> Additive | Multiplicative | None:
    if config.attention == "none":
        return None
    if config.attention == "bahdanau":
        return Additive(config.dim)
    return Multiplicative(config.dim, general=config.score == "general")


def _waits(cache: StateCache, count: int) -> Bool[Tensor, "time batch"] | None:
    """True where a row padded on the left has not begun yet; None without such rows."""
    if cache.start is None:
        return None
    index_T = torch.arange(cache.length, cache.length + count, device=cache.start.device)
    return index_T[:, None] < cache.start


def _like(rows: Bool[Tensor, " batch"], tensor: Tensor) -> Tensor:
    """The rows with as many axes as the tensor has."""
    return rows.view(-1, *[1] * (tensor.dim() - 1))
