"""InfoNCE: worked by hand, the same packed and padded, and no pair of a common text against another."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from descent.data.rows import Row
from descent.data.similar import SimilarSplit
from descent.errors import UserError
from descent.models.bert import BERT, BERTConfig
from descent.objectives import Contrastive, ContrastiveConfig, Phase, build_objective
from descent.objectives.contrastive import pair_vectors, sharing

SIZES = (3, 5, 2, 6, 4, 3)
PAIRS = [(0, 1), (2, 3), (4, 5), (0, 5)]  # the last shares a text with the first, and with the third


def split_of(packing: Any = "documents", pairs: list[tuple[int, int]] = PAIRS) -> SimilarSplit:
    rows: list[Row] = [
        {"tokens": np.array([2, *range(5 + 7 * number, 5 + 7 * number + size), 3])}
        for number, size in enumerate(SIZES)
    ]
    return SimilarSplit(rows, pairs, 16, pad=0, vocab_size=60, packing=packing)


def bert(dropout: float = 0.0) -> BERT:
    torch.manual_seed(0)
    return BERT(BERTConfig(depth=2, dim=16, heads=2, vocab_size=60, head="vector", dropout=dropout))


def alone(model: BERT, split: SimilarSplit) -> Tensor:
    """The normalised vector of each text, each read by itself."""
    found = [model(torch.from_numpy(split.example(n)["tokens"])[None])[0] for n in range(len(SIZES))]
    return nn.functional.normalize(torch.stack(found), dim=-1).detach()


def by_hand(vectors: Tensor, pairs: list[tuple[int, int]], temperature: float) -> float:
    losses = []
    for way in (0, 1):
        for pair in pairs:
            others = [other for other in pairs if other == pair or not set(other) & set(pair)]
            scores = [float(vectors[pair[way]] @ vectors[other[1 - way]]) / temperature for other in others]
            own = scores[others.index(pair)]
            losses.append(math.log(sum(math.exp(score) for score in scores)) - own)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("packing", ["documents", "padded"])
def test_the_loss_worked_by_hand(packing: str) -> None:
    model, split = bert().eval(), split_of(packing)
    objective = build_objective(ContrastiveConfig(temperature=0.2))
    assert isinstance(objective, Contrastive)
    batch = split.gather(np.array([3, 0, 2, 1]), seed=1, epoch=0)
    assert objective.targets(Phase(), batch) == 4
    assert not objective.splittable
    wanted = by_hand(alone(model, split), PAIRS, 0.2)
    assert objective.loss(model, Phase(), batch).item() == pytest.approx(wanted, rel=1e-4)


def test_vectors_come_in_the_order_of_the_turns() -> None:
    model, split = bert().eval(), split_of()
    first, second, texts = pair_vectors(model, split.gather(np.array([2, 1]), seed=5, epoch=0))
    vectors = alone(model, split)
    assert texts.tolist() == [list(PAIRS[1]), list(PAIRS[2])]
    torch.testing.assert_close(first, vectors[[2, 4]], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(second, vectors[[3, 5]], rtol=1e-4, atol=1e-5)


def test_packed_and_padded_have_one_gradient() -> None:
    gradients = []
    for packing in ("documents", "padded"):
        model = bert().eval()
        batch = split_of(packing).gather(np.arange(4), seed=0, epoch=0)
        Contrastive().loss(model, Phase(), batch).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-3, atol=1e-6)
    assert gradients[0]["tokens.weight"].abs().max() > 0


def test_pairs_that_share_a_text_are_no_negatives() -> None:
    texts = torch.tensor(PAIRS)
    wanted = torch.zeros(4, 4, dtype=torch.bool)
    for one, other in ((0, 3), (2, 3)):
        wanted[one, other] = wanted[other, one] = True
    torch.testing.assert_close(sharing(texts, texts), wanted)
    torch.testing.assert_close(sharing(texts[2:], texts, 2), wanted[2:])


def test_a_text_beside_itself_is_told_apart_by_dropout_alone() -> None:
    split = split_of(pairs=[(n, n) for n in range(6)])
    batch = split.gather(np.arange(6), seed=0, epoch=0)
    model = bert(dropout=0.3)
    first, second, _ = pair_vectors(model.eval(), batch)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    first, second, _ = pair_vectors(model.train(), batch)
    assert (first - second).abs().max() > 0.05


def test_learning_brings_partners_together() -> None:
    model, split = bert(), split_of(pairs=[(0, 1), (2, 3), (4, 5)])
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for step in range(40):
        loss = Contrastive().loss(model, Phase(), split.gather(np.arange(3), seed=0, epoch=step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]


def test_what_does_not_fit_is_refused() -> None:
    from descent.recipes import resolve

    for changes, message in (
        (["model.head=classes"], "model.head must be vector"),
        (["budget.batch_size=1"], "batch_size must be 2 or more"),
        (["data.length=600"], "longer than model.context"),
        (["objective.temperature=0.0"], "temperature"),
        (["objective.type=masked"], "do not go together"),
    ):
        with pytest.raises(UserError, match=message):
            resolve("bert-similar", changes)
