"""Questions read from SQuAD's JSON: windows of long texts, places of answers, splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from descent.data.load import load_texts, tokenize_texts
from descent.data.question_rows import QuestionSplit
from descent.data.questions import Questions, load_questions, read_squad, tokenize_questions
from descent.data.questions_config import QuestionsData
from descent.errors import UserError
from descent.text import train

CONTEXT = "The river Ill rises in the far hills and meets the Rhine at Basel."
CHINESE = "白鱗𫚭，俗名龍尖，為輻鰭魚綱鱸亞目的一種。分布於日本、台灣與中國。"


def asked(question: str, text: str, start: int, name: str = "") -> dict[str, Any]:
    return {"id": name, "question": question, "answers": [{"text": text, "answer_start": start}]}


def squad(*paragraphs: tuple[str, str, list[dict[str, Any]]]) -> dict[str, Any]:
    return {
        "version": "1.1",
        "data": [
            {"title": title, "paragraphs": [{"context": context, "qas": qas}]}
            for title, context, qas in paragraphs
        ],
    }


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return path


RIVER = squad(
    (
        "Ill",
        CONTEXT,
        [
            asked("Where does it meet the Rhine?", "Basel", CONTEXT.index("Basel"), "a"),
            asked("Which river?", "Ill", CONTEXT.index("Ill"), "b"),
        ],
    )
)


def config(**changes: object) -> QuestionsData:
    given = {"length": 40, "stride": 8, "question_length": 16, "validation": 0.0, "test": 0.0, **changes}
    return QuestionsData.read({"path": "own.json", **given})


@pytest.fixture(scope="module")
def tokenizer():
    return train("char", [CONTEXT + CHINESE + "?WwDdQqsoe "], marks="bert")


def split_of(tokenizer, file: Path, **changes: object) -> QuestionSplit:
    read = Questions("own", {"train": read_squad(file)})
    split = tokenize_questions(read, config(**changes), tokenizer).splits["train"]
    assert isinstance(split, QuestionSplit)
    return split


def test_an_example_is_mark_question_mark_window_mark(tmp_path, tokenizer):
    split = split_of(tokenizer, write(tmp_path / "own.json", RIVER), length=128)
    example = split.example(1)
    head = [tokenizer.begin, *tokenizer.encode("Which river?"), tokenizer.separator]
    assert example["tokens"].tolist() == [*head, *tokenizer.encode(CONTEXT), tokenizer.separator]
    assert example["segments"].tolist() == [0] * len(head) + [1] * (len(CONTEXT) + 1)
    first = len(head) + CONTEXT.index("Ill")
    assert example["span"].tolist() == [first, first + 2]
    assert split.characters(split.windows[1], 4, 8) == (4, 9)


def test_a_long_text_is_read_in_windows_that_miss_nothing(tmp_path, tokenizer):
    split = split_of(tokenizer, write(tmp_path / "own.json", RIVER))
    for number, (question, room) in enumerate([("Where does it me", 21), ("Which river?", 25)]):
        own = [(place, window) for place, window in enumerate(split.windows) if window.question == number]
        seen: set[int] = set()
        held = 0
        for turn, (place, window) in enumerate(own):
            example = split.example(place)
            assert len(example["tokens"]) <= 40
            assert (window.first, window.head) == (8 * turn, len(question) + 2)
            text = CONTEXT[window.first : window.first + room]
            assert example["tokens"][window.head : -1].tolist() == tokenizer.encode(text)
            seen |= set(range(window.first, window.first + window.count))
            answer = ("Basel", "Ill")[number]
            at = CONTEXT.index(answer)
            if window.first <= at and at + len(answer) <= window.first + window.count:
                held += 1
                first, last = (example["span"] - window.head + window.first).tolist()
                assert CONTEXT[first : last + 1] == answer
            else:
                assert example["span"].tolist() == [0, 0]
        assert seen == set(range(len(CONTEXT)))
        assert 0 < held < len(own)


@pytest.mark.parametrize(("first", "held"), [(18, [0, 1, 2]), (19, [0, 1, 2]), (20, [1, 2]), (21, [1, 2])])
def test_an_answer_cut_by_a_window_is_not_in_it(tmp_path, tokenizer, first: int, held: list[int]):
    asked_one = asked("Where does it meet", CONTEXT[first : first + 2], first)
    split = split_of(tokenizer, write(tmp_path / "own.json", squad(("Ill", CONTEXT, [asked_one]))))
    spans = [split.example(place)["span"].tolist() for place in range(len(split))]
    assert [place for place, span in enumerate(spans) if span != [0, 0]] == held
    assert spans[held[-1]] == [18 + first - 8 * held[-1], 19 + first - 8 * held[-1]]


def test_an_answer_that_is_not_at_its_place_is_found_again_or_left_out(tmp_path, tokenizer):
    shifted = CHINESE.index("俗名龍尖") + 1  # counted in UTF-16, where the third sign is two units
    content = squad(
        ("fish", CHINESE, [asked("俗名?", "俗名龍尖", shifted, "a")]),
        *(("Ill", CONTEXT, [asked("?", "Basel", CONTEXT.index("Basel"), str(n))]) for n in range(12)),
        ("Rhine", CONTEXT + " ", [asked("?", "Zürich", 3, "lost")]),
    )
    path = write(tmp_path / "own.json", content)
    found = read_squad(path)
    assert found[0].span == (4, 8)
    assert CHINESE[4:8] == "俗名龍尖"
    assert [one.id for one in found if one.moved] == ["a"]
    assert [one.id for one in found if one.lost] == ["lost"]
    loaded = load_questions(config(path=str(path)), None, [])
    assert "lost" not in [one.id for one in loaded.splits["train"]]
    dataset = tokenize_questions(loaded, config(), tokenizer)
    assert dataset.notes == (
        "1 answers were not at their place and were found again",
        "1 answers are not in their texts, so not trained on (the first: lost)",
    )


def test_an_answer_that_stands_twice_nearby_is_not_guessed(tmp_path):
    text = "one two one two " + "x" * 80 + " two"
    content = squad(
        (
            "a",
            text,
            [asked("?", "two", 5, "twice"), asked("?", "one", 60, "far"), asked("?", "x ", 0, "sole")],
        ),
        *(("b", CONTEXT, [asked("?", "Basel", CONTEXT.index("Basel"))]) for _ in range(20)),
    )
    found = {one.id: one for one in read_squad(write(tmp_path / "own.json", content))}
    assert found["twice"].lost
    assert found["far"].lost
    assert found["sole"].span == (95, 97)


def test_a_question_without_an_answer_is_answered_at_the_first_mark(tmp_path, tokenizer):
    none = {"id": "n", "question": "Who?", "answers": [], "is_impossible": True, "plausible_answers": []}
    path = write(
        tmp_path / "own.json", squad(("Ill", CONTEXT, [none, *RIVER["data"][0]["paragraphs"][0]["qas"]]))
    )
    split = split_of(tokenizer, path, length=128)
    assert split.unanswerable
    assert not split.questions[0].lost
    assert split.example(0)["span"].tolist() == [0, 0]
    assert not split_of(tokenizer, write(tmp_path / "plain.json", RIVER)).unanswerable


def test_no_text_is_in_two_splits(tmp_path):
    many = [
        (f"title {n // 2}", f"text {n} says yes", [asked("what?", "yes", len(f"text {n} says "), f"{n}")])
        for n in range(60)
    ]
    again = [("another title", "text 0 says yes", [asked("and?", "yes", 12, "again")])]
    path = write(tmp_path / "own.json", squad(*many, *again))
    found = load_questions(config(path=str(path), validation=0.2, test=0.2), None, [])
    assert sum(map(len, found.splits.values())) == 61
    for name, questions in found.splits.items():
        for other in set(found.splits) - {name}:
            texts = {one.context for one in found.splits[other]}
            titles = {one.group for one in found.splits[other] if one.id != "again"}
            assert not texts & {one.context for one in questions}
            assert not titles & {one.group for one in questions if one.id != "again"}


def test_files_named_for_splits_keep_them(tmp_path):
    for name in ("train", "dev"):
        write(tmp_path / f"{name}.json", squad((name, f"{name} {CONTEXT}", [asked("?", "Ill", 16)])))
    found = load_texts(config(path=str(tmp_path)), False)
    assert isinstance(found, Questions)
    assert {name: [one.group for one in held] for name, held in found.splits.items()} == {
        "train": ["train"],
        "validation": ["dev"],
    }
    assert found.texts("train") == [f"train {CONTEXT}", "?"]
    write(tmp_path / "other.json", RIVER)
    with pytest.raises(UserError, match=r"other.json stands beside files named for splits"):
        load_texts(config(path=str(tmp_path)), False)


def test_equal_data_have_one_fingerprint_and_other_windows_another(tmp_path, tokenizer):
    path = write(tmp_path / "own.json", RIVER)
    found = load_questions(config(path=str(path)), None, [])
    one, two = (tokenize_texts(found, config(), tokenizer).fingerprint for _ in range(2))
    assert one == two
    assert tokenize_texts(found, config(stride=4), tokenizer).fingerprint != one
    assert tokenize_texts(found, config(), tokenizer).preparation == {
        "kind": "questions",
        "length": 40,
        "stride": 8,
        "question_length": 16,
        "longest": 30,
        "unanswerable": False,
    }


def test_a_text_of_a_megabyte_is_read(tmp_path, tokenizer):
    long = "river " * 180_000 + "Basel"
    path = write(tmp_path / "own.json", squad(("long", long, [asked("where?", "Basel", len(long) - 5)])))
    split = split_of(tokenizer, path, length=512, stride=400)
    last = split.example(len(split) - 1)
    assert last["span"].tolist() == [len(last["tokens"]) - 6, len(last["tokens"]) - 2]
    assert len(split) > 2000
    batch = split.gather(np.arange(4))
    assert batch["tokens"].shape[1] <= 512


def test_named_sets_have_their_published_sizes(local_data):
    found = load_texts(QuestionsData(source="cmrc2018+xquad-zh"), False)
    assert isinstance(found, Questions)
    assert len(found.splits["test"]) == 3219
    assert len(found.splits["train"]) + len(found.splits["validation"]) == 1000 + 1190
    assert found.notes == (
        "2 empty questions are not trained on",
        "8 answers were not at their place and were found again",
    )
    tested = {one.context for one in found.splits["test"]}
    assert not tested & {one.context for one in [*found.splits["train"], *found.splits["validation"]]}
    english = load_texts(QuestionsData(source="xquad-en"), False)
    chinese = load_texts(QuestionsData(source="xquad-zh"), False)
    assert isinstance(english, Questions)
    assert isinstance(chinese, Questions)
    for name in ("train", "validation", "test"):
        assert {one.id for one in english.splits[name]} == {one.id for one in chinese.splits[name]}
