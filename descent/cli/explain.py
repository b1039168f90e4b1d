"""`descent explain`: what a classifier of images looks at, as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descent.cli.places import find_run
from descent.cli.terminal import note, print_json, print_table, print_text
from descent.errors import UserError

if TYPE_CHECKING:
    from descent.explain import Explanation, Sanity
    from descent.runs.loaded import Loaded

PANEL = "Use"
MOST_IMAGES = 12
METHODS = (
    "saliency, smoothgrad, integrated-gradients, gradcam, occlusion, attention, rollout, features, filters, "
    "maximise, or all that give one map an image"
)


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(explain)


def explain(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run's folder, a folder of runs, or an exported model's folder."
        ),
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE",
            help="Image files, folders of them, or test:17 for an example of the run's data.",
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"One of {METHODS}.", show_default="gradcam")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="For gradcam, attention, features and maximise; see --list."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="The class to explain.", show_default="the predicted one"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The PNG to write.", show_default="explain-METHOD.png")
    ] = None,
    list_layers: Annotated[bool, typer.Option("--list", help="List the layers, and stop.")] = False,
    sanity: Annotated[
        bool,
        typer.Option(
            "--sanity", help="Check that the maps change when the weights are randomised; exit 1 if not."
        ),
    ] = False,
    checkpoint: Annotated[
        str, typer.Option(metavar="STEP", help="Which checkpoint: best, last, or a step.")
    ] = "best",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Draw what a classifier of images looks at; prints the figure's path."""
    loaded = _load(run, checkpoint)
    if list_layers:
        _print_layers(loaded, as_json)
        return
    inputs, names = _images(run, images or [])
    if sanity:
        _check(loaded, inputs, method, target, out or Path("explain-sanity.png"), as_json)
        return
    from descent.explain.methods import explain as by_method

    method = method or "gradcam"
    found = by_method(loaded, inputs, method, target=target, layer=layer, names=names)
    path = found.draw(_png(out or Path(f"explain-{method}.png")))
    for name, reason in found.unfit.items():
        note(f"left out {name}: {reason}")
    if as_json:
        print_json(_facts(found, path))
    else:
        print_text(str(path))


def _check(
    loaded: Loaded, inputs: Any, method: str | None, target: str | None, out: Path, as_json: bool
) -> None:
    """The sanity check's curve as a figure, its ends as a table."""
    from descent.explain import check
    from descent.explain.figure import draw_sanity

    methods = [] if method in (None, "all") else [method]
    results = check(loaded, inputs, methods, target=target)
    path = draw_sanity(results, _png(out))
    if as_json:
        print_json({"out": str(path), "methods": [_curve(result) for result in results]})
    else:
        columns = ["", "method", "similarity without weights"]
        rows = [["ok" if r.passed else "STAYS", r.method, f"{r.similarity[-1]:.2f}"] for r in results]
        print_table(columns, rows, numbers=columns[2:])
        print_text(str(path))
    if not all(result.passed for result in results):
        raise typer.Exit(1)


def _curve(result: Sanity) -> dict[str, Any]:
    return {
        "method": result.method,
        "passed": result.passed,
        "layers": list(result.layers),
        "similarity": list(result.similarity),
    }


def _facts(found: Explanation, path: Path) -> dict[str, Any]:
    """What a machine may want to know; the maps themselves are to be had from Python."""
    from descent.explain import Attribution

    images: list[dict[str, Any]] = [
        {"input": name, "label": found.labels[predicted], "probability": share}
        for name, predicted, share in zip(found.names, found.predicted, found.probability, strict=True)
    ]
    for method, result in found.found.items():
        if not isinstance(result, Attribution):
            continue
        for place, image in enumerate(images):
            image["target"] = found.labels[int(result.target[place])]
            if result.layer is not None:
                image.setdefault("layers", {})[method] = result.layer
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


def _images(run: str, words: Sequence[str]) -> tuple[Any, list[str]]:
    """Paths of image files; or one tensor and names, where examples of the run's own data are meant."""
    examples = [word for word in words if _is_example(word)]
    if examples:
        if len(examples) < len(words):
            raise UserError(
                "examples of the data and files are explained one kind at a time", got=list(words)
            )
        return _examples(run, examples)
    paths: list[Path] = []
    for word in words:
        paths += _files(Path(word))
    if len(paths) > MOST_IMAGES:
        note(f"the first {MOST_IMAGES} of {len(paths):,} images")
    return paths[:MOST_IMAGES], []


def _files(path: Path) -> list[Path]:
    from descent.data.pictures import SUFFIXES

    if not path.is_dir():
        return [path]
    found = sorted(inner for inner in path.rglob("*") if inner.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"there are no images in {path}", expected="files named " + " ".join(SUFFIXES))
    return found


def _is_example(word: str) -> bool:
    split, colon, number = word.partition(":")
    return bool(colon) and split in ("train", "validation", "test") and number.isdigit()


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


def _png(path: Path) -> Path:
    if path.suffix.lower() != ".png":
        raise UserError("--out must be a PNG", got=str(path), expected="a name that ends with .png")
    return path


def _load(run: str, checkpoint: str) -> Loaded:
    from descent.cli.model import open_model

    return open_model(run, checkpoint)
