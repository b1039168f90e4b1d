"""The command line as a test calls it: arguments in; exit code, stdout and stderr out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from poem import POEM

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


@pytest.fixture(scope="module", autouse=True)
def real_curves():
    """The drawing of curves, which is left out here but where a test brings it back: it takes a second."""
    from descent.runs import plots

    real = plots.curves
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "curves", lambda lines, folder, title: [])
        yield real


@pytest.fixture
def descent(tmp_path, monkeypatch, capsys):
    """Runs a command in this process, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, code=0):
        from descent.cli import main

        capsys.readouterr()
        result = Result(main([str(argument) for argument in arguments]), *capsys.readouterr())
        assert result.code == code, (arguments, result)
        return result

    return call


@pytest.fixture
def program(tmp_path):
    """Runs a command as a program of its own, in an empty current folder; none outlives its test."""
    started = []

    def start(*arguments, environment=None, **options):
        process = subprocess.Popen(
            [sys.executable, "-m", "descent", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def make_run():
    """Makes a run's folder as far as listing and comparing read it."""
    return write_run


@pytest.fixture
def course():
    """The metrics lines of a run."""
    return lines_of_a_run


def write_run(folder, *, name="gpt", steps=100, lines=None, **tables):
    import tomli_w

    folder.mkdir(parents=True)
    recipe = {"name": name, "budget": {"steps": steps, "batch_size": 8}, **tables}
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")
    events = lines if lines is not None else lines_of_a_run(steps)
    text = "".join(json.dumps(event) + "\n" for event in events)
    (folder / "metrics.jsonl").write_text(text, encoding="utf-8")
    (folder / "checkpoints" / f"step-{steps:06d}").mkdir(parents=True)
    (folder / "checkpoints" / f"step-{steps:06d}" / "model.safetensors").write_bytes(b"0" * 1000)
    return folder


def lines_of_a_run(steps, loss=1.5):
    half = {"event": "evaluation", "split": "validation", "examples": 9}
    return [
        {"event": "start", "step": 0},
        {"event": "step", "step": 1, "loss": 4.0, "seconds": 0.5},
        {**half, "step": steps // 2, "loss": loss, "accuracy": 0.5, "seconds": 30},
        {"event": "step", "step": steps, "loss": 2.0, "seconds": 65.0},
        {**half, "step": steps, "loss": loss + 0.25, "accuracy": 0.75, "seconds": 66},
        {"event": "sample", "step": steps, "text": "床前明月光"},
        {"event": "end", "step": steps},
    ]


def _trained(folder, *arguments):
    from descent.cli import main

    assert main(["train", *map(str, arguments), "--quiet", "--out", str(folder)]) == 0
    return folder


TINY_GPT = ("model.depth=1", "model.dim=32", "model.heads=2", "model.context=32", "tokenizer.kind=char")
TINY = ("tokenizer.vocab_size=0", "budget.steps=6", "budget.batch_size=4", "evaluation.every=3")


@pytest.fixture(scope="session")
def tiny_gpt_options(tmp_path_factory):
    """A GPT on Chinese text of our own, small enough to train in a moment."""
    book = tmp_path_factory.mktemp("text") / "book.txt"
    book.write_text(POEM * 100, encoding="utf-8")
    return ["gpt", f"data.path={book}", *TINY_GPT, *TINY, "samples.max_new_tokens=8"]


@pytest.fixture(scope="session")
def gpt_run(tmp_path_factory, tiny_gpt_options):
    return _trained(tmp_path_factory.mktemp("gpt") / "book", *tiny_gpt_options)


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    return _trained(tmp_path_factory.mktemp("digits") / "run", "mlp-digits", "budget.steps=40")


@pytest.fixture(scope="session")
def diabetes_run(tmp_path_factory):
    return _trained(tmp_path_factory.mktemp("diabetes") / "run", "linear-diabetes", "budget.steps=20")
