"""Nearest texts of a user's own file, the vectors kept for it, and adapters from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from descent.errors import UserError

SMALL = ("model.depth=1", "model.dim=16", "model.heads=2", "tokenizer.vocab_size=600", "data.length=32")
SHORT = (
    "budget.epochs=0",
    "budget.steps=40",
    "budget.batch_size=16",
    "evaluation.every=0",
    "model.dropout=0",
)
WORDS = ("river", "stone", "wind", "cloud", "tree", "bird", "山", "水")
TEXTS = [f"the {one} and the {other}" for one in WORDS for other in WORDS if one != other]


def trained(folder, *arguments):
    from descent.cli import main

    assert main(["train", *map(str, arguments), "--quiet", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("similar")
    pairs = "".join(f"{text}\tthe {' near '.join(text.split()[1::3])}\n" for text in TEXTS)
    (folder / "pairs.tsv").write_text(pairs, encoding="utf-8")
    return trained(folder / "run", "bert-similar", f"data.path={folder / 'pairs.tsv'}", *SMALL, *SHORT)


@pytest.fixture
def notes(tmp_path):
    (tmp_path / "notes.txt").write_text("\n\n".join(TEXTS) + "\n", encoding="utf-8")
    return "notes.txt"


def test_the_text_itself_is_the_nearest(descent, run, notes):
    found = descent("search", run, notes, "--query", TEXTS[9], "--top", 3, "--json").json
    assert (found["query"], found["texts"]) == (TEXTS[9], len(TEXTS))
    best = found["results"][0]
    assert (best["text"], best["line"]) == (TEXTS[9], 19)
    assert best["score"] == pytest.approx(1, abs=1e-5)
    scores = [one["score"] for one in found["results"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    lines = descent("search", run, notes, "--query", TEXTS[9]).out.splitlines()
    assert len(lines) == 5
    assert lines[0].split(None, 2) == ["1.000", "19", TEXTS[9]]


def test_the_search_is_exact(descent, run, notes, tmp_path):
    import descent as library

    descent("search", run, notes, "--out", "out/v.npy")
    vectors = np.load(tmp_path / "out" / "v.npy", allow_pickle=False)
    loaded = library.load(run)
    torch.testing.assert_close(torch.from_numpy(vectors), loaded.embed(TEXTS), rtol=0, atol=0)
    cosines = vectors @ loaded.embed(["a river near a bird"])[0].numpy()
    found = descent("search", run, notes, "--query", "a river near a bird", "--top", 60, "--json").json
    best = [one["text"] for one in found["results"]]
    assert best == [TEXTS[place] for place in np.argsort(-cosines, kind="stable")]


def test_vectors_are_kept_and_used_again_until_something_changes(descent, run, notes, tmp_path, monkeypatch):
    from descent.runs import loaded as module

    read = []
    real = module.text_vectors
    monkeypatch.setattr(module, "text_vectors", lambda *given: read.append(len(given[2])) or real(*given))
    asked = ("search", run, notes, "--query", TEXTS[3], "--json")
    for kept in (run / "vectors").glob("*"):
        kept.unlink()
    first = descent(*asked).json
    assert read == [len(TEXTS), 1]
    assert descent(*asked).json == first
    assert read == [len(TEXTS), 1, 1]
    (kept,) = (run / "vectors").glob("*.safetensors")
    whole = kept.read_bytes()
    for damaged in (whole[:-4], whole[:-1] + bytes([whole[-1] ^ 1]), b"PK" + whole, b""):
        kept.write_bytes(damaged)
        read.clear()
        assert descent(*asked).json == first
        assert read == [len(TEXTS), 1]
    assert kept.read_bytes() == whole
    (tmp_path / notes).write_text("\n".join([*TEXTS, "one more"]), encoding="utf-8")
    read.clear()
    assert descent(*asked).json["texts"] == len(TEXTS) + 1
    assert read == [len(TEXTS) + 1, 1]
    assert len(list((run / "vectors").iterdir())) == 2


@pytest.mark.parametrize(
    ("name", "text", "column"),
    [
        ("a.csv", 'id,text\n1,"a river, a stone"\n2,a bird\n', ()),
        ("b.csv", 'id,title,body\n1,x,"a river, a stone"\n2,y,a bird\n', ("--column", "body")),
        ("c.jsonl", '{"body": "a river, a stone"}\n{"body": "a bird"}\n', ("--column", "body")),
        ("d.json", '[{"text": "a river, a stone", "n": 1}, {"text": "a bird", "n": 2}]', ()),
        ("e.tsv", "text\tn\na river, a stone\t1\na bird\t2\n", ()),
    ],
)
def test_every_kind_of_file(descent, run, tmp_path, name, text, column):
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = descent("search", run, name, "--query", "a river, a stone", *column, "--json").json
    assert [one["text"] for one in found["results"]] == ["a river, a stone", "a bird"]


def test_what_is_wrong_is_said(descent, run, notes, gpt_run, tmp_path):
    (tmp_path / "empty.txt").write_text("\n \n", encoding="utf-8")
    (tmp_path / "bare.csv").write_text("id,text\n1,\n2, \n", encoding="utf-8")
    (tmp_path / "a.csv").write_text("id,titel,body\n1,a,b\n", encoding="utf-8")
    asked = ("--query", "a river")
    assert "is empty" in descent("search", run, "empty.txt", *asked, code=2).err
    assert "every text is empty" in descent("search", run, "bare.csv", *asked, code=2).err
    assert "is not a file" in descent("search", run, "none.txt", *asked, code=2).err
    missed = descent("search", run, "a.csv", *asked, "--column", "title", code=2).err
    assert "did you mean --column=titel?" in missed
    assert "which column holds the texts?" in descent("search", run, "a.csv", *asked, code=2).err
    assert "leave out --column" in descent("search", run, notes, *asked, "--column", "a", code=2).err
    assert "gives no vectors of texts" in descent("search", gpt_run, notes, *asked, code=2).err
    assert "nothing to search for" in descent("search", run, notes, code=2).err
    assert "a file named .npy" in descent("search", run, notes, "--out", "v.csv", code=2).err
    assert "text 1 of these is empty" in descent("search", run, notes, "--query", " ", code=2).err
    (tmp_path / "some.csv").write_text("text\na\n\nb\n" + '""\n', encoding="utf-8")
    assert descent("search", run, "some.csv", "--query", "a", "--json").json["texts"] == 2


def test_a_model_of_vectors_predicts_no_class(run):
    import descent as library

    with pytest.raises(UserError, match=r"predicts no classes(.|\n)*descent search"):
        library.load(run).predict("a river")


def test_adapters_from_the_command_line(descent, tiny_gpt_options, gpt_run, tmp_path):
    options = (f"model.weights={gpt_run}", "adapter.rank=2", "optimizer.learning_rate=0.02", "budget.steps=8")
    changed = [
        one for one in tiny_gpt_options if not one.startswith(("model.", "budget.steps", "tokenizer."))
    ]
    run = trained(tmp_path / "run", *changed, *options)
    folder = descent("export", run, "--adapter", "--out", "adapter").out.strip()
    assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [
        "adapter.json",
        "adapter.safetensors",
    ]
    assert json.loads((tmp_path / folder / "adapter.json").read_text())["base"] == str(gpt_run)
    asked = ("--prompt", "床前", "--max-new-tokens", 12, "--temperature", 9, "--seed", 5, "--json")
    own = descent("generate", run, *asked).json
    assert descent("generate", gpt_run, "--adapter", folder, *asked).json["logprobs"] == own["logprobs"]
    assert descent("generate", gpt_run, *asked).json["logprobs"] != own["logprobs"]
    assert "holds no adapter" in descent("generate", gpt_run, "--adapter", run, code=2).err
    assert "trained no adapter" in descent("export", gpt_run, "--adapter", "--out", "no", code=2).err
    assert descent("export", run, "--adapter").out.strip() == str(run / "adapter")
