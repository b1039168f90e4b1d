"""`descent runs list|show|compare|remove`: the folders of runs, read without loading any model."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from descent.cli.places import find_run, runs_below
from descent.cli.terminal import note, print_json, print_pairs, print_table, print_text
from descent.config import flat, read_toml
from descent.errors import CorruptArtifact, LockedRun, UserError
from descent.runs.layout import METRICS_FILE, RECIPE_FILE, check_removable
from descent.runs.metrics import higher_is_better, read_metrics, series, sparkline
from descent.runs.progress import format_bytes, format_metric, format_seconds, printable

ABSENT = "-"

app = typer.Typer(no_args_is_help=True, help="List, show, compare and remove runs.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, or a folder of runs: its newest.")
]


def add_to(parent: typer.Typer) -> None:
    parent.add_typer(app, name="runs", rich_help_panel="Look")


@app.command("list")
def list_runs(
    root: Annotated[Path, typer.Option(help="Where to look.")] = Path("runs"), as_json: Json = False
) -> None:
    """List the runs there are, the latest last."""
    rows = [_summary(folder) for folder in runs_below(root)]
    rows.sort(key=lambda row: row["changed"])
    if as_json:
        print_json(rows)
        return
    if not rows:
        note(f"no runs in {root}; `descent train gpt` makes one")
        return
    print_table(
        ["run", "recipe", "step", "state", "metric", "best", "time", "size"],
        [_row(row) for row in rows],
        numbers=["step", "best", "time", "size"],
        keep="run",
    )


@app.command("show")
def show_run(run: RunArgument, as_json: Json = False) -> None:
    """Show one run: its course, its results, what is on disk."""
    folder = find_run(run)
    summary = _summary(folder)
    lines = read_metrics(folder / METRICS_FILE)
    if as_json:
        print_json({**summary, "recipe_table": _recipe(folder), "final": _final(lines)})
        return
    _, losses = series(lines, "step", "loss")
    pairs: list[tuple[str, object]] = [
        ("run", summary["run"]),
        ("recipe", summary["recipe"]),
        ("state", f"{summary['state']}, step {summary['step']:,} of {summary['steps'] or ABSENT}"),
        ("time", format_seconds(summary["seconds"])),
        ("loss", f"{losses[0]:.4g} {sparkline(losses)} {losses[-1]:.4g}" if losses else ABSENT),
        *(
            (f"{split} {name}", format_metric(name, value))
            for (split, name), value in _final(lines, True).items()
        ),
        ("checkpoints", ", ".join(summary["checkpoints"]) or ABSENT),
        ("size", format_bytes(summary["bytes"])),
    ]
    print_pairs(pairs)
    samples = [line["text"] for line in lines if line["event"] == "sample" and line.get("text")]
    if samples:
        print_text(f"\nlast sample\n{samples[-1]}")


@app.command("compare")
def compare_runs(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="Two runs or more.")],
    as_json: Json = False,
) -> None:
    """Set runs side by side: the options that differ, and the final metrics."""
    folders = [find_run(run) for run in runs]
    if len(folders) < 2:
        raise UserError("name at least two runs to compare", got=runs)
    recipes = [flat(_recipe(folder)) for folder in folders]
    finals = [_final(read_metrics(folder / METRICS_FILE), True) for folder in folders]
    keys = [
        key
        for key in dict.fromkeys(key for recipe in recipes for key in recipe)
        if not key.startswith("claim.")
    ]
    differing = {key: [recipe.get(key) for recipe in recipes] for key in keys}
    differing = {key: values for key, values in differing.items() if any(v != values[0] for v in values)}
    metrics = {
        name: [final.get(name) for final in finals] for name in dict.fromkeys(n for f in finals for n in f)
    }
    if as_json:
        named = {" ".join(name): values for name, values in metrics.items()}
        print_json({"runs": [str(folder) for folder in folders], "options": differing, "metrics": named})
        return
    rows: list[Sequence[object]] = [
        [key, *(ABSENT if value is None else value for value in values)] for key, values in differing.items()
    ]
    rows += [
        [" ".join(name), *(ABSENT if v is None else format_metric(name[1], v) for v in values)]
        for name, values in metrics.items()
    ]
    print_table(["", *map(str, folders)], rows)


@app.command("remove")
def remove_runs(
    runs: Annotated[list[str], typer.Argument(metavar="RUN", help="The folders of the runs.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs from the disk, after asking."""
    folders = [Path(run) for run in runs]
    for folder in folders:
        _check_removable(folder)
    if not yes and not sys.stdin.isatty():
        raise UserError("nobody is there to be asked", hint="--yes removes without asking")
    for folder in folders:
        summary = _summary(folder)
        what = f"{folder} (step {summary['step']:,}, {format_bytes(summary['bytes'])})"
        if yes or _agreed(f"Remove {what}? [y/N] "):
            _check_removable(folder)
            shutil.rmtree(folder)
            note(f"removed {what}")


