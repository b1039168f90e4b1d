"""Scores of answers: the rules of SQuAD and CMRC on cases worked by hand, and the best span."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from descent.data.question_rows import Question, QuestionSplit
from descent.data.questions_config import QuestionsData
from descent.evaluation import evaluate, metric_names
from descent.evaluation.span import answers_of, best_span
from descent.evaluation.squad import exact_match, f1, language_of
from descent.objectives.span import SpanObjective
from descent.text import train


@pytest.mark.parametrize(
    ("given", "answers", "match", "mean"),
    [
        ("the Eiffel Tower!", ["Eiffel tower"], 1, 1),
        ("in Paris, France", ["Paris"], 0, 2 * 1 / (3 + 1)),
        ("in Paris, France", ["Rome", "Paris  France"], 0, 2 * 2 / (3 + 2)),
        ("no no yes", ["no"], 0, 2 * 1 / (3 + 1)),
        ("a the", ["an"], 1, 1),
        ("anything", [], 0, 0),
        ("", [], 1, 1),
        ("", ["Rome"], 0, 0),
        ("1,000", ["1000"], 1, 1),
    ],
)
def test_english_is_compared_as_squad_does(given: str, answers: list[str], match: float, mean: float) -> None:
    assert exact_match(given, answers, "en") == match
    assert f1(given, answers, "en") == pytest.approx(mean)


@pytest.mark.parametrize(
    ("given", "answers", "match", "mean"),
    [
        ("《三国志》", ["三国志"], 1, 1),
        ("光荣和ω-force", ["光荣和ω-Force"], 1, 1),
        ("三国志战记", ["国志"], 0, 2 * 2 / (5 + 2)),
        # the longest run that both have counts, not all that both have: 北京 of 北京 and 大学
        ("北京的大学", ["北京大学"], 0, 2 * 2 / (5 + 4)),
        ("1998年", ["1998"], 0, 2 * 1 / (2 + 1)),
        ("约80公分", ["80 公分", "九十"], 0, 2 * 3 / (4 + 3)),
        ("上海", ["北京"], 0, 0),
    ],
)
def test_chinese_is_compared_as_cmrc_does(given: str, answers: list[str], match: float, mean: float) -> None:
    assert exact_match(given, answers, "zh") == match
    assert f1(given, answers, "zh") == pytest.approx(mean)


def test_the_rule_goes_by_the_text() -> None:
    assert language_of("Beijing (北京) is the capital of China and has been for long.") == "en"
    assert language_of("《战国无双3》（）是由光荣和ω-force开发的战国无双系列") == "zh"
    assert language_of("") == "en"


def test_the_best_span_is_the_best_of_all_by_trial() -> None:
    draw = np.random.default_rng(3)
    for size in (1, 2, 5, 11):
        for longest in (1, 3, 30):
            chances = draw.normal(size=(size, 2))
            tried = {
                (first, last): chances[first, 0] + chances[last, 1]
                for first in range(size)
                for last in range(first, min(first + longest, size))
            }
            wanted = max(tried, key=lambda span: tried[span])
            value, first, last = best_span(chances, longest)
            assert (first, last) == wanted
            assert value == pytest.approx(tried[wanted])
    assert best_span(np.zeros((0, 2)), 3)[0] == -math.inf


CONTEXT = "abcdefghij" * 3 + "XYZ" + "klmnopqrst" * 3
CONFIG = QuestionsData(path="own", length=24, stride=8, question_length=4)


class Finder(nn.Module):
    """Sees the answer begin at X and end at Z, in any document; elsewhere the first mark is likelier."""

    def __init__(self, tokenizer: Any, sure: float = 9.0, none: float = 3.0) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(tokenizer.vocab_size, 2))
        with torch.no_grad():
            self.scores[tokenizer.begin] = none
            self.scores[tokenizer.encode("X")[0], 0] = sure
            self.scores[tokenizer.encode("Z")[0], 1] = sure

    def forward(self, tokens: Tensor, **others: Tensor) -> Tensor:
        return self.scores[tokens]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return train("char", [CONTEXT + "?!"], marks="bert")


def questions(context: str = CONTEXT) -> list[Question]:
    at = CONTEXT.index("XYZ")
    return [
        Question("a", "XX?", context, ("XYZ",), (at, at + 3)),
        Question("b", "?", context, ("YZ", "Z"), (at + 1, at + 3)),
        Question("c", "Z!", context, ("abc",), (0, 3)),
    ]


@pytest.mark.parametrize("packing", ["documents", "padded"])
@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_every_question_is_answered_once_over_its_windows(tokenizer, packing: Any, batch_size: int) -> None:
    split = QuestionSplit(questions(), CONFIG.replace(packing=packing), tokenizer)
    model = Finder(tokenizer)
    answers = answers_of(model, split, batch_size)
    assert [(one.text, one.start, one.end) for one in answers] == [("XYZ", 30, 33)] * 3
    found = evaluate(model, SpanObjective(), split, batch_size=batch_size)
    assert found.examples == 3
    assert tuple(found.metrics) == metric_names(SpanObjective(), 0)
    assert found.metrics["exact_match"] == pytest.approx(1 / 3)
    assert found.metrics["f1"] == pytest.approx(1 / 3)
    losses = [-_chance(model, split, number).item() for number in range(len(split))]
    assert found.metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def _chance(model: nn.Module, split: QuestionSplit, number: int) -> Tensor:
    example = split.example(number)
    chances = model(torch.from_numpy(example["tokens"])).log_softmax(0)
    return chances[torch.from_numpy(example["span"]), torch.arange(2)].mean()


def test_the_question_is_never_the_answer(tokenizer) -> None:
    split = QuestionSplit([Question("a", "XYZ", "abcdefgh", ("abc",), (0, 3))], CONFIG, tokenizer)
    assert "X" not in answers_of(Finder(tokenizer), split)[0].text


def test_an_answer_is_at_most_so_long(tokenizer) -> None:
    split = QuestionSplit(questions()[:1], CONFIG.replace(longest=2), tokenizer)
    assert len(answers_of(Finder(tokenizer), split)[0].text) <= 2


def test_none_is_said_only_where_it_may_be(tokenizer) -> None:
    context = CONTEXT.replace("XYZ", "abc")
    none = [Question("n", "?", context)]
    may, must = (QuestionSplit(none, CONFIG, tokenizer, unanswerable=may) for may in (True, False))
    model = Finder(tokenizer)
    assert answers_of(model, may)[0].text == ""
    assert evaluate(model, SpanObjective(), may).metrics["exact_match"] == 1
    assert answers_of(model, must)[0].text != ""
    held = QuestionSplit(questions()[:1], CONFIG, tokenizer, unanswerable=True)
    assert answers_of(model, held)[0].text == "XYZ"
