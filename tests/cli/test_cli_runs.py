"""`descent runs`: what it lists, compares, and above all what it refuses to remove."""

from __future__ import annotations

import fcntl
import io
import os

import pytest


def test_runs_are_listed_with_their_course(descent, tmp_path, make_run, course):
    make_run(tmp_path / "runs" / "gpt" / "one")
    make_run(tmp_path / "runs" / "mine", name="lenet-digits", evaluation={"metric": "accuracy"})
    make_run(tmp_path / "runs" / "cut", lines=course(100)[:3])
    lines = descent("runs", "list").out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["runs/gpt/one"][:7] == ["gpt", "100/100", "finished", "loss", "1.5000", "1m", "05s"]
    assert rows["runs/mine"][:5] == ["lenet-digits", "100/100", "finished", "accuracy", "75.00%"]
    assert rows["runs/cut"][:3] == ["gpt", "50/100", "stopped"]
    found = {row["run"]: row for row in descent("runs", "list", "--json").json}
    assert found["runs/gpt/one"]["best_step"] == 50
    assert found["runs/mine"]["best_step"] == 100
    assert found["runs/gpt/one"]["checkpoints"] == ["step-000100"]


def test_no_runs_is_no_error(descent):
    assert descent("runs", "list").out == ""
    assert descent("runs", "list", "--json").json == []


def test_another_root(descent, tmp_path, make_run):
    make_run(tmp_path / "elsewhere" / "a")
    assert "elsewhere/a" in descent("runs", "list", "--root", "elsewhere").out


@pytest.mark.parametrize("damage", ["recipe", "metrics"])
def test_a_damaged_run_is_listed_as_such_and_hides_no_other(descent, tmp_path, damage, make_run):
    bad = make_run(tmp_path / "runs" / "bad")
    make_run(tmp_path / "runs" / "good")
    if damage == "recipe":
        (bad / "recipe.toml").write_text("[[[", encoding="utf-8")
    else:
        (bad / "metrics.jsonl").write_text("{\n{}\n", encoding="utf-8")
    states = {row["run"]: row["state"] for row in descent("runs", "list", "--json").json}
    assert states == {"runs/bad": "damaged", "runs/good": "finished"}
    assert "damaged" in descent("runs", "list").out


def test_a_run_is_shown(descent, tmp_path, make_run):
    make_run(tmp_path / "runs" / "gpt" / "one")
    text = descent("runs", "show", "runs/gpt/one").out
    assert "finished, step 100 of 100" in text
    assert "validation accuracy  75.00%" in text
    assert text.endswith("last sample\n床前明月光\n")
    shown = descent("runs", "show", "runs/gpt/one", "--json").json
    assert shown["final"] == {"validation": {"loss": 1.75, "accuracy": 0.75}}
    assert shown["recipe_table"]["budget"]["steps"] == 100


def test_a_folder_of_runs_means_its_newest(descent, tmp_path, make_run):
    import os

    make_run(tmp_path / "runs" / "gpt" / "old")
    make_run(tmp_path / "runs" / "gpt" / "new", steps=7)
    os.utime(tmp_path / "runs" / "gpt" / "old" / "recipe.toml", (1, 1))
    for text in ("runs/gpt", "gpt", "runs/gpt/new", "gpt/new"):
        result = descent("runs", "show", text, "--json")
        assert result.json["run"] == "runs/gpt/new"
    assert "the newest run in runs/gpt: runs/gpt/new" in descent("runs", "show", "gpt").err


def test_a_mistyped_run_is_answered_with_the_nearest(descent, tmp_path, make_run):
    make_run(tmp_path / "runs" / "gpt" / "20260101-000000")
    make_run(tmp_path / "runs" / "book")
    for wrong, right in (("runs/bok", "runs/book"), ("boook", "runs/book")):
        assert f"did you mean {right}?" in descent("runs", "show", wrong, code=2).err
    (tmp_path / "empty").mkdir()
    assert "holds no run" in descent("runs", "show", "empty", code=2).err


