"""Runs killed by SIGKILL at any system call end, once resumed, with the bits of an undisturbed run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace kills at system calls")


def trials(kind: str, points: int, folder: Path) -> dict[str, Any]:
    # One thread, because the trials are forks; the caller's data folder plays no part.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "killing.py"), kind, str(points), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_strace
@pytest.mark.parametrize("kind", ["lenet", "gpt"])
def test_some_kills(kind: str, tmp_path: Path) -> None:
    found = trials(kind, 4, tmp_path)
    assert found["failures"] == []
    assert found["killed"] >= 3


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lenet", "gpt"])
def test_every_system_call_of_a_save(kind: str, tmp_path: Path) -> None:
    found = trials(kind, 0, tmp_path)
    assert found["failures"] == []
    assert found["points"] >= 50
    assert found["killed"] >= 0.9 * found["points"]
