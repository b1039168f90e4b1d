"""Text as rows with hidden tokens, for masked language models.

Without pairs of sentences, rows are documents between their marks, `[CLS] document [SEP]`; long ones are
cut, and several share a row, as RoBERTa's full sentences do (Y. Liu et al., arXiv:1907.11692, section
4.2), but documents of one row never see each other (B. Warner et al., ModernBERT, arXiv:2412.13663). The
pairs are in `next_sentence`.

Legend: N rows, T tokens of a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from descent.data.dataset import Batch, Dataset, Indices, Split, compact
from descent.data.load import Documents
from descent.data.masked_config import MaskedData
from descent.data.masking import Encoded, Masking, encoded, joined
from descent.data.next_sentence import PairedSplit, sentences_of
from descent.data.packing import fit
from descent.data.splits import fingerprint
from descent.errors import UserError

if TYPE_CHECKING:
    from descent.data.masking import Marked

__all__ = ["MaskedSplit", "tokenize_masked"]


def tokenize_masked(documents: Documents, config: MaskedData, tokenizer: Marked) -> Dataset:
    """Texts as rows of token ids whose masks are drawn when a batch is gathered.

    Args:
        documents: from `load_text`.
        config: what is masked, and how rows are made.
        tokenizer: with the marks of BERT.

    Raises:
        UserError: the tokenizer has no mark to hide a token; or, for pairs of sentences, there are fewer than
            two documents, or none of two sentences.
    """
    ordinary = np.array([index for index in range(tokenizer.vocab_size) if index not in tokenizer.special])
    masking = Masking(config.share, tokenizer.mask, ordinary)
    splits: dict[str, Split] = {}
    for name, texts in documents.splits.items():
        if config.next_sentence:
            told = sentences_of(texts, tokenizer, config.whole_words)
            try:
                splits[name] = PairedSplit(told, config, masking, _marks(tokenizer), tokenizer.vocab_size)
            except UserError as error:
                raise UserError(
                    f"{documents.name}, {name}: {error.what}",
                    expected=error.expected,
                    hint=error.hint,
                ) from None
        else:
            ids = encoded(texts, tokenizer, config.whole_words)
            splits[name] = MaskedSplit(
                ids,
                config.length,
                masking,
                _marks(tokenizer),
                tokenizer.vocab_size,
                packed=config.packing == "documents",
            )
    made = [config.packing, str(config.length), str(config.whole_words), str(config.next_sentence)]
    drawn = [str(config.share), str(config.short)]
    return Dataset(
        name=documents.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size},
        unit="tokens",
        fingerprint=fingerprint([documents.fingerprint, tokenizer.fingerprint, *made, *drawn]),
        preparation={"kind": "masked", "length": config.length},
        about=documents.about,
        skipped=documents.skipped,
    )


def _marks(tokenizer: Marked) -> tuple[int, int, int]:
    return tokenizer.begin, tokenizer.separator, tokenizer.pad


class MaskedSplit(Split):
    """Rows of documents between marks, masked anew in every epoch.

    A batch has `tokens`, `documents`, `positions` and `targets` (N, T); packed, T is the length, else that of
    the longest document of the batch. An evaluation's masks are those of seed 0 and epoch 0.

    Args:
        texts: the ids of each document without marks, and of each the number of its word.
        length: the most tokens of a row.
        masking: how they are masked.
        marks: the ids that begin a document, end it, and fill a row.
        vocab_size: decides how compactly ids are kept.
        packed: several documents share a row.
    """

    def __init__(
        self,
        texts: Sequence[Encoded],
        length: int,
        masking: Masking,
        marks: tuple[int, int, int],
        vocab_size: int,
        packed: bool = True,
    ):
        self.length, self.masking, self.packed = length, masking, packed
        begin, separator, self.pad = marks
        room = length - 2
        pieces = [
            (number, start) for number, (ids, _) in enumerate(texts) for start in range(0, len(ids), room)
        ]
        if not pieces:
            raise UserError("there is no text to mask")
        sizes = [min(room, len(texts[number][0]) - start) + 2 for number, start in pieces]
        rows = fit(sizes, length) if packed else [[piece] for piece in range(len(pieces))]
        shape = (len(rows), length)
        self._tokens_NT = compact(np.full(shape, self.pad), vocab_size)
        self._words_NT, self._documents_NT = (
            np.zeros(shape, dtype=np.uint16),
            np.empty(shape, dtype=np.uint16),
        )
        self._positions_NT = np.empty(shape, dtype=np.uint16)
        self._used_N = np.array([sum(sizes[piece] for piece in row) for row in rows], dtype=np.int64)
        for place, row in enumerate(rows):
            at, before = 0, 0
            for turn, piece in enumerate(row):
                number, start = pieces[piece]
                ids, numbers = (part[start : start + room] for part in texts[number])
                end = at + len(ids) + 2
                self._tokens_NT[place, at:end] = [begin, *ids, separator]
                self._words_NT[place, at + 1 : end - 1] = numbers - numbers[0] + 1 + before
                self._documents_NT[place, at:end] = turn
                self._positions_NT[place, at:end] = np.arange(end - at)
                before += int(numbers[-1] - numbers[0]) + 1
                at = end
            self._documents_NT[place, at:] = len(row)
            self._positions_NT[place, at:] = np.arange(length - at)

    def __len__(self) -> int:
        return len(self._used_N)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        width = self.length if self.packed else int(self._used_N[indices].max(initial=1))
        tokens = self._tokens_NT[indices, :width].astype(np.int64)
        key, turn = (0, 0) if seed is None else (seed, epoch)
        read, targets = self.masking.apply(
            tokens, self._words_NT[indices, :width], indices.tolist(), key, turn
        )
        found = {
            "tokens": read,
            "documents": self._documents_NT[indices, :width].astype(np.int64),
            "positions": self._positions_NT[indices, :width].astype(np.int64),
            "targets": targets,
        }
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def join(self, parts: Sequence[Batch]) -> Batch:
        return joined(parts, self.pad)

    def describe(self) -> str:
        filled = self._used_N.sum() / self._tokens_NT.size
        about = f" ({filled:.0%} filled)" if self.packed else ""
        return f"{int(self._used_N.sum()):,} tokens in {len(self):,} rows{about}"
