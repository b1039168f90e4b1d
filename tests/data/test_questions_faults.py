"""What is said of a user's file of questions that has a fault: what, where, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from descent.data.load import load_texts
from descent.data.questions import load_questions, read_squad
from descent.data.questions_config import QuestionsData
from descent.errors import UserError

CONTEXT = "Basel lies on the Rhine."


def whole() -> dict[str, Any]:
    answers = [{"text": "Rhine", "answer_start": CONTEXT.index("Rhine")}]
    qas = [{"id": str(n), "question": "Where?", "answers": answers} for n in range(2)]
    return {"data": [{"title": "Basel", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}


def read(tmp_path: Path, content: Any) -> Any:
    path = tmp_path / "own.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_squad(path)


def paragraph(content: dict[str, Any]) -> dict[str, Any]:
    return content["data"][0]["paragraphs"][0]


def changed(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    content = json.loads(json.dumps(whole()))
    change(content)
    return content


FAULTS = {
    "another key for the list": (
        lambda c: c.update(dta=c.pop("data")),
        ['there is no "data"', "is 'dta' meant"],
    ),
    "no questions key": (lambda c: paragraph(c).pop("qas"), ["article 1, paragraph 1", 'there is no "qas"']),
    "no question": (
        lambda c: paragraph(c)["qas"][1].pop("question"),
        ["paragraph 1, question 2", 'there is no "question"', "SQuAD"],
    ),
    "no answers": (lambda c: paragraph(c)["qas"][0].pop("answers"), ["question 1", 'there is no "answers"']),
    "no place": (
        lambda c: paragraph(c)["qas"][0]["answers"][0].pop("answer_start"),
        ["question 1, answer 1", 'there is no "answer_start"'],
    ),
    "a place in words": (
        lambda c: paragraph(c)["qas"][0]["answers"][0].update(answer_start="18"),
        ["question 1, answer 1", '"answer_start" is not a whole number', "'18'"],
    ),
    "an empty context": (lambda c: paragraph(c).update(context=" \n"), ["paragraph 1", '"context" is empty']),
    "an empty answer": (
        lambda c: paragraph(c)["qas"][0]["answers"][0].update(text=""),
        ["question 1, answer 1", '"text" is empty'],
    ),
    "two of one id": (
        lambda c: paragraph(c)["qas"][1].update(id="0"),
        ["question 2: another question has this id", "'0'", "question 1"],
    ),
    "an answer that is not in its text": (
        lambda c: paragraph(c)["qas"][0]["answers"][0].update(text="Rhône"),
        ["the answers of 1 of 2 questions are not in their texts", "Rhône to the question 0", "characters"],
    ),
    "no list": (lambda c: c.update(data={}), ['"data" is not a list']),
    "no object": (lambda c: c.update(data=["Basel"]), ["article 1: not an object", "'Basel'"]),
    "nothing": (lambda c: c.update(data=[]), ["holds no questions"]),
    "half a character": (
        lambda c: paragraph(c)["qas"][0].update(question="\ud800?"),
        ["question 1", "half of a surrogate pair"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    change, words = FAULTS[name]
    with pytest.raises(UserError) as caught:
        read(tmp_path, changed(change))
    for word in ["own.json", *words]:
        assert word in str(caught.value)


def test_broken_json_is_named_with_its_line(tmp_path: Path) -> None:
    text = json.dumps(whole(), indent=1).replace('"title": "Basel"', '"title" "Basel"')
    with pytest.raises(UserError, match=r"own\.json, line 4: not JSON: Expecting ':'"):
        read(tmp_path, text)
    with pytest.raises(UserError, match="not JSON"):
        read(tmp_path, "[" * 100_000)


def test_a_list_of_questions_is_told_the_form(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an object") as caught:
        read(tmp_path, [{"question": "?", "context": "x"}])
    assert 'one with "data"' in str(caught.value)


def test_few_answers_may_be_nowhere_but_not_all(tmp_path: Path) -> None:
    answers = [{"text": "Rhine", "answer_start": 18}]
    qas = [{"question": "Where?", "answers": answers} for _ in range(20)]
    qas[3] = {"question": "Which?", "answers": [{"text": "Aare", "answer_start": 0}]}
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
    found = load_questions(QuestionsData(path=str(path)), None, [])
    assert len(found.splits["train"]) == 19
    assert found.notes == ("1 answers are not in their texts, so not trained on (the first: Which?)",)


def test_an_empty_question_is_left_out_and_said(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(json.dumps(changed(lambda c: paragraph(c)["qas"][0].update(question=""))))
    found = load_questions(QuestionsData(path=str(path)), None, [])
    assert [one.id for one in found.splits["train"]] == ["1"]
    assert found.notes == ("1 empty questions are not trained on",)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"path": "nowhere.json"}, "there is no such file"),
        ({"source": "xquad-en+sst2"}, "sst2 holds no questions"),
        ({"source": "xquad-en+xquad-fr"}, "no data set is called 'xquad-fr'"),
        ({"source": "sst2"}, "sst2 is sentences, not questions"),
    ],
)
def test_a_wrong_source_is_named(given: dict[str, str], words: str) -> None:
    with pytest.raises(UserError, match=words.replace("+", r"\+")):
        load_texts(QuestionsData.read(given), False)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"length": 64}, "no room"),
        ({"length": 128, "stride": 62}, "at most 61"),
        ({"language": "fr"}, "language"),
    ],
)
def test_windows_must_meet(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        QuestionsData.read({"path": "x", **given})
