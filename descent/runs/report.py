"""A classifier scored in full: its figures, and every number behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from descent.data.dataset import restored
from descent.errors import UserError
from descent.evaluation import Calibration, Evaluation, calibration, class_scores, most_wrong
from descent.runs.assemble import Parts
from descent.runs.class_plots import confusion_matrix, mistakes_sheet, reliability_diagram
from descent.runs.figure import drawable
from descent.runs.folder import write_json

MISTAKES = 36
"""The most images on the sheet of mistakes."""


def class_figures(line: dict[str, Any], labels: list[str], folder: Path) -> list[Path]:
    """Draws what an evaluation's line of the metrics says of a classifier: confusion and calibration."""
    drawn = [confusion_matrix(line["confusion"], labels, folder / "confusion.png")]
    if found := line.get("calibration"):
        bins = {name: tuple(value) for name, value in found.items() if isinstance(value, (list, tuple))}
        whole = Calibration(ece=found["ece"], largest=found["largest"], **bins)
        drawn.append(reliability_diagram(whole, folder / "reliability.png"))
    return drawn


def class_table(found: Evaluation, labels: Sequence[str] | None) -> dict[str, Any]:
    """What an evaluation says of the classes, as JSON has it; only `confusion`, null, where there are none.

    Args:
        found: the evaluation.
        labels: names of the classes; their numbers when None.
    """
    if found.predictions is None or found.confusion is None:
        return {"confusion": None}
    scores = class_scores(found.predictions)
    rows = zip(scores.precision, scores.recall, scores.f1, scores.support, strict=True)
    names = labels or tuple(map(str, range(len(found.confusion))))
    by_class = {
        name: {"precision": p, "recall": r, "f1": f, "support": n}
        for name, (p, r, f, n) in zip(names, rows, strict=True)
    }
    return {
        "macro": scores.macro,
        "classes": by_class,
        "confusion": found.confusion,
        "calibration": asdict(calibration(found.predictions)),
    }


def write_report(parts: Parts, split: str, found: Evaluation, folder: Path) -> list[Path]:
    """Writes confusion.png, reliability.png, report.json and, for images, mistakes.png.

    Args:
        parts: the run's data and recipe.
        split: the split that was scored.
        found: how.
        folder: made if it is not there; files of these names in it are replaced.

    Raises:
        UserError: the model is no classifier.
    """
    if found.predictions is None or found.confusion is None:
        raise UserError("only a classifier has a report of its classes", got=parts.recipe.objective.type)
    labels = list(parts.dataset.labels or map(str, range(len(found.confusion))))
    table = {
        "recipe": parts.recipe.name,
        "split": split,
        "examples": found.examples,
        "metrics": found.metrics,
        **class_table(found, labels),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = class_figures(table, labels, folder)
    if parts.dataset.preparation.get("kind") == "images":
        paths += _mistakes(parts, split, found, folder / "mistakes.png")
    write_json(folder / "report.json", table)
    return [*paths, folder / "report.json"]


def _mistakes(parts: Parts, split: str, found: Evaluation, path: Path) -> list[Path]:
    """The sheet of the images given to a wrong class with most certainty; nothing if there are none."""
    assert found.predictions is not None
    wrong = most_wrong(found.predictions, MISTAKES)
    path.unlink(missing_ok=True)
    if not wrong:
        return []
    dataset = parts.dataset
    names = drawable(list(dataset.labels or ()))
    inputs = dataset.splits[split].gather(np.array([mistake.example for mistake in wrong]))["inputs"]
    pixels = restored(inputs, dataset.preparation["mean"], dataset.preparation["std"])
    images = [(255 * image).round().astype(np.uint8) for image in pixels.numpy()]
    captions = [(names[m.true], names[m.predicted], m.probability) for m in wrong]
    total = int((found.predictions.predicted != found.predictions.targets).sum())
    facts = f"{len(wrong)} of {total:,} mistakes among {found.examples:,} images of {dataset.name}, {split}"
    return [mistakes_sheet(images, captions, facts, path)]
