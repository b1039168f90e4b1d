"""Several labelled sets as text to text: what each example becomes, and which of them an epoch has."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from descent.data.batches import Batches
from descent.data.entities import Tagged
from descent.data.tasks import TaskSplit, load_tasks, shares, tokenize_tasks
from descent.data.tasks_config import TasksData
from descent.data.text_forms import written_names
from descent.errors import UserError
from descent.text import Tokenizer, train

TOKENS = train("char", ["".join(map(chr, range(32, 127)))] * 2, marks="t5")
WORDS = ["ada", "bob", "cat", "dog", "elk", "fox", "gnu", "hen"]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A small set of each form but ranking, in files that name their splits."""
    for split, count in (("train", 12), ("validation", 4), ("test", 3)):
        for folder in ("films", "names", "asked", "pairs"):
            (tmp_path / folder).mkdir(exist_ok=True)
        rows = [f"{split} film {n}\t{'good' if n % 2 else 'bad'}" for n in range(count)]
        (tmp_path / "films" / f"{split}.tsv").write_text("\n".join(rows) + "\n")
        words = [f"{split}{n} O\nada B-person\nhex I-person\nparis B-place\n" for n in range(count)]
        (tmp_path / "names" / f"{split}.conll").write_text("\n".join(words))
        (tmp_path / "pairs" / f"{split}.tsv").write_text(
            "".join(f"{split} {n}\tbecomes {n}\n" for n in range(count))
        )
        paragraphs = [asked(split, n) for n in range(count)]
        (tmp_path / "asked" / f"{split}.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    return tmp_path


def asked(split: str, number: int) -> dict[str, object]:
    context = (
        f"{split} {number}: "
        + " ".join(f"{word}{n}" for n in range(6) for word in WORDS)
        + f" found{number} here"
    )
    answer = {"text": f"found{number}", "answer_start": context.index("found")}
    return {"context": context, "qas": [{"question": f"what {number}?", "answers": [answer]}]}


def config(files: Path, *names: str, **options: object) -> TasksData:
    forms = {"films": "sentences", "names": "entities", "asked": "questions", "pairs": "pairs"}
    tasks = [{"path": str(files / name), "form": forms[name]} for name in names or tuple(forms)]
    return TasksData.read({"tasks": tasks, "length": 120, **options})


def split_of(config: TasksData, name: str = "train", tokenizer: Tokenizer = TOKENS) -> TaskSplit:
    found = tokenize_tasks(load_tasks(config), config, tokenizer).splits[name]
    assert isinstance(found, TaskSplit)
    return found


def texts(split: TaskSplit, place: int) -> tuple[str, str]:
    batch = split.gather(np.array([place]))
    assert batch["tokens"][0, 0] == TOKENS.pad
    assert batch["targets"][0, -1] == batch["source"][0, -1] == TOKENS.end
    assert batch["tokens"][0, 1:].tolist() == batch["targets"][0, :-1].tolist()
    return TOKENS.decode(batch["source"][0].tolist()), TOKENS.decode(batch["targets"][0].tolist())


def test_every_form_becomes_texts(files: Path):
    split = split_of(config(files))
    films, names, questions, pairs = split.firsts
    assert texts(split, films) == ("films sentence: train film 0", "bad")
    assert texts(split, names) == ("names words: train0 ada hex paris", "person: ada hex; place: paris")
    assert texts(split, pairs + 2) == ("pairs: train 2", "becomes 2")
    source, target = texts(split, questions)
    assert source.startswith("asked question: what 0? context: train 0: ada0 bob0")
    assert target == "none"
    assert split.metrics[:1] == ("films_accuracy",)
    assert split.metrics[-1] == "mean"


def test_a_sentence_without_names_has_none():
    assert written_names(Tagged(("so", "what"), ("O", "O"), "", 1), " ") == "none"
    assert written_names(Tagged(("阿", "达"), ("B-人", "I-人"), "", 1), "") == "人: 阿达"


def test_marks_and_words_of_the_user_take_the_place_of_the_usual_ones(files: Path):
    task = {
        "path": str(files / "films"),
        "form": "sentences",
        "marks": ["tell:", "end"],
        "words": {"bad": "no"},
    }
    split = split_of(TasksData.read({"tasks": [task]}))
    assert texts(split, 0) == ("tell: train film 0 end", "no")


def test_a_long_text_is_read_in_windows_that_leave_out_nothing(files: Path):
    split = split_of(config(files, "asked"))
    (part,) = split.parts
    of_first = [case for case, (owner, _) in zip(part.cases, part.pairs, strict=True) if owner == 0]
    context = part.questions[0].context
    assert all(size <= 120 for size in split.sizes)
    assert not any("cut" in note for note in split.notes)
    covered = np.zeros(len(context), bool)
    for case in of_first:
        start = context.index(case.texts[1])
        covered[start : start + len(case.texts[1])] = True
        assert (case.target == "found0") == ("found0" in case.texts[1])
    assert all(covered[place] for place, letter in enumerate(context) if letter != " ")
    assert len(part.units) == 2 * len(part.questions)
    for with_it, without in zip(part.units[::2], part.units[1::2], strict=True):
        assert {part.cases[place].target for place in without} == {"none"}
        assert all(part.cases[place].target.startswith("found") for place in with_it)


def test_an_epoch_at_temperature_one_is_every_example_once(files: Path):
    split = split_of(config(files, "films", "pairs"))
    for epoch in (0, 1):
        drawn = split.gather(np.arange(len(split)), 3, epoch)
        written = Counter(drawn["targets"][drawn["targets"] >= 0].tolist())
        assert written[TOKENS.end] == len(split) == 24
    chosen = [split._drawn(int(n >= 12), n, 3, 1) for n in range(len(split))]
    assert sorted(chosen) == list(range(24))
    assert chosen != [split._drawn(int(n >= 12), n, 3, 2) for n in range(len(split))]
    assert chosen != [split._drawn(int(n >= 12), n, 4, 1) for n in range(len(split))]


def test_temperature_evens_tasks_out_and_each_goes_through_its_own_in_rounds(files: Path):
    (files / "pairs" / "train.tsv").write_text("a\tb\nc\td\ne\tf\n")
    split = split_of(config(files, "films", "pairs", temperature=1000.0))
    assert len(split) == 15
    seen: list[int] = []
    for epoch in range(4):
        chosen = [split._drawn(int(n >= split._shares[0]), n, 1, epoch) for n in range(15)]
        seen += [number - 12 for number in chosen if number >= 12]
    for start in range(0, len(seen) - 2, 3):
        assert sorted(seen[start : start + 3]) == [0, 1, 2]


def test_shares_are_in_proportion_to_roots():
    assert shares([100, 400], 1.0, 0) == [100, 400]
    assert shares([100, 400], 2.0, 0) == [167, 333]
    assert shares([100, 400], 1.0, 100) == [100, 100]
    assert sum(shares([7, 11, 13], 3.0, 0)) == 31
    assert min(shares([1, 10**6], 1.0, 0)) == 1


def test_batches_are_a_function_of_the_step(files: Path):
    made = config(files, temperature=2.0)
    one, other = (Batches(split_of(made), 8, 5) for _ in range(2))
    for step in (7, 0, 3):  # whatever was asked for before
        first, again = one.batch(step), other.batch(step)
        assert all(torch.equal(first[name], again[name]) for name in first)
    assert one.batch(1)["source"].tolist() != one.batch(2)["source"].tolist()


def test_packed_and_padded_rows_hold_the_same_examples(files: Path):
    packed, padded = (split_of(config(files, packing=kind)) for kind in ("documents", "padded"))
    rows, alone = (split.gather(np.arange(10), 1, 0) for split in (packed, padded))
    assert len(rows["source"]) < len(alone["source"]) == 10
    assert sorted(rows["targets"][rows["targets"] >= 0].tolist()) == sorted(
        alone["targets"][alone["targets"] >= 0].tolist()
    )


def test_validation_is_bounded_and_the_test_whole(files: Path):
    made = config(files, "films", scored=2)
    assert split_of(made, "validation").whole == 2
    assert split_of(made, "test").whole == 3
    assert split_of(made.replace(scored=0), "validation").whole == 4
    kept = [case.texts for case in split_of(made, "validation").parts[0].cases]
    assert kept == [case.texts for case in split_of(made, "validation").parts[0].cases]


def test_the_preparation_says_how_a_text_of_each_task_begins(files: Path):
    made = config(files, "films", "asked")
    found = tokenize_tasks(load_tasks(made), made, TOKENS)
    assert found.preparation == {
        "kind": "pairs",
        "start": [TOKENS.pad],
        "length": 120,
        "tasks": {"films": ["films sentence:"], "asked": ["asked question:", "context:"]},
    }
    other = made.replace(length=119)
    assert tokenize_tasks(load_tasks(other), other, TOKENS).fingerprint != found.fingerprint
    assert "sentence:" in "".join(load_tasks(made).texts("train"))


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        (["sst3"], "sst2"),
        (["tinyshakespeare"], "cannot be a task"),
        ([{"path": name, "form": "pairs", "name": "x"} for name in ("pairs", "pairs")], "same name"),
        ([{"path": "films", "form": "sentences", "options": {"lable": "x"}}], "no such option"),
        ([{"path": "films", "form": "sentences", "words": {"fine": "x"}}], "no label 'fine'"),
        ([{"path": "films", "form": "sentences", "words": {"bad": "good"}}], "same to the tokenizer"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_task_is_said(files: Path, tasks: list, said: str):
    own = [{**t, "path": str(files / t["path"])} if isinstance(t, dict) else t for t in tasks]
    made = TasksData.read({"tasks": own})
    with pytest.raises(UserError, match=said):
        tokenize_tasks(load_tasks(made), made, TOKENS)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"tasks": []}, "at least 1"),
        ({"tasks": [{"path": "x.tsv"}]}, "say which form"),
        ({"tasks": ["sst2"], "temperature": 0.5}, "greater than or equal to 1"),
        ({"tasks": [{"path": "x.tsv", "form": "pears"}]}, "tasks.0.form"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(table: dict, said: str):
    with pytest.raises(UserError, match=said):
        TasksData.read(table)


def test_what_is_too_long_loses_the_end_of_its_longest_text(files: Path):
    rows = ["good\tshort\t" + "word " * 80, "bad\t" + "left " * 80 + "\tright"]
    (files / "two.csv").write_text(
        "label,premise,hypothesis\n" + "\n".join(r.replace("\t", ",") for r in rows * 9)
    )
    task = {"path": str(files / "two.csv"), "form": "sentences", "options": {"validation": 0.0, "test": 0.0}}
    split = split_of(TasksData.read({"tasks": [task], "length": 80}))
    found = [texts(split, place)[0] for place in range(2)]
    assert found[0].startswith("two sentence1: short sentence2: word word")
    assert found[1].startswith("two sentence1: left left")
    assert found[1].endswith(" sentence2: right")
    assert max(split.sizes) == 80
    assert split.notes == ["two: 18 of 18 sources were cut"]


def test_what_is_to_be_written_must_fit_in_training(files: Path):
    (files / "pairs" / "train.tsv").write_text("a\tb\nc\t" + "d" * 70 + "\n")
    split = split_of(config(files, "pairs"))
    assert len(split) == 1
    assert "left out" in split.notes[0]
    (files / "pairs" / "train.tsv").write_text("c\t" + "d" * 70 + "\n")
    with pytest.raises(UserError, match="nothing that is to be written fits"):
        split_of(config(files, "pairs"))
