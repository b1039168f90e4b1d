"""How well tags and the names they stand for are predicted: every sentence of a split, once.

A predicted name is right if its first word, its last word and its type are (conlleval; E. Tjong Kim Sang,
F. De Meulder, Introduction to the CoNLL-2003 shared task, 2003).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from descent.data.batches import sweep
from descent.data.chunks import chunks
from descent.data.dataset import IGNORED, Batch, Split
from descent.data.entities import EntitySplit
from descent.errors import UserError
from descent.evaluation.result import Evaluation, moved
from descent.objectives.tagging import Tagging, tag_logits

__all__ = ["NAMES", "by_sentence", "name_scores", "score", "surface_f1"]

NAMES: tuple[str, ...] = ("loss", "accuracy", "precision", "recall", "f1", "surface_f1")
"""`loss`: in nats a word; `accuracy`: the share of words whose tag is right; `precision`, `recall`, `f1`: of
names; `surface_f1`: of the different names, however often each occurs (see `surface_f1`)."""


def score(model: Any, objective: Tagging, split: Split, batch_size: int, device: str) -> Evaluation:
    """Scores a model on a whole split; it is in evaluation mode already.

    Raises:
        UserError: the split has no words with tags.
    """
    if not isinstance(split, EntitySplit):
        raise UserError("tagging is scored on words with tags", got=type(split).__name__)
    total, true, said = 0.0, [], []
    for batch in sweep(split, batch_size):
        held = moved(batch, device)
        logits, targets = tag_logits(model, held)
        total += F.cross_entropy(logits, targets, reduction="none").double().sum().item()
        true += by_sentence(targets.cpu(), batch)
        said += by_sentence(logits.argmax(-1).cpu(), batch)
    gold, predicted = (_whole(split, tags) for tags in (true, said))
    words = sum(map(len, gold))
    right = sum(a == b for g, p in zip(gold, predicted, strict=True) for a, b in zip(g, p, strict=True))
    values = {"loss": total / max(words, 1), "accuracy": right / max(words, 1)}
    values |= name_scores(gold, predicted)
    values["surface_f1"] = surface_f1(split.words, gold, predicted)
    return Evaluation(values, words)


def _whole(split: EntitySplit, tags: list[list[int]]) -> list[list[str]]:
    """The tags of each sentence, those that were cut put together again."""
    found: list[list[str]] = [[] for _ in split.words]
    for owner, part in zip(split.owners, tags, strict=True):
        found[owner] += [split.tags[tag] for tag in part]
    return found


def by_sentence(tags: Tensor, batch: Batch) -> list[list[int]]:
    """Numbers of the words of a batch, one after another, as lists by example.

    Args:
        tags: one a target of the batch that is not ignored, row by row.
        batch: with `targets` and `documents` (batch, time).
    """
    asked = batch["targets"] != IGNORED
    rows = torch.arange(len(asked))[:, None].expand_as(asked)[asked].tolist()
    documents = batch["documents"][asked].tolist()
    found: dict[tuple[int, int], list[int]] = {}
    for row, document, tag in zip(rows, documents, tags.tolist(), strict=True):
        found.setdefault((row, document), []).append(tag)
    return list(found.values())


def name_scores(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """`precision`, `recall` and `f1` of names, from the tags of each sentence; 0 / 0 counts as 0.

    As conlleval counts, in any scheme of tags, but as shares of 1 in place of percent.
    """
    true = {(number, chunk) for number, tags in enumerate(gold) for chunk in chunks(tags)}
    said = {(number, chunk) for number, tags in enumerate(predicted) for chunk in chunks(tags)}
    precision, recall, f1 = _shares(len(true & said), len(said), len(true))
    return {"precision": precision, "recall": recall, "f1": f1}


def surface_f1(
    words: Sequence[Sequence[str]], gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> float:
    """F1 over the different pairs of a name's words and its type, each counted once in the whole split.

    L. Derczynski et al., Results of the WNUT2017 shared task, 2017, section 4.
    """
    true, said = (
        {
            (tuple(own[chunk.start : chunk.end]), chunk.type)
            for own, tags in zip(words, found, strict=True)
            for chunk in chunks(tags)
        }
        for found in (gold, predicted)
    )
    return _shares(len(true & said), len(said), len(true))[2]


def _shares(right: int, said: int, true: int) -> tuple[float, float, float]:
    precision, recall = right / max(said, 1), right / max(true, 1)
    return precision, recall, 2 * right / max(said + true, 1)
