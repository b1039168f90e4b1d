"""Which tokens a masked language model is to find, and what stands in their place.

J. Devlin et al., BERT, arXiv:1810.04805, section 3.1 and appendix A.1: of the tokens 15% are chosen; in the
place of a chosen one stands [MASK] in 80% of cases, a random token in 10%, and in 10% the token itself. Whole
words are the authors' later variant: all pieces of a word are chosen, or none.

Legend: N rows, T tokens of a row.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import pad

from descent.data.dataset import IGNORED, Batch
from descent.data.random import bits

if TYPE_CHECKING:

    class Pieces(Protocol):
        """A text in tokens: their ids, and where in the text each stands."""

        @property
        def ids(self) -> list[int]: ...
        @property
        def spans(self) -> list[tuple[int, int]]: ...

    class Marked(Protocol):
        """What masking needs of a tokenizer."""

        @property
        def vocab_size(self) -> int: ...
        @property
        def fingerprint(self) -> str: ...
        @property
        def begin(self) -> int: ...
        @property
        def separator(self) -> int: ...
        @property
        def mask(self) -> int: ...
        @property
        def pad(self) -> int: ...
        @property
        def special(self) -> frozenset[int]: ...
        def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
        def pieces_batch(self, texts: Sequence[str]) -> Sequence[Pieces]: ...


__all__ = ["Encoded", "Masking", "encoded", "joined", "words"]

MASKED, REPLACED = 0.8, 0.1
"""The shares of chosen tokens that become [MASK], and another token."""
_GROUP = 1024
_CHINESE = ((0x3400, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))

Encoded = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The ids of a text, and the number of the word that each is a piece of, from 1."""


@dataclass(frozen=True)
class Masking:
    """How rows of tokens are masked.

    Attributes:
        share: of a row's tokens that stand for text, rounded; at least one is chosen.
        mask: the id of [MASK].
        ordinary: the ids that stand for text, from which replacements are drawn alike.
    """

    share: float
    mask: int
    ordinary: NDArray[np.int64]

    def apply(
        self,
        tokens_NT: NDArray[np.int64],
        words_NT: NDArray[np.integer],
        samples: Sequence[int],
        seed: int,
        epoch: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows as the model reads them, and the targets: the tokens to find, -100 elsewhere.

        Args:
            tokens_NT: ids.
            words_NT: the number of the word that each token is a piece of, from 1; 0 = never to be masked.
            samples: the number of each row: its masks are a function of (seed, sample, epoch).
            seed, epoch: likewise.
        """
        read_NT, targets_NT = tokens_NT.copy(), np.full_like(tokens_NT, IGNORED)
        for row, sample in enumerate(samples):
            size = tokens_NT.shape[1]
            draws = bits(seed, epoch, "mask", 3 * size, sample)
            chosen = _chosen(words_NT[row], self.share, draws[:size])
            turn = (draws[size : 2 * size][chosen] >> np.uint64(11)).astype(np.float64) * 2.0**-53
            other = self.ordinary[draws[2 * size :][chosen] % np.uint64(len(self.ordinary))]
            own = tokens_NT[row, chosen]
            targets_NT[row, chosen] = own
            shown = np.where(turn < MASKED + REPLACED, other, own)
            read_NT[row, chosen] = np.where(turn < MASKED, self.mask, shown)
        return read_NT, targets_NT


def _chosen(words_T: NDArray[np.integer], share: float, draws: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The places of the tokens to find: words in the order of their first token's draw, as many as fit.

    A word that would make it too many tokens is passed over; the first is taken however long it is.
    """
    places = np.flatnonzero(words_T)
    if not len(places):
        return places
    wanted = max(1, round(share * len(places)))
    firsts, inverse, sizes = np.unique(words_T[places], return_inverse=True, return_counts=True)
    heads = np.full(len(firsts), len(words_T))
    np.minimum.at(heads, inverse, places)
    order = np.argsort(draws[heads], kind="stable")
    if sizes.max() == 1:
        return np.sort(heads[order[:wanted]])
    taken: list[int] = []
    left = wanted
    for word in order.tolist():
        if sizes[word] <= left or not taken:
            taken.append(word)
            left -= int(sizes[word])
        if left <= 0:
            break
    return places[np.isin(inverse, taken)]


def words(text: str, spans: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """For each piece of a text the number of its word, from 1.

    A piece goes on with the word before it if it is part of the same character, or if it and the character
    before it are letters, digits or marks on them, without white space between. A Chinese character is a
    word.
    """
    found = np.zeros(len(spans), dtype=np.int64)
    number, end = 0, 0
    for place, (start, stop) in enumerate(spans):
        same = place and (
            start < end or (0 < start == end and _joined(text[start - 1], text[start : start + 1]))
        )
        number += not same
        found[place] = number
        end = max(end, stop)
    return found


def _joined(before: str, first: str) -> bool:
    return all(
        char and unicodedata.category(char)[0] in "LMN" and not _chinese(char) for char in (before, first)
    )


def _chinese(char: str) -> bool:
    return any(low <= ord(char) <= high for low, high in _CHINESE)


def encoded(texts: Sequence[str], tokenizer: Marked, whole_words: bool) -> list[Encoded]:
    """The texts in tokens; each token is a word of its own unless whole words are asked for."""
    found: list[Encoded] = []
    for start in range(0, len(texts), _GROUP):
        group = texts[start : start + _GROUP]
        if whole_words:
            for text, pieces in zip(group, tokenizer.pieces_batch(group), strict=True):
                found.append((np.array(pieces.ids, dtype=np.int64), words(text, pieces.spans)))
        else:
            for ids in tokenizer.encode_batch(group):
                found.append((np.array(ids, dtype=np.int64), np.arange(1, len(ids) + 1)))
    return found


def joined(parts: Sequence[Batch], filling: int) -> Batch:
    """The rows of several masked batches in one; what they are filled up with is one more document.

    Args:
        parts: with the same names.
        filling: the id that fills a row.
    """
    fills = {"tokens": filling, "targets": IGNORED, "next_targets": IGNORED}
    rows: Batch = {}
    for name in parts[0]:
        width = max(part[name].shape[1] for part in parts)
        held = [pad(part[name], (0, width - part[name].shape[1]), value=fills.get(name, 0)) for part in parts]
        rows[name] = torch.cat(held)
    firsts = np.cumsum([0, *(len(part["tokens"]) for part in parts)])
    for part, first in zip(parts, firsts, strict=False):
        held = part["documents"]
        rows["documents"][first : first + len(held), held.shape[1] :] = held.amax(1, keepdim=True) + 1
    return rows
