"""Recurrent networks over tokens or features: language models, taggers, classifiers, CTC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field, Items
from descent.errors import UserError
from descent.models import require_sizes
from descent.nn.cache import StateCache
from descent.nn.dropout import dropout
from descent.nn.recurrent import Recurrent


class RNNConfig(Config):
    """Configuration of `RNN`.

    Args:
        cell: "tanh" or "relu" (Elman's network), "lstm", "gru".
        depth: number of layers.
        dim: hidden units of a layer, in each direction.
        embedding: width of the token embeddings; 0 = dim.
        vocab_size: number of tokens; 0 = taken from the data, or none: the inputs are features.
        inputs: shape of one step of features, (features,); empty = taken from the data, or tokens.
        outputs: numbers predicted; 0 = taken from the data, or as many as there are tokens.
        pool: what is read out: "none" = every step; the "last" state of each direction, or the "mean" or
            "max" of a row's steps, = one answer a row.
        bidirectional: whether every layer also reads from the end.
        dropout: probability of dropping a number before the first layer, between layers and before the head.
        forget_bias: what the LSTM's forget gates and the GRU's update gates start with.
        chrono: the longest delay to be bridged, in steps, for which the gates of an LSTM or a GRU are opened;
            0 = by forget_bias.
        peephole: whether the LSTM's gates see its cell.
        tied: whether the head is the token embedding.
    """

    type: Literal["rnn"] = "rnn"
    cell: Literal["tanh", "relu", "lstm", "gru"] = "lstm"
    depth: int = Field(default=2, gt=0)
    dim: int = Field(default=256, gt=0)
    embedding: int = Field(default=0, ge=0)
    vocab_size: int = Field(default=0, ge=0)
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)
    pool: Literal["none", "last", "mean", "max"] = "none"
    bidirectional: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    forget_bias: float = 1.0
    chrono: int = Field(default=0, ge=0)
    peephole: bool = False
    tied: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> RNNConfig:
        if len(self.inputs) > 1:
            raise ValueError("inputs is the shape of one step: one number, the features")
        if self.inputs and self.vocab_size:
            raise ValueError("an input is features (inputs) or tokens (vocab_size), not both")
        if self.peephole and self.cell != "lstm":
            raise ValueError("peepholes belong to the LSTM")
        if self.chrono and self.cell not in ("lstm", "gru"):
            raise ValueError("chrono is for the gates of an LSTM or a GRU")
        if self.tied and (self.width != self.dim or self.bidirectional):
            raise ValueError("a tied head needs embeddings as wide as the hidden state, and one direction")
        if self.tied and (self.inputs or self.outputs not in (0, self.vocab_size)):
            raise ValueError("a tied head is the token embedding: leave inputs and outputs empty")
        return self

    @property
    def width(self) -> int:
        """Numbers a step that the first layer reads."""
        return self.inputs[0] if self.inputs else self.embedding or self.dim


class RNN(nn.Module):
    """Recurrent layers between an embedding, or features as they are, and a linear head.

        tokens -> embedding | features -> recurrent layers -> (pool over time) -> head -> outputs

    Elman (1990), "Finding Structure in Time"; Hochreiter, Schmidhuber (1997), "Long Short-Term Memory"; Cho
    et al. (2014) for the GRU; Schuster, Paliwal (1997) for the two directions; the equations are in
    `descent.nn.cells`. As a language model, Mikolov et al. (2010) and, with dropout on what goes up and not
    along, Zaremba, Sutskever, Vinyals (2014).

    A language model is causal by its nature: it has one direction, and its state is all it remembers, so it
    has no greatest context, and `new_cache` is as large for one token as for a million.
    """

    def __init__(self, config: RNNConfig):
        super().__init__()
        require_sizes(config, *([] if config.inputs else ["vocab_size"]))
        self.config = config
        if config.inputs:
            require_sizes(config, "outputs")
        self.tokens = None if config.inputs else nn.Embedding(config.vocab_size, config.width)
        self.recurrent = Recurrent(
            config.cell,
            config.width,
            config.dim,
            layers=config.depth,
            bidirectional=config.bidirectional,
            dropout=config.dropout,
            forget_bias=config.forget_bias,
            chrono=config.chrono,
            peephole=config.peephole,
        )
        outputs = config.outputs or config.vocab_size
        self.head = None if config.tied else nn.Linear(self.recurrent.outputs, outputs)
        if self.tokens is not None:
            nn.init.normal_(self.tokens.weight, std=0.02 if config.tied else 1.0)
        if self.head is not None:
            nn.init.xavier_uniform_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def forward(
        self,
        inputs: Int[Tensor, "batch time"] | Float[Tensor, "batch time features"],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
        positions: Int[Tensor, "..."] | None = None,
        cache: StateCache | None = None,
    ) -> Float[Tensor, "batch *time outputs"]:
        """Outputs for every step, (batch, time, outputs), or with `pool` for every row, (batch, outputs).

        Args:
            inputs: ids, or numbers.
            lengths: steps of each row; what comes after them does not count.
            documents: for rows packed with several documents, the number of each token's; the state is
                zero at the start of each.
            positions: not needed, since order is time; taken so that batches for other models fit.
            cache: what was read before `inputs`; from `new_cache`.
        """
        return self.unembed(
            self.features(inputs, lengths=lengths, documents=documents, positions=positions, cache=cache)
        )

    def features(
        self,
        inputs: Int[Tensor, "batch time"] | Float[Tensor, "batch time features"],
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        documents: Int[Tensor, "batch time"] | None = None,
        positions: Int[Tensor, "..."] | None = None,
        cache: StateCache | None = None,
    ) -> Float[Tensor, "batch *time dim"]:
        """What `unembed` turns into outputs; arguments as in `forward`."""
        if cache is not None and (documents is not None or lengths is not None):
            raise ValueError("a cache holds one document a row: give it alone")
        resets = None
        if documents is not None:
            resets = F.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
        elif cache is not None:
            resets = cache.resets(inputs.shape[1])
        x = dropout(self.embedded(inputs), self.config.dropout, self.training)
        before = None if cache is None else cache.state
        hidden, state = self.recurrent(x, before, lengths=lengths, resets=resets)
        if cache is not None:
            cache.advance(state, inputs.shape[1])
        pooled = self._pooled(hidden, state, lengths)
        return dropout(pooled, self.config.dropout, self.training)

    def embedded(
        self, inputs: Int[Tensor, "batch time"] | Float[Tensor, "batch time features"]
    ) -> Float[Tensor, "batch time width"]:
        """What the first layer reads."""
        return inputs if self.tokens is None else self.tokens(inputs)

    def unembed(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch outputs"]:
        """Outputs, in single precision, of what `features` gave."""
        if self.head is None:
            assert self.tokens is not None
            return F.linear(hidden, self.tokens.weight).float()
        return self.head(hidden).float()

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        start: Int[Tensor, " batch"] | None = None,
    ) -> StateCache:
        """The state of `batch` rows that have read nothing; it has the weights' type, and no `length`."""
        if self.config.bidirectional or self.config.pool != "none":
            raise UserError(
                "only a model that reads forwards and answers every step can go on from a state",
                got=f"bidirectional={self.config.bidirectional}, pool={self.config.pool}",
            )
        return StateCache(self.recurrent.new_state(batch, device), start)

    def _pooled(
        self,
        hidden: Float[Tensor, "batch time dim"],
        state: Mapping[str, Tensor],
        lengths: Int[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch *time dim"]:
        """The steps as they are, or one vector a row."""
        if self.config.pool == "none":
            return hidden
        if self.config.pool == "last":
            return state["hidden"][:, -self.recurrent.directions :].flatten(1)
        if lengths is None:
            return hidden.mean(1) if self.config.pool == "mean" else hidden.amax(1)
        if self.config.pool == "mean":  # outputs after a row's length are 0
            return hidden.sum(1) / lengths[:, None].clamp_min(1)
        valid_BT = torch.arange(hidden.shape[1], device=hidden.device) < lengths[:, None]
        return hidden.masked_fill(~valid_BT[:, :, None], -torch.inf).amax(1)