def test_runs_are_set_side_by_side(descent, tmp_path, make_run, course):
    make_run(tmp_path / "a", model={"type": "gpt", "depth": 4}, optimizer={"type": "muon"})
    make_run(tmp_path / "b", model={"type": "gpt", "depth": 6}, lines=course(100, loss=1.25))
    found = descent("runs", "compare", "a", "b", "--json").json
    assert found["runs"] == ["a", "b"]
    assert found["options"] == {"model.depth": [4, 6], "optimizer.type": ["muon", None]}
    assert found["metrics"] == {"validation loss": [1.75, 1.5], "validation accuracy": [0.75, 0.75]}
    lines = [line.split() for line in descent("runs", "compare", "a", "b").out.splitlines()]
    assert ["model.depth", "4", "6"] in lines
    assert ["optimizer.type", "muon", "-"] in lines
    assert ["validation", "loss", "1.7500", "1.5000"] in lines
    assert "at least two" in descent("runs", "compare", "a", code=2).err


def test_remove_removes(descent, tmp_path, make_run):
    first, second = make_run(tmp_path / "runs" / "a"), make_run(tmp_path / "runs" / "b")
    descent("runs", "remove", first, second, "--yes")
    assert list((tmp_path / "runs").iterdir()) == []


class Keyboard(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("answer", "left"), [("y\n", False), ("n\n", True), ("\n", True)])
def test_remove_asks(descent, tmp_path, monkeypatch, answer, left, make_run):
    folder = make_run(tmp_path / "runs" / "a")
    monkeypatch.setattr("sys.stdin", Keyboard(answer))
    result = descent("runs", "remove", folder)
    assert folder.exists() == left
    assert "step 100" in result.err
    assert result.out == ""


def test_remove_without_anyone_to_ask_needs_yes(descent, tmp_path, monkeypatch, make_run):
    folder = make_run(tmp_path / "runs" / "a")
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert "--yes" in descent("runs", "remove", folder, code=2).err
    assert folder.exists()


def test_remove_refuses_what_is_no_run(descent, tmp_path, make_run):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    run = make_run(tmp_path / "runs" / "gpt" / "a")
    for folder in ("photos", "runs", "runs/gpt", "absent", "."):
        assert "is not a run's folder" in descent("runs", "remove", folder, "--yes", code=2).err
    (tmp_path / "link").symlink_to(run)
    assert "is not a run's folder" in descent("runs", "remove", "link", "--yes", code=2).err
    assert (tmp_path / "photos" / "me.jpg").exists()
    assert run.exists()


def test_remove_refuses_a_run_that_holds_the_users_own_files(descent, tmp_path, make_run):
    run = make_run(tmp_path / "runs" / "a")
    other = make_run(tmp_path / "runs" / "b")
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    assert "notes.txt" in descent("runs", "remove", other, run, "--yes", code=2).err
    assert (run / "notes.txt").exists()
    assert other.exists(), "nothing is removed unless all can be"


def test_remove_refuses_a_run_in_use(descent, tmp_path, make_run):
    run = make_run(tmp_path / "runs" / "a")
    with open(run / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "in use" in descent("runs", "remove", run, "--yes", code=4).err
        assert descent("runs", "list", "--json").json[0]["state"] == "running"
    assert descent("runs", "list", "--json").json[0]["state"] == "finished"
    assert run.exists()


def test_looking_leaves_no_trace(descent, tmp_path, make_run):
    runs = [make_run(tmp_path / "runs" / name) for name in "ab"]
    for age, run in enumerate(runs):  # b is the older one
        (run / "lock").write_text("process 1 on elsewhere\n", encoding="utf-8")
        for path in run.iterdir():
            os.utime(path, (1e9 - age, 1e9 - age))

    def seen():
        return [(path, path.stat().st_mtime, path.stat().st_size) for path in sorted(tmp_path.rglob("*"))]

    before = seen()
    assert [row["run"][-1] for row in descent("runs", "list", "--json").json] == ["b", "a"]
    descent("runs", "show", runs[0])
    assert seen() == before
