"""The gradient's length against distance: in closed form, by another route, and for every kind of answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explain_toys import assert_as_before, condition
from PIL import Image
from torch import nn
from torch.nn import functional as F

from descent.errors import UserError
from descent.explain.distance import GradientDistance, gradient_distance
from descent.explain.sequence_figure import draw_distance
from descent.models.gpt import GPT, GPTConfig
from descent.models.rnn import RNN, RNNConfig

VOCABULARY = 40


class Echo(nn.Module):
    """y_t = sum over k of a^k x_{t-k}, so that the gradient k steps back is a^k that of now."""

    def __init__(self, a: float):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, inputs, lengths=None):
        found, state = [], torch.zeros_like(inputs[:, 0])
        for x in inputs.unbind(1):
            state = self.a * state + x
            found.append(state.sum(1, keepdim=True))
        return torch.stack(found, 1)


def network(cell: str) -> nn.Module:
    torch.manual_seed(6)
    if cell == "gpt":
        config = GPTConfig(depth=1, dim=16, heads=2, context=20, vocab_size=VOCABULARY, zero_init=False)
        model = GPT(config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        return model.train()
    return RNN(RNNConfig(cell=cell, depth=2, dim=9, embedding=6, vocab_size=VOCABULARY)).train()


def text(rows: int = 3, time: int = 20) -> dict[str, torch.Tensor]:
    """Rows without a token twice: then the gradient by a step is that by its row of the table."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.stack([torch.randperm(VOCABULARY, generator=generator)[: time + 1] for _ in range(rows)])
    return {"tokens": ids[:, :-1], "targets": ids[:, 1:].clone()}


def by_table(model: nn.Module, batch: dict[str, torch.Tensor], positions, furthest: int) -> np.ndarray:
    """The same measure from the gradients of the embedding's rows, one loss at a time."""
    model.eval()
    total = np.zeros(furthest + 1)
    for row, targets in zip(batch["tokens"], batch["targets"], strict=True):
        for t in positions:
            loss = F.cross_entropy(model(row[None])[0, t], targets[t])
            (slope,) = torch.autograd.grad(loss, model.tokens.weight)
            total += [float(slope[row[t - k]].double().norm()) for k in range(furthest + 1)]
    return total / (len(positions) * len(batch["tokens"]))


@pytest.mark.parametrize("cell", ["tanh", "relu", "lstm", "gru", "gpt"])
def test_it_equals_the_gradients_of_the_embeddings_rows(cell):
    model, batch = network(cell), text()
    before = condition(model)
    found = gradient_distance(model, batch, positions=(12, 15, 19), furthest=12)
    assert_as_before(model, before)
    assert (found.positions, found.rows) == ((12, 15, 19), 9)
    np.testing.assert_allclose(found.norms, by_table(model, batch, (12, 15, 19), 12), rtol=1e-4, atol=1e-9)


def test_a_known_decay_is_found():
    torch.manual_seed(0)
    batch = {"inputs": torch.randn(4, 30, 3), "targets": torch.randn(4, 30, 1)}
    found = gradient_distance(Echo(0.7), batch, furthest=20)
    np.testing.assert_allclose(found.relative, 0.7 ** np.arange(21), rtol=1e-5)
    assert found.reach(0.5) == 1
    assert found.reach(0.7**9 * 1.01) == 8
    assert found.positions[0] == 20
    assert found.positions[-1] == 29


def test_default_positions_have_room_before_them():
    found = gradient_distance(network("lstm"), text())
    assert found.norms.shape == (15,)
    assert found.positions == (14, 15, 16, 17, 18, 19)


def test_only_steps_with_a_target_are_followed_back():
    batch = text(time=12)
    batch["targets"][:, :-1] = -100
    batch["targets"][2] = -100
    found = gradient_distance(network("gru"), batch)
    assert (found.positions, found.rows, len(found.norms)) == ((11,), 2, 12)
    kept = {name: value[:2] for name, value in batch.items()}
    again = by_table(network("gru"), kept, (11,), 11)
    np.testing.assert_allclose(found.norms, again, rtol=1e-4, atol=1e-9)


def test_one_answer_a_row_is_followed_from_the_rows_own_end():
    torch.manual_seed(7)
    model = RNN(RNNConfig(cell="lstm", depth=1, dim=6, inputs=(3,), outputs=2, pool="last"))
    long = torch.randn(1, 10, 3)
    padded = torch.cat([long[:, :7], torch.full((1, 3, 3), 9.0)], 1)
    batch = {"inputs": padded, "lengths": torch.tensor([7]), "targets": torch.tensor([1])}
    found = gradient_distance(model, batch)
    alone = gradient_distance(model, {"inputs": long[:, :7], "targets": torch.tensor([1])})
    assert (found.positions, found.rows, len(found.norms)) == ((-1,), 1, 7)
    np.testing.assert_allclose(found.norms, alone.norms, rtol=1e-5)
    both = {
        "inputs": torch.cat([padded, long]),
        "lengths": torch.tensor([7, 10]),
        "targets": torch.tensor([1, 0]),
    }
    assert len(gradient_distance(model, both).norms) == 7
    assert gradient_distance(model, both, furthest=9).rows == 1


def test_frames_numbers_and_answers_that_belong_to_no_step():
    torch.manual_seed(8)
    model = RNN(RNNConfig(cell="gru", depth=1, dim=6, inputs=(4,), outputs=4))
    inputs = torch.randn(2, 9, 4)
    for targets in (
        (torch.rand(2, 9, 4) > 0.5).float(),
        torch.randn(2, 9, 4),
        torch.tensor([[1, 2], [3, -100]]),
    ):
        found = gradient_distance(model, {"inputs": inputs, "targets": targets}, furthest=5)
        assert found.rows == 8
        assert (found.norms > 0).all()
    adding = RNN(RNNConfig(cell="gru", depth=1, dim=6, inputs=(4,), outputs=1, pool="last"))
    x = inputs.requires_grad_(True)
    (slope,) = torch.autograd.grad((adding(x)[:, 0] - 0.5).square().sum(), x)
    found = gradient_distance(adding, {"inputs": inputs.detach(), "targets": torch.full((2,), 0.5)})
    np.testing.assert_allclose(found.norms, slope.norm(dim=2).mean(0).flip(0), rtol=1e-4)


def test_what_cannot_be_measured_is_said():
    model = network("tanh")
    for batch, options, words in [
        ({"pixels": torch.zeros(1, 3)}, {}, "reads no sequence"),
        ({"inputs": torch.zeros(1, 3, 8, 8)}, {}, "reads no sequence"),
        (text(), {"furthest": 20}, "no input is so far away"),
        (text(), {"positions": (3,), "furthest": 5}, "5 steps before them"),
        (text(), {"positions": (20,), "furthest": 5}, "5 steps before them"),
    ]:
        with pytest.raises(UserError, match=words):
            gradient_distance(model, batch, **options)


def test_curves_are_drawn_where_there_is_something_to_draw(tmp_path):
    now = GradientDistance(np.array([1.0, 0.1, 0.0]), (2,), 1)
    nothing = GradientDistance(np.zeros(3), (2,), 1)
    np.testing.assert_array_equal(nothing.relative, 0)
    path = draw_distance({"lstm": (now, nothing), "猫": (nothing, None)}, tmp_path / "a" / "distance.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
