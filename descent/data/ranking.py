"""Documents ranked by how well they answer a query: a first stage for all, then a model for its best.

The documents are of one collection, so all of them are seen; what is split is the queries, by a hash of their
texts, in five equal parts (see `RankingData.fold`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray

from descent.data.bm25 import BM25
from descent.data.dataset import IGNORED, Batch, Dataset, Indices, Split
from descent.data.entry_types import Entry
from descent.data.question_rows import Pieced
from descent.data.random import bits
from descent.data.ranking_config import FOLDS, RankingData
from descent.data.ranking_files import Collection, cranfield, read_collection
from descent.data.rows import Row, RowSplit, lay_out
from descent.data.splits import fingerprint, keys
from descent.errors import UserError

__all__ = [
    "Ranking",
    "RankingSplit",
    "Searched",
    "load_collection",
    "load_ranking",
    "pair_rows",
    "tokenize_ranking",
]


@dataclass(frozen=True)
class Searched:
    """A query with what the first stage found for it.

    Attributes:
        name: of the query.
        text: what is asked.
        found: numbers of the documents that the first stage found, the best first.
        scores: theirs.
        judged: the grade of every judged document, by its number; 1 or more is relevant.
    """

    name: str
    text: str
    found: Int[np.ndarray, " found"]
    scores: Float[np.ndarray, " found"]
    judged: dict[int, int]

    @property
    def relevant(self) -> list[int]:
        return [number for number, grade in self.judged.items() if grade > 0]


@dataclass(frozen=True)
class Ranking:
    """A collection whose queries were searched for and split.

    Attributes:
        name: the entry, or the user's folder.
        names: of the documents.
        documents: their texts.
        splits: the queries of "train", "validation" and "test" that have a relevant document.
        about: how the splits came about.
        notes: what was left out.
    """

    name: str
    names: list[str]
    documents: list[str]
    splits: dict[str, list[Searched]]
    about: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the documents, the queries, the judgements, what was found, and the splits."""
        parts = [self.corpus]
        for name, queries in self.splits.items():
            parts += [name, str(len(queries))]
            for one in queries:
                parts += [one.name, one.text, json.dumps(one.judged), json.dumps(one.found.tolist())]
        return fingerprint(parts)

    @property
    def corpus(self) -> str:
        """SHA-256 of the documents."""
        return fingerprint([part for pair in zip(self.names, self.documents, strict=True) for part in pair])

    def texts(self, split: str) -> list[str]:
        """All documents (which belong to no split) and the split's queries, for a tokenizer."""
        return [*(text for text in self.documents if text), *(one.text for one in self.splits[split])]

    def unlabelled(self, split: str) -> list[str]:
        """All documents, to pretrain on; no query, as another fold's recipe may test with it."""
        return [text for text in self.documents if text] if split == "train" else []


def load_collection(item: Entry | None, files: list[Path], path: str | None) -> Collection:
    """The collection of an entry, or of the user's folder."""
    return cranfield(files) if item is not None else read_collection(str(path))


def load_ranking(config: RankingData, item: Entry | None, files: list[Path]) -> Ranking:
    """The collection a recipe names, its queries searched for and split.

    Args:
        config: what is wanted.
        item, files: the entry and its verified files; None and [] for the user's own folder.

    Raises:
        UserError: there is no such folder, its content cannot be used, or the first stage is not installed.
    """
    name = item.name if item is not None else Path(str(config.path)).name
    held = load_collection(item, files, config.path)
    numbers = {document: number for number, document in enumerate(held.documents)}
    documents, index = list(held.documents.values()), BM25(list(held.documents.values()), config.stem)
    searched: list[Searched] = []
    for query, text in held.queries.items():
        judged = {numbers[document]: grade for document, grade in held.judged.get(query, {}).items()}
        if any(grade > 0 for grade in judged.values()):
            searched.append(Searched(query, text, *index.best(text, config.depth), judged))
    if not searched:
        raise UserError(
            f"{name}: no query has a relevant document", expected="judgements with a grade of 1 or more"
        )
    without, empty = len(held.queries) - len(searched), sum(not text for text in documents)
    notes = [f"{without:,} queries without a relevant document were left out"] if without else []
    notes += [f"{empty:,} documents have no text"] if empty else []
    splits = _folds(searched, config.fold, name)
    about = f"queries split in {FOLDS} by a hash; fold {config.fold} is the test"
    return Ranking(name, list(held.documents), documents, splits, about, tuple(notes))


def _folds(queries: list[Searched], fold: int, name: str) -> dict[str, list[Searched]]:
    """Queries by split; those of one text are in one."""
    texts = list(dict.fromkeys(one.text for one in queries))
    if len(texts) < FOLDS:
        raise UserError(f"{name}: too few queries to be split", got=len(texts), expected=f"{FOLDS} or more")
    order = np.argsort(keys(text.encode("utf-8") for text in texts), kind="stable")
    part = {texts[place]: (turn - fold) % FOLDS for turn, place in enumerate(order.tolist())}
    named = ["test", "validation", *["train"] * (FOLDS - 2)]
    return {
        split: [one for one in queries if named[part[one.text]] == split]
        for split in ("train", "validation", "test")
    }


