"""`descent data list|show|fetch|path|batch`: the data sets known by name, and what a network gets of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from descent.cli.places import check_recipe, complete_recipe
from descent.cli.terminal import note, print_json, print_pairs, print_table, print_text
from descent.errors import UserError
from descent.runs.progress import format_bytes

if TYPE_CHECKING:
    from descent.runs.recipe import Recipe

app = typer.Typer(no_args_is_help=True, help="List, show, fetch and draw data sets.")


def _names(incomplete: str) -> list[str]:
    from descent.data.registry import ENTRIES

    return [name for name in ENTRIES if name.startswith(incomplete)]


Name = Annotated[str, typer.Argument(metavar="NAME", help="A data set's name.", autocompletion=_names)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _size(count: int) -> str:
    return format_bytes(count) if count else "no size published"


def add_to(parent: typer.Typer) -> None:
    parent.add_typer(app, name="data", rich_help_panel="Look")


@app.command("list")
def list_data(as_json: Json = False) -> None:
    """List the data sets by name."""
    print_data(as_json)


def print_data(as_json: bool) -> None:
    """The table of data sets, for `descent data list` and `descent list data`."""
    from descent.data.registry import listing

    rows = listing()
    if as_json:
        print_json(rows)
        return
    cells = [
        [
            row["name"],
            row["kind"],
            "embedded" if row["embedded"] else _size(row["bytes"]),
            row["about"],
        ]
        for row in rows
    ]
    print_table(["data", "kind", "download", "about"], cells, numbers=["download"], keep="data")


@app.command("show")
def show_data(name: Name, as_json: Json = False) -> None:
    """Show a data set: what it is, its licence, its files and where they are."""
    from descent.data.registry import show

    facts = show(name)
    if as_json:
        print_json(facts)
        return
    size = "embedded, no download" if facts["embedded"] else _size(facts["bytes"])
    keys = ("name", "kind", "about", "licence", "citation")
    print_pairs([*((key, facts[key]) for key in keys), ("size", size)])
    for file in facts["files"]:
        print_text(f"\n{file['name']}  {_size(file['bytes'])}")
        print_text(f"  from  {file['url']}\n  sum   {file['checksum'] or 'of its content'}")
        print_text(f"  here  {file['path'] or 'not yet: descent data fetch ' + name}")


@app.command("fetch")
def fetch_data(
    names: Annotated[list[str], typer.Argument(metavar="NAME", help="Data sets.", autocompletion=_names)],
) -> None:
    """Download data sets, checking every file; prints the files' paths."""
    from descent.data.registry import entry, locate

    wanted = [entry(name) for name in names]
    for item in wanted:
        if item.embedded:
            note(f"{item.name} comes with Python or a library: nothing to fetch")
        for path in locate(item.name):
            print_text(str(path))


@app.command("path")
def data_path(name: Name) -> None:
    """Print where a data set's files are, without downloading."""
    from descent.data.registry import entry, show

    if entry(name).embedded:
        raise UserError(f"{name} comes with Python or a library: it has no files of its own")
    files = show(name)["files"]
    missing = [file["name"] for file in files if file["path"] is None]
    if missing:
        raise UserError(f"{name} is not on this machine", got=missing, hint=f"descent data fetch {name}")
    for file in files:
        print_text(file["path"])


@app.command("batch")
def draw_batch(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A recipe's name or a TOML file.", autocompletion=complete_recipe
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Options that differ.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file to write, of images a PNG.", show_default="NAME-batch-STEP.png, texts to stdout"
        ),
    ] = None,
    step: Annotated[int, typer.Option(min=0, help="Whose batch; steps count from 0.")] = 0,
    images: Annotated[
        int, typer.Option("--images", "--rows", min=1, max=400, help="The most that are shown.")
    ] = 64,
) -> None:
    """Show a step's batch as the network gets it, with what it is to answer.

    Images are drawn, altered as in training, and the file is printed. Texts are printed, token by token.
    """
    check_recipe(recipe)
    from descent.recipes import resolve
    from descent.runs.recipe import TOKENIZED

    resolved = resolve(recipe, overrides or ())
    if resolved.data.type in TOKENIZED:
        _write_texts(resolved, out, step, images)
        return
    from descent.runs.batch_figure import show_batch

    print_text(str(show_batch(resolved, out or Path(f"{resolved.name}-batch-{step}.png"), step, images)))


def _write_texts(recipe: Recipe, out: Path | None, step: int, rows: int) -> None:
    """The rows of a batch of texts on stdout, or in a file whose name is then printed."""
    from descent.runs.batch_text import batch_text

    if out is not None and (out.is_dir() or out.suffix.lower() == ".png"):
        raise UserError(
            "a batch of texts is written as text", got=str(out), expected="a file such as batch.txt"
        )
    text = batch_text(recipe, step, rows)
    if out is None:
        print_text(text)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text + "\n", encoding="utf-8")
    print_text(str(out))
