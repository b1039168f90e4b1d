"""Where texts with a class come from: named sets, and the user's files, whose columns are found by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from descent.data.sentences_config import SentencesData
from descent.data.splits import NAMES
from descent.data.textfiles import find
from descent.data.textrows import TextRows, read_rows, split_files
from descent.errors import UserError

__all__ = ["LABELS", "PARSERS", "Example", "Found", "own_sentences", "text_columns"]

SINGLES = (
    "text",
    "sentence",
    "review",
    "comment",
    "content",
    "document",
    "title",
    "message",
    "tweet",
    "query",
)
DOUBLES = (
    ("sentence1", "sentence2"),
    ("sentence_a", "sentence_b"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
)
LABELS = (
    "label",
    "class",
    "category",
    "sentiment",
    "gold_label",
    "topic",
    "target",
    "labels",
    "stars",
    "rating",
)
KNOWN = (*SINGLES, *(name for pair in DOUBLES for name in pair), *LABELS)
MOST_CLASSES = 1000


class Example(NamedTuple):
    """A text or two of a class, and where they stood."""

    text: str
    second: str
    label: str
    where: str


@dataclass
class Found:
    """What files hold.

    Attributes:
        examples: by split, or all of them by "all". Where "validation" is lacking it is taken from "train".
        columns: the names of the texts' columns, numbers from 1 where they have none.
        notes: what was decided or left out.
    """

    examples: dict[str, list[Example]]
    columns: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)


def own_sentences(config: SentencesData) -> Found:
    """The examples of the user's files.

    Raises:
        UserError: there is no such file, or its content cannot be used; the message says where.
    """
    found, header = Found({}), None
    files = split_files(str(config.path), find(str(config.path)))
    for split in [name for name in ("all", *NAMES) if name in files]:  # the training file tells most
        file = files[split]
        rows = read_rows(file, (*KNOWN, *(name.lower() for name in _asked(config))), header)
        header = rows.header is not None
        texts, label = _columns(rows, config)
        names = tuple(rows.header[place] if rows.header else str(place + 1) for place in texts)
        if found.examples and names != found.columns:
            raise UserError(
                f"{file}: the texts are in other columns than in the other files",
                got=", ".join(names),
                expected=", ".join(found.columns),
            )
        if not found.examples and rows.header and not (config.text and config.label):
            found.notes.append(
                f"text from {' and '.join(map(repr, names))}, class from {rows.header[label]!r}"
            )
        found.columns = names
        found.examples[split] = _examples(rows, texts, label, found.notes)
    return found


def _asked(config: SentencesData) -> list[str]:
    return [name for name in (config.text, config.second, config.label) if name]


def text_columns(header: Sequence[str]) -> tuple[str, ...]:
    """The columns of a text, or of two, as their names tell; none if no name does."""
    lower = {name.lower(): name for name in header}
    for pair in DOUBLES:
        if all(name in lower for name in pair):
            return tuple(lower[name] for name in pair)
    return tuple([lower[name] for name in SINGLES if name in lower][:1])


def _columns(rows: TextRows, config: SentencesData) -> tuple[list[int], int]:
    """The places of the text, or of two, and of the class."""
    if rows.header is None:
        return _unnamed(rows, config)
    header = rows.header
    label = config.label or _label(header)
    texts = tuple(name for name in (config.text, config.second) if name) or text_columns(header)
    if len(header) == 2 and not (texts and label):  # the one that is not known is the other
        texts = texts or tuple(name for name in header if label and name != label)
        label = label or next((name for name in header if texts and name != texts[0]), "")
    if not texts or not label:
        raise UserError(
            f"{rows.file}: no column is named as a {'class' if texts else 'text'}",
            got=", ".join(header),
            hint="name it with data.label=..." if texts else "name it with data.text=...",
        )
    asked = zip(("data.text", "data.second"), texts, strict=False)
    return [rows.place(name, option) for option, name in asked], rows.place(label, "data.label")


def _label(header: Sequence[str]) -> str:
    lower = {name.lower(): name for name in header}
    return next((lower[name] for name in LABELS if name in lower), "")


def _unnamed(rows: TextRows, config: SentencesData) -> tuple[list[int], int]:
    count = len(rows.cells[0])
    for option in ("text", "second", "label"):
        if getattr(config, option):
            rows.place(getattr(config, option), f"data.{option}")  # says that there are no names
    if count not in (2, 3):
        raise UserError(
            f"{rows.file} has no column names and {count} column{'s' * (count != 1)}",
            got=[cell[:60] for cell in rows.cells[0][:8]],
            expected="a text and its class, or two texts and their class; or a first line of column names",
        )
    return list(range(count - 1)), count - 1


def _examples(rows: TextRows, texts: list[int], label: int, notes: list[str]) -> list[Example]:
    """The rows that have a text and a class; the others are counted."""
    found, empty = [], 0
    for number, cells in enumerate(rows.cells):
        sides, of = [cells[place].strip() for place in texts], cells[label].strip()
        if not all(sides) or not of:
            empty += 1
            continue
        found.append(Example(sides[0], sides[1] if len(sides) > 1 else "", of, rows.where(number)))
    if not found:
        places = [*texts, label]
        bare = next((p for p in places if not any(cells[p].strip() for cells in rows.cells)), texts[0])
        name = repr(rows.header[bare]) if rows.header else str(bare + 1)
        raise UserError(f"{rows.file}: the column {name} is empty", expected="a text and a class in a row")
    if empty:
        notes.append(f"{rows.file.name}: {empty:,} row{'s' * (empty != 1)} left out, without text or class")
    _check_classes(rows, found, rows.header[label] if rows.header else str(label + 1))
    return found


def _check_classes(rows: TextRows, examples: list[Example], column: str) -> None:
    """Refuses a column of measurements, or of texts, as the class."""
    counts = Counter(example.label for example in examples)
    fraction = next((one for one in examples if _fraction(one.label)), None)
    if fraction is not None:
        raise UserError(
            f"{fraction.where}: the class in {column!r} is a number with a fraction",
            got=fraction.label,
            expected="classes: words or whole numbers",
            hint="choose the column of the class with data.label=..., or write a word for each range",
        )
    if len(counts) > max(20, len(examples) // 2) or len(counts) > MOST_CLASSES:
        raise UserError(
            f"{rows.file}: {column!r} holds {len(counts):,} different values in {len(examples):,} rows",
            got=examples[0].label[:60],
            expected="a class that several rows share",
            hint="choose the column of the class with data.label=...",
        )


def _fraction(text: str) -> bool:
    try:
        return not float(text).is_integer()
    except (ValueError, OverflowError):
        return False


POLARITY = {"0": "negative", "1": "positive"}


def _renamed(examples: list[Example], names: dict[str, str]) -> list[Example]:
    return [one._replace(label=names[one.label]) for one in examples]


def _sst2(files: list[Path]) -> Found:
    splits = zip(("train", "validation", "test"), files, strict=True)
    notes: list[str] = []
    found = {split: _renamed(_examples(read_rows(file), [0], 1, notes), POLARITY) for split, file in splits}
    return Found(found, ("1",), notes)


def _hotel(files: list[Path]) -> Found:
    rows, notes = read_rows(files[0], ("review",)), []
    examples = _examples(rows, [1], 0, notes)
    return Found({"all": _renamed(examples, POLARITY)}, ("review",), notes)


def _sick(files: list[Path]) -> Found:
    splits = zip(("train", "validation", "test"), files, strict=True)
    notes: list[str] = []
    found = {split: _examples(read_rows(file, KNOWN), [1, 2], 4, notes) for split, file in splits}
    lower = {s: [one._replace(label=one.label.lower()) for one in held] for s, held in found.items()}
    return Found(lower, ("sentence_A", "sentence_B"), notes)


def _ocnli(files: list[Path]) -> Found:
    """Pairs on whose class the annotators did not agree have "-" for it, and are left out."""
    found, notes, split = {}, [], {0: "train", 1: "test"}
    for number, file in enumerate(files):
        rows = read_rows(file, KNOWN)
        places = [rows.place(name, "column") for name in ("sentence1", "sentence2", "label")]
        examples = _examples(rows, places[:2], places[2], notes)
        found[split[number]] = [one for one in examples if one.label != "-"]
        left_out = len(examples) - len(found[split[number]])
        if left_out:
            notes.append(f"{file.name}: {left_out:,} pairs left out, whose class is '-'")
    return Found(found, ("sentence1", "sentence2"), notes)


PARSERS: dict[str, Callable[[list[Path]], Found]] = {
    "sst2": _sst2,
    "chnsenticorp-hotel": _hotel,
    "sick2014": _sick,
    "ocnli": _ocnli,
}
"""What reads the files of a named set, by the name of its parser."""
