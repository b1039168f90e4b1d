"""`descent evaluate|predict|generate|verify|export` on small models trained for the purpose."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from PIL import Image
from poem import POEM
from sklearn.datasets import load_diabetes, load_digits

import descent as package
from descent.runs.figure import percent


def test_evaluate_scores_the_whole_split(descent, digits_run):
    text = descent("evaluate", digits_run).out
    assert "split     test" in text
    assert "accuracy" in text
    assert "rows: true class" in text
    found = descent("evaluate", digits_run, "--split", "validation", "--json").json
    run = package.Run(digits_run)
    scored = [line for line in run.metrics if line.get("split") == "validation" and line["step"] == run.best]
    assert found["metrics"]["loss"] == pytest.approx(scored[-1]["loss"], rel=1e-6)
    assert found["examples"] == scored[-1]["examples"] == np.sum(found["confusion"])
    assert "validation" in descent("evaluate", digits_run, "--split", "vlidation", code=2).err


def test_checkpoints_are_chosen_by_name_or_step(descent, gpt_run):
    losses = {
        which: descent("evaluate", gpt_run, "--checkpoint", which, "--split", "train", "--json").json[
            "metrics"
        ]["loss"]
        for which in ("3", "6", "last")
    }
    assert losses["last"] == losses["6"] != losses["3"]
    assert "best, last" in descent("evaluate", gpt_run, "--checkpoint", "frist", code=2).err
    assert "no checkpoint of step 5" in descent("evaluate", gpt_run, "--checkpoint", 5, code=2).err


@pytest.fixture
def digits(tmp_path):
    images = load_digits().images[:3]
    for number, image in enumerate(images):
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(tmp_path / f"digit{number}.png")
    return [tmp_path / f"digit{number}.png" for number in range(3)]


def test_predict_images(descent, digits_run, digits):
    found = descent("predict", digits_run, *digits, "--json").json
    expected = package.load(digits_run).predict(digits)
    assert [row.pop("input") for row in found] == [str(path) for path in digits]
    assert found == expected
    lines = descent("predict", digits_run, *digits).out.splitlines()
    assert lines[1].split()[:3] == [
        str(digits[0]),
        found[0]["label"],
        percent(found[0]["probability"]),
    ]


def test_predict_rows_of_any_kind_alike(descent, diabetes_run, tmp_path):
    data = load_diabetes()
    rows = [dict(zip(data.feature_names, map(float, row), strict=True)) for row in data.data[:3]]
    with open(tmp_path / "rows.csv", "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, data.feature_names)
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "rows.json").write_text(json.dumps(rows), encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "row.json").write_text(json.dumps(rows[0]), encoding="utf-8")
    values = [row["value"] for row in package.load(diabetes_run).predict(rows)]
    for name in ("rows.csv", "rows.json", "rows.jsonl"):
        found = descent("predict", diabetes_run, name, "--json").json
        assert [row["value"] for row in found] == values
        assert [row["input"] for row in found] == [f"{name}:{n}" for n in (1, 2, 3)]
    words = [f"{name}={value}" for name, value in rows[0].items()]
    for arguments in (["row.json"], words):
        assert [
            row["value"] for row in descent("predict", diabetes_run, *arguments, "--json").json
        ] == values[:1]
    assert f"{values[1]:.6g}" in descent("predict", diabetes_run, "rows.csv").out


def test_cells_mean_what_they_meant_in_training(descent, tmp_path):
    text = "size, code,y\n" + "".join(f"{n % 7 or 'NULL'}, {'12A'[n % 3]},{n % 5}.5\n" for n in range(60))
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    descent("train", "linear-diabetes", "data.path=t.csv", "data.target=y", "data.blanks=mean", "-q",
            "budget.steps=5", "--out", "run")  # fmt: skip
    (tmp_path / "new.csv").write_text("size, code\nN/A, 1\n3,A\n", encoding="utf-8")
    (tmp_path / "new.ndjson").write_text('{"size": null, "code": 1}\n{"size": "3", "code": "A"}\n')
    found = [descent("predict", "run", name, "--json").json for name in ("new.csv", "new.ndjson")]
    assert [row["value"] for row in found[0]] == [row["value"] for row in found[1]]
    row = descent("predict", "run", "size=3", "code=A", "--json").json
    assert row[0]["value"] == found[0][1]["value"]
    assert "did you mean 'code'" in descent("predict", "run", "size=3", "cod=A", code=2).err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "x,y\n1\n", "line 2"),
        ("a.csv", "x,y\n1,2,3\n", "line 2"),
        ("a.csv", 'x,y\n"1,2\n', "line 2"),
        ("a.csv", "x,y\n", "no rows"),
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[1, 2]", "one JSON object"),
        ("a.jsonl", '{"x": 1}\n{\n', "line 2"),
        ("a.png", "no image", "a.png"),
    ],
)
def test_what_cannot_be_read_is_named(descent, digits_run, tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    result = descent("predict", digits_run, name, code=2)
    assert message in result.err
    assert "Traceback" not in result.err


def test_predict_asks_for_what_it_needs(descent, digits_run, gpt_run, diabetes_run, tmp_path):
    assert "absent.png is not a file" in descent("predict", digits_run, "absent.png", code=2).err
    assert "name=value" in descent("predict", diabetes_run, "age=1", "absent", code=2).err
    descent("predict", diabetes_run, "age=1", code=2)
    (tmp_path / "row.json").write_text("{}", encoding="utf-8")
    assert "use generate" in descent("predict", gpt_run, "row.json", code=2).err


SHORT = ("--max-new-tokens", 12, "--seed", 3)


def test_generate_streams_what_it_would_print_at_once(descent, gpt_run):
    streamed = descent("generate", gpt_run, "--prompt", "床前", *SHORT)
    assert streamed.out.startswith("床前")
    assert streamed.err == ""
    assert descent("generate", gpt_run, "--prompt", "床前", *SHORT, "--no-stream").out == streamed.out
    found = descent("generate", gpt_run, "--prompt", "床前", *SHORT, "--json").json
    assert "床前" + found["text"] + "\n" == streamed.out
    assert found["prompt"] == "床前"
    assert len(found["tokens"]) == len(found["logprobs"])
    assert (
        descent("generate", gpt_run, "--prompt", "床前", "--max-new-tokens", 12, "--seed", 4).out
        != streamed.out
    )


def test_generate_passes_every_setting_on(descent, gpt_run, monkeypatch):
    seen = {}

    def complete(self, prompts, *, beams, **settings):
        seen.update(settings, beams=beams, prompts=prompts)
        return original(self, prompts, beams=1, **settings)

    from descent.runs.loaded import Loaded

    original = Loaded.complete
    monkeypatch.setattr(Loaded, "complete", complete)
    numbers = {"max-new-tokens": 5, "temperature": 0.7, "top-k": 4, "top-p": 0.9, "min-p": 0.1, "seed": 9}
    numbers |= {"repetition-penalty": 1.2, "beams": 2}
    options = [f"--{name}={value}" for name, value in numbers.items()]
    descent("generate", gpt_run, *options, "--stop", "月", "--stop", "光", "--sliding")
    assert seen == {
        "prompts": [""],
        "max_new_tokens": 5,
        "temperature": 0.7,
        "top_k": 4,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.2,
        "seed": 9,
        "stop": ["月", "光"],
        "beams": 2,
        "sliding": True,
    }


def test_generate_reads_a_prompt_from_stdin(descent, gpt_run, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("舉頭"))
    assert descent("generate", gpt_run, "--prompt", "-", *SHORT).out.startswith("舉頭")


@pytest.mark.parametrize(
    "arguments",
    [["--temperature", -1], ["--top-p", 2], ["--max-new-tokens", 0], ["--beams", 0], ["--seed", -1]],
)
def test_generate_refuses_senseless_settings(descent, gpt_run, arguments):
    result = descent("generate", gpt_run, *arguments, code=2)
    assert arguments[0] in result.err


def test_generate_with_what_writes_nothing(descent, digits_run, tmp_path):
    assert "use predict" in descent("generate", digits_run, code=2).err
    assert "there is no run at nothing" in descent("generate", "nothing", code=2).err
    (tmp_path / "empty").mkdir()
    assert "empty" in descent("generate", "empty", code=2).err


def test_a_hub_name_is_looked_for_on_the_hub_alone(descent, network_attempts, monkeypatch):
    result = descent("generate", "openai-community/gpt2-that-is-not-there", code=2)
    assert "openai-community/gpt2-that-is-not-there" in result.err
    network_attempts.clear()


def test_export_is_loaded_back_and_says_the_same(descent, gpt_run, tmp_path):
    assert descent("export", gpt_run, "--out", "folder").out == "folder\n"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {
        p.name for p in (tmp_path / "folder").iterdir()
    }
    first = descent("generate", gpt_run, "--prompt", "床", *SHORT).out
    assert descent("generate", "folder", "--prompt", "床", *SHORT).out == first
    (tmp_path / "runs" / "folder").mkdir(parents=True)
    (tmp_path / "runs" / "folder" / "recipe.toml").write_text("", encoding="utf-8")
    assert descent("generate", "folder", "--prompt", "床", *SHORT).out == first, "what is here comes first"
    assert "not empty" in descent("export", gpt_run, "--out", "folder", code=2).err


def test_an_exported_classifier_predicts_the_same(descent, digits_run, digits):
    descent("export", digits_run, "--out", "folder")
    assert descent("predict", "folder", *digits).out == descent("predict", digits_run, *digits).out


def test_verify_holds_on_every_kind(descent, gpt_run, digits_run, diabetes_run):
    for run in (gpt_run, digits_run, diabetes_run):
        rows = descent("verify", run, "--json").json
        assert len(rows) >= 8
        assert all(row["ok"] for row in rows), rows
        assert sum(row["worst"] is not None for row in rows) >= 4
    lines = descent("verify", gpt_run).out.splitlines()
    assert any(line.startswith("ok  ") and "cached decoding = full forward" in line for line in lines)


@pytest.mark.parametrize("worst", [0.5, float("nan")])
def test_verify_exits_1_on_a_difference(descent, gpt_run, monkeypatch, worst):
    from descent.verify import Row

    first = Row("this = that", 1e-4, worst, "x")
    rows = [first, Row("these = those", 1e-4, 1e-6), Row("no = such", 0.0, None)]
    monkeypatch.setattr("descent.verify.verify", lambda run: rows)
    result = descent("verify", gpt_run, code=1)
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == ["DIFFERS", "ok", "-"]
    assert result.err.endswith("1 of 3 checks differ: this = that\n")
    assert [row["ok"] for row in descent("verify", gpt_run, "--json", code=1).json] == [False, True, True]


def test_a_corrupt_checkpoint_gives_exit_3(descent, gpt_run, tmp_path):
    import shutil

    shutil.copytree(gpt_run, tmp_path / "copy")
    for file in (tmp_path / "copy" / "checkpoints").glob("*/model.safetensors"):
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    result = descent("generate", "copy", code=3)
    assert "model.safetensors" in result.err
    assert result.out == ""


def test_the_poem_is_what_the_model_learned_from(gpt_run):
    assert package.Run(gpt_run).tokenizer.decode(package.Run(gpt_run).tokenizer.encode(POEM)) == POEM
