"""From a recipe's `[data]` table to a dataset: the one entrance for every kind of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from descent.data import parsers
from descent.data.config import TextData
from descent.data.dataset import Dataset, Split, StreamSplit, compact
from descent.data.lanes import LaneSplit
from descent.data.masked_config import MaskedData, SpansData
from descent.data.packing import PackedSplit
from descent.data.registry import Entry, entry, locate
from descent.data.splits import NAMES, fingerprint, hash_split, keys, tails
from descent.data.textfiles import left_out, read_documents
from descent.errors import UserError

__all__ = ["Documents", "Encoder", "load_examples", "load_text", "load_texts", "tokenize", "tokenize_texts"]

FEW_DOCUMENTS = 20
MOST_REPEATED = 100
SCORED_LANES = 32
"""Lanes of a held-out text: each begins without a state once, so few, yet enough to fill a batch."""
_GROUP = 1 << 22
PLAIN = ("text", "masked", "spans")
"""The kinds of data that are texts without a form."""
_NOUNS = {"table": "a table", "series": "a time series", "pairs": "pairs of texts"}
_NOUNS |= {kind: kind for kind in ("text", "images", "sound", "music", "sentences", "entities")}
_NOUNS |= {"questions": "questions", "ranking": "a ranking", "similar": "pairs that mean alike"}

Report = bool | Callable[[str, int, int], None]


@runtime_checkable
class Encoder(Protocol):
    """What `tokenize` needs of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...


