"""`descent explain`: what a network looks at in images and texts, and what a recurrent one remembers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descent.cli.explain_fitting import check_method, default_method
from descent.cli.explain_sequences import Asked, explain_sequence
from descent.cli.explain_texts import AskedText, View, explain_text, list_text_layers, reads_text
from descent.cli.inputs import images_of
from descent.cli.places import find_run, split_example
from descent.cli.terminal import note, print_json, print_table, print_text
from descent.errors import UserError, unknown
from descent.explain.names import SEQUENCES, TABLE, TEXTS, that
from descent.runs.figure import png

if TYPE_CHECKING:
    from descent.explain import Explanation, Sanity
    from descent.runs.loaded import Loaded

PANEL = "Use"
MOST_IMAGES = 12

MethodName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"Of images: {', '.join(TABLE)}, or all that give one map an image. "
        f"Of sequences: {', '.join(SEQUENCES)}. Of texts by a Transformer: {', '.join(TEXTS)}.",
        show_default="of images gradcam, of sequences saliency, of texts attention",
    ),
]
LayerName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help=f"For {', '.join(that('takes_layer'))}; see --list. "
        "For gates, hidden and units of sequences a recurrent module, such as decoder. "
        "Of texts a block's number, or cross.",
    ),
]
TargetName = Annotated[
    str | None,
    typer.Option(
        metavar="CLASS|TEXT",
        help="The class or token to explain; for a model that writes a text, what it is to have written.",
        show_default="the predicted one",
    ),
]
Second = Annotated[str | None, typer.Option(metavar="TEXT", help="The second text, for a BERT.")]
Heads = Annotated[list[int] | None, typer.Option("--head", metavar="N", help="Of texts: heads of attention.")]
Rows = Annotated[
    list[int] | None,
    typer.Option("--row", metavar="N", help="Of texts: the tokens that look, or the one that answers."),
]
Top = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="For masked and logit-lens: the likeliest tokens.")
]
ViewName = Annotated[
    View | None,
    typer.Option(
        help="How attention of texts is drawn.", show_default="grid; of one head map; in HTML lines"
    ),
]

RunName = Annotated[
    str,
    typer.Argument(metavar="RUN", help="A run's folder, a folder of runs, or an exported model's folder."),
]
Inputs = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="INPUT",
        help="Image files, folders of them, a recording, a series, test:17 of the run's data, or a text.",
    ),
]
Text = Annotated[
    str | None, typer.Option(help="The text to explain.", show_default="a piece of the run's data")
]
Units = Annotated[
    list[int] | None,
    typer.Option(
        metavar="N", help="For units: which, of the last layer.", show_default="those that vary most"
    ),
]
Against = Annotated[
    list[str] | None,
    typer.Option(metavar="RUN", help="For gradient-distance: a run to draw beside this one."),
]
Out = Annotated[
    Path | None,
    typer.Option(
        help="The PNG to write; of texts also an SVG, HTML or JSON.", show_default="explain-METHOD.png"
    ),
]
SanityCheck = Annotated[
    bool,
    typer.Option(
        "--sanity", help="Of images: check that maps change when the weights are randomised; exit 1 if not."
    ),
]


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(explain)


def explain(
    run: RunName,
    images: Inputs = None,
    method: MethodName = None,
    layer: LayerName = None,
    target: TargetName = None,
    second: Second = None,
    head: Heads = None,
    row: Rows = None,
    top: Top = None,
    view: ViewName = None,
    text: Text = None,
    unit: Units = None,
    against: Against = None,
    out: Out = None,
    list_layers: Annotated[bool, typer.Option("--list", help="List the layers, and stop.")] = False,
    sanity: SanityCheck = False,
    checkpoint: Annotated[
        str, typer.Option(metavar="STEP", help="Which checkpoint: best, last, or a step.")
    ] = "best",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw what a network looks at, or remembers over time; prints the figure's path.

    A broken image is reported and left out; if it was named itself, not found in a folder, the end is 1.
    """
    loaded = _load(run, checkpoint)
    check_method(loaded, method)
    of_text = reads_text(str(getattr(loaded.config, "type", "")), method, images or [], text) and not sanity
    if list_layers:
        (list_text_layers if of_text else _print_layers)(loaded, as_json)
        return
    if of_text and not (unit or against):
        shown = layer, head or [], row or [], top, view
        asked_text = AskedText(method or "attention", images or [], text, second, target, *shown)
        explain_text(loaded, asked_text, out, as_json)
        return
    if second or head or row or top or view:
        raise UserError("--second, --head, --row, --top and --view are for Transformers over text")
    method = method or ("all" if sanity else default_method(loaded))
    out = png(out or f"explain-{'sanity' if sanity else method}.png")
    if _over_time(loaded, method, text) and not sanity:
        asked = Asked(run, method, images or [], text, layer, unit or [], target, against or [], checkpoint)
        explain_sequence(loaded, asked, out, as_json)
        return
    if text is not None or unit or against:
        raise UserError("--text, --unit and --against are for models that read over time")
    inputs, names, broken = _images(loaded, run, images or [])
    if sanity:
        if layer is not None:
            raise UserError("--sanity takes no --layer: it checks the methods as they are by default")
        good = _check(loaded, inputs, method, target, out, as_json)
    else:
        from descent.explain.methods import explain as by_method

        found, good = by_method(loaded, inputs, method, target=target, layer=layer, names=names), True
        _print_found(found, found.draw(out), as_json)
    if broken or not good:
        raise typer.Exit(1)


