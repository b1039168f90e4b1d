"""Recipe files as users get them wrong, and as someone would who wants to do harm: one message, soon."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest

from descent.config import LARGEST_FILE, read_toml
from descent.errors import UserError
from descent.recipes import get
from descent.runs.recipe import read_recipe, recipe_toml


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_recipe(path)
    assert caught.value.exit_code == 2
    assert str(path.name) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


def test_a_recipe_written_is_the_recipe_read(mine: Path):
    for name in ("gpt", "lenet-digits", "linear-diabetes"):
        mine.write_text(recipe_toml(get(name)), encoding="utf-8")
        assert read_recipe(mine) == get(name)


def test_all_that_is_wrong_with_a_file_is_said_at_once(mine: Path):
    text = recipe_toml(get("gpt"))
    for line in ("seed = 1", "clip_norm = 0.0"):
        assert line in text, text
    text = text.replace("seed = 1", 'seed = "1"\nlearing_rate = 1e-3').replace(
        "clip_norm = 0.0", "clip_norm = nan"
    )
    mine.write_text(text.replace("[budget]", "[budget]\nstep = 5"), encoding="utf-8")
    lines = refusal(mine).splitlines()
    assert lines[0] == f"{mine}: 4 errors in the configuration"
    assert {line.strip() for line in lines[1:]} == {
        "seed: should be a valid integer, got '1'",
        "clip_norm: should be a finite number, got nan",
        "learing_rate: no such option; did you mean 'optimizer.learning_rate'?",
        "budget.step: no such option; did you mean 'steps'?",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "data: is required"),
        (b"seed = \nname = 'a'\n", "line 1"),
        (b"name = 'a'\nname = 'b'\n", "line 2"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (b"x = " + b"[" * 100_000, "nest"),
        (b"x = " + b"{a=" * 100_000, "nest"),
        (b"a." * 3_000 + b"b = 1", "parts"),
        (b"[" + b"a." * 3_000 + b"b]", "parts"),
        (b"seed = " + b"9" * 5_000, "64 bits"),
        (b"seed = 0x" + b"f" * 5_000, "64 bits"),
    ],
)
def test_a_broken_file_says_what_is_wrong(mine: Path, text: bytes, said: str):
    mine.write_bytes(text)
    assert said in refusal(mine)


def test_a_file_with_a_byte_order_mark_is_read(mine: Path):
    mine.write_text(recipe_toml(get("gpt")), encoding="utf-8-sig")
    assert read_recipe(mine) == get("gpt")


def test_a_recipe_of_a_gigabyte_is_not_even_read(mine: Path):
    with mine.open("wb") as file:
        file.truncate(1_000_000_000)
    tracemalloc.start()
    try:
        assert "too large for a recipe" in refusal(mine)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_the_largest_recipe_is_read(mine: Path):
    text = recipe_toml(get("gpt"))
    mine.write_text(text + "#" * (LARGEST_FILE - len(text.encode())), encoding="utf-8")
    assert read_recipe(mine) == get("gpt")


SYMBOLS = Path("/proc/kallsyms")  # megabytes, in a file that says it is empty


@pytest.mark.skipif(not SYMBOLS.exists(), reason="needs a file that is longer than it says")
def test_a_file_is_not_believed_about_its_size():
    with SYMBOLS.open("rb") as file:
        assert len(file.read(LARGEST_FILE + 1)) > LARGEST_FILE
    assert SYMBOLS.stat().st_size == 0
    with pytest.raises(UserError, match="too large for a recipe"):
        read_toml(SYMBOLS)


@pytest.mark.parametrize("name", ["absent.toml", ".", "nul\0.toml", "a" * 300 + ".toml"])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str):
    with pytest.raises(UserError, match="cannot be read"):
        read_toml(tmp_path / name)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_named(mine: Path):
    mine.write_text("")
    mine.chmod(0)
    assert "cannot be read: Permission denied" in refusal(mine)


def test_the_command_line_says_it_without_a_traceback(mine: Path, capsys: pytest.CaptureFixture[str]):
    from descent.cli import main

    mine.write_text("learing_rate = 1e-3\nbase = 'gpt'\n", encoding="utf-8")
    assert main(["train", str(mine), "--dry-run"]) == 2
    output = capsys.readouterr()
    assert "did you mean 'optimizer.learning_rate'?" in output.err
    assert "Traceback" not in output.err
    assert output.out == ""
