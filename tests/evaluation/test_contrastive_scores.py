"""How partners are found among a whole split: ranks worked by hand, ties, batches, and texts in common."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from descent.data.similar import SimilarSplit
from descent.evaluation import contrastive, evaluate, metric_names
from descent.objectives.contrastive import Contrastive, ContrastiveConfig


class Table(nn.Module):
    """A vector for the token each example begins with."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        self.vectors = nn.Embedding.from_pretrained(vectors)

    def forward(self, tokens: Tensor, *, starts: Tensor, **others: Tensor) -> Tensor:
        return self.vectors(tokens.gather(1, starts))


def split_of(pairs: list[tuple[int, int]], count: int) -> SimilarSplit:
    rows = [{"tokens": np.array([number, 0])} for number in range(count)]
    return SimilarSplit(rows, pairs, 8, pad=0, vocab_size=count)


def random_case(count: int = 30) -> tuple[Table, list[tuple[int, int]]]:
    draw = np.random.default_rng(4)
    pairs = [(2 * n, 2 * n + 1) for n in range(count)]
    pairs += [(0, 3), (7, 20)]  # texts in common with others
    vectors = torch.from_numpy(draw.normal(size=(2 * count, 5))).float()
    vectors[1::2] = vectors[0::2] + 0.8 * torch.from_numpy(draw.normal(size=(count, 5))).float()
    return Table(vectors), pairs


def by_hand(model: Table, pairs: list[tuple[int, int]], temperature: float) -> dict[str, float]:
    unit = nn.functional.normalize(model.vectors.weight, dim=-1).double()
    ranks, losses = [], []
    for way in (0, 1):
        for pair in pairs:
            own = float(unit[pair[way]] @ unit[pair[1 - way]])
            others = [o for o in pairs if not set(o) & set(pair)]
            cosines = [float(unit[pair[way]] @ unit[o[1 - way]]) for o in others]
            ranks.append(1 + sum(cosine >= own for cosine in cosines))
            losses.append(math.log(sum(math.exp((c - own) / temperature) for c in [own, *cosines])))
    count = len(ranks)
    return {
        "loss": sum(losses) / count,
        "recall1": sum(rank == 1 for rank in ranks) / count,
        "recall10": sum(rank <= 10 for rank in ranks) / count,
        "mrr": sum(1 / rank for rank in ranks) / count,
    }


@pytest.mark.parametrize(("batch_size", "at_once"), [(64, 512), (5, 512), (64, 7)])
def test_the_figures_are_those_worked_by_hand(
    batch_size: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contrastive, "AT_ONCE", at_once)
    model, pairs = random_case()
    objective = Contrastive(ContrastiveConfig(temperature=0.3))
    found = evaluate(model, objective, split_of(pairs, 60), batch_size=batch_size)
    wanted = by_hand(model, pairs, 0.3)
    assert 0 < wanted["recall1"] < wanted["recall10"] < 1
    assert found.metrics == pytest.approx(wanted, rel=1e-5)
    assert found.examples == len(pairs)
    assert metric_names(objective, 0) == contrastive.NAMES == tuple(found.metrics)


def test_a_model_that_says_the_same_of_every_text_finds_nothing() -> None:
    pairs = [(2 * n, 2 * n + 1) for n in range(20)]
    found = evaluate(Table(torch.ones(40, 3)), Contrastive(), split_of(pairs, 40))
    assert found.metrics["recall1"] == found.metrics["recall10"] == 0
    assert found.metrics["mrr"] == pytest.approx(1 / 20)
    assert found.metrics["loss"] == pytest.approx(math.log(20))
