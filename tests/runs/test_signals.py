"""Signals and locks between processes: one asks, two insist, and the kernel cleans up after the dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from run_tools import final_hash, tiny

from descent.errors import LockedRun
from descent.runs.lock import RunLock, is_locked
from descent.runs.run import Run
from descent.runs.train import resume, train
from descent.training import checkpoint

HERE = Path(__file__).parent

# The first signal arrives after step 5, the second where the run was about to save because of the first.
TWICE = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from run_tools import tiny
from descent.runs.course import Course
from descent.runs.train import train

number = int(sys.argv[3])
own_step, own_save = Course.after_step, Course.save

def after_step(course, report):
    if report.step == 5:
        os.kill(os.getpid(), number)
    return own_step(course, report)

def save(course):
    if course.interrupt.number is not None:
        os.kill(os.getpid(), number)
    own_save(course)

Course.after_step, Course.save = after_step, save
folder = Path(sys.argv[2])
train(tiny("mlp", folder), out=folder / "parts", quiet=True)
print("went on")
"""

HOLDING = """
import sys, time
from pathlib import Path
from descent.runs.lock import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    paths = [str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_at_once_and_the_old_checkpoint_holds(
    tmp_path: Path, number: int, code: int
) -> None:
    child = python(TWICE, str(HERE), str(tmp_path), str(int(number)))
    out, error = child.communicate(timeout=120)
    assert (child.returncode, out) == (code, ""), error
    run = Run(tmp_path / "parts")
    assert run.step == 4
    checkpoint.verify(run.checkpoint("last"))
    assert not is_locked(run.folder)
    whole = train(tiny("mlp", tmp_path), out=tmp_path / "whole", quiet=True)
    assert final_hash(resume(run.folder, quiet=True)) == final_hash(whole)


def test_killing_the_holder_frees_the_lock(tmp_path: Path) -> None:
    child = python(HOLDING, str(tmp_path))
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        with pytest.raises(LockedRun, match=f"process {child.pid} on ") as caught, RunLock(tmp_path):
            pass
        assert caught.value.exit_code == 4
        assert is_locked(tmp_path)
    finally:
        child.kill()
        child.communicate()
    assert not is_locked(tmp_path)
    with RunLock(tmp_path):
        assert (tmp_path / "lock").read_text(encoding="utf-8").startswith(f"process {os.getpid()} on ")
