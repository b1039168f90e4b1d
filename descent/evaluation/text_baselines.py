"""What a classifier of texts is measured by: the most frequent class, and a linear model of their words."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import hstack
from sklearn import metrics as sk
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from descent.data.sentences import Sentences

__all__ = ["TextBaseline", "linear_words", "majority"]

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Inverse regularisers that are tried."""
MOST_FEATURES = 200_000
_SAMPLE = 200


@dataclass(frozen=True)
class TextBaseline:
    """A baseline's scores on one split.

    Attributes:
        accuracy: the share of texts whose class it says.
        macro_f1: the plain mean of the classes' F1.
        about: how it was chosen.
    """

    accuracy: float
    macro_f1: float
    about: str


def majority(texts: Sentences) -> dict[str, TextBaseline]:
    """The class that most training texts are of, said of every text; scored on each held-out split."""
    counts = Counter(one.label for one in texts.splits["train"])
    best = min(counts, key=lambda label: (-counts[label], label))
    return {
        split: _scored(texts, split, [best] * len(texts.splits[split]), f"always {best!r}")
        for split in _held_out(texts)
    }


def linear_words(texts: Sentences) -> dict[str, TextBaseline]:
    """Logistic regression on TF-IDF of one word and two in a row, or of 1 to 3 Chinese characters.

    Of a pair each text has features of its own. The regulariser is the one with the best accuracy on the
    validation split (on the training split where there is none); the model is fitted on the training split,
    and scored on each held-out one.
    """
    by_sign = _written_in_signs(texts.texts("train"))
    readers = [_reader(by_sign) for _ in range(2 if texts.double else 1)]
    train = _features(readers, texts, "train", fit=True)
    labels = [one.label for one in texts.splits["train"]]
    judge = "validation" if "validation" in texts.splits else "train"
    judged, wanted = _features(readers, texts, judge), [one.label for one in texts.splits[judge]]
    best: tuple[float, float, LogisticRegression] | None = None
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000).fit(train, labels)
        accuracy = float(model.score(judged, wanted))
        if best is None or accuracy > best[0]:
            best = accuracy, strength, model
    assert best is not None
    form = "1 to 3 characters" if by_sign else "1 and 2 words"
    about = f"{train.shape[1]:,} features of {form}, C={best[1]:g} by the {judge} split"
    return {
        split: _scored(
            texts, split, [str(c) for c in best[2].predict(_features(readers, texts, split))], about
        )
        for split in _held_out(texts)
    }


def _held_out(texts: Sentences) -> list[str]:
    return [split for split in texts.splits if split != "train"]


def _reader(by_sign: bool) -> TfidfVectorizer:
    form: dict[str, Any] = {"sublinear_tf": True, "max_features": MOST_FEATURES, "dtype": np.float32}
    if by_sign:
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), **form)
    return TfidfVectorizer(token_pattern=r"(?u)\w+|[^\w\s]", ngram_range=(1, 2), **form)


def _features(readers: Sequence[TfidfVectorizer], texts: Sentences, split: str, fit: bool = False) -> Any:
    sides = ([one.text for one in texts.splits[split]], [one.second for one in texts.splits[split]])
    parts = [
        reader.fit_transform(side) if fit else reader.transform(side)
        for reader, side in zip(readers, sides, strict=False)
    ]
    return hstack(parts).tocsr()


def _written_in_signs(texts: Sequence[str]) -> bool:
    """Whether most letters of the first texts are Chinese characters or kana, which no blanks set apart."""
    letters = [letter for text in texts[:_SAMPLE] for letter in text[:1000] if letter.isalpha()]
    signs = sum(
        unicodedata.name(letter, "").startswith(("CJK", "HIRAGANA", "KATAKANA")) for letter in letters
    )
    return 2 * signs > len(letters)


def _scored(texts: Sentences, split: str, said: list[str], about: str) -> TextBaseline:
    true = [one.label for one in texts.splits[split]]
    f1 = sk.f1_score(true, said, labels=list(texts.labels), average="macro", zero_division=0)  # type: ignore[arg-type]
    return TextBaseline(float(sk.accuracy_score(true, said)), float(f1), about)
