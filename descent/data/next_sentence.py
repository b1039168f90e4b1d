"""Pairs of pieces of text, half of which follow one another: BERT's second task.

J. Devlin et al., BERT, arXiv:1810.04805, section 3.1 and appendix A.2; what the paper leaves open is done as
the authors' program for pretraining data does it:

- sentences of a document are gathered until they have as many tokens as are aimed at: as fit in a row, or for
  some documents a number drawn anew
- the first piece is a random number of them, at least one; the second are the others, or, in half of the
  cases and whenever there are no others, sentences from a random place of another document; sentences that
  were not used are gathered again
- a pair that is too long loses tokens of its longer piece, each from its front or its back by chance

Legend: T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from descent.data.dataset import Batch, Indices, Split, compact
from descent.data.masked_config import MaskedData
from descent.data.masking import Encoded, Masking, encoded, joined
from descent.data.random import bits
from descent.data.rows import Row, lay_out
from descent.errors import UserError

if TYPE_CHECKING:
    from descent.data.masking import Marked

__all__ = ["PairedSplit", "sentences", "sentences_of"]

FOLLOWS, RANDOM = 0, 1
"""What is to be answered, as in the published model."""

_END = re.compile(r"""[.!?…]+["'”’»)\]]*(?=\s)|[。！？；]+[”’」』）]*|\n""")


def sentences(text: str) -> list[str]:
    """The sentences of a text, with the white space before each; joined they are the text.

    One ends behind a full stop, an exclamation or question mark that white space follows, behind their
    Chinese forms (and the Chinese semicolon), and at the end of a line.
    """
    found: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if text[start : match.end()].strip():
            found.append(text[start : match.end()])
            start = match.end()
    if text[start:].strip() or not found:
        return [*found, text[start:]] if text[start:] else found
    return [*found[:-1], found[-1] + text[start:]]


def sentences_of(texts: Sequence[str], tokenizer: Marked, whole_words: bool) -> list[list[Encoded]]:
    """Each text as its sentences in tokens."""
    told = [sentences(text) for text in texts]
    ids = iter(encoded([sentence for text in told for sentence in text], tokenizer, whole_words))
    return [[next(ids) for _ in text] for text in told]


