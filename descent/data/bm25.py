"""The first stage of a search: BM25 over all documents.

bm25s computes it (X. H. Lù, arXiv:2407.03618) in Lucene's form with k1 = 1.5 and b = 0.75; see S. Robertson
and H. Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009. Words are small letters and
digits between other signs; of Chinese, Japanese and Korean every two neighbouring characters are a term.
English words may be cut to their stems by Snowball's rules (M. Porter, 2001).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from descent.errors import UserError

__all__ = ["BM25", "terms"]

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_TERM = re.compile(f"[{_CJK}]+|[^\\W_{_CJK}]+")
_FIRST = re.compile(f"[{_CJK}]")
STOPWORDS = frozenset(
    [
        "a", "an", "and", "are", "as", "at", "be", "but", "by", "for", "if", "in", "into", "is", "it", "no",
        "not", "of", "on", "or", "such", "that", "the", "their", "then", "there", "these", "they", "this",
        "to", "was", "will", "with",
    ]
)  # fmt: skip
"""The words that Lucene's English analyser leaves out."""


def terms(text: str, stem: Callable[[str], str] | None = None) -> list[str]:
    """The terms of a text, in its order.

    Args:
        text: any.
        stem: cuts a word to its stem; without it words stay whole, and the commonest are not left out.
    """
    found: list[str] = []
    words: list[str] = []
    for part in _TERM.findall(text.lower()):
        if _FIRST.match(part):
            found += [part[at : at + 2] for at in range(max(len(part) - 1, 1))]
        elif stem is None or part not in STOPWORDS:
            words.append(part)
    return [*found, *(words if stem is None else map(stem, words))]


class BM25:
    """An index of documents.

    Args:
        documents: their texts, in the order of their numbers; an empty one is found by no query.
        stem: see `RankingData.stem`.

    Raises:
        UserError: bm25s or the stemmer is not installed.
    """

    def __init__(self, documents: Sequence[str], stem: bool):
        try:
            import bm25s
            import snowballstemmer
        except ImportError:
            raise UserError(
                "the first stage of ranking needs bm25s and snowballstemmer",
                hint="pip install 'descent[ranking]'",
            ) from None
        self._stem = cache(snowballstemmer.stemmer("english").stemWord) if stem else None
        held = [terms(text, self._stem) for text in documents]
        self._known = {term for one in held for term in one}
        self._index = bm25s.BM25(k1=1.5, b=0.75, method="lucene")
        if self._known:
            self._index.index(held, show_progress=False)
        self._count = len(held)

    def best(self, query: str, depth: int) -> tuple[Int[np.ndarray, " found"], Float[np.ndarray, " found"]]:
        """The numbers and scores of the best documents, the best first; of equal ones the earlier first."""
        asked = [term for term in terms(query, self._stem) if term in self._known]
        scores = self._index.get_scores(asked) if asked else np.zeros(self._count, dtype=np.float32)
        order = np.argsort(-scores, kind="stable")[:depth]
        return order.astype(np.int64), scores[order].astype(np.float64)
