"""How `descent predict` prints: each input as soon as it is predicted, as a line or in one JSON list."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.cells import cell_len

from descent.cli.findings import answer_line
from descent.cli.terminal import print_text
from descent.runs.figure import percent
from descent.runs.metrics import finite

__all__ = ["print_predictions"]

NUMBER, TIME = 12, 19
"""Widths of a forecast's columns."""
SHOWN = 3
"""The classes of a line, unless told."""
WIDEST = 60
"""A name longer than this pushes what follows it to the right, on its own line alone."""


def print_predictions(
    results: Iterable[dict[str, Any]],
    names: Sequence[str],
    labels: Sequence[str],
    top: int | None = None,
    as_json: bool = False,
) -> int:
    """Prints predictions one by one, so that thousands take no memory; gives their number.

    Args:
        results: `input` and what `Loaded.predict` says of it.
        names: of all inputs that may come, for the width of their column.
        labels: of all classes, likewise.
        top: how many of the most probable classes; a line shows 3 and JSON all of them unless told.
        as_json: one JSON list, the same as if it were printed at once.
    """
    widths = _width("input", names), _width("class", labels)
    count = 0
    for count, result in enumerate(results, start=1):
        if as_json:
            item = json.dumps(finite(_cut(result, top)), ensure_ascii=False, indent=2, allow_nan=False)
            print_text(("[\n  " if count == 1 else ",\n  ") + item.replace("\n", "\n  "), end="")
            continue
        if count == 1:
            print_text(_heading(result, widths))
        print_text(_line(result, widths, top or SHOWN))
    if as_json and count:
        print_text("\n]")
    return count


def _heading(result: dict[str, Any], widths: tuple[int, int]) -> str:
    if "forecast" in result:
        names = [name for name in result["forecast"][0] if name not in ("time", "quantiles")]
        return "  ".join([_filled("time", TIME), *(name.rjust(NUMBER) for name in names)])
    if "entities" in result:
        return f"{_filled('input', widths[0])}  names"
    if "answer" in result or "ranked" in result:
        return f"{_filled('input', widths[0])}  {'answer' if 'answer' in result else 'best documents'}"
    if "text" in result:
        return f"{_filled('input', widths[0])}  heard"
    if "label" not in result:
        return f"{_filled('input', widths[0])}  value"
    return f"{_filled('input', widths[0])}  {_filled('class', widths[1])}  probability  then"


def _line(result: dict[str, Any], widths: tuple[int, int], top: int) -> str:
    if "forecast" in result:
        return "\n".join(map(_step, result["forecast"]))
    name = _filled(result["input"], widths[0])
    if "entities" in result:
        return f"{name}  {', '.join(_one_name(one) for one in result['entities'])}".rstrip()
    if "text" in result:
        return f"{name}  {result['text']}"
    if "answer" in result or "ranked" in result:
        return f"{name}  {answer_line(result, top)}".rstrip()
    if "label" not in result:
        return f"{name}  {_value(result['value'])}"
    others = ", ".join(f"{label} {percent(share)}" for label, share in _ranked(result)[1:top])
    share = percent(result["probability"])
    return f"{name}  {_filled(result['label'], widths[1])}  {share:>11}  {others}".rstrip()


def _one_name(entity: dict[str, Any]) -> str:
    return f"{entity['text']} ({entity['type']})"


def _step(row: dict[str, Any]) -> str:
    """One step of a forecast: its time, and each column's value."""
    values = [f"{value:.6g}".rjust(NUMBER) for key, value in row.items() if key not in ("time", "quantiles")]
    return "  ".join([_filled(row["time"], TIME), *values])


def _cut(result: dict[str, Any], top: int | None) -> dict[str, Any]:
    if top is not None and "ranked" in result:
        return {**result, "ranked": result["ranked"][:top]}
    if top is None or "probabilities" not in result:
        return result
    return {**result, "probabilities": dict(_ranked(result)[:top])}


def _ranked(result: dict[str, Any]) -> list[tuple[str, float]]:
    """Classes and their probabilities, the most probable first."""
    return sorted(result["probabilities"].items(), key=lambda item: -item[1])


def _value(value: Any) -> str:
    return ", ".join(f"{v:.6g}" for v in value) if isinstance(value, list) else f"{value:.6g}"


def _width(heading: str, texts: Sequence[str]) -> int:
    return max([cell_len(heading), *(min(cell_len(text), WIDEST) for text in texts)])


def _filled(text: str, width: int) -> str:
    """The text with blanks after it, in the cells of a terminal, where a Chinese sign takes two."""
    return text + " " * (width - cell_len(text))