def tokenize_ranking(ranking: Ranking, config: RankingData, tokenizer: Pieced) -> Dataset:
    """Pairs of a query and a document as rows of token ids: mark, query, mark, document, mark.

    Args:
        ranking: from `load_ranking`.
        config: its `length`, `query_length`, `negatives` and `packing`.
        tokenizer: turns texts into ids.
    """
    documents = tokenizer.encode_batch(ranking.documents)
    held = {name: RankingSplit(found, documents, config, tokenizer) for name, found in ranking.splits.items()}
    held["test"].tuning = held["validation"]
    splits: dict[str, Split] = dict(held)
    path = None if config.path is None else str(Path(config.path).expanduser().resolve())
    asked = {"length": config.length, "query_length": config.query_length, "depth": config.depth}
    return Dataset(
        name=ranking.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size, "outputs": 1},
        unit="groups",
        fingerprint=fingerprint(
            [ranking.fingerprint, tokenizer.fingerprint, json.dumps(asked), str(config.negatives)]
        ),
        preparation={
            "kind": "ranking",
            **({"source": config.source} if path is None else {"path": path}),
            **asked,
            "stem": config.stem,
            "corpus": ranking.corpus,
        },
        about=ranking.about,
        notes=ranking.notes,
    )


def pair_rows(
    query: Sequence[int],
    documents: Sequence[Sequence[int]],
    tokenizer: Pieced,
    length: int,
    query_length: int,
) -> list[Row]:
    """A query beside each of some documents, as examples; what is too long is cut."""
    start = [tokenizer.begin, *query[:query_length], tokenizer.separator]
    rows: list[Row] = []
    for ids in documents:
        tokens = [*start, *ids[: length - len(start) - 1], tokenizer.separator]
        segments = (np.arange(len(tokens)) >= len(start)).astype(np.int64)
        rows.append(
            {"tokens": np.asarray(tokens, dtype=np.int64), "segments": segments, "answer": np.array(0)}
        )
    return rows


class RankingSplit(RowSplit):
    """Pairs of queries and documents.

    A sweep gives every pair of a query and a document that the first stage found, query after query. An
    example of training is a group: a query with one of its relevant documents, and with others that the
    first stage found and that are not relevant, drawn from (seed, epoch, group). `targets` (N, K, 2) holds of
    each pair the number of its group (in a sweep of its query) and its grade, 0 or more (in a group 1 for the
    relevant one); -100 where there is no pair.

    Args:
        queries: at least one, each with a relevant document.
        documents: the ids of each.
        config: `length`, `query_length`, `negatives` and `packing`.
        tokenizer: for its marks and the queries.

    Attributes:
        pairs: (query, document) of each pair of a sweep, by their numbers.
        tuning: the split on which what is chosen after training is chosen; None = this one.
    """

    tuning: RankingSplit | None = None

    def __init__(
        self,
        queries: Sequence[Searched],
        documents: Sequence[Sequence[int]],
        config: RankingData,
        tokenizer: Pieced,
    ):
        self.queries, self.negatives = list(queries), config.negatives
        asked = tokenizer.encode_batch([one.text for one in queries])
        self.pairs = [(turn, int(n)) for turn, one in enumerate(queries) for n in one.found]
        place = {pair: number for number, pair in enumerate(self.pairs)}
        more = [(turn, n) for turn, one in enumerate(queries) for n in one.relevant if (turn, n) not in place]
        place |= {pair: number for number, pair in enumerate(more, len(self.pairs))}
        # a grade below 0 is neither right nor wrong
        self._wrong = [
            np.array(
                [place[turn, int(n)] for n in one.found if one.judged.get(int(n), 0) == 0], dtype=np.int64
            )
            for turn, one in enumerate(queries)
        ]
        self._groups = [(turn, place[turn, n]) for turn, one in enumerate(queries) for n in one.relevant]
        rows: list[Row] = []
        for turn, number in [*self.pairs, *more]:
            texts = [documents[number]]
            rows += pair_rows(asked[turn], texts, tokenizer, config.length, config.query_length)
        packing = config.packing
        super().__init__(
            rows, config.length, pad=tokenizer.pad, vocab_size=tokenizer.vocab_size, packing=packing
        )

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def whole(self) -> int:
        return len(self.pairs)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        chosen: list[tuple[int, int, int]] = []  # of each pair its number, its group and its grade
        for index in indices.tolist():
            if seed is None:
                query, document = self.pairs[index]
                chosen.append((index, query, max(self.queries[query].judged.get(document, 0), 0)))
                continue
            query, right = self._groups[index]
            group = epoch * len(self) + index
            chosen.append((right, group, 1))
            chosen += [(wrong, group, 0) for wrong in self._drawn(query, seed, epoch, index).tolist()]
        rows = [
            {**self.example(pair), "answer": np.array(turn, dtype=np.int64)}
            for turn, (pair, _, _) in enumerate(chosen)
        ]
        packed = self.packing == "documents"
        batch = lay_out(rows, self.length, pad=self.pad, packed=packed, ordered=seed is None)
        known = torch.tensor([part[1:] for part in chosen])
        places = batch["targets"]
        batch["targets"] = known[places.clamp_min(0)].masked_fill(places[..., None] == IGNORED, IGNORED)
        return batch

    def _drawn(self, query: int, seed: int, epoch: int, group: int) -> NDArray[np.int64]:
        """Pairs with documents that are not relevant, for a group."""
        pool = self._wrong[query]
        order = np.argsort(bits(seed, epoch, "negatives", len(pool), group), kind="stable")
        return pool[order[: self.negatives]]

    def describe(self) -> str:
        return (
            f"{len(self.queries):,} queries, {len(self):,} relevant documents, {self.whole:,} pairs to rank"
        )
