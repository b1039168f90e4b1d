"""`descent evaluate|predict|verify|export`: what a trained model is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descent.cli.findings import FINDING_KINDS, read_findings
from descent.cli.inputs import read_inputs
from descent.cli.places import find_run
from descent.cli.predictions import print_predictions
from descent.cli.terminal import note, print_json, print_pairs, print_table, print_text
from descent.cli.texts import TEXT_KINDS, read_texts
from descent.errors import UserError, unknown
from descent.runs.layout import is_run
from descent.runs.progress import format_metric
from descent.weights.names import published_file

if TYPE_CHECKING:
    from descent.evaluation import Evaluation
    from descent.runs.loaded import Loaded
    from descent.runs.run import Run

PANEL = "Use"
CONFUSION_CLASSES = 20

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's folder, or a folder of runs: its newest.")
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run, a folder in the Hugging Face layout, or a name such as openai-community/gpt2.",
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="What `export --adapter` wrote of a run on this model; put on."),
]
Checkpoint = Annotated[str, typer.Option(metavar="STEP", help="Which checkpoint: best, last, or a step.")]


def add_to(app: typer.Typer) -> None:
    for function in (evaluate, predict, verify, export):
        app.command(rich_help_panel=PANEL)(function)


def evaluate(
    run: RunArgument,
    split: Annotated[
        str | None,
        typer.Option(
            help="train, validation or test.", show_default="test once the run has scored it, else validation"
        ),
    ] = None,
    checkpoint: Checkpoint = "best",
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Of a classifier, write figures, the most wrong images and all numbers."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score a run on a whole split."""
    folder, which = find_run(run), _which(checkpoint)
    from descent import api

    opened = api.Run(folder)
    split = split or opened.default_split
    evaluation = opened.report(report, split, which) if report else opened.evaluate(split, which)
    if as_json:
        facts = {"run": str(folder), "checkpoint": which, "split": split, "examples": evaluation.examples}
        from descent.runs.report import class_table

        print_json({**facts, "metrics": evaluation.metrics, **class_table(evaluation, opened.labels)})
        return
    _print_evaluation(opened, split, evaluation)
    if report:
        note(f"the report is in {report}")


def _print_evaluation(run: Run, split: str, evaluation: Evaluation) -> None:
    print_pairs([("split", split), ("examples", f"{evaluation.examples:,}")])
    print_pairs((name.replace("_", " "), format_metric(name, v)) for name, v in evaluation.metrics.items())
    matrix = evaluation.confusion
    if not matrix or evaluation.predictions is None:
        return
    from descent.evaluation import class_scores

    labels, scores = run.labels or tuple(map(str, range(len(matrix)))), class_scores(evaluation.predictions)
    print_pairs((f"macro {name}", f"{100 * value:.2f}%") for name, value in scores.macro.items())
    print_text("")
    shares = zip(scores.precision, scores.recall, scores.f1, strict=True)
    rows = [[f"{100 * share:.2f}%" for share in row] for row in shares]
    table = [[name, *row, f"{n:,}"] for name, row, n in zip(labels, rows, scores.support, strict=True)]
    columns = ["precision", "recall", "F1", "examples"]
    print_table(["class", *columns], table, numbers=columns)
    if len(matrix) <= CONFUSION_CLASSES:
        print_text("\nrows: true class, columns: predicted class, in the same order")
        columns = [str(number) for number in range(len(matrix))]
        print_table(["", *columns], [[i, *row] for i, row in enumerate(matrix)], numbers=columns)


def predict(
    model: ModelArgument,
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|FOLDER|NAME=VALUE",
            help="Images or recordings, or folders of them; rows: a CSV or JSON file, or name=value words; "
            "a series: its CSV; texts, questions or queries: a CSV, JSON or .txt file.",
            show_default=False,
        ),
    ] = None,
    text: Annotated[str | None, typer.Option(help="A text, in place of a file of texts.")] = None,
    text2: Annotated[str | None, typer.Option(help="The second text, for a model of pairs.")] = None,
    question: Annotated[str | None, typer.Option(help="A question, beside --context.")] = None,
    context: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The text that the answer is looked for in.")
    ] = None,
    query: Annotated[str | None, typer.Option(help="What documents are looked for.")] = None,
    top: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="So many of the most probable classes, or of the best documents.",
            show_default="3, in JSON all",
        ),
    ] = None,
    checkpoint: Checkpoint = "best",
    adapter: Adapter = None,
    as_json: Json = False,
) -> None:
    """Predict the class of images, recordings or texts, the names in a text, the class or value of rows,
    how a series goes on, the answer to a question in a text, or the documents that answer a query.

    A broken file is reported and left out; if it was named itself, not found in a folder, the end is 1.
    """
    loaded = open_model(model, checkpoint, adapter=adapter)
    inputs, typed = inputs or [], [one for one in (text, text2) if one is not None]
    items = _inputs(loaded.preparation, inputs, typed, (question, context, query))
    if inputs and isinstance(items[0][1], dict) and len(items) == 1 and "=" in inputs[0]:
        _check_names(items[0][1], loaded.preparation)
    names, broken = [name for name, _ in items], []

    def results() -> Iterator[dict[str, Any]]:
        predictions = loaded.predictions([item for _, item in items])
        for name, result in zip(names, predictions, strict=True):
            if not isinstance(result, UserError):
                yield {"input": name, **result}
            elif not isinstance(items[0][1], Path) or len(items) == 1:
                raise result
            else:
                broken.append(name)
                note(f"left out: {result.what}")

    if not print_predictions(results(), names, loaded.labels or (), top, as_json):
        raise UserError(f"none of {len(broken):,} files could be read")
    if any(str(Path(word)) in broken for word in inputs):
        raise typer.Exit(1)


