"""Pictures of a classifier: what it mistakes for what, how far it can be trusted, where it was most wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from descent.runs.figure import (
    INK,
    MUTED,
    Cell,
    drawable,
    drawing,
    headline,
    in_rows,
    percent,
    save,
    sheet,
    short,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from descent.evaluation import Calibration

__all__ = ["confusion_matrix", "mistakes_sheet", "reliability_diagram"]

RIGHT, OVER, UNDER = "#2f6fb5", "#efb396", "#a9cbee"
# Up to so many classes a cell holds its count and its share, and up to so many its count alone.
SHARES_SHOWN, COUNTS_SHOWN = 12, 30
# A name longer than this is cut, so that it leaves room for the picture.
LONGEST_NAME, LONGEST_ON_SHEET = 22, 18
SHEET_COLUMNS = 6
ARROW = "\N{RIGHTWARDS ARROW}"


def confusion_matrix(matrix: Sequence[Sequence[int]], labels: Sequence[str] | None, path: Path | str) -> Path:
    """Draws counts by true class (rows) and predicted class (columns), shaded by share of the row.

    Args:
        matrix: square counts.
        labels: names of the classes; their numbers when None.
        path: the PNG to write.
    """
    counts = np.asarray(matrix, dtype=np.int64)
    classes = len(counts)
    names = _names(labels, classes)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(2.6 + 0.55 * classes, 4.5, 9.0)) + 0.09 * float(np.clip(classes - 20, 0, 80))
    with drawing(side + 0.9, side + 0.6) as figure:
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)  # type: ignore[union-attr, call-arg]
        axes = figure.add_subplot()
        axes.grid(visible=False)
        shade = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        _name_axes(axes, names)
        _write_cells(axes, counts, shares, 72 * 0.75 * side / classes)
        if classes > COUNTS_SHOWN:
            bar = figure.colorbar(shade, ax=axes, shrink=0.5, pad=0.02)
            levels = np.array([0, 0.01, 0.05, 0.2, 0.5, 1])
            bar.set_ticks(np.sqrt(levels).tolist(), labels=[f"{100 * level:g}%" for level in levels])
            bar.set_label("share of the row")
            bar.outline.set_visible(False)  # type: ignore[operator]
        right, total = int(np.trace(counts)), int(counts.sum())
        share = f"{100 * right / max(total, 1):.2f}%"
        headline(figure, "Confusion matrix", f"{right:,} of {total:,} right ({share})")
        return save(figure, Path(path))


def _name_axes(axes: Axes, names: list[str]) -> None:
    classes = len(names)
    step = math.ceil(classes / 100)
    ticks = range(0, classes, step)
    size = float(np.clip(10 - 0.1 * (classes - 10), 5.5, 10))
    long = max(map(len, names)) > 3 and classes > 4
    turn = {"rotation": 90 if classes > 30 else 45, "ha": "center" if classes > 30 else "right"}
    axes.set_xticks(ticks, [names[t] for t in ticks], size=size, **(turn if long or classes > 40 else {}))
    if long and classes <= 30:
        for label in axes.get_xticklabels():
            label.set_rotation_mode("anchor")
    axes.set_yticks(ticks, [names[t] for t in ticks], size=size)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray, room: float) -> None:
    """The count of each cell and, where there is room, its share of the row.

    Args:
        room: the side of a cell in points.
    """
    classes = len(counts)
    if classes > COUNTS_SHOWN:
        return
    widest = len(f"{counts.max(initial=0):,}")
    size = float(np.clip(0.9 * room / (0.65 * widest), 4.0, 7.5 if classes > SHARES_SHOWN else 11.0))
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = float(shares[row, column])
        both = classes <= SHARES_SHOWN
        own: dict[str, Any] = {
            "ha": "center", "color": "white" if share > 0.35 else INK, "textcoords": "offset points",
        }  # fmt: skip
        lift = 0.55 * size if both else 0.0
        axes.annotate(
            f"{counts[row, column]:,}", (column, row), (0, lift), va="center_baseline", size=size, **own
        )
        if both:
            small = 0.75 * size
            axes.annotate(
                percent(share), (column, row), (0, -0.75 * size), va="center_baseline", size=small, **own
            )


def reliability_diagram(found: Calibration, path: Path | str) -> Path:
    """Draws accuracy over confidence, bin by bin, and below it how many examples each bin holds.

    A classifier that is as sure as it is right follows the diagonal. Source: Guo et al., On Calibration
    of Modern Neural Networks (2017), figure 1.

    Args:
        found: of a whole split.
        path: the PNG to write.
    """
    bins, counts = len(found.counts), np.array(found.counts)
    filled = counts > 0
    middles = (np.arange(bins) + 0.5) / bins
    accuracy = np.array([value or 0.0 for value in found.accuracy])
    confidence = np.array([value or 0.0 for value in found.confidence])
    total = max(int(counts.sum()), 1)
    with drawing(5.6, 6.6) as figure:
        upper, lower = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3, 1]})
        for axes in (upper, lower):
            axes.set_axisbelow(True)
        width = 0.92 / bins
        upper.bar(middles[filled], accuracy[filled], width, color=RIGHT, label="accuracy")
        gaps = np.abs(confidence - accuracy)
        for sign, color, name in ((1, OVER, "too sure by"), (-1, UNDER, "not sure enough by")):
            chosen = filled & (sign * (confidence - accuracy) > 0)
            bottom = np.minimum(accuracy, confidence)[chosen]
            upper.bar(middles[chosen], gaps[chosen], width, bottom=bottom, color=color, label=name)
        upper.plot([0, 1], [0, 1], color=INK, linewidth=1.2, linestyle="--", zorder=4)
        upper.set_ylim(0, 1)
        upper.set_ylabel("accuracy")
        upper.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, handlelength=1.2, columnspacing=1.4)
        lower.bar(middles[filled], counts[filled], width, color=MUTED)
        # One bin often holds nearly all examples; the others are to be seen beside it.
        lower.set_yscale("log")
        lower.set_ylim(0.5, max(2.0 * counts.max(initial=1), 10))
        lower.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        lower.set_ylabel("examples")
        lower.set_xlabel("confidence")
        lower.set_xlim(0, 1)
        lower.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        upper.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
        figure.align_ylabels([upper, lower])
        sure, right = (float((counts * values).sum() / total) for values in (confidence, accuracy))
        headline(
            figure,
            f"Reliability: ECE {percent(found.ece)}",
            f"accuracy {percent(right)}, mean confidence {percent(sure)}; {total:,} examples in {bins} bins",
        )
        return save(figure, Path(path))


def mistakes_sheet(
    images: Sequence[UInt8[np.ndarray, "height width channels"]],
    captions: Sequence[tuple[str, str, float]],
    subtitle: str,
    path: Path | str,
) -> Path:
    """Draws images that were given to a wrong class, each with what it is and what it was taken for.

    Args:
        images: of 1 or 3 channels.
        captions: true class, predicted class and the probability of the latter, one an image.
        subtitle: stands below the title.
        path: the PNG to write.
    """
    longest = LONGEST_ON_SHEET
    cells = [
        Cell(image / 255, f"{short(true, longest)} {ARROW}\n{short(predicted, longest)} {percent(share)}")
        for image, (true, predicted, share) in zip(images, captions, strict=True)
    ]
    title = f"Most wrong: true class {ARROW} predicted class"
    return sheet(in_rows(cells, SHEET_COLUMNS), title, subtitle, Path(path))


def _names(labels: Sequence[str] | None, classes: int) -> list[str]:
    if not labels:
        return [str(number) for number in range(classes)]
    return [short(name, LONGEST_NAME) for name in drawable([str(label) for label in labels])]
