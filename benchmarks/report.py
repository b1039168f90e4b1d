"""What a benchmark prints and writes: tables, JSON, and entries of the ledger."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from descent.runs.environment import processor, version

ROOT = Path(__file__).parents[1]


def number(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be, the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    for line in (head, ["-" * width for width in widths], *rows):
        cells = [cell.rjust(width) for cell, width in zip(line, widths, strict=True)]
        print("  ".join([line[0].ljust(widths[0]), *cells[1:]]).rstrip())
    sys.stdout.flush()


def write_json(file: str | Path | None, content: Mapping[str, Any]) -> None:
    """Writes the content beside what is known of the machine; nothing when no file is given."""
    if file is not None:
        whole = {**content, "machine": machine(), "commit": commit(), "date": today()}
        Path(file).write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def enter(folder: str | Path | None, entries: Sequence[Mapping[str, Any]]) -> None:
    """Writes entries of the ledger, one file each; nothing when no folder is given.

    An entry brings `id`, `what`, `metric`, `value`, `spread`, `unit`, `minutes`, `flops` and `note`; what is
    the same for all of them is added here.
    """
    if folder is None:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for entry in entries:
        whole = {
            "id": entry["id"],
            "what": entry["what"],
            "metric": entry["metric"],
            "value": float(f"{entry['value']:.5g}"),
            "spread": entry["spread"],
            "unit": entry["unit"],
            "published": entry.get("published"),
            "seeds": entry.get("seeds", [1]),
            "minutes": entry["minutes"],
            "flops": entry["flops"],
            "machine": entry.get("machine") or machine()["summary"],
            "commit": entry.get("commit") or commit(),
            "date": today(),
            "command": entry.get("command") or command(),
            "note": entry["note"],
        }
        path = Path(folder) / f"{entry['id']}.json"
        path.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def command() -> str:
    """What was called, with the paths of this machine left out, and where its results went."""
    name = getattr(sys.modules["__main__"].__spec__, "name", None)
    pairs = zip(["", *sys.argv[1:]], sys.argv[1:], strict=False)
    kept = [part for before, part in pairs if not {before, part} & {"--ledger", "--json"}]
    given = [f"{Path(part).name.upper()}_FOLDER" if os.path.isabs(part) else part for part in kept]
    return " ".join(["python", "-m", name or "benchmarks", *given])


def machine() -> dict[str, Any]:
    """The processor, its threads, and the versions of what was measured."""
    threads = torch.get_num_threads()
    versions = {name: version(name) for name in ("torch", "transformers", "timm", "numpy")}
    return {
        "summary": f"{threads} threads of {processor()}, torch {versions['torch']}",
        "processor": processor(),
        "threads": threads,
        "load": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "versions": versions,
    }


def commit() -> str | None:
    """The sources that were measured; "+" for changes that are not in the commit."""

    def git(*arguments: str) -> str:
        called = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(called, capture_output=True, text=True, check=True).stdout.strip()

    try:
        name = git("rev-parse", "--short", "HEAD")
        return name + ("+" if git("status", "--porcelain", "--", "descent", "benchmarks") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def today() -> str:
    return datetime.date.today().isoformat()
