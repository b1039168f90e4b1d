"""Questions with a text that holds the answer: files in the JSON of SQuAD, and the named sets in that form.

Policy for files: as for every text (UTF-8, see `textfiles`). An answer is a text and the number of the
character it begins at. One that does not stand there (offsets counted in bytes or in UTF-16, a text that was
cleaned later) is looked for: it is taken where it stands once within 32 characters, or once in the whole
text. A question none of whose answers is found so is not trained on, but it stays in the other splits and is
scored by the words of its answers, as the official scripts do. The same holds for an empty question. All are
counted and said. Where more than a tenth of a file's answers are nowhere, the file is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descent.data.dataset import Dataset, Split
from descent.data.entry_types import Entry
from descent.data.question_rows import Question, QuestionSplit
from descent.data.questions_config import QuestionsData
from descent.data.registry import entry, locate
from descent.data.splits import NAMES, fingerprint, hash_split, keys, named
from descent.data.textfiles import find, read_text
from descent.errors import UserError, nearest

if TYPE_CHECKING:
    from descent.data.question_rows import Pieced

__all__ = ["Questions", "load_questions", "read_squad", "tokenize_questions"]

Parsed = dict[str, list[Question]]
"""Questions by split, or all of them by "all"."""
NEAR = 32
"""Characters within which an answer that is not at its place is looked for first."""
LOST = 0.1
"""The share of a file's answers that may be nowhere in their texts."""
SHOWN = 60


