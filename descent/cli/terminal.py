"""What all commands print with: data on stdout, everything else on stderr."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from descent.errors import UserError
from descent.runs.metrics import finite
from descent.runs.progress import printable

__all__ = ["fail", "note", "prepare_streams", "print_json", "print_pairs", "print_table", "print_text"]

# Where nobody looks at the table its lines are not broken to fit a screen.
PIPE_WIDTH = 500


def prepare_streams() -> None:
    """UTF-8 into pipes and files; an escape, not a crash, where a terminal cannot show a character."""
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper):
            continue
        if stream.isatty() or "PYTHONIOENCODING" in os.environ:
            stream.reconfigure(errors="backslashreplace")
        else:
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def print_text(text: str, *, end: str = "\n") -> None:
    """Writes text to stdout as it is, and at once; control characters never reach a terminal."""
    sys.stdout.write((printable(text) if sys.stdout.isatty() else text) + end)
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """One JSON value on stdout, indented, Chinese as Chinese; NaN and infinity as null."""
    print_text(json.dumps(finite(value), ensure_ascii=False, indent=2, default=str, allow_nan=False))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, numbers: Sequence[str] = (), keep: str = ""
) -> None:
    """A table on stdout without lines.

    Args:
        columns: the headings.
        rows: cells; None is empty.
        numbers: the columns set flush right.
        keep: the column that is never broken to make room for others.
    """
    console = _stdout()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        right = column in numbers
        table.add_column(
            Text(column),
            justify="right" if right else "left",
            no_wrap=right or column == keep,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text("" if cell is None else printable(str(cell))) for cell in row))
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def print_pairs(pairs: Iterable[tuple[str, object]]) -> None:
    """Facts on stdout, one a line: a name and its value."""
    pairs = list(pairs)
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print_text(f"{name:<{width}}  {value}".rstrip())


def note(text: str) -> None:
    """A line on stderr."""
    _stderr().print(Text(printable(text)), soft_wrap=True)


def fail(error: UserError) -> int:
    """Prints an error once, on stderr, and gives its exit code."""
    first, *rest = printable(str(error)).split("\n")
    lines = Text.assemble(("error: ", "bold red"), first)
    for line in rest:
        lines.append(f"\n{line}", style="")
    _stderr().print(lines, soft_wrap=True)
    return error.exit_code


def _stdout() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def _stderr() -> Console:
    return Console(stderr=True, highlight=False)
