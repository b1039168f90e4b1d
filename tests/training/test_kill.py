"""A save that is killed or refused at any system call loses nothing (see `kill_points.py`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracing import needs_strace, strace_works

HERE = Path(__file__).parent


def struck(folder: Path, *arguments: str) -> dict[str, int]:
    paths = os.pathsep.join([str(HERE), str(HERE.parents[1])])
    done = subprocess.run(
        [sys.executable, str(HERE / "kill_points.py"), str(folder), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["failures"] == [], done.stderr
    return result


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: hundreds of real syncs would take a minute."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    path = Path(tempfile.mkdtemp(dir=memory))
    yield path
    shutil.rmtree(path)


@needs_strace
def test_killed_at_every_system_call_of_a_save(folder: Path):
    result = struck(folder, "kill")
    assert result["struck"] == result["points"] > 100


@needs_strace
@pytest.mark.parametrize("fault", ["ENOSPC", pytest.param("EIO", marks=pytest.mark.slow)])
def test_refused_at_every_system_call_that_can_be(folder: Path, fault: str):
    result = struck(folder, fault)
    assert result["struck"] > 40


@pytest.mark.skipif(strace_works(), reason="strace strikes at more places")
def test_killed_at_every_call_python_makes(folder: Path):
    result = struck(folder, "kill", "fallback")
    assert result["struck"] > 20
