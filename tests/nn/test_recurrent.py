"""Recurrent layers: fused = readable = torch.nn, in outputs, states, gradients; padding and resets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.testing import assert_close

from descent.nn import recurrent
from descent.nn.cells import GATES, Cell, unrolled
from descent.nn.packed import can_pack
from descent.nn.recurrence import recurrence
from descent.nn.recurrent import Recurrent

B, T, N, H = 3, 7, 5, 6
LENGTHS = torch.tensor([7, 2, 5])
CELLS: list[Cell] = ["tanh", "relu", "lstm", "gru"]
DOUBLE = {"rtol": 1e-10, "atol": 1e-12}
SINGLE = {"rtol": 1e-4, "atol": 1e-5}

each_cell = pytest.mark.parametrize("cell", CELLS)
each_way = pytest.mark.parametrize("both", [False, True], ids=["forwards", "both ways"])


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(3)


def layers(cell: Cell, dtype: torch.dtype = torch.float64, **options: Any) -> Recurrent:
    """Random parameters everywhere, biases too."""
    made = Recurrent(cell, N, H, **{"layers": 2, **options})
    for parameter in made.parameters():
        nn.init.uniform_(parameter, -0.6, 0.6)
    return made.to(dtype)


def drawn(made: Recurrent, time: int = T) -> tuple[Tensor, dict[str, Tensor]]:
    """Inputs and a state to start from, all of which take gradients."""
    dtype = next(made.parameters()).dtype
    names = ("hidden", "cell") if made.cell == "lstm" else ("hidden",)
    shape = (B, made.layers * made.directions, made.hidden)
    state = {name: torch.randn(shape, dtype=dtype, requires_grad=True) for name in names}
    return torch.randn(B, time, N, dtype=dtype, requires_grad=True), state


def score(outputs: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """A number that every output and every state has a part of its own in."""
    total = torch.zeros((), dtype=outputs.dtype)
    for value in (outputs, *(state[name] for name in sorted(state))):
        weights = torch.linspace(-1, 1, value.numel(), dtype=value.dtype).view(value.shape)
        total = total + (value * weights).sum() + value.square().sum() / 3
    return total


def gradients(outputs: Tensor, state: Mapping[str, Tensor], by: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(zip(by, torch.autograd.grad(score(outputs, state), list(by.values())), strict=True))


def taking(made: nn.Module, x: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that gradients are asked for, by name."""
    return {"inputs": x, **{f"start {k}": v for k, v in state.items()}, **dict(made.named_parameters())}


