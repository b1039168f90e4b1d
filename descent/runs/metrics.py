"""A run's metrics: `metrics.jsonl`, one JSON object a line, only ever appended to.

A process may be killed in the middle of a line, and a resumed run passes steps it has passed before.
So a torn last line counts as unwritten, and when the log is read as a series the run's last word on
a step is the one that holds.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from descent.errors import CorruptArtifact

__all__ = [
    "HIGHER_IS_BETTER",
    "MetricsLog",
    "finite",
    "higher_is_better",
    "read_metrics",
    "series",
    "sparkline",
]

MAX_LINE = 16 * 2**20
HIGHER_IS_BETTER = frozenset(
    {"accuracy", "top5", "r2", "sequence_accuracy", "exact_match", "token_accuracy", "bleu"}
    | {"precision", "recall", "f1", "surface_f1", "ndcg10", "map", "mean"}
)
"""The metrics of which more is better; of all others less is."""


def higher_is_better(metric: str) -> bool:
    """Whether more of it is better; the metric of a task has the task's name before it."""
    return any(metric == known or metric.endswith(f"_{known}") for known in HIGHER_IS_BETTER)


_BARS = "▁▂▃▄▅▆▇█"


class MetricsLog:
    """The writing end of a metrics file.

    Every line reaches the operating system in one write, so killing the process tears at most the
    last one, and opening the file again removes such a torn end.

    Args:
        path: the file; made when it does not exist.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 (closed with the log)
        _mend(self.path)

    def append(self, event: str, step: int, **values: Any) -> None:
        """Adds one line. NaN and infinity, which JSON does not have, are written as null."""
        line = json.dumps(
            finite({"event": event, "step": step, **values}), ensure_ascii=False, allow_nan=False
        )
        left = memoryview(line.encode("utf-8", "backslashreplace") + b"\n")
        while left:  # a disk that is almost full takes a part of it, and refuses the next
            left = left[self._file.write(left) or 0 :]

    def sync(self) -> None:
        """Waits until all lines are on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """All lines of a metrics file in the order they were written; none when there is no file.

    Raises:
        CorruptArtifact: a line other than the last is no JSON object.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        value = _parse(line)
        if value is not None:
            found.append(value)
        elif number < len(lines):
            raise CorruptArtifact(
                f"{path}, line {number}: not a metrics line",
                got=line[:80].decode("utf-8", "replace"),
                expected='one JSON object with an "event" and a "step"',
                hint="delete that line to go on without it",
            )
    return found


def series(
    lines: Iterable[Mapping[str, Any]], event: str, key: str, split: str | None = None
) -> tuple[list[int], list[float]]:
    """One value over the steps of a run.

    Args:
        lines: what `read_metrics` gave.
        event: "step" or "evaluation".
        key: the name of the value; a dot looks inside ("losses.generator").
        split: of evaluations, the split that was evaluated.

    Returns:
        Steps in rising order and the finite values at them. Where a step stands more than once the
        last line counts, and what lies beyond the step a run was resumed from is forgotten.
    """
    found: dict[int, float] = {}
    for line in lines:
        step = line["step"]
        if line["event"] in ("resume", "fork"):
            found = {known: value for known, value in found.items() if known <= step}
        if line["event"] != event or (split is not None and line.get("split") != split):
            continue
        value: Any = line
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            found[step] = float(value)
        else:
            found.pop(step, None)
    steps = sorted(found)
    return steps, [found[step] for step in steps]


def sparkline(values: Sequence[float], width: int = 40) -> str:
    """A curve of at most `width` bar characters, each the mean of its share of the values."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or width < 1:
        return ""
    columns = min(width, len(finite))
    edges = [len(finite) * column // columns for column in range(columns + 1)]
    means = [sum(finite[start:stop]) / (stop - start) for start, stop in pairwise(edges)]
    low, high = min(means), max(means)
    if high == low:
        return _BARS[0] * columns
    return "".join(_BARS[round((mean - low) / (high - low) * (len(_BARS) - 1))] for mean in means)


def finite(value: Any) -> Any:
    """The value as JSON can hold it: null for NaN and infinity, plain numbers for those of arrays."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(inner) for inner in value]
    if hasattr(value, "item") and not isinstance(value, (int, str)):
        return finite(value.item())  # a number of numpy or torch
    return value


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(value, dict) and isinstance(value.get("event"), str) and type(value.get("step")) is int
    return value if whole else None


def _mend(path: Path) -> None:
    """Completes a last line that lacks only its newline, and cuts off one that is torn."""
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - MAX_LINE))
        end = file.read()
        tail = end[end.rfind(b"\n") + 1 :]
        if not tail:
            return
        if _parse(tail) is not None:
            file.write(b"\n")
        else:
            file.truncate(size - len(tail))
