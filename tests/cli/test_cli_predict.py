"""`descent predict` of folders and files, broken ones among them, and `descent evaluate --report`."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import descent as package


@pytest.fixture(scope="module")
def picture():
    """Writes a digit as an image file."""

    def write(path, number):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((load_digits().images[number] * 255 / 16).astype(np.uint8)).save(path)
        return path

    return write


@pytest.fixture
def folder(tmp_path, picture):
    """Four images, two of them deeper, beside what is no image."""
    for number, name in enumerate(("b.png", "a.PNG", "c/深/三.jpg", "c/a b.bmp")):
        picture(tmp_path / "图" / name, number)
    (tmp_path / "图" / "notes.txt").write_text("no image", encoding="utf-8")
    (tmp_path / "图" / "z.png").mkdir()
    return tmp_path / "图"


NAMES = ["图/a.PNG", "图/b.png", "图/c/a b.bmp", "图/c/深/三.jpg"]


def test_every_image_of_a_folder_is_predicted_by_name(descent, digits_run, folder):
    found = descent("predict", digits_run, "图", "--json").json
    assert [row["input"] for row in found] == NAMES
    for row in found:
        name = row.pop("input")
        expected = package.load(digits_run).predict(name)[0]
        assert row["label"] == expected["label"]
        assert row["probabilities"] == pytest.approx(expected["probabilities"], rel=1e-5)
    lines = descent("predict", digits_run, folder).out.splitlines()
    assert len(lines) == 5
    assert "三.jpg" in lines[4]
    both = descent("predict", digits_run, "图/b.png", "图", "--json").json
    assert [row["input"] for row in both] == ["图/b.png", *NAMES], "in the order they were named"


def test_more_images_than_a_batch_holds_are_answered_as_each_alone(
    descent, digits_run, folder, picture, monkeypatch
):
    from descent.runs import loaded

    for number in range(4, 11):
        picture(folder / f"{number}.png", number)
    whole = descent("predict", digits_run, "图", "--json").json
    assert len(whole) == 11
    monkeypatch.setattr(loaded, "NUMBERS", 3 * 64)
    parts = descent("predict", digits_run, "图", "--json").json
    for one, other in zip(whole, parts, strict=True):
        assert (one["input"], one["label"]) == (other["input"], other["label"])
        assert one["probabilities"] == pytest.approx(other["probabilities"], rel=1e-5)


def test_a_broken_image_of_a_folder_is_left_out(descent, digits_run, folder):
    (folder / "b0.png").write_bytes(b"no image")
    whole = (folder / "b.png").read_bytes()
    (folder / "c" / "cut.png").write_bytes(whole[: len(whole) // 2])
    result = descent("predict", digits_run, "图", "--json")
    assert [row["input"] for row in result.json] == NAMES
    assert result.err.count("left out") == 2
    assert "图/b0.png" in result.err
    assert "cut.png" in result.err
    assert "b0" not in descent("predict", digits_run, "图").out


@pytest.mark.parametrize("name", ["bad.png", "./bad.png", "图/../bad.png"])
def test_a_broken_image_that_was_named_ends_in_1_after_the_others(
    descent, digits_run, folder, tmp_path, name
):
    (tmp_path / "bad.png").write_bytes(b"no image")
    result = descent("predict", digits_run, name, "图", "图/b.png", "--json", code=1)
    assert [row["input"] for row in result.json] == [*NAMES, "图/b.png"]
    assert result.err.count("left out") == 1
    assert "bad.png" in result.err


def test_nothing_but_broken_images(descent, digits_run, tmp_path):
    (tmp_path / "bad").mkdir()
    for name in ("one.png", "two.jpg"):
        (tmp_path / "bad" / name).write_bytes(b"no image")
    result = descent("predict", digits_run, "bad", code=2)
    assert result.out == ""
    assert "none of 2 files" in result.err
    assert "one.png" in result.err
    (tmp_path / "bad" / "two.jpg").unlink()
    alone = descent("predict", digits_run, "bad", "--json", code=2)
    assert alone.out == ""
    assert "one.png" in alone.err
    assert "one.png" in descent("predict", digits_run, "bad/one.png", code=2).err


def test_a_folder_without_images_is_said_to_be_one(descent, digits_run, gpt_run, tmp_path, picture):
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    (tmp_path / "empty" / "rows.csv").write_text("a\n1\n", encoding="utf-8")
    result = descent("predict", digits_run, "empty", code=2)
    assert "no image in empty" in result.err
    assert ".png" in result.err
    picture(tmp_path / "empty" / "a.png", 1)
    assert "use generate" in descent("predict", gpt_run, "empty", code=2).err


def test_images_are_no_rows_and_rows_no_images(descent, digits_run, diabetes_run, folder, tmp_path):
    for given in ("图", "图/b.png"):
        result = descent("predict", diabetes_run, given, code=2)
        assert "predicts from rows of a table" in result.err
        assert result.out == ""
    (tmp_path / "rows.json").write_text(json.dumps([{"age": 1}, {"age": 2}]), encoding="utf-8")
    assert "predicts from images" in descent("predict", digits_run, "rows.json", code=2).err


def test_classes_with_chinese_names(descent, tmp_path):
    for number in range(40):
        # Each its own grey: images that are the same share a split, and all of a class could leave training.
        image = Image.new("L", (8, 8), 255 - number if number % 2 else number)
        path = tmp_path / "data" / ("白色" if number % 2 else "黑色") / f"图{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    descent("train", "mlp-digits", "data.path=data", "optimizer.learning_rate=0.01",
            "budget.steps=60", "-q", "--out", "run")  # fmt: skip
    found = descent("predict", "run", "data", "--json").json
    assert len(found) == 40
    assert all(row["label"] == row["input"].split("/")[1] for row in found)
    assert set(found[0]["probabilities"]) == {"白色", "黑色"}
    out = descent("predict", "run", "data/白色").out
    assert out.count("白色") == 40
    assert out.count("黑色") == 20, "as the second most probable"
    text = descent("evaluate", "run", "--split", "train", "--report", "报告").out
    assert "白色" in text
    assert {path.name for path in (tmp_path / "报告").iterdir()} >= {"confusion.png", "report.json"}


def test_evaluate_writes_a_report_when_asked(descent, digits_run, tmp_path):
    result = descent("evaluate", digits_run, "--report", "deep/report", "--json")
    assert "deep/report" not in result.out
    files = {path.name for path in (tmp_path / "deep" / "report").iterdir()}
    assert files == {"confusion.png", "reliability.png", "mistakes.png", "report.json"}
    written = json.loads((tmp_path / "deep" / "report" / "report.json").read_text(encoding="utf-8"))
    assert written["metrics"] == result.json["metrics"]
    assert written["confusion"] == result.json["confusion"]
    assert (written["split"], written["examples"]) == ("test", result.json["examples"])
    shutil.rmtree(tmp_path / "deep")
    plain = descent("evaluate", digits_run)
    assert not (tmp_path / "deep").exists()
    asked = descent("evaluate", digits_run, "--report", "deep")
    assert asked.out == plain.out
    assert "the report is in deep" in asked.err


def test_evaluate_prints_the_scores_of_every_class(descent, digits_run, tmp_path):
    lines = descent("evaluate", digits_run, "--report", "report").out.splitlines()
    written = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    start = next(place for place, line in enumerate(lines) if line.startswith("class"))
    for line, (name, row) in zip(lines[start + 1 :], written["classes"].items(), strict=False):
        shares = [f"{100 * row[score]:.2f}%" for score in ("precision", "recall", "f1")]
        assert line.split() == [name, *shares, str(row["support"])]
    macro = next(line for line in lines if line.startswith("macro f1"))
    assert macro.split()[-1] == f"{100 * written['macro']['f1']:.2f}%"


def test_a_model_of_numbers_has_no_report(descent, diabetes_run, tmp_path):
    result = descent("evaluate", diabetes_run, "--report", "report", code=2)
    assert "only a classifier" in result.err
    assert not (tmp_path / "report").exists()
