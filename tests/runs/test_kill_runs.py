"""Runs that are killed, or find the disk full, at any system call end, once resumed, with the bits of an
undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tracing import needs_strace

HERE = Path(__file__).parent


def trials(kind: str, fault: str, points: int, folder: Path) -> dict[str, Any]:
    # One thread, because the trials are forks; the caller's data folder plays no part.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "killing.py"), kind, fault, str(points), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@needs_strace
@pytest.mark.parametrize("fault", ["KILL", "ENOSPC"])
@pytest.mark.parametrize("kind", ["lenet", "gpt"])
def test_some_calls(kind: str, fault: str, tmp_path: Path) -> None:
    found = trials(kind, fault, 4, tmp_path)
    assert found["failures"] == []
    assert found["struck"] >= 3


@needs_strace
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["KILL", "ENOSPC", "EIO"])
@pytest.mark.parametrize("kind", ["lenet", "gpt"])
def test_every_system_call_of_a_run(kind: str, fault: str, tmp_path: Path) -> None:
    found = trials(kind, fault, 0, tmp_path)
    print(found)
    assert found["failures"] == []
    assert found["points"] >= 50
    assert found["struck"] >= 0.9 * found["points"]