@dataclass(frozen=True)
class Questions:
    """Questions by split.

    Attributes:
        name: the entries, or the user's file.
        splits: those of "train", "validation" and "test" (a split without questions is left out).
        about: how the splits came about.
        notes: what was done about answers that are not at their place.
    """

    name: str
    splits: dict[str, list[Question]]
    about: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all questions, texts, answers and their splits."""
        parts: list[str] = []
        for name, questions in self.splits.items():
            parts += [name, str(len(questions))]
            for one in questions:
                parts += [one.id, one.question, one.context, str(one.span), *one.answers]
        return fingerprint(parts)

    def texts(self, split: str) -> list[str]:
        """Every text once, then every question: what a tokenizer is trained on."""
        chosen = self.splits[split]
        return [*dict.fromkeys(one.context for one in chosen), *(one.question for one in chosen)]

    def unlabelled(self, split: str) -> list[str]:
        """The texts of a split to pretrain on: each once, its questions after it."""
        found: dict[str, list[str]] = {}
        for one in self.splits[split]:
            found.setdefault(one.context, []).append(one.question)
        return [" ".join((context, *questions)) for context, questions in found.items()]


def load_questions(config: QuestionsData, item: Entry | None, files: list[Path]) -> Questions:
    """The questions a recipe names, split.

    Parts that are named for splits keep them: of cmrc2018 the official validation file is the test, as
    published numbers are on it, and the trial file is to be trained on. Where one of several sources has
    such parts, the others are only trained on. What is lacking is taken by a hash of the article's title
    (of the text, where there is none); no text is in two splits.

    Args:
        config: what is wanted.
        item, files: the entry and its verified files; None and [] for several entries, or the user's path.

    Raises:
        UserError: there is no such file, or its content cannot be used; the message says where.
    """
    if config.path is not None:
        name, parts = Path(config.path).name, [_own(config.path)]
    elif item is not None:
        name, parts = item.name, [_named_set(item, files)]
    else:
        name = str(config.source)
        items = [_entry(part) for part in name.split("+")]
        parts = [_named_set(found, locate(found.name)) for found in items]
    parsed, about = _divided(_together(parts), config.validation, config.test)
    splits = {split: parsed[split] for split in NAMES if parsed.get(split)}
    splits["train"] = [one for one in splits.get("train", []) if one.question and not one.lost]
    if not splits["train"]:
        raise UserError(f"{name}: no question is left to train on", hint="give more, or a smaller data.test")
    everything = [one for part in parts for held in part.values() for one in held]
    return Questions(name, splits, about, _notes(everything))


def tokenize_questions(questions: Questions, config: QuestionsData, tokenizer: Pieced) -> Dataset:
    """Questions as windows of token ids: mark, question, mark, a window of the text, mark.

    What is to be found is the place of the answer's first token and of its last. In a window that does not
    hold the whole of it, and where there is no answer, both are the first mark (J. Devlin et al.,
    arXiv:1810.04805, section 4.3).

    Args:
        questions: from `load_questions`.
        config: its `length`, `stride`, `question_length`, `longest`, `language` and `packing`.
        tokenizer: turns texts into ids and says where in the text each stands.
    """
    unanswerable = any(not one.answers for one in questions.splits["train"])
    splits: dict[str, Split] = {
        name: QuestionSplit(found, config, tokenizer, unanswerable)
        for name, found in questions.splits.items()
    }
    asked = {"length": config.length, "stride": config.stride, "question_length": config.question_length}
    return Dataset(
        name=questions.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size},
        unit="windows",
        fingerprint=fingerprint([questions.fingerprint, tokenizer.fingerprint, json.dumps(asked)]),
        preparation={
            "kind": "questions",
            **asked,
            "longest": config.longest,
            "unanswerable": unanswerable,
        },
        about=questions.about,
        notes=questions.notes,
    )


def read_squad(file: Path) -> list[Question]:
    """The questions of a file in the JSON of SQuAD 1.1 or 2.0.

    Raises:
        UserError: no JSON, a key that is not there, an empty text, two questions of one id, or more than a
            tenth of the answers nowhere in their texts; the message says where.
    """
    articles = _get(_json(file), "data", list, str(file))
    found: list[Question] = []
    seen: dict[str, str] = {}
    for number, article in enumerate(articles, 1):
        where = f"{file}: article {number:,}"
        title = _optional(article, "title", where)
        for place, paragraph in enumerate(_get(article, "paragraphs", list, where), 1):
            inside = f"{where}, paragraph {place:,}"
            context = _text(paragraph, "context", inside)
            for turn, asked in enumerate(_get(paragraph, "qas", list, inside), 1):
                at = f"{inside}, question {turn:,}"
                one = _question(asked, context, title or context, at)
                if one.id and seen.setdefault(one.id, at) != at:
                    raise UserError(f"{at}: another question has this id", got=one.id, expected=seen[one.id])
                found.append(one)
    if not found:
        raise UserError(
            f"{file} holds no questions", expected="data, paragraphs and qas, as in SQuAD's files"
        )
    _refuse_lost(found, file)
    return found


def _json(file: Path) -> Any:
    try:
        return json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        line = f", line {error.lineno:,}" if isinstance(error, json.JSONDecodeError) else ""
        reason = getattr(error, "msg", str(error))
        raise UserError(
            f"{file}{line}: not JSON: {reason}", expected='{"data": [{"paragraphs": [...]}]}, as SQuAD has it'
        ) from None


def _question(asked: Any, context: str, group: str, where: str) -> Question:
    question = _get(asked, "question", str, where) and _text(asked, "question", where)
    answers = [] if asked.get("is_impossible") is True else _get(asked, "answers", list, where)
    texts, spans, moved = [], [], False
    for number, answer in enumerate(answers, 1):
        inside = f"{where}, answer {number}"
        text, start = _text(answer, "text", inside), _get(answer, "answer_start", int, inside)
        found = start if start >= 0 and context.startswith(text, start) else _again(context, text, start)
        texts.append(text)
        if found is not None:
            spans.append((found, found + len(text)))
            moved = moved or (len(spans) == 1 and found != start)
    return Question(
        _optional(asked, "id", where),
        question,
        context,
        tuple(texts),
        spans[0] if spans else None,
        group,
        moved,
    )


def _again(context: str, text: str, start: int) -> int | None:
    """Where an answer stands that is not where its file says, if that is certain."""
    places, at = [], context.find(text)
    while at >= 0 and len(places) < 1000:
        places.append(at)
        at = context.find(text, at + 1)
    near = [place for place in places if abs(place - start) <= NEAR]
    return next((chosen[0] for chosen in (near, places) if len(chosen) == 1), None)


def _refuse_lost(found: list[Question], file: Path) -> None:
    lost = [one for one in found if one.lost]
    if len(lost) > LOST * len(found):
        one = lost[0]
        raise UserError(
            f"{file}: the answers of {len(lost):,} of {len(found):,} questions are not in their texts",
            got=f"{one.answers[0][:SHOWN]} to the question {one.id or one.question[:SHOWN]}",
            expected="each answer's text as it stands in the context, answer_start counted in characters",
        )


def _get(table: Any, key: str, kind: type, where: str) -> Any:
    if not isinstance(table, dict):
        raise UserError(f"{where}: not an object", got=table, expected=f'one with "{key}"')
    if key not in table:
        near = nearest(key, map(str, table))
        raise UserError(
            f'{where}: there is no "{key}"',
            got=", ".join(map(str, table)) or "nothing",
            hint=f"is {near!r} meant to be it?" if near else "the form is SQuAD's: see docs/questions.md",
        )
    value = table[key]
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {list: "a list", int: "a whole number", str: "a text"}
        raise UserError(f'{where}: "{key}" is not {names[kind]}', got=value)
    return value


def _text(table: Any, key: str, where: str) -> str:
    found = _get(table, key, str, where)
    if not found.strip():
        raise UserError(f'{where}: "{key}" is empty', expected="a text")
    try:
        found.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(
            f"{where}: half of a surrogate pair, which no text holds", got=found[:SHOWN]
        ) from None
    return found


def _optional(table: Any, key: str, where: str) -> str:
    return _text(table, key, where) if isinstance(table, dict) and table.get(key) else ""


def _own(path: str) -> Parsed:
    """The questions of the user's files: by split where every file is named for one, else all together."""
    files = find(path)
    places = [named(file.stem) for file in files]
    official = len(files) > 1 and "train" in places
    found: Parsed = {}
    for file, split in zip(files, places, strict=True):
        if official and split is None:
            raise UserError(
                f"{file.name} stands beside files named for splits, but names none",
                expected="only train, validation and test files, or none of these",
                hint="choose with a pattern, such as data.path='folder/*.json'",
            )
        found.setdefault(split if official and split else "all", []).extend(read_squad(file))
    return found


