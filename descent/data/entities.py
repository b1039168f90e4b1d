"""Words with tags as rows of tokens: the first token of a word carries its tag, the others none.

J. Devlin et al., BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding,
arXiv:1810.04805, section 5.3. Tags are kept as IOB2, whatever scheme they came in.

Policy for files: as for every text (UTF-8, see `textfiles`). A line is a word, perhaps more columns, and a
tag; a line of white space alone ends a sentence; a line that begins with -DOCSTART- is no word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from descent.data.chunks import chunks, is_tag, scheme, tags_of
from descent.data.dataset import IGNORED, Dataset, Split
from descent.data.entities_config import EntitiesData
from descent.data.entry_types import Entry
from descent.data.rows import Packing, Row, RowSplit
from descent.data.splits import NAMES, fingerprint, hash_split, keys, named
from descent.data.textfiles import find, read_text
from descent.data.textrows import split_files
from descent.errors import UserError

if TYPE_CHECKING:
    from descent.data.sentences import MarkedEncoder

__all__ = [
    "Entities",
    "EntitySplit",
    "Tagged",
    "entity_rows",
    "load_entities",
    "read_conll",
    "read_words",
    "tokenize_entities",
]

LETTERS = 64
"""The most characters of a word that are read for each token of a row (see `sentences`)."""
DOCUMENT = "-DOCSTART-"
SHOWN = 60


class Tagged(NamedTuple):
    """A sentence: its words, their IOB2 tags, and the file and the line of the first one."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    file: str
    line: int


