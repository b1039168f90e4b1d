"""How labelled examples of each form become texts, and what is needed to score the texts that are written.

C. Raffel et al., T5, arXiv:1910.10683, section 2.4 and appendix D; for ranking R. Nogueira et al., Document
Ranking with a Pretrained Sequence-to-Sequence Model, arXiv:2003.06713, section 3:

    sentences   sst2 sentence: a fine film                              positive
                sick2014 premise: A man eats hypothesis: Nobody eats    contradiction
    entities    wnut17 words: Ada Lovelace saw Paris                    person: Ada Lovelace; location: Paris
    questions   xquad-en question: Who won? context: In 2015 ...        Denver Broncos
    ranking     cranfield query: ... document: ... relevant:            true
    pairs       multi30k: Ein Mann isst.                                A man is eating.

What has no answer (a sentence without names, a window of a text without the answer) becomes "none".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from descent.data.chunks import chunks
from descent.data.entities import Entities, Tagged
from descent.data.pairs import Pairs
from descent.data.question_rows import Question
from descent.data.questions import Questions
from descent.data.ranking import Ranking, Searched
from descent.data.sentences import LETTERS, Sentences
from descent.data.tasks_config import Task
from descent.errors import UserError

__all__ = [
    "FALSE",
    "NONE",
    "TRUE",
    "Case",
    "Part",
    "joined",
    "marks_of",
    "part_of",
    "source_rows",
    "words_of",
    "written_names",
]

NONE, TRUE, FALSE = "none", "true", "false"
WORDS: dict[str, dict[str, str]] = {
    "chnsenticorp-hotel": {"positive": "好评", "negative": "差评"},
    "ocnli": {"entailment": "蕴含", "neutral": "中立", "contradiction": "矛盾"},
}
"""What is written for the labels of named sets whose texts are in another language than their labels."""
INFERENCE = ("premise", "hypothesis")
TWO = ("sentence1", "sentence2")


@runtime_checkable
class Pieced(Protocol):
    """What texts need of a tokenizer."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def pieces_batch(self, texts: Sequence[str]) -> list[Any]: ...


class Case(NamedTuple):
    """The texts of a source, without their marks, and what they become."""

    texts: tuple[str, ...]
    target: str


@dataclass
class Part:
    """The examples of a task in a split.

    Attributes:
        name, form: of the task.
        marks: what stands before each text of a source, and perhaps behind the last.
        cases: what a sweep gives.
        units: what an epoch gives: for each example the numbers of the cases of which one is drawn.
        labels: the words there are to write; empty where any text may be.
        sentences: the words and tags behind each case, and what stands between two words.
        joiner: see `sentences`.
        questions: what is asked, each in the windows of its text.
        queries: what is searched for, each with the documents found for it.
        pairs: of each case the number of the question and of the window, or of the query and of the document.
        tuning: the part by which the weight of the first stage is chosen; None = it is not mixed in.
    """

    name: str
    form: str
    marks: tuple[str, ...]
    cases: list[Case]
    units: list[tuple[int, ...]]
    labels: tuple[str, ...] = ()
    sentences: list[Tagged] = field(default_factory=list)
    joiner: str = " "
    questions: list[Question] = field(default_factory=list)
    queries: list[Searched] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    tuning: Part | None = field(default=None, init=False)


def marks_of(task: Task, name: str, texts: Any) -> tuple[str, ...]:
    """What stands before each text of a task's sources, and perhaps behind the last."""
    if task.marks:
        return task.marks
    if isinstance(texts, Sentences):
        usual = ("sentence",)
        if texts.double:
            usual = INFERENCE if set(texts.labels) & {"entailment", "contradiction"} else TWO
    else:
        usual = {
            Entities: ("words",),
            Questions: ("question", "context"),
            Ranking: ("query", "document", "relevant"),
        }.get(type(texts), ("",))
    return (f"{name} {usual[0]}".strip() + ":", *(f"{word}:" for word in usual[1:]))


def words_of(task: Task, texts: Any) -> dict[str, str]:
    """The word that is written for each label of a task; none where it has no labels."""
    if not isinstance(texts, Sentences):
        return {}
    unknown = sorted(set(task.words) - set(texts.labels))
    if unknown:
        raise UserError(
            f"{texts.name} has no label {unknown[0]!r}, for which a word is given",
            expected=", ".join(texts.labels),
        )
    return {label: label for label in texts.labels} | WORDS.get(texts.name, {}) | task.words


