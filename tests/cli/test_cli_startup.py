"""What every command shares: a start without torch, exit codes, streams, odd terminals."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import descent as package
from descent import cli
from descent.errors import CorruptArtifact, LockedRun, UserError

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "sklearn", "matplotlib", "transformers", "tokenizers", "scipy", "PIL")
LIGHT = (
    ["--help"],
    ["list"],
    ["--version"],
    ["runs", "list"],
    ["train", "--help"],
    ["train", "gtp"],
    ["ledger"],
    ["find-rate", "--help"],
    ["explain", "--help"],
)


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_import_nothing_heavy(arguments, tmp_path):
    code = (
        "import sys; from descent.cli import main; main(sys.argv[1:]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.stderr.splitlines()[-1] == "[]"


@pytest.mark.benchmark
@pytest.mark.parametrize("arguments", [["--help"], ["list"]], ids=" ".join)
def test_light_commands_answer_in_half_a_second(arguments, program):
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        program(*arguments).communicate()
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


def test_the_version_is_the_projects(descent):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert package.__version__ == project["version"]
    assert descent("--version").out == f"descent {project['version']}\n"


def test_every_command_explains_itself(descent):
    text = descent("--help").out
    training, use = ["train", "fork"], ["evaluate", "predict", "generate", "verify", "export"]
    names = [*training, *use, "list", "recipe", "runs", "data", "ledger", "doctor"]
    for name in names:
        assert f"│ {name} " in text
        assert "Usage: descent" in descent(name, "--help").out


@pytest.mark.parametrize(
    ("error", "code"),
    [(UserError("a thing", got=1), 2), (CorruptArtifact("a file"), 3), (LockedRun("a run"), 4)],
)
def test_an_error_is_printed_once_and_gives_its_exit_code(descent, monkeypatch, error, code):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("descent.ledger.select", fail)
    result = descent("ledger", code=code)
    assert result.err == f"error: {error}\n"
    assert result.out == ""


def test_a_bug_keeps_its_traceback(descent, monkeypatch):
    def fail(*arguments):
        raise KeyError("a bug")

    monkeypatch.setattr("descent.ledger.select", fail)
    with pytest.raises(KeyError, match="a bug"):
        descent("ledger")


def test_ctrl_c_ends_any_command_with_130(descent, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("descent.ledger.select", interrupt)
    assert "Traceback" not in descent("ledger", code=130).err


def test_control_characters_of_an_error_do_not_reach_the_terminal(descent):
    assert "\x1b" not in descent("runs", "show", "\x1b[31mred", code=2).err


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["trian"], "train"),
        (["list", "recpes"], "recipes"),
        (["train", "gtp"], "did you mean 'gpt'?"),
        (["train"], "descent train gpt"),
        (["train", "model.depth=3"], "descent train gpt"),
        (["train", "gpt", "data.paht=x"], "did you mean data.path?"),
        (["train", "gpt", "--steps", "5"], "budget.steps=..."),
        (["train", "gpt", "--model.depth=6"], "model.depth=6"),
        (["train", "gpt", "--quite"], "did you mean --quiet?"),
        (["train", "--dry-rum", "gpt"], "did you mean --dry-run?"),
        (["train", "gpt", "model.depth", "=", "3"], "no spaces around the ="),
        (["recipe", "show", "lenet-minst"], "did you mean 'lenet-mnist'?"),
        (["data", "show", "minst"], "did you mean 'mnist'?"),
        (["generate"], "MODEL"),
        (["train", "gpt", "--resume", "--overwrite", "--out", "x"], "choose one of them"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistakes_are_answered_kindly(descent, arguments, hint):
    result = descent(*arguments, code=2)
    assert hint in result.err
    assert result.out == ""
    assert "Traceback" not in result.err


def test_several_mistakes_are_told_at_once(descent):
    text = descent("train", "gpt", "model.depth=0", "budget.batch_size=x", "--dry-run", code=2).err
    assert "2 errors" in text
    assert "model" in text
    assert "budget.batch_size" in text


@pytest.mark.parametrize(
    "arguments", [["list"], ["--version"], ["--help"], ["recipe", "show", "gtp"]], ids=" ".join
)
def test_a_reader_that_has_gone_away_is_no_error_worth_words(arguments, tmp_path):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "descent", *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    assert done.returncode in (1, 2)
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"PYTHONIOENCODING": "ascii"}, rb"\u5510\u8bd7"),
        ({"LC_ALL": "C"}, "唐诗".encode()),
        ({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, "唐诗".encode()),
        ({"NO_COLOR": "1"}, "唐诗".encode()),
    ],
    ids=["ascii", "C", "C without coercion", "no colour"],
)
def test_chinese_prints_on_any_terminal(program, environment, expected):
    out, err = program("data", "list", environment=environment).communicate()
    assert expected in out
    assert b"Traceback" not in err
    assert b"\x1b" not in out + err


def test_the_python_surface_is_lazy_and_complete():
    assert {"train", "load", "Run", "Recipe", "__version__"} <= set(dir(package))
    assert package.Run.__name__ == "Run"
    assert package.Recipe.__name__ == "Recipe"
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = package.trian
    assert callable(cli.main)
