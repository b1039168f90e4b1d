"""What `descent predict` prints: one input at a time, in columns that hold Chinese, or one JSON list."""

from __future__ import annotations

import json

import pytest
from rich.cells import cell_len

from descent.cli.predictions import print_predictions
from descent.cli.terminal import print_json

LABELS = ("猫", "dog", "a bird of passage")


def result(name: str, *shares: float) -> dict:
    best = max(range(3), key=shares.__getitem__)
    probabilities = dict(zip(LABELS, shares, strict=True))
    return {
        "input": name,
        "label": LABELS[best],
        "probability": shares[best],
        "probabilities": probabilities,
    }


RESULTS = [
    result("图/一.png", 0.75, 0.2, 0.05),
    result("b.png", 0.1, 0.2, 0.7),
    result("c\u2028d.png", 0.0, 1.0, 0.0),
]
NAMES = [row["input"] for row in RESULTS]


def test_columns_stand_one_below_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_predictions(iter(RESULTS), NAMES, LABELS) == 3
    lines = capsys.readouterr().out.split("\n")
    starts = [
        cell_len(line[: line.index(word)])
        for line, word in zip(lines[:4], ("class", "猫", "a b", "dog"), strict=True)
    ]
    assert starts == [cell_len("图/一.png") + 2] * 4
    ends = [
        cell_len(line[: line.index(word)]) + len(word)
        for line, word in zip(lines[:4], ("probability", "75.0%", "70.0%", "100%"), strict=True)
    ]
    assert len(set(ends)) == 1
    assert lines[1].endswith("  dog 20.0%, a bird of passage 5.0%")
    assert lines[4:] == [""]


@pytest.mark.parametrize("top", [1, 2, 5])
def test_as_many_classes_as_asked_for_the_most_probable_first(
    capsys: pytest.CaptureFixture[str], top: int
) -> None:
    print_predictions(RESULTS, NAMES, LABELS, top)
    line = capsys.readouterr().out.split("\n")[2]
    assert line.endswith("70.0%" + ("", "  dog 20.0%", "  dog 20.0%, 猫 10.0%")[min(top, 3) - 1])
    print_predictions(RESULTS, NAMES, LABELS, top, as_json=True)
    found = json.loads(capsys.readouterr().out)[1]
    assert (
        list(found["probabilities"].items()) == [("a bird of passage", 0.7), ("dog", 0.2), ("猫", 0.1)][:top]
    )
    assert (found["label"], found["probability"]) == ("a bird of passage", 0.7)


@pytest.mark.parametrize("rows", [RESULTS, RESULTS[:1], [{"input": "t.csv:1", "value": float("nan")}]])
def test_a_list_printed_bit_by_bit_is_the_list(capsys: pytest.CaptureFixture[str], rows: list[dict]) -> None:
    print_json(rows)
    whole = capsys.readouterr().out
    assert print_predictions(iter(rows), NAMES, LABELS, as_json=True) == len(rows)
    assert capsys.readouterr().out == whole


@pytest.mark.parametrize("as_json", [False, True])
def test_each_is_printed_before_the_next_is_computed(
    capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    seen = []

    def slow():
        for row in RESULTS:
            seen.append(capsys.readouterr().out)
            yield row

    print_predictions(slow(), NAMES, LABELS, as_json=as_json)
    assert seen[0] == ""
    assert "一.png" in seen[1]
    assert "b.png" in seen[2]


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_is_printed_of_nothing(capsys: pytest.CaptureFixture[str], as_json: bool) -> None:
    assert print_predictions([], ["a.png"], LABELS, as_json=as_json) == 0
    assert capsys.readouterr().out == ""


def test_numbers_have_no_class(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"input": "t.csv:1", "value": 1234567.25}, {"input": "t.csv:10", "value": [1.0, 2.5]}]
    print_predictions(rows, ["t.csv:1", "t.csv:10"], (), 2)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [["input", "value"], ["t.csv:1", "1.23457e+06"], ["t.csv:10", "1, 2.5"]]


def test_a_very_long_name_moves_its_own_line_alone(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["a.png", "x" * 300]
    print_predictions([result(name, 0.5, 0.3, 0.2) for name in names], names, LABELS)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].index("猫") == 62
    assert lines[2].index("猫") == 302


def test_top_and_the_scores_of_classes_reach_the_user(descent, digits_run, tmp_path) -> None:
    import numpy as np
    from PIL import Image

    Image.fromarray(np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)).save(tmp_path / "a.png")
    every = descent("predict", digits_run, "a.png", "--json").json[0]["probabilities"]
    some = descent("predict", digits_run, "a.png", "--top", 4, "--json").json[0]["probabilities"]
    assert list(some.items()) == sorted(every.items(), key=lambda item: -item[1])[:4]
    assert descent("predict", digits_run, "a.png", "--top", 4).out.count("%") == 4
    assert "--top" in descent("predict", digits_run, "a.png", "--top", 0, code=2).err
    found = descent("evaluate", digits_run, "--report", "report", "--json").json
    written = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    for name in ("metrics", "macro", "classes", "confusion", "calibration"):
        assert found[name] == written[name]
    assert sum(found["calibration"]["counts"]) == found["examples"]
