"""Training on texts with labels, and asking such models from the command line."""

from __future__ import annotations

import json

import pytest

SMALL = ("model.depth=1", "model.dim=32", "model.heads=2", "tokenizer.vocab_size=700")
SHORT = (
    "budget.epochs=0",
    "budget.steps=60",
    "budget.batch_size=16",
    "evaluation.every=0",
    "model.dropout=0",
)
GOOD, BAD = ("fine", "great", "lovely", "很好"), ("dull", "poor", "awful", "太差")


def trained(folder, *arguments):
    from descent.cli import main

    assert main(["train", *map(str, arguments), *SMALL, *SHORT, "--quiet", "--out", str(folder)]) == 0
    return folder


def reviews(count=160):
    """Two texts and whether both say the same of a film."""
    for number in range(count):
        good = number % 2
        yield (
            f"a {(GOOD if good else BAD)[number // 2 % 4]} film, number {number // 2 % 50}",
            "yes" if good else "no",
        )


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    rows = "".join(f'"{text}",{label}\n' for text, label in reviews())
    (folder / "reviews.csv").write_text("opinion,liked\n" + rows, encoding="utf-8")
    asked = (f"data.path={folder / 'reviews.csv'}", "data.text=opinion", "data.label=liked", "data.length=48")
    return trained(folder / "run", "bert-sst2", *asked, "optimizer.learning_rate=0.01")


@pytest.fixture(scope="module")
def double(tmp_path_factory):
    folder = tmp_path_factory.mktemp("double")
    rows = "".join(f"{text}\tagain {number % 7}\t{label}\n" for number, (text, label) in enumerate(reviews()))
    (folder / "pairs.tsv").write_text(rows, encoding="utf-8")
    return trained(folder / "run", "bert-sick", f"data.path={folder / 'pairs.tsv'}", "data.length=48")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    people, places = ("Ada", "Bo", "Cy", "Di"), ("Rome", "Oslo", "Lima")
    lines = [
        f"{people[n % 4]}\tB-person\nwent\tO\nto\tO\nNew\tB-place\n{places[n % 3]}\tI-place\n{n}\tO\n\n"
        for n in range(120)
    ]
    (folder / "names.conll").write_text("".join(lines), encoding="utf-8")
    asked = (f"data.path={folder / 'names.conll'}", "data.length=48", "optimizer.learning_rate=0.01")
    return trained(folder / "run", "bert-wnut17", *asked)


def test_one_text(descent, single):
    said = descent("predict", single, "--text", "a lovely film, number 3", "--json").json[0]
    assert (said["input"], said["label"]) == ("text", "yes")
    assert sorted(said["probabilities"]) == ["no", "yes"]
    assert said["probability"] == max(said["probabilities"].values()) > 0.9
    assert "yes" in descent("predict", single, "--text", "a lovely film, number 3").out.split("\n")[1]


