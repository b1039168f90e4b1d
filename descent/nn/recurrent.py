"""Recurrent layers: Elman's network, the LSTM and the GRU, stacked, in one direction or both.

Legend: B batch, T time, I inputs, H hidden units, G gates times H, N layers times directions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from descent.nn.cells import GATES, Cell, Weights, unrolled
from descent.nn.dropout import dropout
from descent.nn.recurrence import recurrence

State = dict[str, Tensor]
"""What is carried from step to step: "hidden", and of an LSTM "cell"; (B, N, H) each."""


class Recurrent(nn.Module):
    """Layers of recurrent cells, each reading the hidden states of the one before.

    The equations are in `cells`. Parameters have the names and shapes of `torch.nn.RNN`, `LSTM` and `GRU`,
    so that a state dict goes either way. Matrices of the input start with variance 2 / (I + G) (Glorot,
    Bengio, 2010), a gate's matrix of the hidden state orthogonal (Saxe et al., 2014), that of a rectified
    network as the identity (Le, Jaitly, Hinton, 2015), and biases at zero.

    Args:
        cell: "tanh" or "relu" (Elman's), "lstm", "gru".
        inputs: numbers a step.
        hidden: units of a layer, in each direction.
        layers: how many.
        bidirectional: whether every layer also reads from the end; its outputs stand behind the others.
        dropout: probability of dropping a number between two layers.
        forget_bias: what the LSTM's forget gates and the GRU's update gates start with; 1 lets them remember
            from the start (Jozefowicz, Zaremba, Sutskever, 2015; Tallec, Ollivier, 2018).
        chrono: the longest delay to be bridged, in steps; 0 = not given. Each unit's forget gate (LSTM) or
            update gate (GRU) then starts with the bias ln U(1, chrono - 1), and the LSTM's input gate with
            its negative, so that the units' memories reach from one step to that many (Tallec, Ollivier,
            2018, "Can recurrent neural networks warp time?", section 3).
        peephole: whether the LSTM's gates see its cell; computed step by step, which is slower.
    """

    def __init__(
        self,
        cell: Cell,
        inputs: int,
        hidden: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        forget_bias: float = 0.0,
        chrono: int = 0,
        peephole: bool = False,
    ):
        super().__init__()
        if peephole and cell != "lstm":
            raise ValueError("peepholes belong to the LSTM")
        self.cell: Cell = cell
        self.hidden, self.layers = hidden, layers
        self.dropout, self.peephole = dropout, peephole
        self.directions = 2 if bidirectional else 1
        gates = len(GATES[cell]) * hidden
        for index in range(layers):
            width = inputs if index == 0 else self.outputs
            for suffix in self._suffixes(index):
                made = {
                    "weight_ih": (gates, width),
                    "weight_hh": (gates, hidden),
                    "bias_ih": (gates,),
                    "bias_hh": (gates,),
                    **({"weight_peephole": (3, hidden)} if peephole else {}),
                }
                for name, shape in made.items():
                    self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape)))
        self._initialise(forget_bias, chrono)

    @property
    def outputs(self) -> int:
        """Numbers a step gives."""
        return self.hidden * self.directions

    def forward(
        self,
        inputs: Float[Tensor, "batch time inputs"],
        state: Mapping[str, Tensor] | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
        resets: Bool[Tensor, "batch time"] | None = None,
    ) -> tuple[Float[Tensor, "batch time outputs"], State]:
        """The last layer's hidden states, and the state after the last step.

        Args:
            state: to go on from; zeros when not given.
            lengths: steps of each row; outputs after them are 0, and the state is that after them: of a row
                without any the state it began with.
            resets: True = the state is zero before this step, as at the start of a document.
        """
        state = state or self.new_state(len(inputs), inputs.device)
        time = inputs.shape[1]
        valid_TB1 = None if lengths is None else _valid(lengths, time).t()[:, :, None]
        x, ends = inputs.transpose(0, 1), []
        for index in range(self.layers):
            x = dropout(x, self.dropout, self.training) if index else x
            found = []
            for way, suffix in enumerate(self._suffixes(index)):
                start = {k: v[:, index * self.directions + way] for k, v in state.items()}
                states = self._direction(x, start, suffix, way == 1, lengths, resets)
                found.append(states["hidden"] if valid_TB1 is None else states["hidden"] * valid_TB1)
                ends.append({k: _last(states[k], way == 1, lengths, start[k]) for k in state})
            x = torch.cat(found, dim=-1) if len(found) > 1 else found[0]
        return x.transpose(0, 1), {k: torch.stack([end[k] for end in ends], dim=1) for k in state}

    def trace(
        self,
        inputs: Float[Tensor, "batch time inputs"],
        state: Mapping[str, Tensor] | None = None,
        *,
        lengths: Int[Tensor, " batch"] | None = None,
    ) -> dict[str, Float[Tensor, "batch time layers_directions hidden"]]:
        """Every state and gate of every step by the readable cells: "hidden", "cell", and those of `GATES`.

        Arguments as in `forward`; what lies after the length of a row means nothing.
        """
        state = state or self.new_state(len(inputs), inputs.device)
        x, traces = inputs.transpose(0, 1), []
        for index in range(self.layers):
            found = []
            for way, suffix in enumerate(self._suffixes(index)):
                start = {k: v[:, index * self.directions + way] for k, v in state.items()}
                places = _backwards(len(x), lengths, x) if way else None
                steps = unrolled(self.cell, _taken(x, places), start, self.weights(suffix))
                traces.append({name: _taken(values, places) for name, values in steps.items()})
                found.append(traces[-1]["hidden"])
            x = torch.cat(found, dim=-1)
        return {name: torch.stack([t[name] for t in traces], 2).transpose(0, 1) for name in traces[0]}

    def new_state(self, batch: int, device: torch.device | str | None = None) -> State:
        """The state before anything was read: zeros."""
        held = next(self.parameters())
        zeros = torch.zeros(
            batch, self.layers * self.directions, self.hidden, dtype=held.dtype, device=device or held.device
        )
        return {"hidden": zeros, "cell": zeros} if self.cell == "lstm" else {"hidden": zeros}

    def weights(self, suffix: str) -> Weights:
        """Those of one layer in one direction; `suffix` as in `torch.nn`: `_l0`, `_l0_reverse`, `_l1`."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        matrices = {
            field: getattr(self, name + suffix) for field, name in zip(Weights._fields, names, strict=False)
        }
        return Weights(**matrices, peephole=getattr(self, f"weight_peephole{suffix}", None))

    def _suffixes(self, index: int) -> tuple[str, ...]:
        return (f"_l{index}", f"_l{index}_reverse")[: self.directions]

    def _direction(
        self,
        x: Float[Tensor, "time batch inputs"],
        state: State,
        suffix: str,
        backwards: bool,
        lengths: Tensor | None,
        resets: Tensor | None,
    ) -> dict[str, Float[Tensor, "time batch hidden"]]:
        """A layer in one direction: its hidden (and cell) states, in the order of the inputs."""
        w = self.weights(suffix)
        keep_TB = None if resets is None else ~resets.t()
        places = None
        if backwards:
            places = _backwards(len(x), lengths, x)
            if (
                keep_TB is not None
            ):  # what starts a document for one direction ends the one before for the other
                starts = F.pad(keep_TB[1:], (0, 0, 0, 1), value=True)
                keep_TB = starts.gather(0, places)
        x = _taken(x, places)
        if self.peephole:
            states = unrolled(self.cell, x, state, w, keep_TB)
        else:
            projected_TBG = F.linear(x, w.input, w.input_bias)
            hidden_TBH, cell_TBH = recurrence(
                self.cell, projected_TBG, w.hidden, w.hidden_bias, state["hidden"], state.get("cell"), keep_TB
            )
            states = {"hidden": hidden_TBH, "cell": cell_TBH}
        return {name: _taken(states[name], places) for name in state}

    @torch.no_grad()
    def _initialise(self, forget_bias: float, chrono: int) -> None:
        for name, parameter in self.named_parameters():
            if name.startswith("weight_ih"):
                nn.init.xavier_uniform_(parameter)
            elif name.startswith("weight_hh"):
                for gate in parameter.split(self.hidden):
                    nn.init.eye_(gate) if self.cell == "relu" else nn.init.orthogonal_(gate)
            elif name.startswith("weight_peephole"):
                bound = 1 / math.sqrt(self.hidden)
                parameter.uniform_(-bound, bound)
            else:
                parameter.zero_()
                if self.cell in ("lstm", "gru") and name.startswith("bias_ih"):
                    remembers = parameter[self.hidden : 2 * self.hidden]
                    remembers.fill_(forget_bias)
                    if chrono:
                        remembers.uniform_(1, max(1, chrono - 1)).log_()
                    if chrono and self.cell == "lstm":
                        parameter[: self.hidden] = -remembers

    def extra_repr(self) -> str:
        ways = ", bidirectional" if self.directions == 2 else ""
        inputs = self.weights("_l0").input.shape[1]
        return f"{self.cell}, {inputs}, {self.hidden}, layers={self.layers}{ways}"


