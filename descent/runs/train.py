"""Training as a user knows it: a recipe makes a run's folder; a run is resumed, or forked into another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from descent.config import flat
from descent.data import prefetch
from descent.errors import CorruptArtifact, UserError
from descent.runs.assemble import Parts, assemble
from descent.runs.closed_form import compare
from descent.runs.course import Course
from descent.runs.environment import environment
from descent.runs.folder import (
    check_target,
    disk_errors,
    new_folder,
    read_json,
    write_json,
    write_recipe,
)
from descent.runs.interrupt import Interrupt, Interrupted
from descent.runs.lock import RunLock
from descent.runs.metrics import MetricsLog
from descent.runs.overrides import override, weights_of
from descent.runs.progress import Progress
from descent.runs.recipe import Recipe
from descent.runs.run import Run
from descent.runs.transfer import begin
from descent.training import checkpoint
from descent.training.loop import train as train_loop
from descent.training.precision import tune_allocator

HARMLESS = (
    "about",
    "device",
    "claim",
    "data.path",
    "evaluation.",
    "checkpoints.",
    "samples.",
    "budget.steps",
    "budget.epochs",
)
"""What may change when a run is resumed: where, how long and how it is watched, not what is learned.

That files at another place are still the same data, their fingerprint tells.
"""
OPEN = ("auto", 0, 0.0, None)
"""What stands in a recipe for "as the machine or the data have it"; known once the parts are assembled."""


def train(
    recipe: Recipe, *, out: str | Path | None = None, overwrite: bool = False, quiet: bool = False
) -> Run:
    """Trains a recipe into a new folder.

    Args:
        recipe: what to do.
        out: the run's folder; by default `runs/<recipe>/<time>` in the current one.
        overwrite: remove the run that `out` holds.
        quiet: show nothing on stderr.

    Raises:
        UserError: something in the recipe, the data or the folder is not right; nothing is written.
    """
    if out is not None:
        check_target(Path(out), overwrite)
    tune_allocator()
    parts, taken = begin(recipe, _shows_bars(quiet))
    folder = new_folder(recipe, out, overwrite)
    with disk_errors(folder), RunLock(folder):
        if taken is None:
            _begin(folder, parts)
            return _go(folder, parts, quiet, "start")
        _begin(folder, parts, {"transfer": taken.table()})
        checkpoint.save(folder / "checkpoints", parts.state)  # from now on the source may go
        with MetricsLog(folder / "metrics.jsonl") as log:
            log.append("transfer", 0, **taken.table())
        return _go(folder, parts, quiet, "start", taken.lines())


def resume(where: str | Path, overrides: Sequence[str] | dict[str, Any] = (), quiet: bool = False) -> Run:
    """Goes on with a run from its newest whole checkpoint, exactly as if it had never stopped.

    Args:
        where: the run's folder.
        overrides: only what does not change what is learned (see `HARMLESS`); it is recorded.

    Raises:
        UserError: an override would make it another run, or the data have changed.
    """
    run = Run(where)
    with disk_errors(run.folder), RunLock(run.folder):
        held = run.recipe
        recipe = override(held, overrides).replace(claim=held.claim and held.claim.table())
        _check_harmless(run, held, recipe, _differences(held, recipe, settled=True))
        tune_allocator()
        parts = assemble(recipe, tokenizer=run.tokenizer, progress=_shows_bars(quiet))
        changed = _differences(held, parts.recipe)
        _check_harmless(run, held, parts.recipe, changed)
        run.check_data(parts.dataset)
        found = checkpoint.newest(run.folder / "checkpoints")
        if found.path is None and found.skipped:
            reasons = "\n  ".join(found.skipped)
            raise CorruptArtifact(f"{run.folder} has no checkpoint that is whole\n  {reasons}")
        if found.path is not None:
            checkpoint.load(found.path, parts.state)
        else:
            _check_start(run)
        if changed:
            write_recipe(run.folder, parts.recipe)
        with MetricsLog(run.folder / "metrics.jsonl") as log:
            log.append("resume", parts.state.step, changed=changed, skipped=found.skipped)
        return _go(run.folder, parts, quiet, "resume", found.skipped)


def fork(
    where: str | Path,
    overrides: Sequence[str] | dict[str, Any] = (),
    *,
    out: str | Path | None = None,
    step: int | None = None,
    quiet: bool = False,
) -> Run:
    """Starts a new run from a checkpoint of another, with a changed recipe.

    The weights and the step are the checkpoint's; so is the optimizer's state, unless the optimizer
    is of another type.

    Args:
        where: the run to start from.
        overrides: any options; the network's shapes must stay.
        out: the new run's folder.
        step: of the checkpoint; by default the newest whole one.
    """
    run = Run(where)
    recipe = override(run.recipe, overrides)
    if weights_of(recipe.table()) != weights_of(run.recipe.table()):
        raise UserError(
            "a fork starts from its parent's weights, not from model.weights",
            got=weights_of(recipe.table()),
            hint="`descent train` starts a run from other weights",
        )
    if recipe.tokenizer != run.recipe.tokenizer:
        raise UserError("a fork keeps its parent's tokenizer: the weights belong to its tokens")
    if out is not None:
        check_target(Path(out))
    tune_allocator()
    parts = assemble(recipe, tokenizer=run.tokenizer, progress=_shows_bars(quiet))
    source = run.checkpoint(step if step is not None else "last")
    checkpoint.load(source, parts.state, optimizer=recipe.optimizer.type == run.recipe.optimizer.type)
    if parts.state.step >= parts.settings.steps:
        raise UserError(
            f"{source} is at step {parts.state.step}, and the recipe ends at {parts.settings.steps}",
            hint=f"steps count on: add budget.steps={parts.state.step + parts.settings.steps}",
        )
    folder = new_folder(recipe, out)
    with disk_errors(folder), RunLock(folder):
        _begin(folder, parts, {"parent": str(run.folder), "parent_step": parts.state.step})
        checkpoint.save(folder / "checkpoints", parts.state)
        with MetricsLog(folder / "metrics.jsonl") as log:
            changed = _differences(run.recipe, recipe)
            log.append("fork", parts.state.step, parent=str(run.folder), changed=changed)
        return _go(folder, parts, quiet, "fork")


def _check_start(run: Run) -> None:
    """Raises a `UserError` if a run without a checkpoint was to start from weights its seed does not give."""
    facts = read_json(run.folder / "env.json")
    if "parent" in facts or "transfer" in facts:
        again = f"fork {facts['parent']}" if "parent" in facts else f"train {run.folder / 'recipe.toml'}"
        raise UserError(
            f"{run.folder} ended before the weights it was to start from were saved",
            hint=f"`descent {again}` makes such a run anew",
        )


def _shows_bars(quiet: bool) -> bool:
    """Bars of downloads and of tokenizer training are for terminals; in a log they are empty lines."""
    return not quiet and sys.stderr.isatty()


def _begin(folder: Path, parts: Parts, more: dict[str, Any] | None = None) -> None:
    """Writes what a run is made of; the recipe last, for a folder is a run once that is there.

    Args:
        more: goes into env.json; of a fork, what it starts from.
    """
    if parts.tokenizer is not None:
        parts.tokenizer.save(folder / "tokenizer.json")
    dataset = parts.dataset
    about = {
        "name": dataset.name,
        "about": dataset.about,
        "summary": dataset.summary(),
        "unit": dataset.unit,
        "fingerprint": dataset.fingerprint,
        "labels": dataset.labels,
        "preparation": dataset.preparation,
        "skipped": dataset.skipped,
    }
    write_json(folder / "data.json", about)
    facts = environment(parts.recipe, torch.get_num_threads())
    write_json(folder / "env.json", {**facts, **(more or {})})
    write_recipe(folder, parts.recipe)


def _go(folder: Path, parts: Parts, quiet: bool, event: str, notes: Sequence[str] = ()) -> Run:
    """Trains to the end or to a signal, then scores, plots and sums up."""
    state, settings = parts.state, parts.settings
    with (
        MetricsLog(folder / "metrics.jsonl") as log,
        Progress(steps=settings.steps, unit=parts.dataset.unit, quiet=quiet) as progress,
        Interrupt() as interrupt,
        prefetch(parts.batches.batch, state.step, settings.steps) as batches,
    ):
        if event == "start":
            log.append("start", state.step)
        progress.begin([*_heading(folder, parts), *notes])
        course = Course(folder, parts, log, progress, interrupt)
        coming = iter(batches)
        if not course.enough():
            train_loop(
                state,
                parts.objective,
                lambda step: next(coming),
                settings=settings,
                after_step=course.after_step,
            )
        if interrupt.number is not None:
            course.save()
            progress.end([f"saved at step {state.step}; go on with: descent train --resume {folder}"])
            raise Interrupted(interrupt.number)
        return _finish(folder, parts, course, log, progress)


def _finish(folder: Path, parts: Parts, course: Course, log: MetricsLog, progress: Progress) -> Run:
    course.finish()
    last, lines = parts.state.step, compare(parts, log)
    run = Run(folder)
    best = checkpoint.read_best(folder / "checkpoints")
    if best is not None and best.step != parts.state.step:
        checkpoint.load(run.checkpoint("best"), parts.state)
        progress.note(f"the checkpoint of step {best.step} scored best ({best.metric} {best.value:.4f})")
    if "test" in parts.dataset.splits:
        course.evaluate("test")
    course.sample()
    course.draw()
    log.append("end", last, seconds=round(course.seconds, 3))
    log.close()
    plots = run.plot()
    progress.end([*lines, f"curves     {plots[0]}" if plots else "", f"run        {folder}"])
    return run


def _heading(folder: Path, parts: Parts) -> list[str]:
    recipe, state = parts.recipe, parts.state
    count = sum(parameter.numel() for parameter in state.model.parameters())
    threads = torch.get_num_threads()
    where = f"{recipe.device}, {recipe.precision}, {threads} thread{'s' if threads > 1 else ''}"
    start = f" from step {state.step}" if state.step else ""
    lines = [
        f"run        {folder}",
        f"recipe     {recipe.name}: {recipe.about}" if recipe.about else f"recipe     {recipe.name}",
        f"data       {parts.dataset.summary()}",
        f"model      {recipe.model.type}, {count:,} parameters",
        f"training   {parts.settings.steps} steps of {recipe.budget.batch_size}{start}, on {where}",
    ]
    if parts.dataset.skipped:
        lines += [f"left out   {name}" for name in parts.dataset.skipped[:10]]
    return lines


def _differences(held: Recipe, wanted: Recipe, settled: bool = False) -> dict[str, list[Any]]:
    """Dotted option -> [before, after], for every option that differs.

    Args:
        settled: leaves out what the machine and the data are still to decide.
    """
    before, after = flat(held.table()), flat(wanted.table())
    return {
        key: [before.get(key), after.get(key)]
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key) and not (settled and after.get(key) in OPEN)
    }


def _check_harmless(run: Run, held: Recipe, recipe: Recipe, changed: dict[str, list[Any]]) -> None:
    meaning = [key for key in changed if not key.startswith(HARMLESS)]
    if meaning:
        listed = "\n".join(f"  {key}: {changed[key][0]} -> {changed[key][1]}" for key in meaning)
        given = " ".join(f"{key}={changed[key][1]}" for key in meaning)
        raise UserError(
            f"{run.folder}: resuming with these changes would make it another run\n{listed}",
            hint=f"`descent fork {run.folder} {given}` starts a new run from this one",
        )
    if 0 < recipe.budget.steps < held.budget.steps:
        raise UserError(
            "budget.steps of a resumed run can only grow",
            got=recipe.budget.steps,
            expected=f"at least {held.budget.steps}",
        )
