"""`descent train` and `descent predict` on questions and on a ranking of the user's own, from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TOWNS = ["Basel", "Lyon", "Trier", "Delft", "Turin", "Porto", "Ghent", "Cork", "Graz", "Brno"]
TINY = ["model.depth=1", "model.dim=16", "model.heads=2", "budget.epochs=0", "budget.steps=4"]


def squad(folder: Path) -> Path:
    data = []
    for number, town in enumerate(TOWNS * 2):
        context = f"The old clock number {number} was made in {town} by a quiet man who loved it."
        asked = {"id": f"q{number}", "question": "Where was it made?"}
        answers = [{"text": town, "answer_start": context.index(town)}]
        qas = [{**asked, "answers": answers}]
        data.append({"title": f"clock {number}", "paragraphs": [{"context": context, "qas": qas}]})
    path = folder / "clocks.json"
    path.write_text(json.dumps({"version": "1.1", "data": data}), encoding="utf-8")
    return path


def collection(folder: Path) -> Path:
    folder.mkdir()
    (folder / "corpus.tsv").write_text(
        "".join(f"d{n}\ta clock from {town}\n" for n, town in enumerate(TOWNS))
    )
    (folder / "queries.tsv").write_text("".join(f"q{n}\tclock of {town}\n" for n, town in enumerate(TOWNS)))
    (folder / "qrels.tsv").write_text("".join(f"q{n}\td{n}\t1\n" for n in range(10)))
    return folder


@pytest.fixture(scope="module")
def questions_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from descent.cli import main

    folder = tmp_path_factory.mktemp("questions")
    sizes = ["data.length=48", "data.stride=8", "data.question_length=16", "tokenizer.vocab_size=600"]
    arguments = ["train", "bert-xquad", f"data.path={squad(folder)}", *sizes, *TINY, "budget.batch_size=4"]
    assert main([*arguments, "--quiet", "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def ranking_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("bm25s")
    pytest.importorskip("pytrec_eval")
    from descent.cli import main

    folder = tmp_path_factory.mktemp("ranking")
    sizes = ["data.length=40", "data.query_length=16", "data.depth=6", "tokenizer.vocab_size=600"]
    arguments = ["train", "bert-cranfield", f"data.path={collection(folder / 'own')}", *sizes, *TINY]
    assert main([*arguments, "budget.batch_size=2", "--quiet", "--out", str(folder / "run")]) == 0
    return folder / "run"


def test_a_run_of_questions_is_scored_and_answers(descent, questions_run: Path) -> None:
    found = descent("evaluate", questions_run, "--split", "validation", "--json").json
    assert set(found["metrics"]) == {"loss", "exact_match", "f1"}
    context = Path("context.txt")
    context.write_text("The bell was made in Basel by a quiet man. " * 20, encoding="utf-8")
    asked = ("--question", "Where was it made?", "--context", context)
    (answer,) = descent("predict", questions_run, *asked, "--json").json
    assert answer["answer"] == context.read_text()[answer["start"] : answer["end"]]
    assert answer["answer"]
    assert 0 < answer["probability"] <= 1
    shown = descent("predict", questions_run, *asked).out
    assert shown.startswith("input")
    assert answer["answer"] in shown


def test_questions_come_from_files_too(descent, tmp_path: Path, questions_run: Path) -> None:
    file = squad(tmp_path)
    answers = descent("predict", questions_run, file, "--json").json
    assert [one["input"] for one in answers] == [f"q{n}" for n in range(20)]
    rows = tmp_path / "rows.jsonl"
    context = json.loads(file.read_text())["data"][3]["paragraphs"][0]["context"]
    rows.write_text(json.dumps({"question": "Where was it made?", "context": context}) + "\n")
    (one,) = descent("predict", questions_run, rows, "--json").json
    assert {**one, "input": ""} == {**answers[3], "input": ""}


def test_a_run_of_a_ranking_ranks_its_own_documents(descent, ranking_run: Path) -> None:
    found = descent("evaluate", ranking_run, "--split", "test", "--json").json["metrics"]
    assert {"loss", "ndcg10", "map", "bm25_ndcg10", "bm25_map", "bm25_weight"} == set(found)
    (answer,) = descent("predict", ranking_run, "--query", "a clock of Delft", "--json").json
    assert len(answer["ranked"]) == 6
    scores = [one["score"] for one in answer["ranked"]]
    assert scores == sorted(scores, reverse=True)
    best = max(answer["ranked"], key=lambda one: one["bm25"])
    assert (best["document"], best["text"]) == ("d3", "a clock from Delft")
    cut = descent("predict", ranking_run, "--query", "a clock of Delft", "--json", "--top", 2).json
    assert cut[0]["ranked"] == answer["ranked"][:2]
    shown = descent("predict", ranking_run, "--query", "a clock of Delft").out
    assert f"1. {answer['ranked'][0]['document']}" in shown
    Path("queries.txt").write_text("Delft\n\nGraz\n")
    assert len(descent("predict", ranking_run, "queries.txt", "--json").json) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--question", "Where?"], "belong together"),
        (["--query", "Where?"], "--question with --context FILE"),
        (["--question", " ", "--context", "there.txt"], "the question is empty"),
        (["--question", "Where?", "--context", "empty.txt"], "the context is empty"),
        (["--question", "Where?", "--context", "nowhere.txt"], "nowhere.txt is not a file"),
        ([], "nothing to predict"),
        (["there.txt"], "there.txt holds no rows"),
        (["wrong.jsonl"], "there is no 'context' in the input"),
    ],
)
def test_what_is_asked_wrongly_is_told(
    descent, questions_run: Path, arguments: list[str], words: str
) -> None:
    Path("there.txt").write_text("Some words.")
    Path("empty.txt").write_text("\n")
    Path("wrong.jsonl").write_text('{"question": "Where?"}\n')
    assert words in descent("predict", questions_run, *arguments, code=2).err


def test_other_documents_than_those_of_training_are_refused(
    descent, ranking_run: Path, tmp_path: Path
) -> None:
    corpus = ranking_run.parent / "own" / "corpus.tsv"
    before = corpus.read_text()
    corpus.write_text(before + "new\tone more\n")
    try:
        from descent.runs.answers_questions import _searchable

        _searchable.cache_clear()
        result = descent("predict", ranking_run, "--query", "clock", code=2)
    finally:
        corpus.write_text(before)
    assert "no longer those that the model was trained on" in result.err
    assert "a question and the text" not in descent("predict", ranking_run, "--question", "x", code=2).err


def test_other_models_take_no_question(descent, digits_run: Path) -> None:
    result = descent("predict", digits_run, "--query", "x", code=2)
    assert "--question and --query are for models that find things" in result.err