def _inputs(
    preparation: Mapping[str, Any],
    inputs: list[str],
    typed: list[str],
    asked: tuple[str | None, Path | None, str | None],
) -> list[tuple[str, Any]]:
    """What is asked about, each input with its name."""
    kind = str(preparation.get("kind", ""))
    if kind in FINDING_KINDS:
        return read_findings(kind, inputs, *asked)
    if asked != (None, None, None):
        raise UserError("--question and --query are for models that find things", got=kind or "another model")
    if kind in TEXT_KINDS:
        return read_texts(inputs, typed, preparation)
    if typed:
        raise UserError("--text is for a model of texts", got=f"a model of {kind or 'unknown data'}")
    if not inputs:
        raise UserError("nothing to predict", expected="a file, a folder, or name=value words")
    return read_inputs(inputs, kind)


def verify(model: ModelArgument, as_json: Json = False) -> None:
    """Check that every way of computing the same thing agrees on this model; exit 1 on a difference."""
    if _is_run(model):
        where: Any = find_run(model)
    else:
        where = open_model(model, "best")
    from descent.verify import verify as check

    rows = check(where)
    if as_json:
        keys = ("name", "tolerance", "worst", "ok", "note")
        print_json([{key: getattr(row, key) for key in keys} for row in rows])
    else:
        columns = ["", "check", "worst difference", "tolerance", "note"]
        cells = [[_verdict(r), r.name, _small(r.worst), _small(r.tolerance), r.note] for r in rows]
        print_table(columns, cells, numbers=columns[2:4])
    failed = [row.name for row in rows if not row.ok]
    if failed:
        note(f"{len(failed)} of {len(rows)} checks differ: {', '.join(failed)}")
        raise typer.Exit(1)


def export(
    run: RunArgument,
    out: Annotated[
        Path | None, typer.Option(help="The folder to write.", show_default="RUN/export, or RUN/adapter")
    ] = None,
    checkpoint: Checkpoint = "best",
    shard_size: Annotated[
        float, typer.Option(metavar="GB", min=1e-6, help="The most of the weights that a file holds.")
    ] = 5.0,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Only what was trained beside the base, to put on it again.")
    ] = False,
) -> None:
    """Write a run's model in the Hugging Face layout, or its adapter alone; prints the folder."""
    folder, which = find_run(run), _which(checkpoint)
    target = out or folder / ("adapter" if adapter else "export")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists and is not empty", hint="choose another folder with --out")
    from descent import api

    if adapter:
        api.export_adapter(folder, target, which)
    else:
        api.export(folder, target, which, shard_bytes=int(shard_size * 1e9))
    print_text(str(target))


def _is_run(text: str) -> bool:
    try:
        return is_run(find_run(text))
    except UserError:
        return False


def open_model(model: str, checkpoint: str, **options: Any) -> Loaded:
    """A run, a folder, a published file or a name on the hub; a name nobody could mean is a missing run's."""
    from descent import api

    folder = (Path(model) / "config.json").is_file() or (Path(model).exists() and not _is_run(model))
    looks_like_hub = model.count("/") == 1 and not model.startswith((".", "/", "runs/"))
    if folder or published_file(model) or (looks_like_hub and not _is_run(model)):
        if checkpoint != "best":
            raise UserError(f"{model} is no run: it has no checkpoints to choose from", got=checkpoint)
        return api.load(model, **options)
    return api.load(find_run(model), _which(checkpoint), **options)


def _which(text: str) -> Any:
    if text in ("best", "last"):
        return text
    if text.isascii() and text.isdigit():
        return int(text)
    raise UserError("--checkpoint", got=text, expected="best, last, or the number of a step")


def _check_names(row: dict[str, Any], preparation: Mapping[str, Any]) -> None:
    """A word typed by hand that names no column is a mistake, unlike another column of a file."""
    columns = [feature["name"] for feature in preparation.get("features", ())]
    for name in row:
        if columns and name not in (*columns, preparation.get("target")):
            raise unknown("column", name, columns)


def _verdict(row: Any) -> str:
    if row.worst is None:
        return "-"
    return "ok" if row.ok else "DIFFERS"


def _small(value: float | None) -> str:
    if value is None:
        return "-"
    return "0" if value == 0 else f"{value:.1e}"