def _valid(lengths: Int[Tensor, " batch"], time: int) -> Bool[Tensor, "batch time"]:
    return torch.arange(time, device=lengths.device) < lengths[:, None]


def _backwards(
    time: int, lengths: Tensor | None, x: Float[Tensor, "time batch inputs"]
) -> Int[Tensor, "time batch"]:
    """For each step of the reversed rows the step it is in theirs; padding stays where it is."""
    index_T1 = torch.arange(time, device=x.device)[:, None]
    if lengths is None:
        return (time - 1 - index_T1).expand(time, x.shape[1])
    return torch.where(index_T1 < lengths, lengths - 1 - index_T1, index_T1)


def _taken(x: Float[Tensor, "time batch size"], places: Tensor | None) -> Float[Tensor, "time batch size"]:
    """The steps at these places, row by row; all of them, as they are, for None."""
    return x if places is None else x.gather(0, places[:, :, None].expand(-1, -1, x.shape[2]))


def _last(
    states: Float[Tensor, "time batch hidden"],
    backwards: bool,
    lengths: Tensor | None,
    start: Float[Tensor, "batch hidden"],
) -> Float[Tensor, "batch hidden"]:
    """The state after all steps of each row: for the direction from the end it is at the first."""
    if lengths is None:
        return states[0] if backwards else states[-1]
    rows = torch.arange(states.shape[1], device=states.device)
    last = states[0] if backwards else states[(lengths - 1).clamp_min(0), rows]
    return torch.where(lengths[:, None] > 0, last, start)
