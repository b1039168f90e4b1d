"""Text with spans cut out of it, for encoder-decoders: T5's corruption.

C. Raffel et al., T5, arXiv:1910.10683, section 3.1.4 and figure 2; lengths and draws as in the authors'
program (`random_spans_helper` and `random_spans_noise_mask`):

    text      t1 t2 t3 t4 t5 t6 t7 t8
    mask       .  .  x  x  .  .  .  x
    source    t1 t2 <0> t5 t6 t7 <1> </s>
    target    <0> t3 t4 <1> t8 </s>

A row begins with a span that stays and ends with one that is cut out, so no sentinel stands behind the last.
All rows take as many tokens of text, and lose as many in as many spans, so none is padded: 568 tokens give a
source of 512 and a target of 114, with the shares of the paper.

Legend: B rows of a batch, R tokens of text of a row, S tokens of a source, T tokens of a target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from descent.data.dataset import Batch, Dataset, Indices, Split, compact
from descent.data.load import Documents
from descent.data.masked_config import SpansData
from descent.data.random import bits
from descent.data.splits import fingerprint
from descent.errors import UserError

if TYPE_CHECKING:

    class Sentinelled(Protocol):
        """What span corruption needs of a tokenizer."""

        @property
        def vocab_size(self) -> int: ...
        @property
        def fingerprint(self) -> str: ...
        @property
        def end(self) -> int: ...
        @property
        def pad(self) -> int: ...
        @property
        def sentinels(self) -> tuple[int, ...]: ...
        def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...


__all__ = ["Cut", "SpanSplit", "corrupted", "noise_mask", "tokenize_spans"]


@dataclass(frozen=True)
class Cut:
    """How much of a row is cut out.

    Attributes:
        text: tokens of text.
        noise: of these cut out.
        spans: in so many spans.
    """

    text: int
    noise: int
    spans: int

    @property
    def source(self) -> int:
        """Tokens the encoder reads: what stays, a sentinel a span, the end mark."""
        return self.text - self.noise + self.spans + 1

    @property
    def target(self) -> int:
        """Tokens the decoder writes: what was cut out, a sentinel a span, the end mark."""
        return self.noise + self.spans + 1

    @classmethod
    def of(cls, text: int, share: float, mean_span: float) -> Cut:
        """For so many tokens of text, at least two; one at least is cut out, and one stays."""
        noise = min(max(round(text * share), 1), text - 1)
        spans = min(max(round(noise / mean_span), 1), text - noise)
        return cls(text, noise, spans)

    @classmethod
    def filling(cls, source: int, share: float, mean_span: float) -> Cut:
        """The one with the most text whose source has at most so many tokens, 4 or more."""
        found = cls.of(2, share, mean_span)
        while (more := cls.of(found.text + 1, share, mean_span)).source <= source:
            found = more
        return found


def noise_mask(cut: Cut, draws: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which tokens of a row are cut out.

    Kept and cut-out spans take turns, a kept one first. The lengths of either kind are a random division of
    their sum, each as likely as any other.

    Args:
        cut: how many, in how many spans.
        draws: as many as there are tokens.
    """
    kept = _divided(cut.text - cut.noise, cut.spans, draws[: cut.text - cut.noise])
    lost = _divided(cut.noise, cut.spans, draws[cut.text - cut.noise :])
    lengths = np.stack([kept, lost], axis=1).ravel()
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def _divided(total: int, parts: int, draws: NDArray[np.uint64]) -> NDArray[np.int64]:
    """So many lengths of at least 1 with that sum."""
    ends = np.sort(np.argsort(draws[: total - 1], kind="stable")[: parts - 1]) + 1
    return np.diff(np.concatenate([[0], ends, [total]]))


