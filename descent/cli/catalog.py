"""`descent list`, `descent recipe show|copy`, `descent ledger`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from descent import ledger
from descent.cli.data import print_data
from descent.cli.places import check_recipe, complete_recipe
from descent.cli.terminal import note, print_json, print_table, print_text
from descent.errors import UserError, unknown
from descent.models import MODELS
from descent.recipes import CATALOG

PANEL = "Look"
recipe_app = typer.Typer(no_args_is_help=True, help="Show a recipe, or copy it into a file of your own.")


KINDS = ("recipes", "models", "data")


def _kinds(incomplete: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(incomplete)]


Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RecipeName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A recipe's name or a TOML file.", autocompletion=complete_recipe),
]


def add_to(app: typer.Typer) -> None:
    app.command("list", rich_help_panel=PANEL)(list_names)
    app.add_typer(recipe_app, name="recipe", rich_help_panel=PANEL)
    app.command("ledger", rich_help_panel=PANEL)(show_ledger)


def list_names(
    kind: Annotated[
        str | None, typer.Argument(metavar="[models|recipes|data]", help="Only these.", autocompletion=_kinds)
    ] = None,
    as_json: Json = False,
) -> None:
    """List the recipes, models and data sets by name."""
    if kind is not None and kind not in KINDS:
        raise unknown("list", kind, KINDS)
    recipes = [{"name": name, "about": entry.about} for name, entry in CATALOG.items()]
    models = [{"name": name, "about": _about(module)} for name, (module, *_) in MODELS.items()]
    if as_json:
        from descent.data.registry import listing

        found = {"recipes": recipes, "models": models, "data": listing()}
        print_json(found if kind is None else found[kind])
        return
    for title, rows in (("recipe", recipes), ("model", models)):
        if kind in (None, f"{title}s"):
            print_table([title, "about"], [[row["name"], row["about"]] for row in rows], keep=title)
            if kind is None:
                print_text("")
    if kind in (None, "data"):
        print_data(as_json=False)
    if kind is None:
        note("\ntrain one with  descent train RECIPE")


@recipe_app.command("show")
def show_recipe(name: RecipeName, as_json: Json = False) -> None:
    """Print a recipe as TOML, every option resolved."""
    check_recipe(name)
    from descent.recipes import resolve
    from descent.runs.recipe import recipe_toml

    recipe = resolve(name)
    if as_json:
        print_json(recipe.table())
    else:
        print_text(recipe_toml(recipe), end="")


@recipe_app.command("copy")
def copy_recipe(
    name: RecipeName, file: Annotated[Path, typer.Argument(help="The TOML file to write.")]
) -> None:
    """Write a recipe of your own that starts from NAME, with every option explained in comments."""
    from descent.cli.template import template
    from descent.recipes import resolve

    check_recipe(name)
    if file.suffix != ".toml":
        raise UserError("a recipe is a TOML file", got=str(file), expected="a name that ends in .toml")
    if name not in CATALOG:
        name = str(Path(name).resolve())
    text = template(resolve(name), name)
    try:
        with open(file, "x", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
    except FileExistsError:
        raise UserError(f"{file} exists already", hint="choose another name, or remove it first") from None
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror}") from None
    note(f"edit {file}, then  descent train {file}")
    print_text(str(file))


def show_ledger(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Only entries with this in their name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show every measured number beside the published one."""
    found = ledger.select(list(names or ()))
    if as_json:
        print_json(found)
        return
    if not found:
        note("the ledger is empty")
        return
    print_table(
        ["entry", "metric", "ours", "published", "seeds", "minutes", "machine", "date"],
        [_ledger_row(entry) for entry in found],
        numbers=["ours", "minutes", "seeds"],
        keep="entry",
    )
    for entry in found:
        lines = [("what", entry["what"]), ("source", (entry["published"] or {}).get("source"))]
        lines += [("repeat", entry.get("command")), ("commit", entry.get("commit"))]
        lines += [("flops", _figure(entry.get("flops") or "")), ("note", entry.get("note"))]
        if names:
            print_text(f"\n{entry['id']}")
            for key, value in lines:
                if value:
                    print_text(f"  {key:<7} {value}")


def _ledger_row(entry: Mapping[str, Any]) -> list[object]:
    unit = entry["unit"] or ""
    published = (entry["published"] or {}).get("value")
    minutes = entry.get("minutes")
    return [
        entry["id"],
        entry["metric"],
        f"{_figure(entry['value'])}{_spread(entry.get('spread'))} {unit}".rstrip(),
        "-" if published is None else f"{_figure(published)} {unit}".rstrip(),
        len(entry["seeds"] or ()) or "-",
        f"{minutes:.3g}" if isinstance(minutes, (int, float)) else "-",
        entry["machine"],
        entry["date"],
    ]


def _spread(value: Any) -> str:
    """Least and greatest, or how far a value may be off."""
    if isinstance(value, list) and len(value) == 2:
        return f" ({_figure(value[0])} to {_figure(value[1])})" if value[0] != value[1] else ""
    return f" ± {value:.3g}" if isinstance(value, (int, float)) else ""


def _figure(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _about(module: str) -> str:
    """The first line of a module's docstring, read from its source: importing it would import torch."""
    found = find_spec(module)
    if found is None or found.origin is None:
        return ""
    doc = ast.get_docstring(ast.parse(Path(found.origin).read_text(encoding="utf-8"))) or ""
    return doc.partition("\n")[0]
