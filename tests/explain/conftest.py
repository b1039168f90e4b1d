"""Runs to explain, trained in a moment on the embedded digits, and the command as a test calls it."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)


def _trained(folder, *arguments):
    from descent.cli import main

    assert main(["train", *arguments, "--quiet", "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="session")
def lenet_run(tmp_path_factory):
    return _trained(tmp_path_factory.mktemp("lenet") / "run", "lenet-digits", "budget.steps=30")


@pytest.fixture(scope="session")
def mlp_run(tmp_path_factory):
    return _trained(tmp_path_factory.mktemp("mlp") / "run", "mlp-digits", "budget.steps=10")


@pytest.fixture
def pictures(tmp_path):
    """Three digits as files."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, image in enumerate(load_digits().images[:3]):
        Image.fromarray((image * 255 / 16).astype(np.uint8)).save(folder / f"digit{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Runs `descent explain` in this process, in an empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, code=0):
        from descent.cli import main

        capsys.readouterr()
        result = Result(main(["explain", *map(str, arguments)]), *capsys.readouterr())
        assert result.code == code, (arguments, result)
        return result

    return call
