"""Systems measured in turn, each in a process of its own.

    round 1:  A  B  C      every system works once a round, the others wait;
    round 2:  B  C  A      who begins moves on by one, so that no one always comes after the same system

A machine is never equally fast for long: other programs, clocks and temperature change it. Two systems
are therefore compared within a round, and the ratio is given with the spread over the rounds. Each has
its own process because one of them tunes what belongs to the whole process (how memory is allocated),
which must not help, or hurt, the others.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

Work = Callable[[], float | None]
"""One round of a system's work. It may return a number to be kept beside the seconds (a loss, a checksum)."""


@dataclass(frozen=True)
class System:
    """What competes.

    Attributes:
        name: as printed.
        prepare: a function of a module, called in the system's own process; returns the work of a round.
        options: its keyword arguments.
        warmup: rounds that are not counted.
    """

    name: str
    prepare: Callable[..., Work]
    options: Mapping[str, Any]
    warmup: int = 1


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of repeated measurements."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def table(self) -> dict[str, float]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Result:
    """What the rounds gave: for each system its seconds, and the numbers its work returned, by round."""

    seconds: dict[str, list[float]]
    values: dict[str, list[float | None]]

    def rate(self, name: str, amount: float) -> Spread:
        """`amount` per second, where `amount` is what one round does."""
        return Spread.of([amount / seconds for seconds in self.seconds[name]])

    def ratio(self, faster: str, slower: str) -> Spread:
        """How many times as fast `faster` is as `slower`, round by round."""
        pairs = zip(self.seconds[faster], self.seconds[slower], strict=True)
        return Spread.of([theirs / ours for ours, theirs in pairs])

    def best(self, names: Sequence[str]) -> str:
        """The fastest of some systems, by the median."""
        return min(names, key=lambda name: statistics.median(self.seconds[name]))


class Worker:
    """A system in its process, idle until it is asked to work."""

    def __init__(self, system: System):
        context = multiprocessing.get_context("spawn")
        self.system = system
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, system), daemon=True)
        self._process.start()
        theirs.close()

    def work(self) -> tuple[float, float | None]:
        """Seconds of one round, and what the work returned.

        Raises:
            RuntimeError: the system failed; the message holds its traceback.
        """
        with contextlib.suppress(BrokenPipeError):  # the process has failed; why is read below
            self._pipe.send("work")
        return self.answer()

    def answer(self) -> Any:
        """What the process sends next."""
        try:
            kind, content = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"{self.system.name}: the process ended") from None
        if kind == "failed":
            raise RuntimeError(f"{self.system.name} failed:\n{content}")
        return content

    def close(self) -> None:
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()


def contest(systems: Sequence[System], rounds: int, note: Callable[[str], None] | None = None) -> Result:
    """Lets the systems work in turn.

    Args:
        systems: with names that differ.
        rounds: how often each works.
        note: told about progress; by default lines on stderr.
    """
    note = note or (lambda line: print(line, file=sys.stderr, flush=True))
    workers: list[Worker] = []
    result = Result({system.name: [] for system in systems}, {system.name: [] for system in systems})
    try:
        for system in systems:
            note(f"prepare {system.name}")
            workers.append(Worker(system))
            workers[-1].answer()
        for number in range(rounds):
            first = number % len(workers)
            for worker in workers[first:] + workers[:first]:
                seconds, value = worker.work()
                result.seconds[worker.system.name].append(seconds)
                result.values[worker.system.name].append(value)
            times = ", ".join(f"{name} {seconds[-1]:.3f} s" for name, seconds in result.seconds.items())
            note(f"round {number + 1} of {rounds}: {times}")
    finally:
        for worker in workers:
            worker.close()
    return result


def _serve(pipe: Connection, system: System) -> None:
    """The life of a worker's process: prepare, warm up, then a round for every message."""
    try:
        work = system.prepare(**system.options)
        for _ in range(system.warmup):
            work()
        gc.collect()
        pipe.send(("ready", None))
        while True:
            pipe.recv()
            start = time.perf_counter()
            value = work()
            pipe.send(("done", (time.perf_counter() - start, value)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        return
    except Exception:  # whatever a peer raises is told to the parent, which ends the contest
        pipe.send(("failed", traceback.format_exc()))