@dataclass(frozen=True)
class Entities:
    """Sentences of words with tags by split.

    Attributes:
        name: the entry, or the user's file.
        splits: the sentences of "train", "validation" and "test" (a split without any is left out).
        tags: the tags there may be, in the order of their numbers: O, then B- and I- of each type.
        joiner: what stands between two words.
        about: how the splits came about.
        notes: what was decided.
    """

    name: str
    splits: dict[str, list[Tagged]]
    tags: tuple[str, ...]
    joiner: str
    about: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all words, tags and splits."""
        parts: list[str] = []
        for name, sentences in self.splits.items():
            parts += [name, str(len(sentences))]
            parts += [text for one in sentences for text in (str(len(one.words)), *one.words, *one.tags)]
        return fingerprint(parts)

    def texts(self, split: str) -> list[str]:
        """The sentences of a split as texts."""
        return [self.joiner.join(one.words) for one in self.splits[split]]


def load_entities(config: EntitiesData, item: Entry | None, files: list[Path]) -> Entities:
    """The sentences a recipe names, split: as the files are, or by a hash of the sentence.

    Args:
        config: what is wanted.
        item, files: the entry and its verified files; None and [] for the user's own path.

    Raises:
        UserError: there is no such file, or its content cannot be used; the message says where.
    """
    if item is None:
        name, places = Path(str(config.path)).name, _files(str(config.path))
    else:
        name, places = item.name, dict(zip(NAMES, files, strict=False))
    read = {split: read_conll(file) for split, file in places.items()}
    found = scheme(one.tags for sentences in read.values() for one in sentences)
    splits = {
        split: [one._replace(tags=tuple(tags_of(chunks(one.tags), len(one.tags)))) for one in sentences]
        for split, sentences in read.items()
    }
    about = "splits as the files are named"
    if "all" in splits:
        splits, about = _divided(splits["all"], config, config.test), "split by a hash of the sentence"
    elif "validation" not in splits:
        rest = _divided(splits["train"], config, 0.0)
        splits = {**splits, "train": rest["train"], "validation": rest["validation"]}
    splits = {split: splits[split] for split in NAMES if splits.get(split)}
    notes = (f"tags were {found}, and are IOB2",) if found != "IOB2" else ()
    return Entities(name, splits, _tags(name, splits), config.joiner, about, notes)


def read_words(file: Path) -> list[tuple[int, list[str]]]:
    """The words of each sentence of a file, the first cell of each line, with the line it begins at."""
    found: list[tuple[int, list[str]]] = []
    words: list[str] = []
    for number, line in enumerate([*read_text(file).split("\n"), ""], 1):
        cells = (line.split("\t") if "\t" in line else line.split()) if line.strip() else []
        if cells and not line.startswith(DOCUMENT) and cells[0].strip():
            if not words:
                found.append((number, words))
            words.append(cells[0].strip())
        else:
            words = []
    if not found:
        raise UserError(f"{file} holds no words", expected="a word a line")
    return found


def read_conll(file: Path) -> list[Tagged]:
    """The sentences of a file in the format of CoNLL, their tags as they stand.

    Raises:
        UserError: nothing is in it, or a line is no word and tag; the message names the line.
    """
    found: list[Tagged] = []
    words: list[str] = []
    tags: list[str] = []
    columns, first = 0, 1
    for number, line in enumerate([*read_text(file).split("\n"), ""], 1):
        if not line.strip() or line.startswith(DOCUMENT):
            if words:
                found.append(Tagged(tuple(words), tuple(tags), str(file), first))
            words, tags = [], []
            continue
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        _check_line(cells, columns, f"{file}, line {number:,}")
        columns, first = len(cells), first if words else number
        words.append(cells[0])
        tags.append(cells[-1])
    if not found:
        raise UserError(f"{file} holds no words", expected="a word and its tag a line")
    return found


def _check_line(cells: list[str], columns: int, where: str) -> None:
    if columns and len(cells) != columns:
        raise UserError(
            f"{where}: a line of {len(cells)} column{'s' * (len(cells) != 1)}",
            got=" ".join(cells)[:SHOWN],
            expected=f"{columns}, as in the lines before",
        )
    if len(cells) < 2:
        raise UserError(
            f"{where}: a word without a tag",
            got=cells[0][:SHOWN],
            expected="a word and its tag, with a tab or a blank between them",
        )
    if not cells[0]:
        raise UserError(f"{where}: a tag without a word", got=cells[-1][:SHOWN])
    if not is_tag(cells[-1]):
        raise UserError(
            f"{where}: {cells[-1][:SHOWN]!r} is no tag",
            expected="O, or B- or I- (E-, S-) and a type, such as B-person",
        )


def tokenize_entities(texts: Entities, config: EntitiesData, tokenizer: MarkedEncoder) -> Dataset:
    """Sentences as rows of token ids, with the number of a tag at the first token of each word.

    Args:
        texts: from `load_entities`.
        config: its `length` and `packing`.
        tokenizer: has marks that begin a row and end a text.
    """
    number_of = {tag: number for number, tag in enumerate(texts.tags)}
    splits: dict[str, Split] = {}
    cut: list[str] = []
    for name, sentences in texts.splits.items():
        found = entity_rows([one.words for one in sentences], tokenizer, config.length, config.joiner)
        rows: list[Row] = []
        owners: list[int] = []
        for number, (parts, sentence) in enumerate(zip(found, sentences, strict=True)):
            at = 0
            for row in parts:
                own = row["targets"] != IGNORED
                size = int(own.sum())
                row["targets"][own] = [number_of[tag] for tag in sentence.tags[at : at + size]]
                rows.append(row)
                owners.append(number)
                at += size
        if len(rows) > len(sentences):
            cut.append(f"{name} {sum(len(parts) > 1 for parts in found):,} of {len(sentences):,}")
        words = [one.words for one in sentences]
        splits[name] = EntitySplit(rows, owners, words, texts.tags, config.length, tokenizer, config.packing)
    noted = f"cut into parts of {config.length:,} tokens: {', '.join(cut)}"
    return Dataset(
        name=texts.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size, "outputs": len(texts.tags)},
        unit="sentences",
        fingerprint=fingerprint(
            [texts.fingerprint, tokenizer.fingerprint, config.packing, config.joiner, str(config.length)]
        ),
        labels=texts.tags,
        preparation={
            "kind": "entities",
            "length": config.length,
            "joiner": config.joiner,
            "labels": list(texts.tags),
        },
        about=texts.about,
        notes=(*texts.notes, noted) if cut else texts.notes,
    )


class EntitySplit(RowSplit):
    """Sentences of words with tags; `targets` are (N, T), one at the first token of each word.

    Args:
        rows: one a sentence, or a part of one.
        owners: of each row the number of its sentence.
        words: of each sentence.
        tags: the names of the targets' numbers.
        length: the most tokens of a row.
        tokenizer: pads.
        packing: see `RowSplit`.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        owners: Sequence[int],
        words: Sequence[tuple[str, ...]],
        tags: Sequence[str],
        length: int,
        tokenizer: MarkedEncoder,
        packing: Packing = "documents",
    ):
        super().__init__(
            rows,
            length,
            pad=tokenizer.pad,
            vocab_size=tokenizer.vocab_size,
            packing=packing,
            noun="sentences",
        )
        self.owners, self.words, self.tags = list(owners), list(words), tuple(tags)

    def describe(self) -> str:
        return f"{len(self.words):,} sentences of {sum(map(len, self.words)):,} words"