@dataclass(frozen=True)
class Documents:
    """Texts by split.

    Attributes:
        name: the entry, or the user's file.
        splits: the texts of "train", "validation" and "test" (a split without text is left out).
        about: how the splits came about.
        running: the texts of a split are pieces of running text, cut anywhere, rather than whole documents.
        skipped: files of a folder that were left out, each with the reason.
    """

    name: str
    splits: dict[str, list[str]]
    about: str
    running: bool = False
    skipped: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all texts and their splits."""
        return fingerprint(
            [part for name, texts in self.splits.items() for part in (name, str(len(texts)), *texts)]
        )

    def texts(self, split: str) -> list[str]:
        """The texts of a split."""
        return self.splits[split]

    def summary(self) -> str:
        """One line: each split with its documents and characters."""
        noun = "texts" if self.running else "documents"
        parts = [
            f"{name} {len(texts):,} {noun}, {sum(map(len, texts)):,} characters"
            for name, texts in self.splits.items()
        ]
        return f"{self.name}: " + "; ".join(parts)


def load_text(config: TextData | MaskedData | SpansData, progress: Report = True) -> Documents:
    """The texts a recipe names, split.

    Sets with official splits keep them. Otherwise 20 documents or more are split by hash; fewer give
    their tails, each its last characters. Several sources, with + between them, are each split by their own
    rule and then joined; `NAME*3` gives what is trained on three times. A set with labels gives its texts
    without them, but for those of its test.

    Raises:
        UserError: the source or path is wrong, or there is no text.
    """
    if {"+", "*"} & set(config.source or ""):
        return _joined(config, progress)
    item, files = _source(config, "text", progress)
    if item is not None:
        parsed = parsers.TEXTS[item.parser](files) if item.kind == "text" else _unlabelled(item, files)
        name, about, running = item.name, item.about, item.parser == "tinyshakespeare"
    else:
        name = Path(str(config.path)).name
        parsed, running = read_documents(str(config.path), config.document, config.column)
        about = "splits as the files are named" if "all" not in parsed else ""
    if "all" in parsed:
        parsed, running = _divide(parsed["all"], running, config.validation, config.test)
        how = (
            "validation and test are the last characters of each text"
            if running
            else "documents split by hash"
        )
        about = about or how
    elif "validation" not in parsed:
        rest, _ = _divide(parsed["train"], running, config.validation, 0)
        parsed = {**parsed, "train": rest["train"], "validation": rest["validation"]}
    splits = {name: texts for name in NAMES if (texts := [text for text in parsed.get(name, ()) if text])}
    if "train" not in splits:
        raise UserError(f"{name}: no text is left to train on")
    skipped = left_out(str(config.path)) if item is None else ()
    return Documents(name, splits, about, running, skipped)


def _joined(config: TextData | MaskedData | SpansData, progress: Report) -> Documents:
    """The texts of several sources, split by split, each as often as its factor says."""
    factors: dict[str, int] = {}
    for source in str(config.source).split("+"):
        name, _, times = source.partition("*")
        if name in factors:
            raise UserError("data.source names a text twice", got=config.source, hint=f"{name}*2 repeats it")
        factors[name] = int(times or 1) if (times or "1").isdecimal() else 0
        if not 1 <= factors[name] <= MOST_REPEATED:
            raise UserError(
                f"{name} cannot be repeated so often", got=times, expected=f"1 to {MOST_REPEATED}"
            )
    parts = [load_text(config.replace(source=name), progress) for name in factors]
    splits: dict[str, list[str]] = {split: [] for split in NAMES}
    for part, times in zip(parts, factors.values(), strict=True):
        for split, texts in part.splits.items():
            splits[split] += texts * (times if split == "train" else 1)
    return Documents(
        str(config.source),
        _apart({split: texts for split, texts in splits.items() if texts}),
        "; ".join(f"{part.name}: {part.about}" for part in parts),
        all(part.running for part in parts),
    )


def _unlabelled(item: Entry, files: list[Path]) -> parsers.Parsed:
    """The texts of a set with labels, each once, as the set's own loader splits it; none of its test.

    A set may say what one text is, see the methods `unlabelled`: texts that belong together are one, so that
    what is hidden in one of them can be found in the other.
    """
    module, load, _ = _TOKENIZED[item.kind]
    config = getattr(import_module(f"descent.data.{item.kind}_config"), f"{item.kind.title()}Data")
    texts: Texts = getattr(import_module(f"descent.data.{module}"), load)(
        config(source=item.name), item, files
    )
    held = getattr(texts, "splits", {})
    given = [split for split in ("train", "validation") if split == "train" or held.get(split)]
    form = getattr(texts, "unlabelled", texts.texts)
    found = {split: list(dict.fromkeys(form(split))) for split in given}
    return _apart({split: documents for split, documents in found.items() if documents})


def _apart(splits: parsers.Parsed) -> parsers.Parsed:
    """Without the held-out texts that are trained on too, such as an abstract that several queries share."""
    known = set(splits["train"])
    return {
        split: texts if split == "train" else [text for text in texts if text not in known]
        for split, texts in splits.items()
    }


def load_examples(config: Any, progress: Report = True) -> Dataset:
    """The examples a recipe names, of any kind but text, split, with what prepares new ones.

    Raises:
        UserError: the source or path is wrong, or its content cannot be used; the message says where.
    """
    module, function = _LOADERS[config.type]
    load = getattr(import_module(f"descent.data.{module}"), function)
    if config.type == "generated":
        return load(config)
    return load(config, *_source(config, config.type, progress))


_LOADERS = {
    "table": ("tables", "load_table"),
    "images": ("images", "load_images"),
    "series": ("series", "load_series"),
    "sound": ("sound", "load_sound"),
    "music": ("music", "load_music"),
    "generated": ("generated", "load_generated"),
}
"""The kinds of data that become examples at once; those of text first need a tokenizer."""


_TOKENIZED = {
    "masked": ("masked", "", "tokenize_masked"),
    "spans": ("spans", "", "tokenize_spans"),
    "sentences": ("sentences", "load_sentences", "tokenize_sentences"),
    "entities": ("entities", "load_entities", "tokenize_entities"),
    "pairs": ("pairs", "load_pairs", "tokenize_pairs"),
    "questions": ("questions", "load_questions", "tokenize_questions"),
    "ranking": ("ranking", "load_ranking", "tokenize_ranking"),
    "tasks": ("tasks", "load_tasks", "tokenize_tasks"),
    "similar": ("similar", "load_similar", "tokenize_similar"),
}
"""The kinds of data that are texts with a form: what loads them, and what turns them into examples."""


@runtime_checkable
class Texts(Protocol):
    """What the loader of such data gives."""

    def texts(self, split: str) -> list[str]:
        """The texts of a split, for a tokenizer to be trained on."""
        ...


def load_texts(config: Any, progress: Report = True) -> Texts:
    """The texts a recipe names that have a form of their own (pairs, sentences with classes, ...), split.

    Raises:
        UserError: the source or path is wrong, or its content cannot be used; the message says where.
    """
    if config.type in PLAIN:
        return load_text(config, progress)
    module, load, _ = _TOKENIZED[config.type]
    found = getattr(import_module(f"descent.data.{module}"), load)
    return found(config, *_source(config, config.type, progress))


def tokenize_texts(texts: Texts, config: Any, tokenizer: Encoder) -> Dataset:
    """The examples of `load_texts`, as the ids of a tokenizer."""
    module, _, tokenize = _TOKENIZED[config.type]
    return getattr(import_module(f"descent.data.{module}"), tokenize)(texts, config, tokenizer)


def tokenize(
    documents: Documents, config: TextData, tokenizer: Encoder, length: int = 0, lanes: int = 0
) -> Dataset:
    """Texts as rows of token ids.

    Packed as a `stream` or in `lanes`, whole documents are joined with end marks around each; pieces of
    running text with a mark between two, so a single text has none. Packed as `documents`, see `PackedSplit`.

    Args:
        documents: from `load_text`.
        config: its `packing` and `length`.
        tokenizer: turns text into ids.
        length: tokens of a row where the configuration leaves it 0 (the model's context).
        lanes: of the training split, where packing is `lanes`: the rows of a batch.

    Raises:
        UserError: the training text is shorter than one row, or a held-out text than two tokens.
    """
    length = config.length or length
    if length < 1:
        raise UserError(
            "data.length is not set, and no model gives its context", expected="a number of tokens"
        )
    splits: dict[str, Split] = {}
    for name, texts in documents.splits.items():
        ids = _encode(texts, tokenizer)
        size = sum(len(text.encode("utf-8")) for text in texts)
        if config.packing == "documents":
            splits[name] = PackedSplit(ids, length, tokenizer.end, tokenizer.vocab_size, size)
        else:
            stream = _stream(documents, name, ids, tokenizer, length, size)
            laned = config.packing == "lanes"
            splits[name] = _laned(documents.name, name, stream, lanes) if laned else stream
    start = [] if documents.running and config.packing != "documents" else [tokenizer.end]
    return Dataset(
        name=documents.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size},
        unit="tokens",
        fingerprint=fingerprint([documents.fingerprint, tokenizer.fingerprint, config.packing, str(length)]),
        preparation={"kind": "text", "start": start or _first(tokenizer), "marked": bool(start)},
        about=documents.about,
        skipped=documents.skipped,
    )


def _first(tokenizer: Encoder) -> list[int]:
    """What generation begins from when running text was trained on, where no mark ever stood: a new line."""
    return tokenizer.encode("\n") or [tokenizer.end]


def _stream(
    documents: Documents,
    name: str,
    ids: list[NDArray[Any]],
    tokenizer: Encoder,
    length: int,
    size: int,
) -> StreamSplit:
    mark = np.array([tokenizer.end], dtype=np.int64)
    parts: list[NDArray[Any]] = [] if documents.running else [mark]
    for number, one in enumerate(ids):
        parts += [one] if documents.running and number == len(ids) - 1 else [one, mark]
    tokens = compact(np.concatenate(parts), tokenizer.vocab_size)
    least = length + 1 if name == "train" else 2
    if len(tokens) < least:
        raise UserError(
            f"{documents.name}: the {name} text is too short",
            got=f"{len(tokens):,} tokens",
            expected=f"at least {least:,}: one row of {length:,} and the token after it"
            if name == "train"
            else "2",
            hint="give more text, or a smaller data.length (or model.context)"
            if name == "train"
            else f"give more text, or set data.{name}=0",
        )
    if documents.running:
        # the first token is the one that nothing predicts
        size -= len(documents.splits[name][0].encode("utf-8")) - _bytes_after(
            documents.splits[name][0], tokenizer
        )
    return StreamSplit(tokens, length, size, pad=tokenizer.end)


def _laned(where: str, name: str, stream: StreamSplit, lanes: int) -> LaneSplit:
    """The tokens of a stream, to be read on from step to step; the held-out ones in lanes of their own."""
    count = lanes if name == "train" else min(SCORED_LANES, len(stream.tokens) - 1)
    split = LaneSplit(stream.tokens, stream.length, count, stream.bytes, stream.pad)
    if name == "train":
        split.check_trainable(where)
    return split


def _bytes_after(text: str, tokenizer: Encoder) -> int:
    """UTF-8 bytes of a text after its first token (its length less the token's own)."""
    token_bytes = getattr(tokenizer, "token_bytes", None)
    whole = len(text.encode("utf-8"))
    return whole - len(token_bytes(tokenizer.encode(text[:64])[0])) if token_bytes else whole


def _encode(texts: list[str], tokenizer: Encoder) -> list[NDArray[Any]]:
    """Ids of each text, encoded in groups so that the ids of all are never lists at once."""
    found: list[NDArray[Any]] = []
    group: list[str] = []
    size = 0
    for place, text in enumerate(texts):
        group.append(text)
        size += len(text)
        if size >= _GROUP or place == len(texts) - 1:
            found += [compact(ids, tokenizer.vocab_size) for ids in tokenizer.encode_batch(group)]
            group, size = [], 0
    return found


def _divide(
    documents: list[str], running: bool, validation: float, test: float
) -> tuple[dict[str, list[str]], bool]:
    """Documents by split, and whether they were cut: few running texts give their tails, others are whole."""
    if (running and len(documents) < FEW_DOCUMENTS) or len(documents) < 3:
        cuts = [tails(text, validation, test) for text in documents]
        return {split: [cut[split] for cut in cuts] for split in NAMES}, True
    places = hash_split(keys(text.encode("utf-8") for text in documents), validation, test)
    return {name: [documents[place] for place in chosen] for name, chosen in places.items()}, False


def _source(config: Any, kind: str, progress: Report) -> tuple[Entry | None, list[Path]]:
    source = getattr(config, "source", None)
    if source is None or (kind == "questions" and "+" in source):
        return None, []  # of several sets the loader finds the files
    item = entry(source)
    also = _TOKENIZED if kind == "text" else ("sentences", "pairs") if kind == "similar" else ()
    if item.kind != kind and item.kind not in also:
        raise UserError(
            f"{item.name} is {_NOUNS[item.kind]}, not {_NOUNS[kind]}", hint=f'use data.type="{item.kind}"'
        )
    return item, locate(item.name, progress)