def joined(marks: Sequence[str], texts: Sequence[str]) -> str:
    """A source: each text behind its mark."""
    return " ".join(part for both in zip_longest(marks, texts, fillvalue="") for part in both if part)


def part_of(
    texts: Any, split: str, task: Task, name: str, tokenizer: Pieced, length: int, chosen: int = 0
) -> Part:
    """A split of a task's set as texts and what they become.

    Args:
        texts: what the loader of its form gave.
        split: its name; in training a query has documents too that the first stage did not find.
        task: of the recipe.
        name: of the task.
        tokenizer: measures the windows of a text that a question is asked about.
        length: the most tokens of a source.
        chosen: the most examples, by a fixed shuffle; 0 = all. Of a ranking whole queries, as many as have so
            many documents together.
    """
    marks = marks_of(task, name, texts)
    if isinstance(texts, Sentences):
        return _sentences(texts, split, task, name, marks, chosen)
    if isinstance(texts, Entities):
        return _entities(texts, split, name, marks, chosen)
    if isinstance(texts, Questions):
        return _questions(texts, split, name, marks, chosen, tokenizer, length)
    if isinstance(texts, Ranking):
        return _ranking(texts, split, name, marks, chosen)
    return _pairs(texts, split, name, marks, chosen)


def _single(
    name: str, form: str, marks: tuple[str, ...], cases: list[Case], labels: tuple[str, ...] = ()
) -> Part:
    return Part(name, form, marks, cases, [(number,) for number in range(len(cases))], labels)


def _some(items: Sequence[Any], chosen: int) -> list[Any]:
    """So many of them, by a fixed shuffle; in their order."""
    if not chosen or len(items) <= chosen:
        return list(items)
    order = np.argsort(np.random.Philox(key=np.zeros(2, np.uint64)).random_raw(len(items)), kind="stable")
    return [items[place] for place in sorted(order[:chosen].tolist())]


def _sentences(
    texts: Sentences, split: str, task: Task, name: str, marks: tuple[str, ...], chosen: int
) -> Part:
    words = words_of(task, texts)
    cases = [
        Case((one.text, one.second) if one.second else (one.text,), words[one.label])
        for one in _some(texts.splits[split], chosen)
    ]
    labels = tuple(words[label] for label in texts.labels)
    return _single(name, "sentences", marks, cases, labels)


def _entities(texts: Entities, split: str, name: str, marks: tuple[str, ...], chosen: int) -> Part:
    held: list[Tagged] = _some(texts.splits[split], chosen)
    cases = [Case((texts.joiner.join(one.words),), written_names(one, texts.joiner)) for one in held]
    part = _single(name, "entities", marks, cases, tuple(dict.fromkeys(tag[2:] for tag in texts.tags[1:])))
    part.sentences, part.joiner = held, texts.joiner
    return part


def written_names(sentence: Tagged, joiner: str) -> str:
    """The names in a sentence as a text: `person: Ada Lovelace; location: Paris`, in their order."""
    names = [
        f"{one.type}: {joiner.join(sentence.words[one.start : one.end])}" for one in chunks(sentence.tags)
    ]
    return "; ".join(names) or NONE


