"""Texts of classes, and pairs of them, as rows of tokens: [CLS] text [SEP], or [CLS] text [SEP] second [SEP].

J. Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding,
arXiv:1810.04805, section 4.1 and figure 4.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from descent.data.dataset import Dataset, Split
from descent.data.entry_types import Entry
from descent.data.rows import Row, RowSplit
from descent.data.sentence_files import PARSERS, Example, own_sentences
from descent.data.sentences_config import SentencesData
from descent.data.splits import NAMES, fingerprint, hash_split, keys
from descent.errors import UserError

if TYPE_CHECKING:
    from descent.data.load import Encoder

    class MarkedEncoder(Encoder, Protocol):
        """A tokenizer that has the marks of a row."""

        @property
        def begin(self) -> int: ...
        @property
        def separator(self) -> int: ...
        @property
        def pad(self) -> int: ...
        def pieces_batch(self, texts: Sequence[str]) -> list[Any]: ...


__all__ = ["Sentences", "few_of_each", "load_sentences", "sentence_rows", "tokenize_sentences"]

LETTERS = 64
"""The most characters of a text that are read for each token of a row: no token is as long in the mean, so
that a text of a megabyte costs no more than what is kept of it."""


@dataclass(frozen=True)
class Sentences:
    """Texts of classes by split.

    Attributes:
        name: the entry, or the user's file.
        splits: the examples of "train", "validation" and "test" (a split without any is left out).
        labels: the classes, in the order of their numbers.
        columns: names of the columns of texts, numbers where they have none.
        about: how the splits came about.
        notes: what was decided or left out.
    """

    name: str
    splits: dict[str, list[Example]]
    labels: tuple[str, ...]
    columns: tuple[str, ...] = ()
    about: str = ""
    notes: tuple[str, ...] = ()

    @property
    def double(self) -> bool:
        """Whether the examples are pairs of texts."""
        return bool(next(iter(self.splits["train"])).second)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all texts, classes and splits."""
        parts: list[str] = []
        for name, examples in self.splits.items():
            parts += [name, str(len(examples)), *(part for one in examples for part in one[:3])]
        return fingerprint(parts)

    def texts(self, split: str) -> list[str]:
        """The texts of a split, both of a pair one after the other."""
        return [text for one in self.splits[split] for text in (one.text, one.second) if text]

    def unlabelled(self, split: str) -> list[str]:
        """The texts of a split to pretrain on: a pair is one, so that its second is read after its first."""
        return [f"{one.text} {one.second}".strip() for one in self.splits[split]]


def load_sentences(config: SentencesData, item: Entry | None, files: list[Path]) -> Sentences:
    """The texts a recipe names, split.

    Sets with official splits keep them; others are split by a hash of the first text.

    Args:
        config: what is wanted.
        item, files: the entry and its verified files; None and [] for the user's own path.

    Raises:
        UserError: there is no such file, or its content cannot be used; the message says where.
    """
    if item is None:
        name, found = Path(str(config.path)).name, own_sentences(config)
    else:
        name, found = item.name, PARSERS[item.parser](files)
    splits, about = found.examples, "splits as the files are named"
    if "all" in splits:
        splits, about = _divided(splits["all"], config.validation, config.test), "split by a hash of the text"
    elif "validation" not in splits:
        splits = {**splits, **_divided(splits["train"], config.validation, 0.0, ("train", "validation"))}
    splits = {split: splits[split] for split in NAMES if splits.get(split)}
    labels = _labels(name, splits)
    notes = list(found.notes)
    if config.per_class:
        train = few_of_each(splits["train"], config.per_class)
        notes.append(f"{len(train):,} of {len(splits['train']):,} training texts")
        splits = {**splits, "train": train}
    return Sentences(name, splits, labels, found.columns, about, tuple(notes))


def few_of_each(examples: list[Example], count: int) -> list[Example]:
    """So many of each class, those of the smallest hashes, in their order.

    More of them are the same ones and others, whatever else is in the set.
    """
    hashes = keys("\0".join((one.text, one.second)).encode() for one in examples)
    kept: dict[str, int] = {}
    chosen = []
    for place in np.argsort(hashes, kind="stable").tolist():
        label = examples[place].label
        if kept.get(label, 0) < count:
            kept[label] = kept.get(label, 0) + 1
            chosen.append(place)
    return [examples[place] for place in sorted(chosen)]