def corrupted(
    text_R: NDArray[np.int64], mask_R: NDArray[np.bool_], sentinels: NDArray[np.int64], end: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The source (S,) and the target (T,) of a row of text.

    Args:
        text_R: ids.
        mask_R: what is cut out, as `noise_mask` gives it.
        sentinels: their ids, at least one a span.
        end: the id that ends both.
    """
    first_R = np.diff(mask_R, prepend=not mask_R[0])
    cuts_R, keeps_R = first_R & mask_R, first_R & ~mask_R
    shown_R = np.where(cuts_R, sentinels[np.maximum(np.cumsum(cuts_R) - 1, 0)], text_R)
    asked_R = np.where(keeps_R, sentinels[np.maximum(np.cumsum(keeps_R) - 1, 0)], text_R)
    return np.append(shown_R[~mask_R | cuts_R], end), np.append(asked_R[mask_R | keeps_R], end)


class SpanSplit(Split):
    """A long text in rows of R tokens, spans of which are cut out anew in every epoch.

    Batches hold `source` (B, S), `source_lengths` (B,), all S, `tokens` (B, T), which is `start` and the
    target but its last token, and `targets` (B, T). In training every epoch shifts all rows by an offset
    drawn from (seed, epoch), and cuts spans drawn from (seed, epoch, row); an evaluation's spans are those of
    seed 0 and epoch 0. What does not fill a row is left out.

    Args:
        tokens: the ids of all documents, an end mark behind each; at least R.
        cut: how much of a row is cut out.
        sentinels: their ids.
        start: the id that the decoder begins with.
        end: the id that ends sources and targets.
    """

    decoded = False

    def __init__(
        self,
        tokens: NDArray[np.integer],
        cut: Cut,
        sentinels: Sequence[int],
        start: int,
        end: int,
    ):
        self.tokens, self.cut, self.start, self.end = tokens, cut, start, end
        self.sentinels = np.array(sentinels, dtype=np.int64)
        # One row less than would fit leaves room for the offset; a text of one row has only its slack.
        self._rows = max(1, len(tokens) // cut.text - 1)
        self._offsets = min(cut.text, len(tokens) - self._rows * cut.text + 1)

    def __len__(self) -> int:
        return self._rows

    @property
    def whole(self) -> int:
        return len(self.tokens) // self.cut.text

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        shift = 0 if seed is None else int(bits(seed, epoch, "offset", 1)[0] % np.uint64(self._offsets))
        size, made = self.cut.text, []
        for row in indices.tolist():
            begin = row * size + shift
            text_R = self.tokens[begin : begin + size].astype(np.int64)
            draws = bits(seed or 0, 0 if seed is None else epoch, "spans", size, row)
            made.append(corrupted(text_R, noise_mask(self.cut, draws), self.sentinels, self.end))
        source = np.stack([one for one, _ in made])
        targets = np.stack([one for _, one in made])
        starts = np.full((len(targets), 1), self.start)
        found = {
            "source": source,
            "source_lengths": np.full(len(source), source.shape[1]),
            "tokens": np.concatenate([starts, targets[:, :-1]], axis=1),
            "targets": targets,
        }
        return {name: torch.from_numpy(array) for name, array in found.items()}

    def describe(self) -> str:
        return f"{len(self.tokens):,} tokens in {self.whole:,} rows of {self.cut.text:,}"


def tokenize_spans(documents: Documents, config: SpansData, tokenizer: Sentinelled) -> Dataset:
    """Texts as rows whose spans are cut out when a batch is gathered.

    Args:
        documents: from `load_text`.
        config: how much is cut out.
        tokenizer: with the marks of T5.

    Raises:
        UserError: the tokenizer has too few sentinels; or a split is shorter than a row.
    """
    cut = Cut.filling(config.length, config.share, config.mean_span)
    if len(tokenizer.sentinels) < cut.spans:
        raise UserError(
            "the tokenizer has too few sentinels to stand for spans",
            got=f"{len(tokenizer.sentinels)} sentinels, {cut.spans} spans a row",
            hint="train one with tokenizer.marks=t5" if not tokenizer.sentinels else "a smaller data.length",
        )
    start = tokenizer.pad
    splits: dict[str, Split] = {}
    for name, texts in documents.splits.items():
        ids = [index for one in tokenizer.encode_batch(texts) for index in (*one, tokenizer.end)]
        if len(ids) < cut.text:
            raise UserError(
                f"{documents.name}: the {name} text is shorter than a row",
                got=f"{len(ids):,} tokens",
                expected=f"at least {cut.text:,}",
                hint="give more text, or set a smaller data.length",
            )
        tokens = compact(ids, tokenizer.vocab_size)
        splits[name] = SpanSplit(tokens, cut, tokenizer.sentinels, start, tokenizer.end)
    made = [str(config.length), str(config.share), str(config.mean_span)]
    return Dataset(
        name=documents.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size},
        unit="tokens",
        fingerprint=fingerprint([documents.fingerprint, tokenizer.fingerprint, *made]),
        preparation={"kind": "pairs", "start": [start], "length": config.length},
        about=documents.about,
        skipped=documents.skipped,
    )
