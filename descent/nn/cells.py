"""The recurrent cells as their papers write them, a step at a time: to be read, traced and checked against.

`recurrence` computes the same faster. Legend: B batch, I inputs, H hidden units, G gates, T time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

Cell = Literal["tanh", "relu", "lstm", "gru"]
"""`tanh` and `relu` are Elman's network."""
GATES: dict[Cell, tuple[str, ...]] = {
    "tanh": ("hidden",),
    "relu": ("hidden",),
    "lstm": ("input", "forget", "candidate", "output"),
    "gru": ("reset", "update", "candidate"),
}
"""What the rows of the weights belong to, in the order of `torch.nn`: so many rows of H each."""


class Weights(NamedTuple):
    """One layer of one direction; the rows are those of `GATES`, one after another.

    Attributes:
        input: W, (G*H, I).
        hidden: U, (G*H, H).
        input_bias, hidden_bias: b and d, (G*H,) each. One would do, but for the GRU's candidate.
        peephole: p, (3, H), of the LSTM's input, forget and output gates; or None.
    """

    input: Tensor
    hidden: Tensor
    input_bias: Tensor
    hidden_bias: Tensor
    peephole: Tensor | None = None


Step = dict[str, Tensor]
"""What a step computes, by name: "hidden", the LSTM's "cell", and every gate; (B, H) each."""


def elman_step(
    x: Float[Tensor, "batch inputs"], state: Step, w: Weights, activation: Callable[[Tensor], Tensor]
) -> Step:
    """h' = activation(W x + b + U h + d).

    Elman (1990), "Finding Structure in Time"; rectified: Le, Jaitly, Hinton (2015).
    """
    projected_BH = F.linear(x, w.input, w.input_bias) + F.linear(state["hidden"], w.hidden, w.hidden_bias)
    return {"hidden": activation(projected_BH)}


def lstm_step(x: Float[Tensor, "batch inputs"], state: Step, w: Weights) -> Step:
    """i, f, o = sigmoid(W x + b + U h + d [+ p c]);  g = tanh(...);  c' = f c + i g;  h' = o tanh(c').

    Hochreiter, Schmidhuber (1997); the forget gate of Gers, Schmidhuber, Cummins (2000). With peepholes
    (Gers, Schraudolph, Schmidhuber, 2002) i and f also see c, and o sees c'.
    """
    hidden_BH, cell_BH = state["hidden"], state["cell"]
    projected_BG = F.linear(x, w.input, w.input_bias) + F.linear(hidden_BH, w.hidden, w.hidden_bias)
    i, f, g, o = projected_BG.chunk(4, dim=1)
    if w.peephole is not None:
        i, f = i + w.peephole[0] * cell_BH, f + w.peephole[1] * cell_BH
    i, f, g = i.sigmoid(), f.sigmoid(), g.tanh()
    cell_BH = f * cell_BH + i * g
    if w.peephole is not None:
        o = o + w.peephole[2] * cell_BH
    o = o.sigmoid()
    return {
        "hidden": o * cell_BH.tanh(),
        "cell": cell_BH,
        "input": i,
        "forget": f,
        "candidate": g,
        "output": o,
    }


def gru_step(x: Float[Tensor, "batch inputs"], state: Step, w: Weights) -> Step:
    """r, z = sigmoid(W x + b + U h + d);  n = tanh(W x + b + r (U h + d));  h' = (1 - z) n + z h.

    Cho et al. (2014), with the reset gate after the product as in `torch.nn.GRU` and cuDNN.
    """
    hidden_BH = state["hidden"]
    from_input = F.linear(x, w.input, w.input_bias).chunk(3, dim=1)
    from_hidden = F.linear(hidden_BH, w.hidden, w.hidden_bias).chunk(3, dim=1)
    r = (from_input[0] + from_hidden[0]).sigmoid()
    z = (from_input[1] + from_hidden[1]).sigmoid()
    n = (from_input[2] + r * from_hidden[2]).tanh()
    return {"hidden": (1 - z) * n + z * hidden_BH, "reset": r, "update": z, "candidate": n}


def step(cell: Cell, x: Float[Tensor, "batch inputs"], state: Step, weights: Weights) -> Step:
    """One step of the cell called by its name."""
    if cell == "lstm":
        return lstm_step(x, state, weights)
    if cell == "gru":
        return gru_step(x, state, weights)
    return elman_step(x, state, weights, torch.tanh if cell == "tanh" else torch.relu)


def unrolled(
    cell: Cell,
    inputs: Float[Tensor, "time batch inputs"],
    state: Step,
    weights: Weights,
    keep: Bool[Tensor, "time batch"] | None = None,
) -> dict[str, Float[Tensor, "time batch hidden"]]:
    """Steps through time, one after another.

    Args:
        state: before the first step: "hidden", and of an LSTM "cell"; (B, H).
        keep: False = the state is zero before this step.

    Returns:
        All that the steps computed, by name.
    """
    steps: list[Step] = []
    for t, x_BI in enumerate(inputs):
        if keep is not None:
            state = {name: value * keep[t, :, None] for name, value in state.items()}
        steps.append(step(cell, x_BI, state, weights))
        state = {name: steps[-1][name] for name in state}
    return {name: torch.stack([found[name] for found in steps]) for name in steps[0]}
