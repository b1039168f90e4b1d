"""CTC against the forward recursion written out: padded and alone, whole and in parts, what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from descent.errors import UserError
from descent.objectives import Phase
from descent.objectives.ctc import CTC, ctc_losses, frames_needed
from descent.objectives.objective import Batch, Objective
from descent.training.loop import Settings, accumulate

CLASSES, MELS = 4, 5
TARGETS = [[0, 0, 3], [2], [1, 2, 1, 1], []]
LENGTHS = [9, 4, 7, 6]


class Frames(nn.Module):
    """The same layer at every frame."""

    def __init__(self, outputs: int = CLASSES + 1):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(MELS, outputs)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self.layer(inputs)


def padded(targets: list[list[int]]) -> Tensor:
    rows = torch.full((len(targets), max(map(len, targets))), -100)
    for row, labels in zip(rows, targets, strict=True):
        row[: len(labels)] = torch.tensor(labels)
    return rows


def batch(targets: list[list[int]] = TARGETS, lengths: list[int] = LENGTHS) -> Batch:
    inputs = torch.randn(len(targets), max(lengths), MELS, generator=torch.Generator().manual_seed(1))
    return {"inputs": inputs, "lengths": torch.tensor(lengths), "targets": padded(targets)}


def row(whole: Batch, index: int) -> Batch:
    """One example without its padding."""
    frames, labels = LENGTHS[index], len(TARGETS[index])
    return {
        "inputs": whole["inputs"][index : index + 1, :frames],
        "lengths": torch.tensor([frames]),
        "targets": whole["targets"][index : index + 1, :labels],
    }


def by_recursion(logits: Tensor, labels: list[int]) -> Tensor:
    """-log p(labels) by the forward variables of Graves et al., equations 6 to 8, in logarithms."""
    logs, blank = logits.double().log_softmax(1), logits.shape[1] - 1
    states = [blank] + [state for label in labels for state in (label, blank)]
    never = torch.tensor(-math.inf, dtype=torch.float64)
    alpha = [logs[0, state] if s < 2 else never for s, state in enumerate(states)]
    for frame in logs[1:]:
        after = []
        for s, state in enumerate(states):
            before = alpha[max(s - 1, 0) : s + 1]
            if s >= 2 and state != blank and state != states[s - 2]:
                before = [alpha[s - 2], *before]
            real = [value for value in before if value > -math.inf]
            after.append(torch.stack(real).logsumexp(0) + frame[state] if real else never)
        alpha = after
    return -torch.stack(alpha[-2:]).logsumexp(0)


def test_losses_and_gradients_are_those_of_the_forward_recursion() -> None:
    model, data = Frames(), batch()
    outputs, losses = ctc_losses(model, data)
    expected = torch.stack(
        [by_recursion(outputs[i, :frames], TARGETS[i]) for i, frames in enumerate(LENGTHS)]
    )
    assert_close(losses.double(), expected, atol=1e-5, rtol=1e-5)
    weights = torch.tensor([1.0, 2.0, 0.5, 3.0])  # so that one row's gradient is not taken for another's
    found = torch.autograd.grad((losses * weights).sum(), outputs, retain_graph=True)[0]
    wanted = torch.autograd.grad((expected * weights).sum(), outputs)[0]
    assert_close(found, wanted.float(), atol=1e-5, rtol=1e-4)


def test_gradients_are_the_slopes_of_the_loss() -> None:
    data = batch()
    data["inputs"] = data["inputs"].double()
    model = Frames().double()

    def loss(weight: Tensor) -> Tensor:
        def layer(inputs: Tensor, lengths: Tensor) -> Tensor:
            return (inputs @ weight.T).float()

        module = nn.Module()
        module.forward = layer  # type: ignore[method-assign]
        return ctc_losses(module, data)[1].sum()

    weight = model.layer.weight.detach().requires_grad_()
    slope = torch.autograd.grad(loss(weight), weight)[0]
    step = 1e-2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(2)).double()
    difference = (loss(weight + step) - loss(weight - step)).double() / 2
    assert_close((slope * step).sum(), difference, atol=1e-4, rtol=1e-3)


def test_a_padded_row_is_the_row_alone() -> None:
    model, data = Frames(), batch()
    for index, frames in enumerate(LENGTHS):
        data["inputs"][index, frames:] = 1e3
    outputs, losses = ctc_losses(model, data)
    for index in range(len(TARGETS)):
        assert_close(ctc_losses(model, row(data, index))[1][0], losses[index])
    gradient = torch.autograd.grad(losses.sum(), outputs)[0]
    for index, frames in enumerate(LENGTHS):
        assert not gradient[index, frames:].any()
        assert gradient[index, :frames].all()


def test_all_frames_count_where_no_lengths_are_given() -> None:
    class Plain(Frames):
        def forward(self, inputs: Tensor) -> Tensor:  # type: ignore[override]
            return self.layer(inputs)

    data = batch(lengths=[9, 9, 9, 9])
    expected = ctc_losses(Frames(), data)[1]
    del data["lengths"]
    assert_close(ctc_losses(Plain(), data)[1], expected)


def gradients(model: nn.Module, objective: Objective, data: Batch, parts: int) -> tuple[Tensor, list[Tensor]]:
    model.zero_grad()
    loss, count = accumulate(model, objective, Phase(), data, data, Settings(steps=1, accumulate=parts))
    assert count == 3 + 1 + 4 + 1
    return loss, [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def test_parts_add_up_to_the_batch() -> None:
    model, data = Frames(), batch()
    loss, whole = gradients(model, CTC(), data, 1)
    assert_close(loss, ctc_losses(model, data)[1].sum() / 9)
    for parts in (2, 4):
        found, summed = gradients(model, CTC(), data, parts)
        assert_close(found, loss)
        assert_close(summed, whole)


def test_under_autocast_the_probabilities_stay_single() -> None:
    model, data = Frames(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs, losses = ctc_losses(model, data)
    assert outputs.dtype == torch.bfloat16
    assert losses.dtype == torch.float32
    rounded = torch.stack(
        [by_recursion(outputs[i, :frames].detach(), TARGETS[i]) for i, frames in enumerate(LENGTHS)]
    )
    assert_close(losses.double(), rounded, atol=1e-5, rtol=1e-5)
    losses.sum().backward()
    assert model.layer.weight.grad is not None
    assert model.layer.weight.grad.isfinite().all()


def test_frames_needed() -> None:
    assert frames_needed(padded([[0, 0, 3], [2], [1, 2, 1, 1], [], [1, 1, 1]])).tolist() == [4, 1, 5, 0, 5]


def test_just_enough_frames_are_taken_and_one_less_is_refused() -> None:
    model = Frames()
    assert ctc_losses(model, batch([[2], [1, 1, 3]], [1, 4]))[1].isfinite().all()
    with pytest.raises(UserError, match="longer than its sound") as error:
        CTC().loss(model, Phase(), batch([[2], [1, 1, 3]], [1, 3]))
    assert "row 1" in error.value.what
    assert "3 labels in 3 frames" in str(error.value)
    assert "4 frames or more" in str(error.value)
    with pytest.raises(UserError, match="0 labels in 0 frames"):
        ctc_losses(model, batch([[2], []], [1, 0]))


@pytest.mark.parametrize("labels", [[0, -100, 2], [1, -1, 2]])
def test_targets_that_are_no_string(labels: list[int]) -> None:
    with pytest.raises(UserError, match="no string of class numbers"):
        ctc_losses(Frames(), batch([[1, 2, 3], labels], [9, 9]))


def test_one_target_a_row_is_refused() -> None:
    with pytest.raises(UserError, match="strings of class numbers"):
        ctc_losses(Frames(), {**batch(), "targets": torch.tensor([0, 1, 2, 3])})


def test_the_blank_needs_an_output_of_its_own() -> None:
    with pytest.raises(UserError, match="one output more") as error:
        ctc_losses(Frames(CLASSES), batch())
    assert "class 3 and 4 outputs" in str(error.value)


def test_a_model_that_pools_is_refused() -> None:
    class Pooled(Frames):
        def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
            return self.layer(inputs).mean(1)

    with pytest.raises(UserError, match="every frame") as error:
        ctc_losses(Pooled(), batch())
    assert "model.pool" in str(error.value)
