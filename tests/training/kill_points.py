"""Saves a checkpoint again and again, each time killed, or refused, at another system call.

    python kill_points.py FOLDER kill|ENOSPC|EIO [fallback]

A child process is forked for every attempt, so that torch is loaded once. strace waits at the child
and strikes at the n-th call of one kind; which calls a save makes is listed by a first, unharmed
attempt. After every attempt the folder is read by a state that knows nothing of it: the newest whole
checkpoint must hold the old state or the new one, bit for bit, and training on from it must end where
a run that was never disturbed ends. Prints one JSON object: points, struck, failures.

With `fallback` (no strace here) the child strikes itself in Python's own calls of the system.
"""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from training_toys import Regression, mlp, regression_batch

from descent.errors import UserError
from descent.training.average import EMA
from descent.training.checkpoint import Best, load, mark_best, newest, prune, save
from descent.training.loop import Settings, train
from descent.training.optimizers import MuonConfig, build_optimizers
from descent.training.state import State, state_hash

OLD, NEW, END = 3, 5, 7
# Calls of a save that can fail for want of space or a bad disk.
FAILING = ("openat", "open", "write", "fsync", "rename", "renameat", "renameat2", "mkdir", "mkdirat", "read")
SAVED, REFUSED, WRONG = 0, 10, 11


def fresh() -> State:
    model = mlp()
    return State(model, {"train": build_optimizers(MuonConfig(), model)}, EMA(model, 0.9))


def trained(state: State, steps: int) -> State:
    train(state, Regression(), regression_batch, settings=Settings(steps=steps))
    return state


def attempt(folder: Path, state: State, ready: Callable[[], object]) -> None:
    """In the child: everything a run does when it saves. Never returns."""
    code = WRONG
    try:
        ready()
        save(folder, state)
        mark_best(folder, Best(NEW, "loss", 0.5))
        prune(folder, keep=1)
        code = SAVED
    except UserError as error:
        code = REFUSED if "cannot be" in error.what else WRONG
    except OSError:
        traceback.print_exc()
    finally:
        os._exit(code)


def traced(folder: Path, state: State, options: list[str]) -> int:
    """One attempt under strace; the exit code, negative for a signal."""
    waiting, go = os.pipe()
    child = os.fork()
    if not child:
        attempt(folder, state, lambda: select.select([waiting], [], []))
    command = ["strace", "-p", str(child), *options]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    line = tracer.stderr.readline()  # "Process ... attached"
    os.write(go, b"!")
    _, status = os.waitpid(child, 0)
    tracer.communicate()
    os.close(waiting)
    os.close(go)
    if "attached" not in line:
        raise SystemExit(f"strace cannot trace here: {line}")
    return os.waitstatus_to_exitcode(status)


def calls_of_a_save(folder: Path, state: State, log: Path) -> dict[str, int]:
    """How often an unharmed save makes each system call."""
    assert traced(folder, state, ["-o", str(log)]) == SAVED
    names = re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE)
    waiting = {"select", "pselect6", "restart_syscall", "exit_group"}
    return {name: count for name, count in Counter(names).items() if name not in waiting}


def struck_in_python(folder: Path, state: State, number: int) -> int:
    """One attempt killed at the n-th of Python's calls that change something; 0 once there is none."""
    child = os.fork()
    if not child:
        left = [number]

        def strike(*_: object) -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        def arm() -> None:
            synced = os.fsync
            os.fsync = lambda descriptor: (strike(), synced(descriptor))[1]
            told = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.listdir", "os.scandir"}
            sys.addaudithook(lambda event, _: strike() if event in told else None)

        attempt(folder, state, arm)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Judge:
    """Knows the true states, and what may be found in a folder after an attempt."""

    def __init__(self, folder: Path):
        self.template, self.folder = folder / "template", folder / "checkpoints"
        self.old = trained(fresh(), OLD)
        save(self.template, self.old)
        self.true = {OLD: state_hash(self.old)}
        self.new = trained(fresh(), NEW)
        self.true[NEW] = state_hash(self.new)
        self.true[END] = state_hash(trained(fresh(), END))
        self.failures: list[str] = []

    def prepare(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)

    def look(self, where: str, saved: bool) -> None:
        found = newest(self.folder).path
        state = fresh()
        if found is None:
            self.failures.append(f"{where}: no checkpoint is left")
            return
        load(found, state)
        if state_hash(state) != self.true[state.step]:
            self.failures.append(f"{where}: the state of step {state.step} is another")
        if saved and state.step != NEW:
            self.failures.append(f"{where}: said to be saved, but the newest is of step {state.step}")
        if state_hash(trained(state, END)) != self.true[END]:
            self.failures.append(f"{where}: resumed from {found.name}, the run ends elsewhere")
        save(self.folder, state)
        prune(self.folder, keep=1)
        left = {entry.name for entry in self.folder.iterdir()} - {"best.json"}
        if not {"step-000007"} <= left <= {"step-000005", "step-000007"}:
            self.failures.append(f"{where}: left behind {sorted(left)}")


def under_strace(judge: Judge, folder: Path, fault: str) -> tuple[int, int]:
    judge.prepare()
    counts = calls_of_a_save(judge.folder, judge.new, folder / "calls")
    points = struck = 0
    for name, count in counts.items():
        if fault != "kill" and name not in FAILING:
            continue
        for number in range(1, count + 1):
            how = "signal=KILL" if fault == "kill" else f"error={fault}"
            judge.prepare()
            code = traced(
                judge.folder, judge.new, ["-e", f"trace={name}", "-e", f"inject={name}:{how}:when={number}"]
            )
            where = f"{fault} at {name} {number} of {count}"
            points += 1
            struck += code != SAVED
            if code not in ({-signal.SIGKILL} if fault == "kill" else {SAVED, REFUSED}):
                judge.failures.append(f"{where}: the process ended with {code}")
            judge.look(where, saved=code == SAVED)
    return points, struck


def in_python(judge: Judge) -> tuple[int, int]:
    struck = 0
    while True:
        judge.prepare()
        code = struck_in_python(judge.folder, judge.new, struck + 1)
        judge.look(f"call {struck + 1}", saved=code == SAVED)
        if code == SAVED:
            return struck + 1, struck
        struck += 1


def main(folder: Path, fault: str, fallback: bool) -> None:
    torch.set_num_threads(1)
    judge = Judge(folder)
    points, struck = in_python(judge) if fallback else under_strace(judge, folder, fault)
    print(json.dumps({"points": points, "struck": struck, "failures": judge.failures}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], "fallback" in sys.argv[3:])
