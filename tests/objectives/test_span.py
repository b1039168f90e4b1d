"""The loss of an answer's first and last token: each example over its own tokens alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from descent.data.rows import Row, lay_out
from descent.objectives import Phase, SpanConfig, SpanObjective, build_objective, model_inputs
from descent.objectives.span import own_probabilities, span_losses


class Table(nn.Module):
    """Two numbers a token, whatever stands beside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scores = nn.Embedding(50, 2)

    def forward(self, tokens: Tensor, **others: Tensor) -> Tensor:
        return self.scores(tokens)


def examples() -> list[Row]:
    draw = np.random.default_rng(1)
    rows: list[Row] = []
    for size in (5, 9, 3, 12, 4, 6):
        span = np.sort(draw.integers(0, size, 2))
        rows.append({"tokens": draw.integers(1, 50, size), "span": span})
    return rows


def by_hand(model: Table, row: Row) -> Tensor:
    logits = model(torch.from_numpy(row["tokens"]))
    first, last = row["span"].tolist()
    sides = [
        F.cross_entropy(logits[None, :, side], torch.tensor([place]))
        for side, place in enumerate((first, last))
    ]
    return (sides[0] + sides[1]) / 2


@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_is_that_of_each_example_alone(packed: bool) -> None:
    model, rows = Table(), examples()
    wanted = torch.stack([by_hand(model, row) for row in rows])
    batch = lay_out(rows, 16, pad=0, packed=packed, ordered=True)
    torch.testing.assert_close(span_losses(model(**model_inputs(batch)), batch), wanted)
    objective = build_objective(SpanConfig())
    assert isinstance(objective, SpanObjective)
    assert objective.targets(Phase(), batch) == len(rows)
    torch.testing.assert_close(objective.loss(model, Phase(), batch), wanted.mean())


def test_packed_and_padded_have_one_gradient() -> None:
    gradients = []
    for packed in (True, False):
        model = Table()
        batch = lay_out(examples(), 16, pad=0, packed=packed)
        SpanObjective().loss(model, Phase(), batch).backward()
        gradients.append(model.scores.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_no_token_of_another_document_has_a_chance() -> None:
    batch = lay_out(examples(), 16, pad=0, ordered=True)
    chances = own_probabilities(Table()(**model_inputs(batch)), batch)
    torch.testing.assert_close(chances.exp().sum(1), torch.ones(6, 2))
    assert [int(row.isfinite().all(1).sum()) for row in chances] == [5, 9, 3, 12, 4, 6]


def test_a_batch_of_padded_rows_needs_no_documents() -> None:
    rows: list[Any] = [{"tokens": np.arange(1, 8), "span": np.array([n, n + 2])} for n in range(3)]
    batch = lay_out(rows, 7, pad=0, packed=False)
    logits = Table()(batch["tokens"])
    torch.testing.assert_close(span_losses(logits, {"targets": batch["targets"]}), span_losses(logits, batch))