class PairedSplit(Split):
    """Examples `[CLS] first [SEP] second [SEP]`, paired and masked anew in every epoch.

    Batches are those of `rows.lay_out`, with `segments`, `targets` a token, and `next_targets` (N, K): 0
    where the second piece follows the first, 1 where it comes from another document. How a document is cut
    into pairs is a function of (seed, document, epoch), so their number changes a little from epoch to epoch.
    An epoch has as many examples as an evaluation, whose pairs and masks are those of seed 0 and epoch 0;
    where its own pairs are more or fewer, some are left out or taken twice, evenly.

    Args:
        documents: the sentences of each (see `sentences_of`).
        config: `length`, `short` and `packing`.
        masking: how examples are masked.
        marks: the ids that begin an example, end each piece, and fill a row.
        vocab_size: decides how compactly ids are kept.

    Raises:
        UserError: there are not two documents, or none with two sentences.
    """

    def __init__(
        self,
        documents: Sequence[Sequence[Encoded]],
        config: MaskedData,
        masking: Masking,
        marks: tuple[int, int, int],
        vocab_size: int,
    ):
        self.config, self.masking, self.marks = config, masking, marks
        told = [kept for document in documents if (kept := [one for one in document if len(one[0])])]
        if len(told) < 2 or all(len(document) < 2 for document in told):
            raise UserError(
                "too little text for pairs of sentences",
                expected="two documents or more, some of them of several sentences",
                hint="set data.document=paragraph if the text is one file, or data.next_sentence=false",
            )
        flat = [sentence for document in told for sentence in document]
        self._ids = compact(np.concatenate([ids for ids, _ in flat]), vocab_size)
        ends = np.cumsum([words[-1] for _, words in flat])
        shifts = [0, *ends[:-1].tolist()]
        self._words = np.concatenate([words + shift for (_, words), shift in zip(flat, shifts, strict=True)])
        self._places = np.cumsum([0, *(len(ids) for ids, _ in flat)])
        """Where each sentence begins among the tokens, and where the last ends."""
        self._firsts = np.cumsum([0, *(len(document) for document in told)])
        """The first sentence of each document, and the end of all."""
        self._walks: dict[tuple[int, int], NDArray[np.int64]] = {}
        self._count = len(self._walk(0, 0))

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        key, turn = (0, 0) if seed is None else (seed, epoch)
        pairs = self._walk(key, turn)
        chosen = indices * len(pairs) // self._count
        numbered = zip(indices.tolist(), pairs[chosen], strict=True)
        made = [self._example(pair, number, key, turn) for number, pair in numbered]
        packed, ordered = self.config.packing == "documents", seed is None
        held = [{name: value for name, value in one.items() if name != "answer"} for one in made]
        asked = [{name: one[name] for name in ("tokens", "answer")} for one in made]
        length, filling = self.config.length, self.marks[2]
        batch = lay_out(held, length, pad=filling, packed=packed, ordered=ordered)
        answers = lay_out(asked, length, pad=filling, packed=packed, ordered=ordered)["targets"]
        return {**batch, "next_targets": answers}

    def join(self, parts: Sequence[Batch]) -> Batch:
        return joined(parts, self.marks[2])

    def describe(self) -> str:
        return f"{len(self._ids):,} tokens in {len(self):,} pairs of {len(self._firsts) - 1:,} documents"

    def _walk(self, seed: int, epoch: int) -> NDArray[np.int64]:
        """The pairs of an epoch: first and end sentence of both pieces, and whether the second is random."""
        found = self._walks.get((seed, epoch))
        if found is None:
            pairs = [
                pair for document in range(len(self._firsts) - 1) for pair in self._cut(document, seed, epoch)
            ]
            found = np.array(pairs, dtype=np.int64)
            self._walks = {**dict(list(self._walks.items())[-1:]), (seed, epoch): found}
        return found

    def _cut(self, document: int, seed: int, epoch: int) -> list[tuple[int, int, int, int, int]]:
        """One document as pairs."""
        at, last = int(self._firsts[document]), int(self._firsts[document + 1])
        draws = iter(bits(seed, epoch, "pair", 2 + 4 * (last - at), document).tolist())
        most = self.config.length - 3
        shortened, drawn = next(draws) < self.config.short * 2**64, 2 + next(draws) % (most - 1)
        aim = drawn if shortened else most
        found: list[tuple[int, int, int, int, int]] = []
        while at < last:
            end = min(self._until(at, aim), last)
            cut, coin, other, place = (next(draws) for _ in range(4))
            split = at + 1 + cut % max(1, end - at - 1)
            if end - at > 1 and coin < 2**63:
                found.append((at, split, split, end, FOLLOWS))
                at = end
                continue
            number = other % (len(self._firsts) - 2)
            number += number >= document
            begin, stop = int(self._firsts[number]), int(self._firsts[number + 1])
            begin += place % (stop - begin)
            length = int(self._places[split] - self._places[at])
            found.append((at, split, begin, min(self._until(begin, aim - length), stop), RANDOM))
            at = split
        return found

    def _until(self, sentence: int, tokens: int) -> int:
        """The end of the fewest sentences, at least one, that begin there and have so many tokens."""
        wanted = self._places[sentence] + max(tokens, 1)
        return int(np.searchsorted(self._places, wanted))

    def _example(self, pair: NDArray[np.int64], number: int, seed: int, epoch: int) -> Row:
        """One pair between its marks, cut to its length, and masked."""
        begin, separator, _ = self.marks
        spans = self._shortened([self._places[pair[:2]], self._places[pair[2:4]]], number, seed, epoch)
        tokens, words, segments = (
            [np.array([begin])],
            [np.zeros(1, dtype=np.int64)],
            [np.zeros(1, dtype=np.int64)],
        )
        before = 0
        for segment, (start, end) in enumerate(spans):
            own = self._words[start:end]
            tokens += [self._ids[start:end].astype(np.int64), np.array([separator])]
            words += [own - own[0] + 1 + before, np.zeros(1, dtype=np.int64)]
            segments.append(np.full(end - start + 1, segment))
            before += int(own[-1] - own[0]) + 1
        read_1T, targets_1T = self.masking.apply(
            np.concatenate(tokens)[None], np.concatenate(words)[None], [number], seed, epoch
        )
        row: Row = {"tokens": read_1T[0], "segments": np.concatenate(segments), "targets": targets_1T[0]}
        return {**row, "answer": np.array(pair[4])}

    def _shortened(
        self, spans: list[NDArray[np.int64]], number: int, seed: int, epoch: int
    ) -> list[tuple[int, int]]:
        """Two pieces without what is too much, taken from the longer, from either end by chance."""
        sizes = [int(end - start) for start, end in spans]
        extra = max(0, sum(sizes) - (self.config.length - 3))
        # The longer piece goes first; of two that are as long, the second does, and then they take turns.
        alone = min(extra, abs(sizes[0] - sizes[1]))
        longer = 0 if sizes[0] > sizes[1] else 1
        taken = [(extra - alone) // 2, -(-(extra - alone) // 2)]
        taken[longer] += alone
        coins = bits(seed, epoch, "pair", extra, len(self._firsts) + number) >> np.uint64(63)
        found: list[tuple[int, int]] = []
        for (start, end), lost, part in zip(spans, taken, np.split(coins, [taken[0]]), strict=True):
            front = int(part.sum())
            found.append((int(start) + front, int(end) - (lost - front)))
        return found