def _named_set(item: Entry, files: list[Path]) -> Parsed:
    if item.parser == "cmrc2018":
        held = {file.stem: file for file in files}
        return {"train": read_squad(held["cmrc2018_trial"]), "test": read_squad(held["cmrc2018_dev"])}
    return {"all": [one for file in files for one in read_squad(file)]}


def _entry(name: str) -> Entry:
    found = entry(name.strip())
    if found.kind != "questions":
        raise UserError(f"{found.name} holds no questions", got=found.kind, expected="sets of questions")
    return found


def _together(parts: list[Parsed]) -> Parsed:
    """Several sets as one. Beside a set with splits of its own, one without is to be trained on."""
    official = any("train" in part for part in parts)
    found: Parsed = {}
    for part in parts:
        for split, questions in part.items():
            found.setdefault("train" if official and split == "all" else split, []).extend(questions)
    return found


def _divided(parsed: Parsed, validation: float, test: float) -> tuple[Parsed, str]:
    if "all" in parsed:
        return _by_article(parsed["all"], validation, test), "split by a hash of the article"
    about = "splits as the files are named"
    if "validation" not in parsed:
        parts = _by_article(parsed["train"], validation, 0.0)
        parsed = {**parsed, "train": parts["train"], "validation": parts["validation"]}
        about += "; validation by a hash of the article"
    return parsed, about


def _by_article(questions: list[Question], validation: float, test: float) -> Parsed:
    """Questions split so that those of one article, or of one text in two articles, stay together."""
    first: dict[str, str] = {}
    groups = [first.setdefault(one.context, one.group) for one in questions]
    distinct = list(dict.fromkeys(groups))
    places = hash_split(keys(group.encode("utf-8") for group in distinct), validation, test)
    chosen = {name: {distinct[place] for place in np.asarray(places[name])} for name in NAMES}
    both = list(zip(questions, groups, strict=True))
    return {name: [one for one, group in both if group in chosen[name]] for name in NAMES}


def _notes(questions: list[Question]) -> tuple[str, ...]:
    moved, lost = [one for one in questions if one.moved], [one for one in questions if one.lost]
    empty = sum(not one.question for one in questions)
    notes = [f"{empty:,} empty questions are not trained on"] if empty else []
    if moved:
        notes.append(f"{len(moved):,} answers were not at their place and were found again")
    if lost:
        named_one = lost[0].id or lost[0].question[:SHOWN]
        notes.append(
            f"{len(lost):,} answers are not in their texts, so not trained on (the first: {named_one})"
        )
    return tuple(notes)
