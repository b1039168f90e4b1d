"""What belongs to a run's folder, known without importing anything heavy."""

from __future__ import annotations

from pathlib import Path

from descent.errors import UserError

RECIPE_FILE = "recipe.toml"
METRICS_FILE = "metrics.jsonl"
# Written before the recipe; a folder with nothing else was given up before it was a run.
BEGUN = {"lock", "tokenizer.json", "data.json", "env.json"}
PARTS = BEGUN | {RECIPE_FILE, METRICS_FILE, "checkpoints", "samples", "plots", "export", "adapter", "vectors"}


def is_run(folder: Path) -> bool:
    """Whether a folder holds a run."""
    return (folder / RECIPE_FILE).is_file()


def is_begun(folder: Path) -> bool:
    """Whether a folder is empty, or what a process left that was killed before it made a run of it."""
    return all(path.name in BEGUN or path.name.endswith(".part") for path in folder.iterdir())


def check_removable(folder: Path) -> None:
    """Raises a `UserError` unless the folder is a run and holds nothing else."""
    if not is_run(folder) or folder.is_symlink():
        raise UserError(f"{folder} is not a run's folder", expected=f"a folder with a {RECIPE_FILE}")
    names = [path.name for path in folder.iterdir()]
    own = sorted(name for name in names if name not in PARTS and not name.endswith(".part"))
    if own:
        raise UserError(
            f"{folder} holds more than a run",
            got=own[:10],
            hint="move that elsewhere first, or remove the folder yourself",
        )
