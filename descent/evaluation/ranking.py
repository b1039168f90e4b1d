"""How well documents are ranked: each query's best of the first stage, ranked anew.

Legend: P pairs of a split, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import nn

from descent.data.batches import sweep
from descent.data.ranking import RankingSplit, Searched
from descent.data.rows import Row, lay_out
from descent.errors import UserError
from descent.evaluation.result import Evaluation, moved
from descent.objectives.objective import model_inputs
from descent.objectives.ranking import RankingObjective, group_losses, pair_scores

NAMES = ("loss", "ndcg10", "map", "bm25_ndcg10", "bm25_map")
"""`loss`: over all that the first stage found for a query, a mean over the queries for which it found a
relevant document, so not that of training's small groups; `ndcg10` and `map`: nDCG of the first 10 and mean
average precision, 0 to 1, as trec_eval counts them, against every judged document, found or not (K. Järvelin
and J. Kekäläinen, ACM TOIS 20, 2002; the gain is the grade); `bm25_...`: those of the first stage's own
order. Where the objective interpolates also `bm25_weight`, the first stage's share of the score."""
WEIGHTS = tuple(step / 20 for step in range(21))

Scores = NDArray[np.float64]


@runtime_checkable
class Ranked(Protocol):
    """What is ranked: queries, and the number of the query and of the document of every pair of a sweep."""

    queries: list[Searched]
    pairs: list[tuple[int, int]]


def names(objective: RankingObjective, outputs: int) -> tuple[str, ...]:
    """The metrics that can be had here."""
    return (*NAMES, "bm25_weight") if objective.config.interpolate else NAMES


def score(
    model: nn.Module, objective: RankingObjective, split: RankingSplit, batch_size: int, device: str
) -> Evaluation:
    """Scores a model on a whole split; it is in evaluation mode already.

    Where the objective interpolates, the weight is the one with the best nDCG on the validation split, which
    is scored too; on that split itself the figures are therefore a little too good.
    """
    scores, first = score_pairs(model, split, batch_size, device), first_scores(split)
    groups, grades = _judged(split)
    losses = group_losses(torch.from_numpy(scores), groups, grades)
    values = {"loss": float(losses.mean()) if len(losses) else float("nan")}
    weight = None
    if objective.config.interpolate:
        tuning = split.tuning or split
        told = scores if tuning is split else score_pairs(model, tuning, batch_size, device)
        weight = best_weight(tuning, told)
        scores = mixed(split, scores, weight)
    values |= measure(split, scores)
    values |= {f"bm25_{name}": value for name, value in measure(split, first).items()}
    return Evaluation(values if weight is None else {**values, "bm25_weight": weight}, len(split.queries))


def score_pairs(model: nn.Module, split: RankingSplit, batch_size: int = 64, device: str = "cpu") -> Scores:
    """The model's score of every pair of a sweep, in their order."""
    if getattr(getattr(model, "config", None), "head", "") == "vector":
        return score_by_vectors(model, split, batch_size, device)
    found: list[float] = []
    with torch.inference_mode():
        for batch in sweep(split, batch_size):
            found += pair_scores(model, moved(batch, device))[0].double().tolist()
    return np.array(found)


def score_by_vectors(
    model: nn.Module, split: RankingSplit, batch_size: int = 64, device: str = "cpu"
) -> Scores:
    """The cosine between the vectors of query and document of every pair of a sweep, in their order.

    Each query and each document is read once, alone, between the marks of a text.

    Args:
        model: one that answers with a vector an example.
        split: what is ranked.
        batch_size: texts at a time.
        device: the model's.
    """
    queries: dict[int, Row] = {}
    documents: dict[int, Row] = {}
    for number, (query, document) in enumerate(split.pairs):
        if query in queries and document in documents:
            continue
        example = split.example(number)
        second = int(np.flatnonzero(example["segments"])[0])
        queries.setdefault(query, {"tokens": example["tokens"][:second]})
        documents.setdefault(
            document, {"tokens": np.concatenate([example["tokens"][:1], example["tokens"][second:]])}
        )
    left, right = (
        _vectors(model, split, list(held.values()), batch_size, device) for held in (queries, documents)
    )
    rows = [{name: place for place, name in enumerate(held)} for held in (queries, documents)]
    cosines = [float(left[rows[0][query]] @ right[rows[1][document]]) for query, document in split.pairs]
    return np.array(cosines)


def _vectors(
    model: nn.Module, split: RankingSplit, texts: Sequence[Row], batch_size: int, device: str
) -> Float[torch.Tensor, "texts dim"]:
    """The vector of each text, of length 1."""
    found: list[torch.Tensor] = []
    for start in range(0, len(texts), batch_size):
        numbered = [
            {**row, "answer": np.array(0, dtype=np.int64)} for row in texts[start : start + batch_size]
        ]
        batch = moved(lay_out(numbered, split.length, pad=split.pad, ordered=True), device)
        with torch.inference_mode():
            vectors_NKD = model(**model_inputs(batch)).float()
        found.append(F.normalize(vectors_NKD[batch["targets"] == 0], dim=-1).cpu())
    return torch.cat(found)


def measure(split: Ranked, scores: Scores) -> dict[str, float]:
    """`ndcg10` and `map` of the order that scores of all pairs of a sweep give.

    Raises:
        UserError: pytrec_eval is not installed.
    """
    try:
        from pytrec_eval import RelevanceEvaluator
    except ImportError:
        raise UserError(
            "measuring a ranking needs pytrec_eval", hint="pip install 'descent[ranking]'"
        ) from None
    judged = {
        str(turn): {str(document): grade for document, grade in one.judged.items()}
        for turn, one in enumerate(split.queries)
    }
    ranked: dict[str, dict[str, float]] = {query: {} for query in judged}
    for (query, document), value in zip(split.pairs, scores.tolist(), strict=True):
        ranked[str(query)][str(document)] = value
    found = RelevanceEvaluator(judged, {"ndcg_cut_10", "map"}).evaluate(ranked)
    return {
        name: float(np.mean([found.get(query, {}).get(theirs, 0.0) for query in judged]))
        for name, theirs in (("ndcg10", "ndcg_cut_10"), ("map", "map"))
    }


def first_scores(split: Ranked) -> Scores:
    """The first stage's score of every pair of a sweep."""
    return np.concatenate([one.scores for one in split.queries])


def mixed(split: Ranked, scores: Scores, weight: float) -> Scores:
    """(1 - weight) times the model's score plus weight times the first stage's, each standardised a query."""
    query = np.array([pair[0] for pair in split.pairs])
    return (1 - weight) * _standardised(scores, query) + weight * _standardised(first_scores(split), query)


def best_weight(split: Ranked, scores: Scores) -> float:
    """The weight of the first stage with the best nDCG on a split; of equal ones the smallest."""
    return max(WEIGHTS, key=lambda weight: measure(split, mixed(split, scores, weight))["ndcg10"])


def _standardised(scores: Scores, query: NDArray[np.int64]) -> Scores:
    counts = np.maximum(np.bincount(query), 1)
    centred = scores - (np.bincount(query, scores) / counts)[query]
    spread = np.sqrt(np.bincount(query, centred**2) / counts)
    return centred / np.maximum(spread, 1e-9)[query]


def _judged(split: RankingSplit) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every pair of a sweep the number of its query and its grade."""
    grades = [max(split.queries[query].judged.get(document, 0), 0) for query, document in split.pairs]
    return torch.tensor([query for query, _ in split.pairs]), torch.tensor(grades)
