"""`descent train` and `descent fork`: folders, streams, resuming, signals."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

import descent as package

DIGITS = ("mlp-digits", "budget.steps=6", "evaluation.every=3")


def test_training_prints_the_folder_and_nothing_else_on_stdout(descent, tmp_path, monkeypatch, real_curves):
    monkeypatch.setattr("descent.runs.plots.curves", real_curves)
    result = descent("train", *DIGITS)
    folder = result.out.strip()
    assert result.out == f"{folder}\n"
    assert folder.startswith("runs/mlp-digits/")
    assert (tmp_path / folder / "recipe.toml").is_file()
    assert result.err.splitlines()[0].split() == ["run", folder], "the path is told at the start too"
    assert "validation" in result.err
    assert (tmp_path / folder / "plots" / "curves.png").stat().st_size > 10_000


def test_quiet_training_is_quiet(descent):
    result = descent("train", *DIGITS, "--quiet", "--out", "here")
    assert (result.out, result.err) == ("here\n", "")


def test_a_folder_that_holds_a_run_is_not_trained_into(descent, tmp_path):
    descent("train", *DIGITS, "-q", "--out", "here")
    before = (tmp_path / "here" / "metrics.jsonl").read_bytes()
    refused = descent("train", *DIGITS, "-q", "--out", "here", code=2)
    assert "already holds a run" in refused.err
    assert (tmp_path / "here" / "metrics.jsonl").read_bytes() == before
    descent("train", *DIGITS, "seed=2", "-q", "--out", "here", "--overwrite")
    assert (tmp_path / "here" / "metrics.jsonl").read_bytes() != before


def test_resume_by_folder_goes_on(descent, tmp_path):
    descent("train", *DIGITS, "-q", "--out", "here")
    assert descent("train", "--resume", "here", "budget.steps=9", "-q").out == "here\n"
    assert package.Run(tmp_path / "here").step == 9
    refused = descent("train", "--resume", "here", "optimizer.learning_rate=0.1", "-q", code=2)
    assert "descent fork here optimizer.learning_rate=0.1" in refused.err


def test_resume_beside_out_starts_or_goes_on(descent, tmp_path):
    for steps in (6, 8):
        descent("train", "mlp-digits", f"budget.steps={steps}", "-q", "--out", "job", "--resume")
        assert package.Run(tmp_path / "job").step == steps
    refused = descent("train", "lenet-digits", "-q", "--out", "job", "--resume", code=2)
    assert "holds a run of the recipe 'mlp-digits'" in refused.err


def test_resuming_what_is_not_there(descent):
    assert "there is no run at nothing" in descent("train", "--resume", "nothing", code=2).err
    assert "name what to train" in descent("train", "--resume", code=2).err


def test_fork_starts_another_run(descent, tmp_path):
    descent("train", *DIGITS, "-q", "--out", "here")
    made = descent(
        "fork", "here", "optimizer.learning_rate=0.1", "budget.steps=8", "-q", "--out", "there", "--step", 3
    )
    assert made.out == "there\n"
    lines = package.Run(tmp_path / "there").metrics
    assert next(line["step"] for line in lines if line["event"] == "fork") == 3
    assert package.Run(tmp_path / "there").recipe.optimizer.learning_rate == 0.1
    assert "no checkpoint of step 5" in descent("fork", "here", "--step", 5, "budget.steps=8", code=2).err


def test_the_python_surface_trains_resumes_and_loads(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = package.train("mlp-digits", {"budget.steps": 4}, out="here", quiet=True)
    assert isinstance(run, package.Run)
    again = package.train("here", {"budget.steps": 6}, resume=True, quiet=True)
    assert again.step == 6
    assert package.train(again.recipe, "seed=3", out="other", quiet=True).recipe.seed == 3
    assert package.load("here").model is not None
    assert package.load(run).labels == tuple("0123456789")
    assert isinstance(package.load("here", "last").config, type(run.recipe.model))


def wait_for(path, text, seconds=240):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if path.exists() and text in path.read_text(encoding="utf-8"):
            return
        time.sleep(0.05)
    raise AssertionError(f"{text!r} did not appear in {path}")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_ends_with_its_code(program, descent, tmp_path, number, code):
    arguments = ("train", "mlp-digits", "budget.steps=100000", "evaluation.every=0", "--out", "here")
    process = program(*arguments, environment={"PYTHONIOENCODING": "ascii:strict"})
    wait_for(tmp_path / "here" / "metrics.jsonl", '"step": 100')
    assert "in use" in descent("train", "--resume", "here", code=4).err
    process.send_signal(number)
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, err
    assert b"Traceback" not in err
    assert b"descent train --resume here" in err
    assert out == b""
    assert package.Run(tmp_path / "here").step > 0


def test_the_package_runs_as_a_module(program):
    process = program("recipe", "show", "nothing")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 2
    assert err.startswith(b"error: no recipe is called 'nothing'")
    assert isinstance(process, subprocess.Popen)