def _questions(
    texts: Questions,
    split: str,
    name: str,
    marks: tuple[str, ...],
    chosen: int,
    tokenizer: Pieced,
    length: int,
) -> Part:
    """Each question with the windows of its text, which begin half a window apart.

    An epoch has every question twice where windows with and without its answer are: with one of each.
    """
    asked: list[Question] = _some(texts.splits[split], chosen)
    contexts = list(dict.fromkeys(one.context for one in asked))
    places = {
        context: [(start, end) for start, end in pieces.spans]
        for context, pieces in zip(contexts, tokenizer.pieces_batch(contexts), strict=True)
    }
    heads = tokenizer.encode_batch([joined(marks, (one.question, "")) for one in asked])
    part = Part(name, "questions", marks, [], [], questions=asked)
    for number, (one, head) in enumerate(zip(asked, heads, strict=True)):
        room = max(length - 2 - len(head), length // 4)
        with_it, without = [], []
        for window, (start, end) in enumerate(_windows(places[one.context], room)):
            inside = one.span is not None and start <= one.span[0] and one.span[1] <= end
            answer = one.context[one.span[0] : one.span[1]] if inside and one.span else NONE
            (with_it if inside else without).append(len(part.cases))
            part.cases.append(Case((one.question, one.context[start:end].strip()), answer))
            part.pairs.append((number, window))
        part.units += [tuple(places) for places in (with_it, without) if places]
    return part


def _windows(places: list[tuple[int, int]], room: int) -> list[tuple[int, int]]:
    """Where in a text its windows of so many tokens begin and end, in characters."""
    size, stride = len(places), max(room // 2, 1)
    starts = range(0, max(size - room, 0) + stride, stride) if size > room else range(1)
    return [(places[s][0], places[min(s + room, size) - 1][1]) if size else (0, 0) for s in starts]


def _ranking(texts: Ranking, split: str, name: str, marks: tuple[str, ...], chosen: int) -> Part:
    """Each query with each document found for it.

    An epoch has a query once with each of its relevant documents, and as often with one that is not.
    """
    held = list(texts.splits[split])
    if chosen:
        depth = max(len(one.found) for one in held)
        held = _some(held, max(chosen // max(depth, 1), 1))
    part = Part(name, "ranking", marks, [], [], (TRUE, FALSE), queries=held)
    extra: list[tuple[int, int]] = []
    for turn, one in enumerate(held):
        part.pairs += [(turn, int(number)) for number in one.found]
        missed = set(one.relevant) - {int(number) for number in one.found}
        extra += [(turn, number) for number in sorted(missed)] if split == "train" else []
    grades = [held[turn].judged.get(number, 0) for turn, number in (*part.pairs, *extra)]
    wrong: dict[int, list[int]] = {}
    for place, ((turn, number), grade) in enumerate(zip((*part.pairs, *extra), grades, strict=True)):
        target = TRUE if grade > 0 else FALSE
        part.cases.append(Case((held[turn].text, texts.documents[number]), target))
        if grade == 0:  # one below 0 is neither right nor wrong
            wrong.setdefault(turn, []).append(place)
    for place, ((turn, _), grade) in enumerate(zip((*part.pairs, *extra), grades, strict=True)):
        if grade > 0:
            part.units.append((place,))
            part.units += [tuple(wrong[turn])] if turn in wrong else []
    return part


def _pairs(texts: Pairs, split: str, name: str, marks: tuple[str, ...], chosen: int) -> Part:
    cases = [Case((source,), target) for source, target in _some(texts.splits[split], chosen)]
    return _single(name, "pairs", marks, cases)


def source_rows(part: Part, tokenizer: Pieced, end: int, length: int) -> tuple[list[list[int]], int]:
    """The ids of each source of a part, end mark included, and how many had to be cut.

    What is too long loses the end of its longest text, so that all marks stay.
    """
    limit = LETTERS * length
    texts = [tuple(text[:limit] for text in case.texts) for case in part.cases]
    rows = tokenizer.encode_batch([joined(part.marks, one) for one in texts])
    cut = 0
    for number, ids in enumerate(rows):
        if len(ids) >= length:
            rows[number], cut = _shortened(list(texts[number]), part.marks, tokenizer, length - 1), cut + 1
    return [[*ids, end] for ids in rows], cut


def _shortened(texts: list[str], marks: Sequence[str], tokenizer: Pieced, room: int) -> list[int]:
    ids = tokenizer.encode_batch([joined(marks, texts)])[0]
    for _ in range(4):  # a text that was cut may have other tokens than it had
        if len(ids) <= room:
            break
        pieces = tokenizer.pieces_batch(texts)
        longest = max(range(len(texts)), key=lambda place: len(pieces[place].ids))
        kept = max(len(pieces[longest].ids) - (len(ids) - room), 0)
        texts[longest] = texts[longest][: pieces[longest].spans[kept - 1][1] if kept else 0]
        ids = tokenizer.encode_batch([joined(marks, texts)])[0]
    return ids[:room]