def close(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], **tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(found[name], value, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


def readably(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the layers computed by the readable cells from here on, with autograd's gradients."""

    def plainly(
        cell: Cell, projected: Tensor, weight: Tensor, bias: Tensor, hidden: Tensor,
        state: Tensor | None = None, keep: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        eye = torch.eye(projected.shape[2], dtype=projected.dtype)
        w = recurrent.Weights(eye, weight, torch.zeros_like(bias), bias)
        before = {"hidden": hidden} if state is None else {"hidden": hidden, "cell": state}
        steps = unrolled(cell, projected, before, w, keep)
        return steps["hidden"], steps.get("cell")

    monkeypatch.setattr(recurrent, "recurrence", plainly)


def resets() -> Tensor:
    """Documents begin at the first step of every row, and elsewhere."""
    marks = torch.zeros(B, T, dtype=torch.bool)
    marks[:, 0] = marks[0, 3] = marks[0, 4] = marks[1, 1] = marks[2, 6] = True
    return marks


@each_cell
@each_way
@pytest.mark.parametrize("known", [{}, {"lengths": LENGTHS}, {"resets": resets()},
                                   {"lengths": LENGTHS, "resets": resets()}],
                         ids=["plain", "lengths", "resets", "both"])  # fmt: skip
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, DOUBLE), (torch.float32, SINGLE)])
def test_fused_equals_readable(
    cell: Cell, both: bool, known: dict[str, Tensor], dtype: torch.dtype, tolerance: dict[str, float],
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    made = layers(cell, dtype, bidirectional=both)
    x, state = drawn(made)
    fused, ends = made(x, state, **known)
    found = gradients(fused, ends, taking(made, x, state))
    readably(monkeypatch)
    plain, plain_ends = made(x, state, **known)
    assert_close(fused, plain, **tolerance)
    close(ends, plain_ends, **tolerance)
    close(found, gradients(plain, plain_ends, taking(made, x, state)), **tolerance)


@each_cell
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("time", [1, 5])
def test_gradients_by_hand_are_those_of_small_differences(cell: Cell, masked: bool, time: int):
    rows = len(GATES[cell]) * 3
    keep = torch.rand(time, 2) > 0.4 if masked else None
    sizes = [(time, 2, rows), (rows, 3), (rows,), (2, 3), *([(2, 3)] if cell == "lstm" else [])]
    given = [torch.randn(size, dtype=torch.float64, requires_grad=True) for size in sizes]

    def states(*tensors: Tensor) -> tuple[Tensor, ...]:
        found = recurrence(cell, *tensors[:4], tensors[4] if cell == "lstm" else None, keep)
        return tuple(value for value in found if value is not None)

    assert torch.autograd.gradcheck(states, given)


@each_cell
def test_one_state_alone_gives_its_gradient(cell: Cell):
    """Of the LSTM's two outputs each may be used without the other."""
    made = layers(cell, layers=1)
    x, state = drawn(made)
    for name in state:
        _, ends = made(x, state)
        (found,) = torch.autograd.grad(ends[name].sum(), [x])
        trace = made.trace(x, state)[name][:, -1]
        assert_close(found, torch.autograd.grad(trace.sum(), [x])[0], **DOUBLE)


def library(cell: Cell, dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    more = {"nonlinearity": cell} if cell in ("tanh", "relu") else {}
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(cell, nn.RNN)
    return kind(N, H, 2, batch_first=True, **options, **more).to(dtype)


def theirs(state: Mapping[str, Tensor]) -> Any:
    """The state as the library takes it: time-major, a pair of an LSTM."""
    parts = tuple(state[name].transpose(0, 1).contiguous() for name in ("hidden", "cell") if name in state)
    return parts if len(parts) == 2 else parts[0]


def ours(state: Any) -> dict[str, Tensor]:
    parts = state if isinstance(state, tuple) else (state,)
    return dict(zip(("hidden", "cell"), (part.transpose(0, 1) for part in parts), strict=False))


@each_cell
@each_way
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, DOUBLE), (torch.float32, SINGLE)])
def test_state_dicts_go_both_ways_and_compute_the_same(
    cell: Cell, both: bool, dtype: torch.dtype, tolerance: dict[str, float]
):
    made, other = layers(cell, dtype, bidirectional=both), library(cell, dtype, bidirectional=both)
    assert list(made.state_dict()) == list(other.state_dict())
    other.load_state_dict(made.state_dict())
    again = Recurrent(cell, N, H, layers=2, bidirectional=both).to(dtype)
    again.load_state_dict(other.state_dict())
    x, state = drawn(made)
    outputs, ends = other(x, theirs(state))
    expected = gradients(outputs, ours(ends), taking(other, x, state))
    for ready in (made, again):
        found, end = ready(x, state)
        assert_close(found, outputs, **tolerance)
        close(end, ours(ends), **tolerance)
        close(gradients(found, end, taking(ready, x, state)), expected, **tolerance)


@each_cell
@each_way
def test_lengths_are_torchs_packed_sequences(cell: Cell, both: bool):
    made, other = layers(cell, bidirectional=both), library(cell, torch.float64, bidirectional=both)
    other.load_state_dict(made.state_dict())
    x, state = drawn(made)
    packed = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
    outputs, ends = other(packed, theirs(state))
    outputs, _ = pad_packed_sequence(outputs, batch_first=True)
    found, end = made(x, state, lengths=LENGTHS)
    assert_close(found, outputs, **DOUBLE)
    close(end, ours(ends), **DOUBLE)
    expected = gradients(outputs, ours(ends), taking(other, x, state))
    close(gradients(found, end, taking(made, x, state)), expected, **DOUBLE)