def tokenize_sentences(texts: Sentences, config: SentencesData, tokenizer: MarkedEncoder) -> Dataset:
    """Texts as rows of token ids, each with the number of its class.

    Args:
        texts: from `load_sentences`.
        config: its `length` and `packing`.
        tokenizer: has marks that begin a row and end a text.
    """
    number_of = {label: number for number, label in enumerate(texts.labels)}
    splits: dict[str, Split] = {}
    shortened: list[str] = []
    for name, examples in texts.splits.items():
        sides = [(one.text, one.second) if texts.double else (one.text,) for one in examples]
        rows, cut = sentence_rows(sides, tokenizer, config.length)
        for row, one in zip(rows, examples, strict=True):
            row["answer"] = np.int64(number_of[one.label])  # type: ignore[assignment]
        if cut:
            shortened.append(f"{name} {cut:,} of {len(rows):,}")
        splits[name] = RowSplit(
            rows, config.length, pad=tokenizer.pad, vocab_size=tokenizer.vocab_size, packing=config.packing
        )
    noted = f"cut to {config.length:,} tokens: {', '.join(shortened)}"
    return Dataset(
        name=texts.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size, "outputs": len(texts.labels)},
        unit="texts",
        fingerprint=fingerprint(
            [texts.fingerprint, tokenizer.fingerprint, config.packing, str(config.length)]
        ),
        labels=texts.labels,
        preparation={
            "kind": "sentences",
            "length": config.length,
            "texts": 2 if texts.double else 1,
            "columns": list(texts.columns),
            "labels": list(texts.labels),
        },
        about=texts.about,
        notes=(*texts.notes, noted) if shortened else texts.notes,
    )


def sentence_rows(
    sides: Sequence[tuple[str, ...]], tokenizer: MarkedEncoder, length: int
) -> tuple[list[Row], int]:
    """Texts, or pairs of them, as rows of at most `length` tokens, and how many had to be cut.

    Of two texts that are too long together the longer one loses tokens first; `segments` are 0 up to the
    first [SEP] and 1 from there on.
    """
    begin, separator = tokenizer.begin, tokenizer.separator
    limit = LETTERS * length
    encoded = [
        tokenizer.encode_batch([side[place][:limit] for side in sides]) for place in range(len(sides[0]))
    ]
    rows: list[Row] = []
    cut = 0
    for number, side in enumerate(sides):
        ids = [one[number] for one in encoded]
        kept = _kept([len(one) for one in ids], length - 1 - len(ids))
        cut += any(size < len(one) for size, one in zip(kept, ids, strict=True)) or any(
            len(text) > limit for text in side
        )
        parts = [[*one[:size], separator] for one, size in zip(ids, kept, strict=True)]
        row = {"tokens": np.array([begin, *(token for part in parts for token in part)], dtype=np.int64)}
        if len(parts) == 2:
            row["segments"] = np.repeat([0, 1], [1 + len(parts[0]), len(parts[1])]).astype(np.int64)
        rows.append(row)
    return rows, cut


def _kept(sizes: Sequence[int], room: int) -> list[int]:
    """How many tokens of each text are kept."""
    if len(sizes) == 1:
        return [min(sizes[0], room)]
    second = min(sizes[1], max(room // 2, room - sizes[0]))
    return [min(sizes[0], room - second), second]


def _labels(name: str, splits: dict[str, list[Example]]) -> tuple[str, ...]:
    """The classes that are trained on, in order: numbers by size, words by their letters.

    Raises:
        UserError: there is only one, or a held-out text is of a class that is not trained on.
    """
    found = {one.label for one in splits.get("train", ())}
    if len(found) < 2:
        raise UserError(
            f"{name}: every training text is of the class {next(iter(found))!r}"
            if found
            else f"{name}: no text is left to train on",
            expected="two classes or more",
            hint="choose the column of the class with data.label=...",
        )
    for split in ("validation", "test"):
        for one in splits.get(split, ()):
            if one.label not in found:
                raise UserError(
                    f"{one.where}: no training text is of the class {one.label!r}, but this one of {split} "
                    "is",
                    expected="one of " + ", ".join(_ordered(found)[:20]),
                    hint="give more examples of it, or leave the class out",
                )
    return tuple(_ordered(found))


def _ordered(labels: Iterable[str]) -> list[str]:
    labels = list(labels)
    try:
        return sorted(labels, key=lambda label: (float(label), label))
    except ValueError:
        return sorted(labels)


def _divided(
    examples: list[Example], validation: float, test: float, names: tuple[str, ...] = NAMES
) -> dict[str, list[Example]]:
    places = hash_split(keys(one.text.encode() for one in examples), validation, test)
    return {name: [examples[place] for place in places[name]] for name in names}