def _agreed(question: str) -> bool:
    """Asks on stderr: stdout is for data."""
    sys.stderr.write(printable(question))
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _check_removable(folder: Path) -> None:
    check_removable(folder)
    if _locked(folder):
        raise LockedRun(f"{folder} is in use by another process", hint="stop that process first")


def _locked(folder: Path) -> bool:
    """Whether a process writes to the run; looking leaves no trace in the folder."""
    from descent.runs.lock import is_locked

    try:
        return is_locked(folder)
    except OSError:
        return False  # a folder that may only be read


def _recipe(folder: Path) -> dict[str, Any]:
    try:
        return read_toml(folder / RECIPE_FILE)
    except UserError as error:
        raise CorruptArtifact(error.what) from None


def _summary(folder: Path) -> dict[str, Any]:
    """What a list of runs says of one; a run whose files are damaged is listed as such."""
    try:
        recipe, lines = _recipe(folder), read_metrics(folder / METRICS_FILE)
        damage = None
    except CorruptArtifact as error:
        recipe, lines, damage = {}, [], error.what
    metric = _inner(recipe, "evaluation").get("metric", "loss")
    best_step, best = _best(lines, metric)
    _, seconds = series(lines, "step", "seconds")
    ended = bool(lines) and lines[-1]["event"] == "end"
    state = "damaged" if damage else "running" if _locked(folder) else "finished" if ended else "stopped"
    checkpoints = sorted(path.name for path in (folder / "checkpoints").glob("step-*") if path.is_dir())
    changed = max((path.stat().st_mtime for path in folder.glob("*") if path.name != "lock"), default=0.0)
    return {
        "run": str(folder),
        "recipe": recipe.get("name"),
        "step": lines[-1]["step"] if lines else 0,
        "steps": _inner(recipe, "budget").get("steps"),
        "state": state,
        "metric": metric,
        "best": best,
        "best_step": best_step,
        "seconds": seconds[-1] if seconds else 0.0,
        "checkpoints": checkpoints,
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "changed": time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(changed)),
        "damage": damage,
    }


def _row(row: Mapping[str, Any]) -> list[object]:
    best = ABSENT if row["best"] is None else format_metric(row["metric"], row["best"])
    return [
        row["run"],
        row["recipe"],
        f"{row['step']:,}/{row['steps']:,}" if isinstance(row["steps"], int) else f"{row['step']:,}",
        row["state"],
        row["metric"],
        best,
        format_seconds(row["seconds"]),
        format_bytes(row["bytes"]),
    ]


def _best(lines: list[dict[str, Any]], metric: str) -> tuple[int | None, float | None]:
    steps, values = series(lines, "evaluation", metric, "validation")
    if not steps:
        return None, None
    pick = max if higher_is_better(metric) else min
    return pick(zip(steps, values, strict=True), key=lambda pair: pair[1])


def _final(lines: list[dict[str, Any]], by_pair: bool = False) -> dict[Any, Any]:
    """The last metrics of each split: `{(split, metric): value}`, or nested by split."""
    last = {line.get("split", ""): line for line in lines if line["event"] == "evaluation"}
    skipped = ("step", "examples", "seconds")
    pairs = {
        (split, name): value
        for split, line in last.items()
        for name, value in line.items()
        if name not in skipped and isinstance(value, (int, float)) and not isinstance(value, bool)
    }
    if by_pair:
        return pairs
    nested: dict[str, dict[str, float]] = {split: {} for split, _ in pairs}
    for (split, name), value in pairs.items():
        nested[split][name] = value
    return nested


def _inner(table: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = table.get(key)
    return value if isinstance(value, Mapping) else {}
