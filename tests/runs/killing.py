"""Kills real runs, or fills their disk, at chosen system calls, resumes them, compares hashes; prints JSON.

    python tests/runs/killing.py lenet|gpt KILL|ENOSPC POINTS FOLDER      (POINTS 0 = every call)

Every trial is a fork of this process, so torch is imported once. The child stops itself, `strace` is
attached and told at which call to kill it, and the child goes on. Fewest threads: a fork keeps none.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from descent.errors import UserError
from descent.recipes import resolve
from descent.runs.assemble import assemble
from descent.runs.run import Run
from descent.runs.train import resume, train
from descent.training import checkpoint
from descent.training.state import state_hash

# A call that only opens a file changes nothing; what is written into a new file comes through `write`.
SAVE_CALLS = ("mkdir", "write", "fsync", "rename", "unlink", "unlinkat", "rmdir", "ftruncate")
# What a full disk can refuse.
FILLING = ("mkdir", "write", "fsync", "rename")
REFUSED = 10
STEPS = 6
COMMON = [f"budget.steps={STEPS}", "checkpoints.every=2", "checkpoints.keep=2", "evaluation.every=2"]
RECIPES = {
    "lenet": ["lenet-digits", "budget.batch_size=16", "average=0.9"],
    "gpt": [
        "gpt-names", "tokenizer.kind=byte", "data.document=line", "model.depth=1", "model.dim=16",
        "model.heads=2", "model.context=16", "model.bigram=false", "model.dropout=0.1",
        "budget.batch_size=8", "budget.accumulate=2", "samples.every=0", "precision=bf16",
    ],
}  # fmt: skip


def main(kind: str, fault: str, points: int, folder: Path) -> dict[str, object]:
    torch.set_num_threads(1)
    recipe_name, *changes = RECIPES[kind]
    changes += COMMON
    if kind == "gpt":
        text = folder / "names.txt"
        text.write_text("\n".join(f"{a}{b}an" for a in "abcdefghij" for b in "klmnopqrst"), encoding="utf-8")
        changes.append(f"data.path={text}")
    recipe = resolve(recipe_name, changes)

    def start(out: Path) -> Callable[[], object]:
        return lambda: train(recipe, out=out, quiet=True)

    def go_on(out: Path) -> Callable[[], object]:
        return lambda: resume(out, quiet=True)

    whole = folder / "whole"
    counts = counted(start(whole), folder)
    expected = final_hash(whole)
    calls, strike = (SAVE_CALLS, "signal=KILL") if fault == "KILL" else (FILLING, f"error={fault}")
    every = [(call, n) for call in calls for n in range(1, counts.get(call, 0) + 1)]
    random.seed(0)
    chosen = every if not points or len(every) <= points else random.sample(every, points)
    failures, struck = [], 0
    for number, (call, n) in enumerate(chosen):
        out = folder / f"trial-{number}"
        ended = traced(start(out), f"inject={call}:{strike}:when={n}")
        struck += ended in (-signal.SIGKILL, REFUSED)
        status = in_fork(go_on(out) if (out / "recipe.toml").exists() else start(out))
        found = final_hash(out) if status == 0 else f"exit {status}"
        # A full disk is a clear message or no matter (a call that may fail), never a traceback.
        if found != expected or (fault != "KILL" and ended not in (0, REFUSED)):
            failures.append({"call": call, "n": n, "ended": ended, "found": found})
        shutil.rmtree(out, ignore_errors=True)
    return {"calls": counts, "points": len(chosen), "struck": struck, "failures": failures, "hash": expected}


def final_hash(folder: Path) -> str:
    """Hash of weights, averages, optimizer and step of the newest checkpoint."""
    run = Run(folder)
    parts = assemble(run.recipe, tokenizer=run.tokenizer)
    found = checkpoint.newest(folder / "checkpoints").path
    if found is None:
        return "no checkpoint"
    checkpoint.load(found, parts.state)
    return f"{parts.state.step} {state_hash(parts.state)}"


def in_fork(work: Callable[[], object], stopped: bool = False) -> int:
    """Exit status of `work` in a child: 0, or minus the signal that ended it."""
    child = fork(work, stopped)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork(work: Callable[[], object], stopped: bool) -> int:
    child = os.fork()
    if child:
        return child
    try:
        if stopped:
            os.kill(os.getpid(), signal.SIGSTOP)
        work()
        os._exit(0)
    except UserError as error:
        print(error, file=sys.stderr)
        os._exit(REFUSED)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        os._exit(1)


def traced(work: Callable[[], object], option: str, log: str = "/dev/null") -> int:
    """Runs `work` in a child under strace with one more option; returns its exit status."""
    child = fork(work, stopped=True)
    os.waitpid(child, os.WUNTRACED)
    calls = ",".join(SAVE_CALLS)
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", log, "-e", f"trace={calls}", "-e", option, "-p", str(child)],
        stderr=subprocess.DEVNULL,
    )
    status = Path(f"/proc/{child}/status")
    while tracer.poll() is None and not re.search(r"TracerPid:\s+[1-9]", status.read_text()):
        time.sleep(0.002)
    os.kill(child, signal.SIGCONT)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    tracer.wait()
    return code


def counted(work: Callable[[], object], folder: Path) -> dict[str, int]:
    """How often each call is made by the main thread in an undisturbed run."""
    log = str(folder / "calls.txt")
    if traced(work, "signal=none", log) != 0:
        raise SystemExit("the undisturbed run failed")
    lines = Path(log).read_text(errors="replace").splitlines()
    os.unlink(log)
    threads = [line.split(None, 1) for line in lines]
    first = threads[0][0]
    names = [rest.split("(", 1)[0] for thread, rest in threads if thread == first]
    return {call: names.count(call) for call in SAVE_CALLS}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))))