@each_cell
@each_way
def test_padding_never_matters(cell: Cell, both: bool):
    made = layers(cell, bidirectional=both)
    x, state = drawn(made)
    found, ends = made(x, state, lengths=LENGTHS)
    noise = x.detach().clone()
    for row, length in enumerate(LENGTHS):
        noise[row, length:] = 1e3
        assert (found[row, length:] == 0).all()
        start = {name: value[row : row + 1] for name, value in state.items()}
        alone, end = made(x[row : row + 1, :length], start)
        assert_close(found[row, :length], alone[0], **DOUBLE)
        close({name: value[row] for name, value in ends.items()}, {k: v[0] for k, v in end.items()}, **DOUBLE)
    again, others = made(noise, state, lengths=LENGTHS)
    assert torch.equal(found, again)
    assert all(torch.equal(ends[name], others[name]) for name in ends)
    by_inputs = gradients(found, ends, {"inputs": x})["inputs"]
    for row, length in enumerate(LENGTHS):
        assert not by_inputs[row, length:].any()
        assert by_inputs[row, :length].any(-1).all()


@each_cell
@each_way
@pytest.mark.parametrize("known", [{}, {"resets": resets()}], ids=["plain", "resets"])
@pytest.mark.parametrize("path", ["fused", "readable", "peephole"])
def test_a_row_without_steps_leaves_its_state_as_it_was(
    cell: Cell, both: bool, known: dict[str, Tensor], path: str, monkeypatch: pytest.MonkeyPatch
):
    if path == "peephole" and cell != "lstm":
        pytest.skip("peepholes belong to the LSTM")
    made = layers(cell, bidirectional=both, peephole=path == "peephole")
    x, state = drawn(made)
    if path == "readable":
        readably(monkeypatch)
    outputs, ends = made(x, state, lengths=torch.tensor([4, 0, 7]), **known)
    assert not outputs[1].any()
    for name, end in ends.items():
        assert torch.equal(end[1], state[name][1])
        (by_start,) = torch.autograd.grad(end[1].sum(), [state[name]], retain_graph=True)
        expected = torch.zeros_like(by_start)
        expected[1] = 1
        assert torch.equal(by_start, expected)
    by_inputs = gradients(outputs, ends, {"inputs": x})["inputs"]
    assert not by_inputs[1].any()
    others = [0, 2]
    alone, others_end = made(
        x[others], {k: v[others] for k, v in state.items()}, lengths=torch.tensor([4, 7]),
        **{k: v[others] for k, v in known.items()},
    )  # fmt: skip
    assert_close(outputs[others], alone, **DOUBLE)
    close({k: v[others] for k, v in ends.items()}, others_end, **DOUBLE)


@each_cell
@each_way
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_what_a_reset_parts_is_as_if_alone(cell: Cell, both: bool, lengths: Tensor | None):
    made = layers(cell, bidirectional=both)
    x, _ = drawn(made)
    marks = resets()
    found, _ = made(x, lengths=lengths, resets=marks)
    for row in range(B):
        end = T if lengths is None else int(lengths[row])
        bounds = [t for t in range(end) if marks[row, t]] + [end]
        alone = [made(x[row : row + 1, a:b])[0] for a, b in pairwise(bounds)]
        assert_close(found[row, :end], torch.cat(alone, 1)[0], **DOUBLE)
    (by_inputs,) = torch.autograd.grad(found[0, 3].sum(), [x])  # the document of one step, between two others
    assert by_inputs[0, 3].any()
    by_inputs[0, 3] = 0
    assert not by_inputs.any()


@each_cell
def test_a_state_handed_on_is_one_long_pass(cell: Cell):
    made = layers(cell)
    x, state = drawn(made)
    whole, ends = made(x, state)
    before, middle = made(x[:, :3], state)
    after, last = made(x[:, 3:], middle)
    assert_close(torch.cat([before, after], 1), whole, **DOUBLE)
    close(last, ends, **DOUBLE)
    expected = gradients(whole, ends, taking(made, x, state))
    found = gradients(torch.cat([before, after], 1), last, taking(made, x, state))
    close(found, expected, **DOUBLE)


@each_cell
@each_way
@pytest.mark.parametrize("time", [1, 3, 9])
def test_bfloat16_is_close(cell: Cell, both: bool, time: int):
    made = layers(cell, torch.float32, bidirectional=both)
    x, state = drawn(made, time)
    if cell == "relu":  # away from its bend, where a rounded sum has another gradient
        with torch.no_grad():
            for value in taking(made, x, state).values():
                value.abs_().mul_(0.5)
    plain, ends = made(x, state)
    expected = gradients(plain, ends, taking(made, x, state))
    with torch.autocast("cpu", torch.bfloat16):
        found, end = made(x, state)
    assert (found.dtype, end["hidden"].dtype) == (torch.float32, torch.float32)
    assert_close(found, plain, rtol=0.03, atol=0.03)
    got = gradients(found, end, taking(made, x, state))
    for name, value in expected.items():
        assert got[name].dtype == torch.float32
        largest = float(value.abs().max())
        assert_close(
            got[name], value, rtol=0.05, atol=0.05 * largest, msg=lambda t, name=name: f"{name}: {t}"
        )