def _over_time(loaded: Loaded, method: str, text: str | None) -> bool:
    """Whether a view of a sequence is asked for, rather than one of images."""
    of_images = loaded.preparation.get("kind") in ("images", "table")
    if method not in SEQUENCES and text is not None and not of_images:
        raise unknown("view of a sequence", method, SEQUENCES)
    return method in SEQUENCES and not (method == "saliency" and of_images)


def _print_found(found: Explanation, path: Path, as_json: bool) -> None:
    for name, reason in found.unfit.items():
        note(f"left out {name}: {reason}")
    if as_json:
        print_json(_facts(found, path))
    else:
        print_text(str(path))


def _check(loaded: Loaded, inputs: Any, method: str, target: str | None, out: Path, as_json: bool) -> bool:
    """The sanity check's curve as a figure, its ends as a table; whether all passed."""
    from descent.explain import check
    from descent.explain.figure import draw_sanity

    methods = [] if method == "all" else [method]
    results = check(loaded, inputs, methods, target=target)
    path = draw_sanity(results, out)
    if as_json:
        print_json({"out": str(path), "methods": [_curve(result) for result in results]})
    else:
        columns = ["", "method", "similarity without weights"]
        rows = [["ok" if r.passed else "STAYS", r.method, f"{r.similarity[-1]:.2f}"] for r in results]
        print_table(columns, rows, numbers=columns[2:])
        print_text(str(path))
    return all(result.passed for result in results)


def _curve(result: Sanity) -> dict[str, Any]:
    return {
        "method": result.method,
        "passed": result.passed,
        "layers": list(result.layers),
        "similarity": list(result.similarity),
    }


def _facts(found: Explanation, path: Path) -> dict[str, Any]:
    """What a machine may want to know; the maps themselves are to be had from Python."""
    from descent.explain import AttentionMaps, Attribution

    images: list[dict[str, Any]] = [
        {"input": name, "label": found.labels[predicted], "probability": share, "target": None}
        for name, predicted, share in zip(found.names, found.predicted, found.probability, strict=True)
    ]
    for method, result in found.found.items():
        used = list(result.layers) if isinstance(result, AttentionMaps) else getattr(result, "layer", None)
        for place, image in enumerate(images):
            if used is not None:
                image.setdefault("layers", {})[method] = used
            if not isinstance(result, Attribution):
                continue
            if TABLE[method].takes_target:
                image["target"] = found.labels[int(result.target[place])]
            if result.residual is not None:
                image["residual"] = float(result.residual[place])
    return {"out": str(path), "methods": list(found.found), "left_out": found.unfit, "images": images}


def _print_layers(loaded: Loaded, as_json: bool) -> None:
    import torch

    from descent.explain import layers
    from descent.explain.methods import shape_of

    found = layers(loaded.model, torch.zeros(1, *shape_of(loaded)))
    if as_json:
        print_json([{"name": layer.name, "kind": layer.kind, "shape": list(layer.shape)} for layer in found])
        return
    rows = [[layer.name, layer.kind, " x ".join(map(str, layer.shape))] for layer in found]
    print_table(["layer", "kind", "output"], rows, keep="layer")


def _images(loaded: Loaded, run: str, words: Sequence[str]) -> tuple[Any, list[str], bool]:
    """Inputs of the model and their names; and whether a file that was named itself is broken."""
    examples = [word for word in words if split_example(word)]
    if not examples:
        return _read(loaded, words)
    if len(examples) < len(words):
        raise UserError("examples of the data and files are explained one kind at a time", got=list(words))
    return *_examples(run, examples), False


def _read(loaded: Loaded, words: Sequence[str]) -> tuple[Any, list[str], bool]:
    """The first images that can be read; a broken one is reported and left out, as `predict` does it."""
    import torch

    from descent.data import prepare_image
    from descent.explain.methods import shape_of

    paths = [path for word in words for path in _files(Path(word))]
    read, names, broken = [], [], []
    if paths:
        shape_of(loaded)  # a model of something else is said before any file is read
    for path in paths:
        if len(read) == MOST_IMAGES:
            note(f"the first {MOST_IMAGES} of {len(paths):,} images")
            break
        try:
            read.append(prepare_image(loaded.preparation, path))
            names.append(path.name)
        except UserError as error:
            if len(paths) == 1:
                raise
            broken.append(str(path))
            note(f"left out: {error.what}")
    if broken and not read:
        raise UserError(f"none of {len(broken):,} images could be read")
    return torch.stack(read) if read else (), names, any(str(Path(word)) in broken for word in words)


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return images_of(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file", hint="give image files, folders of them, or test:NUMBER")
    return [path]


def _examples(run: str, words: Sequence[str]) -> tuple[Any, list[str]]:
    import numpy as np
    import torch

    from descent.runs.assemble import load_data
    from descent.runs.run import Run

    opened = Run(find_run(run))
    dataset, _ = load_data(opened.recipe, opened.tokenizer)
    opened.check_data(dataset)
    found, names = [], []
    for word in words:
        split, _, number = word.partition(":")
        held = dataset.splits.get(split)
        if held is None or int(number) >= held.whole:
            expected = ", ".join(f"{name}:0 to {s.whole - 1}" for name, s in dataset.splits.items())
            raise UserError("there is no such example", got=word, expected=expected)
        example = held.gather(np.array([int(number)]))
        found.append(example["inputs"])
        true = int(example["targets"][0])
        names.append(f"{word}: {dataset.labels[true] if dataset.labels else true}")
    return torch.cat(found), names


def _load(run: str, checkpoint: str) -> Loaded:
    from descent.cli.model import open_model

    return open_model(run, checkpoint)
