"""From what a user types to the folder of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from descent.cli.terminal import note
from descent.errors import UserError, nearest, unknown
from descent.recipes import CATALOG
from descent.runs.layout import RECIPE_FILE, is_run

if TYPE_CHECKING:
    from descent.data import Dataset

__all__ = ["check_recipe", "complete_recipe", "data_of", "find_run", "runs_below", "split_example"]

DEPTH = 3
DEFAULT_ROOT = Path("runs")


def check_recipe(where: str) -> None:
    """Answers a mistyped recipe at once, before the schema and torch with it are loaded."""
    if where not in CATALOG and not where.endswith(".toml") and not Path(where).is_file():
        raise unknown("recipe", where, CATALOG)


def complete_recipe(incomplete: str) -> list[str]:
    """What the shell offers where a recipe's name is being typed."""
    return [name for name in CATALOG if name.startswith(incomplete)]


def runs_below(root: Path, depth: int = DEPTH) -> Iterator[Path]:
    """The runs in a folder and a few levels below it, by path; runs inside runs are not looked for."""
    if is_run(root):
        yield root
    elif depth and root.is_dir():
        for inner in sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != "."):
            yield from runs_below(inner, depth - 1)


def find_run(text: str | Path) -> Path:
    """The run that is meant: its folder, or the newest run in a folder of runs (`runs/gpt`, or `gpt`).

    Raises:
        UserError: there is none; the nearest run is named.
    """
    for place in (Path(text), DEFAULT_ROOT / text):
        if is_run(place):
            return place
        found = list(runs_below(place))
        if found:
            newest = max(found, key=lambda folder: (folder / RECIPE_FILE).stat().st_mtime)
            note(f"the newest run in {place}: {newest}")
            return newest
    known = [str(folder) for folder in runs_below(DEFAULT_ROOT)]
    near = nearest(str(text), known) or nearest(Path(text).name, {Path(name).name: name for name in known})
    near = next((name for name in known if near and name.endswith(near)), None)
    what = f"{text} holds no run (no {RECIPE_FILE})" if Path(text).exists() else f"there is no run at {text}"
    raise UserError(
        what, hint=f"did you mean {near}?" if near else "`descent runs list` shows the runs there are"
    )


def data_of(where: str) -> Dataset:
    """The data a run was trained on.

    Raises:
        UserError: there is no such run, or its data has changed since.
    """
    from descent.runs.assemble import load_data
    from descent.runs.run import Run

    run = Run(find_run(where))
    dataset, _ = load_data(run.recipe, run.tokenizer)
    run.check_data(dataset)
    return dataset


def split_example(word: str) -> tuple[str, int] | None:
    """The split and the number of an example such as test:17, counted from 0; None for any other word."""
    split, colon, number = word.partition(":")
    known = bool(colon) and split in ("train", "validation", "test") and number.isdecimal()
    return (split, int(number)) if known else None
