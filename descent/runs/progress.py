"""What a person sees while a run trains, all of it on stderr.

On a terminal one live line, elsewhere one plain line every few seconds; evaluations, samples and
notes stay on the screen above it. No thread draws: a line is refreshed when the loop reports.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Protocol, Self, cast, runtime_checkable

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from descent.runs.metrics import sparkline

__all__ = ["Progress", "format_bytes", "format_count", "format_metric", "format_seconds", "printable"]

LIVE_INTERVAL = 0.1
PLAIN_INTERVAL = 5.0
PLAIN_WIDTH = 110
SHARES = frozenset({"accuracy", "top5"})
"""Metrics from 0 to 1 that people read in percent."""

_CONTROL = [*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_UNPRINTABLE = {code: "\N{REPLACEMENT CHARACTER}" for code in _CONTROL if chr(code) not in "\n\t"}
_TABLE_ROWS = 8
_HISTORY = 4096


@runtime_checkable
class Stream(Protocol):
    """What progress needs of a text stream."""

    def write(self, text: str, /) -> int: ...

    def flush(self) -> None: ...

    def isatty(self) -> bool: ...


class Progress:
    """Shows a run's course; use it as a context manager, so that the terminal is left in order.

    Args:
        steps: the step the run ends at.
        unit: what is counted per second ("tokens", "images", "rows").
        quiet: shows nothing at all.
        stream: where to write; standard error unless given.
    """

    def __init__(self, *, steps: int, unit: str, quiet: bool = False, stream: Stream | None = None):
        stream = cast(IO[str], stream or sys.stderr)
        # rich falls back to 80 columns where there is no terminal to ask; a log has more room.
        width = None if stream.isatty() else PLAIN_WIDTH
        self._console = Console(file=stream, quiet=quiet, highlight=False, width=width)
        self._quiet, self._steps, self._unit = quiet, steps, unit
        self._live: Live | None = None
        self._pace: tuple[int, float] | None = None
        self._shown = -PLAIN_INTERVAL
        self._last: Mapping[str, Any] = {}
        self._history: list[float] = []
        self._thin, self._seen = 1, 0
        self._evaluations: list[tuple[int, str, Mapping[str, Any]]] = []

    def begin(self, lines: Sequence[str]) -> None:
        """Prints what is about to run, one fact a line."""
        for line in lines:
            self._print(Text(line))
        if self._console.is_terminal and not self._quiet and not self._console.is_dumb_terminal:
            self._live = Live(
                console=self._console, auto_refresh=False, transient=True, redirect_stdout=False
            )
            self._live.start()

    def step(self, report: Mapping[str, Any]) -> None:
        """Takes note of a step (the values of a metrics "step" line) and shows it when it is time."""
        now = time.monotonic()
        if self._pace is None:
            self._pace = (report["step"], now)
        self._last = report
        self._remember(report.get("loss"))
        if self._quiet or now - self._shown < (LIVE_INTERVAL if self._live else PLAIN_INTERVAL):
            return
        self._shown = now
        if self._live:
            self._live.update(self._live_line(report, now), refresh=True)
        else:
            self._print(Text("  ".join([_step(report["step"], self._steps), *self._facts(report, now)])))

    def evaluation(self, step: int, split: str, metrics: Mapping[str, Any]) -> None:
        """Prints the metrics of a split, all of it scored."""
        self._evaluations.append((step, split, dict(metrics)))
        values = [
            f"{name.replace('_', ' ')} {format_metric(name, value)}" for name, value in _numbers(metrics)
        ]
        self._print(
            Text.assemble(_step(step, self._steps), "  ", (split, "cyan"), "  ", ("  ".join(values), "bold"))
        )

    def sample(self, step: int, text: str) -> None:
        """Prints what the model writes at this step."""
        if self._quiet:
            return
        self._print(Text(f"{_step(step, self._steps)}  sample", style="dim"))
        for line in Text(printable(text.rstrip())).wrap(self._console, self._console.width - 4):
            self._print(Text("    " + line.plain.rstrip()))

    def note(self, text: str) -> None:
        """Prints a line of its own."""
        self._print(Text(text))

    def end(self, lines: Sequence[str] = ()) -> None:
        """Ends the live line; prints the course of the loss, the last evaluations and `lines`."""
        self._stop()
        if len(self._history) > 1:
            first, last = self._history[0], self._history[-1]
            curve = sparkline(self._history, max(10, min(60, self._console.width - 40)))
            if not self._console.encoding.lower().startswith("utf"):
                curve = "->"
            self._print(Text.assemble(f"loss {first:.4g} ", (curve, "green"), f" {last:.4g}"))
        if self._evaluations:
            self._print(_evaluation_table(self._evaluations))
        for line in lines:
            self._print(Text(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _print(self, what: Any) -> None:
        self._console.print(what, soft_wrap=isinstance(what, Text))

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _remember(self, loss: Any) -> None:
        """Keeps a thinned history: every second entry goes whenever it has grown too long."""
        if not isinstance(loss, (int, float)):
            return
        if self._seen % self._thin == 0:
            self._history.append(float(loss))
        self._seen += 1
        if len(self._history) > _HISTORY:
            self._history = self._history[::2]
            self._thin *= 2

    def _facts(self, report: Mapping[str, Any], now: float) -> list[str]:
        facts = [f"loss {_number(report.get('loss'))}"]
        losses = report.get("losses") or {}
        if len(losses) > 1:
            facts += [f"{phase} {_number(value)}" for phase, value in losses.items()]
        if report.get("rate"):
            facts.append(f"{format_count(report['rate'])} {self._unit}/s")
        if report.get("learning_rate") is not None:
            facts.append(f"lr {report['learning_rate']:.2g}")
        if report.get("memory"):
            facts.append(format_bytes(report["memory"]))
        left = self._left(report["step"], now)
        if left is not None:
            facts.append(f"{format_seconds(left)} left")
        return facts

    def _left(self, step: int, now: float) -> float | None:
        if self._pace is None or step <= self._pace[0]:
            return None
        return (now - self._pace[1]) / (step - self._pace[0]) * max(0, self._steps - step)

    def _live_line(self, report: Mapping[str, Any], now: float) -> Table:
        done = min(report["step"], self._steps)
        bar = ProgressBar(total=max(self._steps, 1), completed=done, width=None)
        facts = Text("  ".join(self._facts(report, now)), no_wrap=True, overflow="ellipsis")
        line = Table.grid(padding=(0, 1), expand=True)
        line.add_column(no_wrap=True)
        line.add_column(min_width=8, max_width=30, ratio=1)
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_row(Text(f"{100 * done / max(self._steps, 1):3.0f}%", style="bold"), bar, facts)
        return line


def format_seconds(seconds: float) -> str:
    """A duration in the two units that matter: `42s`, `3m 05s`, `2h 10m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def format_count(value: float) -> str:
    """A number in at most four figures: `950`, `12.3k`, `1.24M`."""
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{letter}" if value < size * 999.5 else f"{value / size:.0f}{letter}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def format_bytes(count: float) -> str:
    """Bytes in powers of 1000: `512 kB`, `1.24 GB`."""
    return f"{count:.0f} B" if count < 1000 else f"{format_count(count)[:-1]} {format_count(count)[-1]}B"


def format_metric(name: str, value: float) -> str:
    """A metric as people read it: shares in percent, the rest in four or five figures."""
    if name in SHARES:
        return f"{100 * value:.2f}%"
    return _number(value)


def printable(text: str) -> str:
    """The text without what a terminal would obey: control and direction-changing characters."""
    return text.translate(_UNPRINTABLE)


def _number(value: Any) -> str:
    if not isinstance(value, (int, float)):
        return "-"
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.4g}"


def _numbers(metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
    return [
        (name, value)
        for name, value in metrics.items()
        if isinstance(value, (int, float)) and name not in ("examples", "seconds")
    ]


def _step(step: int, steps: int) -> str:
    return f"step {step:>{len(f'{steps:,}')},}/{steps:,}"


def _evaluation_table(rows: list[tuple[int, str, Mapping[str, Any]]]) -> Table:
    """The last evaluations, thinned to a screenful that keeps the first and the last."""
    if len(rows) > _TABLE_ROWS:
        rows = [rows[i * (len(rows) - 1) // (_TABLE_ROWS - 1)] for i in range(_TABLE_ROWS)]
    names = list(dict.fromkeys(name for _, _, metrics in rows for name, _ in _numbers(metrics)))
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("step", justify="right")
    table.add_column("split")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for step, split, metrics in rows:
        values = dict(_numbers(metrics))
        table.add_row(
            f"{step:,}", split, *(format_metric(n, values[n]) if n in values else "" for n in names)
        )
    return table
