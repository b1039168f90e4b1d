"""The readable cells against their equations, number by number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from descent.nn.cells import GATES, Cell, Step, Weights, elman_step, gru_step, lstm_step, step, unrolled

B, T, N, H = 2, 5, 3, 4


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(7)


def drawn(cell: Cell, peephole: bool = False) -> Weights:
    rows = len(GATES[cell]) * H
    sizes = [(rows, N), (rows, H), (rows,), (rows,)]
    w = [torch.randn(size, dtype=torch.float64) for size in sizes]
    return Weights(*w, torch.randn(3, H, dtype=torch.float64) if peephole else None)


def start(cell: Cell) -> Step:
    names = ("hidden", "cell") if cell == "lstm" else ("hidden",)
    return {name: torch.randn(B, H, dtype=torch.float64) for name in names}


def sums(w: Weights, x: Tensor, h: Tensor, gate: int, unit: int) -> tuple[float, float]:
    """W x + b and U h + d of one unit of one gate, of one row, added up one by one."""
    row = gate * H + unit
    of_x = sum(float(w.input[row, i] * x[i]) for i in range(N)) + float(w.input_bias[row])
    return of_x, sum(float(w.hidden[row, j] * h[j]) for j in range(H)) + float(w.hidden_bias[row])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def by_hand(cell: Cell, x: Tensor, state: Step, w: Weights) -> dict[str, Tensor]:
    """The published equations for one row and one unit at a time."""
    names = {"hidden", *GATES[cell], *(("cell",) if cell == "lstm" else ())}
    found = {name: torch.zeros(B, H, dtype=torch.float64) for name in names}
    for b in range(B):
        h = state["hidden"][b]
        for u in range(H):
            a = [sums(w, x[b], h, gate, u) for gate in range(len(GATES[cell]))]
            if cell in ("tanh", "relu"):
                value = sum(a[0])
                values = {"hidden": math.tanh(value) if cell == "tanh" else max(0.0, value)}
            elif cell == "gru":
                r, z = sigmoid(sum(a[0])), sigmoid(sum(a[1]))
                n = math.tanh(a[2][0] + r * a[2][1])
                hidden = (1 - z) * n + z * float(h[u])
                values = {"reset": r, "update": z, "candidate": n, "hidden": hidden}
            else:
                before = float(state["cell"][b, u])
                p = [0.0] * 3 if w.peephole is None else [float(value) for value in w.peephole[:, u]]
                i, f = sigmoid(sum(a[0]) + p[0] * before), sigmoid(sum(a[1]) + p[1] * before)
                g = math.tanh(sum(a[2]))
                after = f * before + i * g
                o = sigmoid(sum(a[3]) + p[2] * after)
                hidden = o * math.tanh(after)
                values = {"input": i, "forget": f, "candidate": g, "output": o, "cell": after}
                values["hidden"] = hidden
            for name, value in values.items():
                found[name][b, u] = value
    return found


@pytest.mark.parametrize(
    ("cell", "peephole"), [("tanh", False), ("relu", False), ("gru", False), ("lstm", False), ("lstm", True)]
)
def test_a_step_is_the_published_equations(cell: Cell, peephole: bool):
    w, state, x = drawn(cell, peephole), start(cell), torch.randn(B, N, dtype=torch.float64)
    found, expected = step(cell, x, state, w), by_hand(cell, x, state, w)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")


def test_the_cells_called_by_name_are_those_functions():
    x = torch.randn(B, N, dtype=torch.float64)
    for cell, function in (("lstm", lstm_step), ("gru", gru_step)):
        w, state = drawn(cell), start(cell)
        assert torch.equal(step(cell, x, state, w)["hidden"], function(x, state, w)["hidden"])
    w, state = drawn("tanh"), start("tanh")
    assert torch.equal(step("tanh", x, state, w)["hidden"], elman_step(x, state, w, torch.tanh)["hidden"])
    assert torch.equal(step("relu", x, state, w)["hidden"], elman_step(x, state, w, torch.relu)["hidden"])


@pytest.mark.parametrize("cell", GATES)
def test_time_is_one_step_after_another(cell: Cell):
    w, state = drawn(cell), start(cell)
    inputs = torch.randn(T, B, N, dtype=torch.float64)
    found = unrolled(cell, inputs, state, w)
    for t in range(T):
        state = by_hand(cell, inputs[t], state, w)
        for name, value in state.items():
            assert_close(found[name][t], value)
        state = {name: state[name] for name in start(cell)}


@pytest.mark.parametrize("cell", GATES)
def test_what_is_not_kept_starts_from_zero(cell: Cell):
    w, state = drawn(cell), start(cell)
    inputs = torch.randn(T, B, N, dtype=torch.float64)
    keep = torch.ones(T, B, dtype=torch.bool)
    keep[2, 1] = False
    found = unrolled(cell, inputs, state, w, keep)["hidden"]
    assert_close(found[:, 0], unrolled(cell, inputs, state, w)["hidden"][:, 0])
    zero = {name: torch.zeros_like(value) for name, value in state.items()}
    assert_close(found[2:, 1], unrolled(cell, inputs[2:], zero, w)["hidden"][:, 1])
    assert_close(found[:2, 1], unrolled(cell, inputs[:2], state, w)["hidden"][:, 1])