FILES = {
    "a.txt": "a great film, number 2\n\na poor film, number 9\n",
    "a.csv": 'id,opinion\n1,"a great film, number 2"\n2,"a poor film, number 9"\n',
    "b.csv": '"a great film, number 2"\n"a poor film, number 9"\n',
    "a.tsv": "text\tliked\na great film, number 2\tno\na poor film, number 9\tno\n",
    "a.jsonl": '{"text": "a great film, number 2"}\n{"text": "a poor film, number 9"}\n',
    "a.json": '[{"sentence": "a great film, number 2"}, {"sentence": "a poor film, number 9"}]',
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_of_texts(descent, single, tmp_path, name):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    found = descent("predict", single, name, "--json").json
    assert [one["label"] for one in found] == ["yes", "no"]
    lines = {"a.txt": (1, 3), "b.csv": (1, 2), "a.json": (1, 2), "a.jsonl": (1, 2)}.get(name, (2, 3))
    assert [one["input"] for one in found] == [f"{name}:{line}" for line in lines]


def test_a_batch_says_what_each_alone_does(descent, single, tmp_path):
    import descent as library

    texts = [text for text, _ in reviews(70)]
    loaded = library.load(single)
    together = loaded.predict(texts)
    for text, said in zip(texts[::9], together[::9], strict=True):
        alone = loaded.predict(text)[0]
        assert alone["probabilities"] == pytest.approx(said["probabilities"], abs=1e-5)
    rows = loaded.predict([{"opinion": texts[0]}, {"text": texts[0]}])
    assert rows[0] == rows[1]
    assert rows[0]["label"] == together[0]["label"]


def test_the_report_of_a_classifier_of_texts(descent, single, tmp_path):
    found = descent("evaluate", single, "--report", "report", "--json").json
    assert found["metrics"]["accuracy"] > 0.9
    assert list(found["classes"]) == ["no", "yes"]
    assert sum(map(sum, found["confusion"])) == found["examples"]
    assert json.loads((tmp_path / "report" / "report.json").read_text())["classes"] == found["classes"]
    assert not (tmp_path / "report" / "mistakes.png").exists()


def test_pairs(descent, double, tmp_path):
    asked = ("--text", "a great film, number 4", "--text2", "again 5")
    assert descent("predict", double, *asked, "--json").json[0]["label"] in ("yes", "no")
    (tmp_path / "a.txt").write_text("a great film\tagain\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("premise,hypothesis\na great film,again\n", encoding="utf-8")
    found = [
        descent("predict", double, name, "--json").json[0]["probabilities"] for name in ("a.txt", "b.csv")
    ]
    assert found[0] == found[1]
    assert "pairs of texts" in descent("predict", double, "--text", "a", code=2).err
    (tmp_path / "c.txt").write_text("a\tb\nalone\n", encoding="utf-8")
    assert "c.txt, line 2: one text" in descent("predict", double, "c.txt", code=2).err


def test_names_and_their_places(descent, names, tmp_path):
    text = "Ada went to New Oslo 7"
    said = descent("predict", names, "--text", text, "--json").json[0]
    assert said["words"] == text.split()
    assert said["tags"] == ["B-person", "O", "O", "B-place", "I-place", "O"]
    assert [(one["type"], one["text"]) for one in said["entities"]] == [
        ("person", "Ada"),
        ("place", "New Oslo"),
    ]
    assert [text[one["start"] : one["end"]] for one in said["entities"]] == ["Ada", "New Oslo"]
    assert "Ada (person), New Oslo (place)" in descent("predict", names, "--text", text).out
    (tmp_path / "a.conll").write_text("\n".join(text.split()) + "\n\nBo\n", encoding="utf-8")
    found = descent("predict", names, "a.conll", "--json").json
    assert found[0]["entities"] == said["entities"]
    assert [one["input"] for one in found] == ["a.conll:1", "a.conll:8"]
    scores = descent("evaluate", names, "--json").json["metrics"]
    assert scores["f1"] > 0.9
    assert set(scores) == {"loss", "accuracy", "precision", "recall", "f1", "surface_f1"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nothing to predict"),
        (("--text", " "), "the text is empty"),
        (("--text", "a", "--text2", "b"), "single texts"),
        (("none.csv",), "none.csv is not a file"),
        (("a.csv", "--text", "a"), "takes the place of a file"),
        (("empty.csv",), "empty.csv, line 3: the text is empty"),
        (("other.csv",), "the first line names no column of texts"),
    ],
)
def test_faults(descent, single, tmp_path, words, said):
    (tmp_path / "empty.csv").write_text("id,opinion\n1,a\n2,\n", encoding="utf-8")
    (tmp_path / "other.csv").write_text("text,id\n".replace("text", "words") + "a,1\n", encoding="utf-8")
    assert said in descent("predict", single, *words, code=2).err


def test_a_model_of_pictures_reads_no_text(descent, digits_run):
    assert "--text is for a model of texts" in descent("predict", digits_run, "--text", "a", code=2).err
    assert "nothing to predict" in descent("predict", digits_run, code=2).err


def test_a_folder_of_the_exported_model_says_the_same(descent, single, tmp_path):
    descent("export", single, "--out", "exported")
    asked = ("--text", "a lovely film, number 3", "--json")
    assert descent("predict", "exported", *asked).json == descent("predict", single, *asked).json
