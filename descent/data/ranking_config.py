"""What a `[data]` table of type "ranking" may say. Nothing here imports torch or numpy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from descent.config import Field
from descent.data.config import Sourced

__all__ = ["FOLDS", "RankingData"]

FOLDS = 5


class RankingData(Sourced):
    """Documents, queries, and which documents answer which query.

    A first stage, BM25, finds the `depth` best documents of a query among all; a model then ranks these anew.

    Attributes:
        source: a registered set.
        path: a folder with `corpus` and `queries`, each `.tsv` (name, tab, text) or `.jsonl` (`id` or `_id`,
            `text`, perhaps `title`), and `qrels.tsv`: query, document, grade, or the four columns of TREC. A
            grade of 1 or more is relevant, and more is better.
        length: the most tokens of a query and a document together, and of a packed row; documents are cut.
        query_length: the most tokens of a query.
        depth: how many documents the first stage gives.
        negatives: documents of the first stage that are not relevant beside a relevant one in training; drawn
            anew each epoch.
        stem: the first stage compares English words by their stems, without the commonest words.
        fold: which fifth of the queries, by a hash of their texts, is the test; the next one is validation.
        packing: "documents" puts several pairs of query and document in a row; "padded" one.
    """

    type: Literal["ranking"] = "ranking"
    length: int = Field(default=256, ge=8, le=65536)
    query_length: int = Field(default=64, ge=1)
    depth: int = Field(default=50, ge=2, le=10_000)
    negatives: int = Field(default=7, ge=1, le=1000)
    stem: bool = True
    fold: int = Field(default=0, ge=0, lt=FOLDS)
    packing: Literal["documents", "padded"] = "documents"

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.length - self.query_length < 4:
            raise ValueError("length leaves no room for a document beside a query of query_length tokens")
        return self
