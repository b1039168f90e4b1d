"""The Python surface: `descent.train`, `descent.load`, `descent.Run`, and looks before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from descent.errors import UserError
from descent.recipes import resolve
from descent.runs import finder
from descent.runs.adapters import export_adapter as write_adapter
from descent.runs.batch_figure import show_batch as draw_batch
from descent.runs.folder import open_run
from descent.runs.layout import is_run
from descent.runs.load import load as load_model
from descent.runs.loaded import Loaded
from descent.runs.overrides import override
from descent.runs.recipe import Recipe, read_recipe
from descent.runs.run import Run, Which
from descent.runs.train import fork as fork_run
from descent.runs.train import resume as resume_run
from descent.runs.train import train as train_recipe
from descent.weights.shards import LARGEST_FILE

__all__ = [
    "Loaded",
    "Recipe",
    "Run",
    "export",
    "export_adapter",
    "find_rate",
    "fork",
    "load",
    "show_batch",
    "train",
]

Overrides = Mapping[str, Any] | Sequence[str] | str | None


def train(
    recipe: str | Path | Recipe,
    overrides: Overrides = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Run:
    """Trains a recipe and returns its run.

    Args:
        recipe: a name (`descent list recipes`), a TOML file, or a `Recipe`; with `resume` and no `out`
            the folder of the run to go on with.
        overrides: options that differ, by dotted name: `{"data.path": "book.txt", "model.depth": 6}`,
            or as `["model.depth=6"]`.
        out: the run's folder; `runs/<recipe>/<time>` in the current folder when left out.
        resume: goes on with the run that is there. Beside `out` it starts the run when there is none
            yet, so that one and the same call starts and restarts a job.
        overwrite: removes the run that `out` holds first.
        quiet: shows no progress.

    Raises:
        UserError: the recipe, an option or the data is wrong, or `out` holds a run already.
        CorruptArtifact: no checkpoint of the run to resume is whole.
        LockedRun: another process trains in that folder.
    """
    if resume and overwrite:
        raise UserError("resume goes on with a run and overwrite removes it: choose one of them")
    changes = _changes(overrides)
    if resume and (out is None or is_run(Path(out))):
        folder = _run_folder(recipe) if out is None else Path(out)
        if out is not None:
            _same_recipe(recipe, folder)
        return resume_run(folder, changes, quiet=quiet)
    return train_recipe(_wanted(recipe, overrides), out=out, overwrite=overwrite, quiet=quiet)


def fork(
    run: str | Path | Run,
    overrides: Overrides = None,
    *,
    out: str | Path | None = None,
    step: int | None = None,
    quiet: bool = False,
) -> Run:
    """Starts a new run from a run's weights, with some options changed.

    Args:
        run: the run to start from.
        overrides: options that differ, as in `train`.
        out: the new run's folder.
        step: the checkpoint to start from; the latest when left out.
        quiet: shows no progress.
    """
    folder = run.folder if isinstance(run, Run) else open_run(run)
    return fork_run(folder, _changes(overrides), out=out, step=step, quiet=quiet)


def find_rate(recipe: str | Path | Recipe, overrides: Overrides = None, **options: Any) -> finder.RateCurve:
    """Tries rising learning rates on a copy of a recipe's model; the curve, with the rate to take.

    Args:
        recipe, overrides: as in `train`.
        options: `low`, `high` and `steps`, the range of rates and how many are tried.
    """
    return finder.find_rate(_wanted(recipe, overrides), **options)


def show_batch(
    recipe: str | Path | Recipe,
    overrides: Overrides = None,
    *,
    out: str | Path = "batch.png",
    step: int = 0,
    images: int = 64,
) -> Path:
    """Draws a batch of training images as the network gets them, with their labels; returns the PNG.

    Args:
        recipe, overrides: as in `train`.
        out: the file to write.
        step: whose batch.
        images: the most that are drawn.
    """
    return draw_batch(_wanted(recipe, overrides), out, step, images)


def load(
    where: str | Path | Run,
    which: Which = "best",
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    revision: str | None = None,
    adapter: str | Path | None = None,
) -> Loaded:
    """A trained model, ready for use.

    Args:
        where: a run or its folder, a folder in the Hugging Face layout, or a name on the hub such as
            "openai-community/gpt2". A path that exists never opens the network.
        which: of a run, the checkpoint: "best" (else the latest), "last", or a step.
        precision: what the weights are held in.
        revision: of a model on the hub: a branch, tag or commit.
        adapter: a folder that `export_adapter` wrote of a run on this base; it is put on and merged.

    Raises:
        UserError: there is no such run, folder or model, or it is of a kind Descent does not know.
        CorruptArtifact: a file is damaged.
    """
    folder = where.folder if isinstance(where, Run) else where
    return load_model(folder, which, precision=precision, revision=revision, adapter=adapter)


def export(
    run: str | Path | Run, out: str | Path, which: Which = "best", shard_bytes: int = LARGEST_FILE
) -> Path:
    """Writes a run's model as a folder in the Hugging Face layout, and returns the folder.

    Args:
        run: the run or its folder.
        out: must not exist, or be empty.
        which: the checkpoint, as in `load`.
        shard_bytes: bytes of weights a file may hold; more are written in several files with an index.
    """
    return load(run, which).export(out, shard_bytes=shard_bytes)


def export_adapter(run: str | Path | Run, out: str | Path, which: Which = "best") -> Path:
    """Writes what a run with an `[adapter]` trained beside its base, without the base; returns the folder.

    Args:
        run: the run or its folder.
        out: must not exist, or be empty.
        which: the checkpoint, as in `load`.
    """
    return write_adapter(run if isinstance(run, Run) else Run(run), out, which)


def _wanted(recipe: str | Path | Recipe, overrides: Overrides) -> Recipe:
    changes = _changes(overrides)
    return override(recipe, changes) if isinstance(recipe, Recipe) else resolve(recipe, changes)


def _changes(overrides: Overrides) -> dict[str, Any] | list[str]:
    """Overrides of any kind; a single text is one `key=value`."""
    if isinstance(overrides, Mapping):
        return dict(overrides)
    return [overrides] if isinstance(overrides, str) else list(overrides or ())


def _run_folder(recipe: str | Path | Recipe) -> Path:
    if isinstance(recipe, Recipe):
        raise UserError("resume needs the folder of a run: give it as `out`, or in place of the recipe")
    return open_run(recipe)


def _same_recipe(recipe: str | Path | Recipe, folder: Path) -> None:
    """The recipe named beside `out` must be the one the run there came from."""
    wanted = recipe if isinstance(recipe, Recipe) else resolve(recipe)
    held = read_recipe(folder / "recipe.toml")
    if wanted.name != held.name:
        raise UserError(
            f"{folder} holds a run of the recipe {held.name!r}",
            got=wanted.name,
            hint=f"`descent train --resume {folder}` goes on with that run",
        )
