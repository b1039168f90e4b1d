"""What models that find things say: the answer to a question in a text, the documents that answer a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from descent.data.bm25 import BM25
from descent.data.question_rows import Question, QuestionSplit
from descent.data.questions_config import QuestionsData
from descent.data.ranking import load_collection, pair_rows
from descent.data.registry import entry, locate
from descent.data.rows import lay_out
from descent.data.splits import fingerprint
from descent.errors import UserError
from descent.evaluation.span import answers_of
from descent.objectives.ranking import pair_scores
from descent.text import Tokenizer

__all__ = ["FINDING_KINDS", "found_answers"]

FINDING_KINDS = ("questions", "ranking")
"""Kinds of data whose models find a place in a text, or texts."""
AT_ONCE = 64
"""Windows or pairs of a batch."""

Answer = dict[str, Any]


def found_answers(
    model: nn.Module, tokenizer: Tokenizer, preparation: Mapping[str, Any], inputs: Sequence[Any]
) -> Iterator[Answer | UserError]:
    """For each input, in order, what the model finds, or what is wrong with the input.

    Args:
        model: in evaluation mode.
        tokenizer, preparation: as in training.
        inputs: for questions mappings with `question` and `context`, or both as a pair; for a ranking
            queries, or mappings with `query`.

    Returns:
        For questions `answer` (empty: there is none), its place `start` and `end`, and `probability`. For a
        ranking `ranked`, the best first: of each document `document` (its name), `text`, the model's `score`
        and `bm25`.
    """
    answer = _answer if preparation["kind"] == "questions" else _rank
    for item in inputs:
        try:
            yield answer(model, tokenizer, preparation, item)
        except UserError as error:
            yield error


def _answer(model: nn.Module, tokenizer: Tokenizer, preparation: Mapping[str, Any], item: Any) -> Answer:
    question, context = _texts(item, ("question", "context"))
    options = {name: preparation[name] for name in ("length", "stride", "question_length", "longest")}
    config = QuestionsData(path="-", **options)
    asked = Question("", question, context)
    split = QuestionSplit([asked], config, tokenizer, preparation["unanswerable"])
    found = answers_of(model, split, AT_ONCE, _device(model))[0]
    return {"answer": found.text, "start": found.start, "end": found.end, "probability": found.probability}


def _rank(model: nn.Module, tokenizer: Tokenizer, preparation: Mapping[str, Any], item: Any) -> Answer:
    (query,) = _texts(item, ("query",))
    source, path = preparation.get("source"), preparation.get("path")
    names, texts, index = _searchable(source, path, preparation["stem"], preparation["corpus"])
    numbers, first = index.best(query, preparation["depth"])
    documents = tokenizer.encode_batch([texts[number] for number in numbers])
    length = preparation["length"]
    rows = pair_rows(tokenizer.encode(query), documents, tokenizer, length, preparation["query_length"])
    scores: list[float] = []
    for start in range(0, len(rows), AT_ONCE):
        batch = lay_out(rows[start : start + AT_ONCE], length, pad=tokenizer.pad, ordered=True)
        batch["targets"] = torch.stack([batch["targets"]] * 2, dim=-1)
        held = {name: value.to(_device(model)) for name, value in batch.items()}
        with torch.inference_mode():
            scores += pair_scores(model, held)[0].tolist()
    order = np.argsort(-np.array(scores), kind="stable")
    ranked = [
        {
            "document": names[numbers[n]],
            "score": scores[n],
            "bm25": float(first[n]),
            "text": texts[numbers[n]],
        }
        for n in order
    ]
    return {"ranked": ranked}


@lru_cache(maxsize=2)
def _searchable(
    source: str | None, path: str | None, stem: bool, corpus: str
) -> tuple[list[str], list[str], BM25]:
    """The documents of the collection that the model was trained on: names, texts and index.

    Raises:
        UserError: they are not there any more, or are others.
    """
    if path is not None and not Path(path).is_dir():
        raise UserError("the folder of documents that the model was trained on is gone", got=path)
    item = None if source is None else entry(source)
    held = load_collection(item, [] if item is None else locate(item.name), path)
    names, texts = list(held.documents), list(held.documents.values())
    if fingerprint([part for pair in zip(names, texts, strict=True) for part in pair]) != corpus:
        raise UserError(
            "the documents are no longer those that the model was trained on",
            got=path or source,
            hint="train it anew on them, or bring the old files back",
        )
    return names, texts, BM25(texts, stem)


def _texts(item: Any, names: tuple[str, ...]) -> tuple[str, ...]:
    """The texts of an input, each of some words."""
    if isinstance(item, Mapping):
        lacking = next((name for name in names if name not in item), None)
        if lacking is not None:
            got, wanted = ", ".join(map(str, item)), " and ".join(names)
            raise UserError(f"there is no {lacking!r} in the input", got=got, expected=wanted)
        texts = tuple(item[name] for name in names)
    else:
        texts = (item,) if isinstance(item, str) else tuple(item) if isinstance(item, (list, tuple)) else ()
    if len(texts) != len(names) or not all(isinstance(text, str) for text in texts):
        raise UserError("the model reads texts", got=item, expected=" and ".join(names))
    for name, text in zip(names, texts, strict=True):
        if not text.strip():
            raise UserError(f"the {name} is empty", expected="a text")
    return texts


def _device(model: nn.Module) -> str:
    return str(next(model.parameters()).device)