def entity_rows(
    sentences: Sequence[Sequence[str]], tokenizer: MarkedEncoder, length: int, joiner: str
) -> list[list[Row]]:
    """For each sentence its rows of at most `length` tokens: one, or more where it had to be cut.

    `targets` are 0 at the first token of each word and -100 elsewhere. Every word is encoded with the joiner
    before it (but the first), so that none shares a token with another; one that gives no token at all is
    read as padding.
    """
    limit = LETTERS * length
    asked = {form[:limit]: None for words in sentences for form in _forms(words, joiner)}
    forms = dict(zip(asked, tokenizer.pieces_batch(list(asked)), strict=True))
    found = []
    for words in sentences:
        parts: list[tuple[list[int], list[int]]] = [([], [])]
        for number, form in enumerate(_forms(words, joiner)):
            pieces = forms[form[:limit]]
            lead = len(joiner) if number else 0
            ids = (pieces.ids or [tokenizer.pad])[: length - 2]
            first = next((n for n, (_, end) in enumerate(pieces.spans[: length - 2]) if end > lead), 0)
            if len(parts[-1][0]) + len(ids) > length - 2:
                parts.append(([], []))
            parts[-1][0].extend(ids)
            parts[-1][1].extend(0 if place == first else IGNORED for place in range(len(ids)))
        found.append([_row(ids, targets, tokenizer) for ids, targets in parts])
    return found


def _forms(words: Sequence[str], joiner: str) -> list[str]:
    return [(joiner if number else "") + word for number, word in enumerate(words)]


def _row(ids: list[int], targets: list[int], tokenizer: MarkedEncoder) -> Row:
    return {
        "tokens": np.array([tokenizer.begin, *ids, tokenizer.separator], dtype=np.int64),
        "targets": np.array([IGNORED, *targets, IGNORED], dtype=np.int64),
    }


def _files(path: str) -> dict[str, Path]:
    """One file as "all", or several by the splits they are named for."""
    place = Path(path).expanduser()
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.is_file() and named(file.stem))
        if not files:
            raise UserError(
                f"{path}: no file is named for a split", expected="files named train, validation and test"
            )
    else:
        files = find(path)
    return split_files(path, files)


def _tags(name: str, splits: dict[str, list[Tagged]]) -> tuple[str, ...]:
    """O, and B- and I- of every type that is trained on.

    Raises:
        UserError: there is none, or a held-out sentence has another type.
    """
    types = {chunk.type for one in splits.get("train", ()) for chunk in chunks(one.tags)}
    if not types:
        raise UserError(f"{name}: every tag of the training sentences is O", expected="words with a type")
    for split in ("validation", "test"):
        for one in splits.get(split, ()):
            other = next((chunk for chunk in chunks(one.tags) if chunk.type not in types), None)
            if other is not None:
                raise UserError(
                    f"{one.file}, line {one.line + other.start:,}: no training sentence has the type "
                    f"{other.type!r}, but this one of {split} has",
                    got=" ".join(one.words[other.start : other.end])[:SHOWN],
                    expected="one of " + ", ".join(sorted(types)),
                    hint="give more examples of it, or leave it out",
                )
    return ("O", *(f"{letter}-{kind}" for kind in sorted(types) for letter in "BI"))


def _divided(sentences: list[Tagged], config: EntitiesData, test: float) -> dict[str, list[Tagged]]:
    texts = (config.joiner.join(one.words).encode() for one in sentences)
    places = hash_split(keys(texts), config.validation, test)
    return {name: [sentences[place] for place in chosen] for name, chosen in places.items()}
