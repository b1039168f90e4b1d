"""`descent train`, `descent fork` and `descent find-rate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from descent.cli.places import check_recipe, complete_recipe, find_run
from descent.cli.terminal import note, print_json, print_pairs, print_text
from descent.errors import UserError, nearest
from descent.recipes import CATALOG
from descent.runs.figure import png

PANEL = "Train"
EPILOG = (
    "Options of the recipe are written key=value, for example  model.depth=6  data.path=book.txt  "
    "budget.steps=500;  descent recipe show NAME  lists them all."
)
FLAGS = ("--out", "--resume", "--overwrite", "--dry-run", "--quiet", "--help")
# Unknown flags arrive among the key=value words, where a better answer than "no such option" is known.
LENIENT = {"ignore_unknown_options": True}

Overrides = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Options that differ.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]


def add_to(app: typer.Typer) -> None:
    for function in (train, fork, find_rate):
        app.command(rich_help_panel=PANEL, epilog=EPILOG, context_settings=LENIENT)(function)


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE",
            help="A recipe's name or a TOML file; with --resume alone, a run's folder.",
            autocompletion=complete_recipe,
        ),
    ] = None,
    overrides: Overrides = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="runs/RECIPE/TIME")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Remove the run in --out first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved recipe and stop.")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a recipe, or go on with a run; prints the run's folder on stdout."""
    if recipe is not None and recipe.startswith("-"):
        raise UserError(f"no such option: {recipe}", hint=_instead(recipe))
    changes = _changes(overrides)
    if recipe is None or "=" in recipe:
        raise UserError(
            "name what to train",
            expected="a run's folder" if resume else "a TOML file, or one of " + ", ".join(CATALOG),
            hint="descent train --resume runs/gpt/TIME" if resume else "descent train gpt",
        )
    if resume and out is None:
        recipe = str(find_run(recipe))
    else:
        check_recipe(recipe)
    if dry_run:
        print_text(_resolved(recipe, changes, resume and out is None), end="")
        return
    from descent import api

    run = api.train(recipe, changes, out=out, resume=resume, overwrite=overwrite, quiet=quiet)
    print_text(str(run.folder))


def fork(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run to start from.")],
    overrides: Overrides = None,
    out: Annotated[Path | None, typer.Option(help="The new run's folder.")] = None,
    step: Annotated[
        int | None, typer.Option(help="The checkpoint to start from.", show_default="the latest")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Start a new run from a run's weights, with some options changed; its steps count on."""
    changes = _changes(overrides)
    folder = find_run(run)
    from descent import api

    print_text(str(api.fork(folder, changes, out=out, step=step, quiet=quiet).folder))


def find_rate(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A recipe's name or a TOML file.", autocompletion=complete_recipe
        ),
    ],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="The picture of the curve.")] = Path("find-rate.png"),
    low: Annotated[float, typer.Option(help="The first learning rate tried.")] = 1e-7,
    high: Annotated[float, typer.Option(help="The last one.")] = 10.0,
    steps: Annotated[int, typer.Option(help="How many are tried.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Try rising learning rates on a recipe, draw the loss over them, and suggest one."""
    changes = _changes(overrides)
    check_recipe(recipe)
    png(out)
    from descent.recipes import resolve
    from descent.runs import finder

    resolved = resolve(recipe, changes)
    curve = finder.find_rate(resolved, low=low, high=high, steps=steps)
    picture = finder.draw(curve, out, f"Learning rates for {resolved.name}")
    if as_json:
        print_json({**asdict(curve), "picture": str(picture)})
        return
    note(
        f"steepest descent at {curve.steepest:.2g}, a tenth of the rate with the least loss {curve.tenth:.2g}"
    )
    print_pairs([("try", curve.advice), ("curve", picture)])


def _changes(words: list[str] | None) -> list[str]:
    """The key=value words, after a kind answer to what is none."""
    for word in words or ():
        if word.startswith("-") and not word.lstrip("-")[:1].isdigit():
            raise UserError(f"no such option: {word}", hint=_instead(word))
        if "=" not in word or word.startswith("="):
            raise UserError(
                f"{word!r} is not of the form key=value",
                hint="no spaces around the =, and quotes around a value with spaces: data.path='my book.txt'",
            )
    return list(words or ())


def _instead(flag: str) -> str:
    """What to write instead of an unknown flag: an option of the recipe, or the nearest flag."""
    from descent.config import field_types
    from descent.runs.recipe import Recipe

    name, equals, value = flag.lstrip("-").replace("-", "_").partition("=")
    same = [key for key in field_types(Recipe) if key == name or key.endswith(f".{name}")]
    if same:
        return f"options of the recipe take no dashes: {same[0]}={value if equals else '...'}"
    near = nearest(flag.partition("=")[0], FLAGS)
    return f"did you mean {near}?" if near else "`descent train --help` lists the options"


def _resolved(where: str, changes: list[str], is_folder: bool) -> str:
    from descent.recipes import resolve
    from descent.runs.overrides import override
    from descent.runs.recipe import read_recipe, recipe_toml

    if is_folder:
        return recipe_toml(override(read_recipe(Path(where) / "recipe.toml"), changes))
    recipe = resolve(where, changes)
    if recipe.transfer is not None:
        from descent.runs.transfer import adopted, read_source

        recipe = adopted(recipe, read_source(recipe.transfer.weights))
    return recipe_toml(recipe)
