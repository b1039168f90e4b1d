"""A question and a window of its text as one row of tokens, and which window belongs to which question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from descent.data.questions_config import QuestionsData
from descent.data.rows import Row, RowSplit

__all__ = ["Pieced", "Question", "QuestionSplit", "Window"]


@dataclass(frozen=True)
class Question:
    """A question and the text that holds its answer.

    Attributes:
        id: its name in its file; empty if it has none.
        question: what is asked.
        context: the text.
        answers: the texts of all right answers; none where the text holds none.
        span: where the first of them that is found in the text begins, and where it ends, in characters.
        group: what decides its split: the article's title, or the text.
        moved: whether that answer was not where its file says.
    """

    id: str
    question: str
    context: str
    answers: tuple[str, ...] = ()
    span: tuple[int, int] | None = None
    group: str = ""
    moved: bool = False

    @property
    def lost(self) -> bool:
        """Whether it has answers, of which none stands in the text."""
        return bool(self.answers) and self.span is None


@runtime_checkable
class Placed(Protocol):
    """A text in tokens, and where in the text each of them stands."""

    @property
    def ids(self) -> list[int]: ...
    @property
    def spans(self) -> list[tuple[int, int]]: ...


@runtime_checkable
class Pieced(Protocol):
    """What questions need of a tokenizer."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def begin(self) -> int: ...
    @property
    def separator(self) -> int: ...
    @property
    def pad(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]: ...
    def pieces_batch(self, texts: Sequence[str]) -> Sequence[Placed]: ...


@dataclass(frozen=True)
class Window:
    """A window of a text, as an example has it.

    Attributes:
        question: the number of the question in its split.
        head: tokens before the window's own, marks included.
        first: the number of its first token in the text.
        count: how many tokens of the text it holds.
    """

    question: int
    head: int
    first: int
    count: int


class QuestionSplit(RowSplit):
    """Windows of questions as examples, and the questions themselves for their answers' words.

    Args:
        questions: at least one.
        config: `length`, `stride`, `question_length`, `longest`, `language` and `packing`.
        tokenizer: turns texts into ids.
        unanswerable: whether "there is no answer" is an answer that may be given.

    Attributes:
        windows: what each example is a window of.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        config: QuestionsData,
        tokenizer: Pieced,
        unanswerable: bool = False,
    ):
        self.questions, self.longest = list(questions), config.longest
        self.language: Literal["auto", "en", "zh"] = config.language
        self.unanswerable = unanswerable
        contexts = list(dict.fromkeys(one.context for one in questions))
        pieces = dict(zip(contexts, tokenizer.pieces_batch(contexts), strict=True))
        self._places = {
            context: np.asarray(held.spans, dtype=np.int64).reshape(-1, 2) for context, held in pieces.items()
        }
        asked = tokenizer.encode_batch([one.question for one in questions])
        self.windows: list[Window] = []
        examples: list[Row] = []
        for number, (one, ids) in enumerate(zip(questions, asked, strict=True)):
            start = [tokenizer.begin, *ids[: config.question_length], tokenizer.separator]
            text = np.asarray(pieces[one.context].ids, dtype=np.int64)
            answer = _tokens_of(one.span, self._places[one.context])
            for first, last in _windows(len(text), config.length - len(start) - 1, config.stride):
                self.windows.append(Window(number, len(start), first, last - first))
                examples.append(_example(start, text[first:last], tokenizer.separator, first, answer))
        super().__init__(
            examples,
            config.length,
            pad=tokenizer.pad,
            vocab_size=tokenizer.vocab_size,
            packing=config.packing,
            noun="windows",
        )

    def characters(self, window: Window, first: int, last: int) -> tuple[int, int]:
        """Where in the text some tokens of a window begin and end, the window's own first token being 0."""
        places = self._places[self.questions[window.question].context]
        start, end = int(places[window.first + first, 0]), int(places[window.first + last, 1])
        return start, max(start, end)

    def describe(self) -> str:
        return f"{len(self.questions):,} questions in {super().describe()}"


def _windows(size: int, room: int, stride: int) -> list[tuple[int, int]]:
    """From where to where the windows of a text of so many tokens reach, up to its end."""
    starts = range(0, max(size - room, 0) + stride, stride) if size > room else range(1)
    return [(start, min(start + room, size)) for start in starts]


def _tokens_of(span: tuple[int, int] | None, places: Int[np.ndarray, "tokens 2"]) -> tuple[int, int] | None:
    """The first and the last token that hold a character of the span; None where none does."""
    if span is None:
        return None
    first = int(np.searchsorted(places[:, 1], span[0], side="right"))
    last = int(np.searchsorted(places[:, 0], span[1], side="left")) - 1
    return (first, last) if first <= last else None


def _example(
    start: list[int], text: NDArray[np.int64], separator: int, first: int, answer: tuple[int, int] | None
) -> Row:
    tokens = np.concatenate([start, text, [separator]]).astype(np.int64)
    inside = answer is not None and first <= answer[0] and answer[1] < first + len(text)
    moved = (answer[0] - first + len(start), answer[1] - first + len(start)) if inside and answer else (0, 0)
    return {
        "tokens": tokens,
        "segments": (np.arange(len(tokens)) >= len(start)).astype(np.int64),
        "span": np.array(moved, dtype=np.int64),
    }
