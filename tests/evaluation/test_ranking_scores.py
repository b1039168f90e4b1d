"""Scores of a ranking: nDCG and MAP worked by hand, BM25 beside, both mixed, vectors for pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from descent.data.ranking import RankingSplit, Searched
from descent.data.ranking_config import RankingData
from descent.evaluation import evaluate, metric_names
from descent.evaluation.ranking import (
    best_weight,
    first_scores,
    measure,
    mixed,
    score_by_vectors,
    score_pairs,
)
from descent.objectives.ranking import RankingConfig, RankingObjective
from descent.text import train

pytest.importorskip("pytrec_eval")

TEXTS = ["a", "bb", "ccc", "dddd", "eeeee", "ffffff"]
CONFIG = RankingData(path="own", length=16, query_length=4)


def searched(name: str, found: list[int], judged: dict[int, int]) -> Searched:
    scores = np.linspace(5, 1, len(found))
    return Searched(name, name, np.array(found), scores, judged)


# document 5 is relevant to x but was not found; grade -1 and what is not judged count as 0
QUERIES = [searched("x", [3, 0, 1, 4], {0: 1, 1: 3, 5: 2, 3: -1}), searched("y", [2, 5, 4], {4: 2})]


class Longer(nn.Module):
    """Scores a pair by the length of its document, so that the longest comes first."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.tensor(sign))

    def forward(self, tokens: Tensor, *, starts: Tensor, documents: Tensor, **others: Tensor) -> Tensor:
        count = torch.arange(starts.shape[1])[:, None]
        return self.sign * (documents[:, None] == count).sum(-1, keepdim=True).float()


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train("char", ["abcdefxy"], marks="bert")


@pytest.fixture
def split(tokenizer: Any) -> RankingSplit:
    return RankingSplit(QUERIES, tokenizer.encode_batch(TEXTS), CONFIG, tokenizer)


def ndcg(order: list[int], judged: dict[int, int]) -> float:
    gains = [max(judged.get(number, 0), 0) for number in order]
    ideal = sorted((grade for grade in judged.values() if grade > 0), reverse=True)
    sums = [sum(gain / math.log2(place + 2) for place, gain in enumerate(held)) for held in (gains, ideal)]
    return sums[0] / sums[1]


def average_precision(order: list[int], judged: dict[int, int]) -> float:
    hits = [place for place, number in enumerate(order, 1) if judged.get(number, 0) > 0]
    return sum((turn + 1) / place for turn, place in enumerate(hits)) / sum(g > 0 for g in judged.values())


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_figures_are_those_worked_by_hand(split: RankingSplit, batch_size: int) -> None:
    found = evaluate(Longer(), RankingObjective(), split, batch_size=batch_size)
    orders = [[4, 3, 1, 0], [5, 4, 2]]
    firsts = [one.found.tolist() for one in QUERIES]
    for name, held in (("", orders), ("bm25_", firsts)):
        pairs = [(order, one.judged) for order, one in zip(held, QUERIES, strict=True)]
        assert found.metrics[f"{name}ndcg10"] == pytest.approx(np.mean([ndcg(*pair) for pair in pairs]))
        assert found.metrics[f"{name}map"] == pytest.approx(
            np.mean([average_precision(*pair) for pair in pairs])
        )
    assert found.examples == 2
    assert tuple(found.metrics) == metric_names(RankingObjective(), 1)
    sizes = [torch.tensor([4.0, 1, 2, 5]), torch.tensor([3.0, 6, 5])]
    chances = [scores.log_softmax(0) for scores in sizes]
    wanted = -(chances[0][[1, 2]].mean() + chances[1][2]) / 2
    assert found.metrics["loss"] == pytest.approx(wanted.item(), rel=1e-5)


def test_only_the_first_ten_count_for_ndcg(tokenizer: Any) -> None:
    one = searched("x", list(range(12)), {10: 1})
    split = RankingSplit([one], tokenizer.encode_batch(["a"] * 12), CONFIG, tokenizer)
    found = measure(split, first_scores(split))
    assert found == {"ndcg10": 0.0, "map": pytest.approx(1 / 11)}


def test_mixing_goes_from_the_model_to_the_first_stage(split: RankingSplit) -> None:
    scores = score_pairs(Longer(), split)
    assert measure(split, mixed(split, scores, 0.0)) == measure(split, scores)
    assert measure(split, mixed(split, scores, 1.0)) == measure(split, first_scores(split))
    by_query = mixed(split, 1000 * scores + 7, 0.5)
    np.testing.assert_allclose(by_query, mixed(split, scores, 0.5), atol=1e-9)
    tried = [measure(split, mixed(split, scores, step / 20))["ndcg10"] for step in range(21)]
    assert best_weight(split, scores) == tried.index(max(tried)) / 20


def test_the_weight_is_chosen_on_the_validation_split(split: RankingSplit, tokenizer: Any) -> None:
    # there the longest document is the wrong one, so the first stage alone is best
    other = [searched("y", [0, 1, 5], {0: 3})]
    split.tuning = RankingSplit(other, tokenizer.encode_batch(TEXTS), CONFIG, tokenizer)
    objective = RankingObjective(RankingConfig(interpolate=True))
    found = evaluate(Longer(), objective, split).metrics
    assert tuple(found) == metric_names(objective, 1)
    assert found["bm25_weight"] == best_weight(split.tuning, score_pairs(Longer(), split.tuning)) > 0
    weighted = measure(split, mixed(split, score_pairs(Longer(), split), found["bm25_weight"]))
    assert (found["ndcg10"], found["map"]) == (weighted["ndcg10"], weighted["map"])


class Bag(nn.Module):
    """The mean of the vectors of an example's tokens."""

    class config:
        head = "vector"

    def __init__(self, size: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.table = nn.Embedding(size, 5)

    def forward(self, tokens: Tensor, *, starts: Tensor, documents: Tensor, **others: Tensor) -> Tensor:
        own = (documents[:, None] == torch.arange(starts.shape[1])[:, None]).float()
        return own @ self.table(tokens) / own.sum(-1, keepdim=True).clamp_min(1)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_vectors_score_by_their_cosine(split: RankingSplit, tokenizer: Any, batch_size: int) -> None:
    model = Bag(tokenizer.vocab_size)

    def vector(text: str) -> Tensor:
        ids = [tokenizer.begin, *tokenizer.encode(text), tokenizer.separator]
        return model.table(torch.tensor(ids)).mean(0)

    wanted = [
        torch.cosine_similarity(vector(QUERIES[query].text), vector(TEXTS[document]), dim=0).item()
        for query, document in split.pairs
    ]
    np.testing.assert_allclose(score_by_vectors(model, split, batch_size), wanted, rtol=1e-5)
    np.testing.assert_allclose(score_pairs(model, split, batch_size), wanted, rtol=1e-5)