def test_the_fused_kernels_are_tested_where_they_lay_out_their_weights():
    """The tests above say nothing of what they do not run: here oneDNN takes the matrices."""
    assert T >= 4
    assert can_pack(torch.zeros(4 * H, H), torch.float32) == torch.backends.mkldnn.is_available()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@each_cell
def test_the_layers_in_another_width(cell: Cell, dtype: torch.dtype):
    made = layers(cell, torch.float32)
    x, state = (value.detach() if isinstance(value, Tensor) else value for value in drawn(made))
    expected, _ = made(x, {k: v.detach() for k, v in state.items()})
    found, _ = made.to(dtype)(x.to(dtype), {k: v.detach().to(dtype) for k, v in state.items()})
    assert found.dtype == dtype
    assert_close(found.float(), expected, rtol=0.03, atol=0.03)


def test_peepholes_are_computed_by_the_readable_cell():
    made = layers("lstm", bidirectional=True, peephole=True)
    assert {name for name, _ in made.named_parameters() if "peephole" in name} == {
        f"weight_peephole_l{n}{way}" for n in (0, 1) for way in ("", "_reverse")
    }
    x, state = drawn(made)
    found, ends = made(x, state, lengths=LENGTHS, resets=resets())
    assert all(gradient.any() for gradient in gradients(found, ends, taking(made, x, {})).values())
    without = layers("lstm", bidirectional=True)
    without.load_state_dict({k: v for k, v in made.state_dict().items() if "peephole" not in k})
    assert (without(x, state)[0] - made(x, state)[0]).abs().max() > 1e-3
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "peephole" in name:
                parameter.zero_()
    assert_close(made(x, state)[0], without(x, state)[0], **DOUBLE)
    with pytest.raises(ValueError, match="peepholes belong to the LSTM"):
        Recurrent("gru", N, H, peephole=True)


@each_cell
@each_way
def test_a_trace_is_what_the_layers_compute(cell: Cell, both: bool):
    made = layers(cell, bidirectional=both)
    x, state = drawn(made)
    outputs, _ = made(x, state, lengths=LENGTHS)
    trace = made.trace(x, state, lengths=LENGTHS)
    assert trace.keys() == {"hidden", *GATES[cell], *(("cell",) if cell == "lstm" else ())}
    top = trace["hidden"][:, :, -made.directions :].flatten(2)
    for row, length in enumerate(LENGTHS):
        assert_close(top[row, :length], outputs[row, :length], **DOUBLE)
    if cell == "lstm":  # the gates are those that made the states
        kept = trace["forget"][0, 1:, 0] * trace["cell"][0, :-1, 0]
        written = (trace["input"] * trace["candidate"])[0, 1:, 0]
        assert_close(trace["cell"][0, 1:, 0], kept + written, **DOUBLE)
        assert_close(trace["hidden"], trace["output"] * trace["cell"].tanh(), **DOUBLE)


def test_dropout_is_between_layers_alone():
    x = torch.randn(B, T, N)
    one = Recurrent("gru", N, H, layers=1, dropout=0.5).train()
    assert torch.equal(one(x)[0], one.eval()(x)[0])
    two = Recurrent("gru", N, H, layers=2, dropout=0.5).train()
    assert not torch.equal(two(x)[0], two(x)[0])
    assert torch.equal(two.eval()(x)[0], two(x)[0])


def test_a_fresh_layer_is_drawn_as_it_says():
    for cell in CELLS:
        made = Recurrent(cell, N, H, forget_bias=1.5)
        for gate in made.weight_hh_l0.split(H):
            expected = torch.eye(H)
            assert_close(gate if cell == "relu" else gate @ gate.t(), expected, rtol=1e-5, atol=1e-5)
        biases = made.bias_ih_l0 + made.bias_hh_l0
        for name, bias in zip(GATES[cell], biases.split(H), strict=True):
            opened = name in ("forget", "update")
            assert_close(bias, torch.full((H,), 1.5 if opened else 0.0))
