"""`descent search`: the texts of a file that are nearest to a query."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from descent.cli.model import PANEL, Adapter, Checkpoint, Json, ModelArgument, open_model
from descent.cli.terminal import note, print_json, print_text
from descent.errors import UserError

SHOWN = 160
"""The most characters of a text on its line; --json shows all."""


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(search)


def search(
    model: ModelArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .txt file, a text a line; or a CSV, TSV or JSON file.")
    ],
    query: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the texts are to be near to.")
    ] = None,
    column: Annotated[
        str, typer.Option(metavar="NAME", help="Of a CSV, TSV or JSON file: the column of the texts.")
    ] = "",
    top: Annotated[int, typer.Option(metavar="N", min=1, help="How many texts.")] = 5,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.npy", help="Write the vectors of all texts, a row each.")
    ] = None,
    checkpoint: Checkpoint = "best",
    adapter: Adapter = None,
    as_json: Json = False,
) -> None:
    """Find the texts of a file that are nearest to a query, by the cosine of a BERT's vectors.

    The vectors are kept in RUN/vectors and used again as long as neither the texts nor the model change.
    """
    if query is None and out is None:
        raise UserError("nothing to search for", expected="--query TEXT, or --out FILE.npy for the vectors")
    if out is not None and out.suffix != ".npy":
        raise UserError("--out", got=str(out), expected="a file named .npy")
    from descent.runs.search import file_vectors, nearest, read_file

    texts = read_file(file, column)
    loaded = open_model(model, checkpoint, adapter=adapter)
    vectors = file_vectors(loaded, texts)
    if texts.empty:
        note(f"{texts.empty:,} empty texts were left out")
    if out is not None:
        _write(out, vectors.numpy())
        note(f"{len(vectors):,} vectors of {vectors.shape[1]} numbers are in {out}")
    if query is None:
        return
    found = nearest(vectors, texts, loaded.embed([query])[0], top)
    if as_json:
        results = [{"score": one.score, "line": one.line, "text": one.text} for one in found]
        print_json({"query": query, "file": str(file), "texts": len(texts.texts), "results": results})
        return
    width = max(len(f"{one.line:,}") for one in found)
    for one in found:
        text = " ".join(one.text.split())
        text = text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."
        print_text(f"{one.score:.3f}  {one.line:>{width},}  {text}")


def _write(out: Path, vectors: object) -> None:
    """Writes the vectors, a row each, in numpy's format."""
    import numpy as np

    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        np.save(out, np.asarray(vectors), allow_pickle=False)
    except OSError as error:
        raise UserError(f"{out} cannot be written: {error.strerror}") from None
