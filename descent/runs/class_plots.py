"""Pictures of a classifier: what it mistakes for what, how far it can be trusted, where it was most wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from descent.runs.figure import GRID, INK, MUTED, drawable, drawing, headline, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from descent.evaluation import Calibration

__all__ = ["confusion_matrix", "mistakes_sheet", "reliability_diagram"]

RIGHT, GAP, DIAGONAL = "#2f6fb5", "#d9622b", "#6b7685"
# Up to so many classes a cell holds its count and its share, and up to so many its count alone.
SHARES_SHOWN, COUNTS_SHOWN = 12, 30
# A name longer than this is cut, so that it leaves room for the picture.
LONGEST_NAME = 22
SHEET_COLUMNS = 6


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
    side = float(np.clip(2.6 + 0.55 * classes, 4.5, 9.0) + 0.1 * max(0, classes - 20))
    side = min(side, 16.0)
    with drawing(side + 0.9, side + 0.5) as figure:
        axes = figure.add_subplot()
        axes.grid(visible=False)
        shade = axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)
        _name_axes(axes, names)
        _write_cells(axes, counts, shares)
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


def _write_cells(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    classes = len(counts)
    if classes > COUNTS_SHOWN:
        return
    widest = len(f"{counts.max(initial=0):,}")
    size = min(9.0 if classes <= SHARES_SHOWN else 7.5, 30.0 / widest)
    for row, column in zip(*np.nonzero(counts), strict=True):
        share = shares[row, column]
        ink = "white" if share > 0.35 else INK
        own: dict[str, Any] = {"ha": "center", "color": ink}
        text = f"{counts[row, column]:,}"
        if classes > SHARES_SHOWN:
            axes.text(column, row, text, va="center", size=size, **own)
            continue
        axes.text(column, row - 0.03, text, va="bottom", size=size, **own)
        axes.text(column, row + 0.07, _percent(float(share)), va="top", size=0.75 * size, alpha=0.8, **own)


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
        upper.set_axisbelow(True)
        width = 0.92 / bins
        upper.plot([0, 1], [0, 1], color=DIAGONAL, linewidth=1.2, linestyle="--", zorder=1)
        upper.bar(middles[filled], accuracy[filled], width, color=RIGHT, label="accuracy", zorder=2)
        upper.bar(
            middles[filled], (confidence - accuracy)[filled], width, bottom=accuracy[filled],
            color=GAP, alpha=0.35, edgecolor=GAP, linewidth=0.8, label="gap to confidence", zorder=3,
        )  # fmt: skip
        upper.set_ylim(0, 1)
        upper.set_ylabel("accuracy")
        upper.legend(loc="upper left")
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
            f"Reliability: ECE {_percent(found.ece)}",
            f"accuracy {_percent(right)}, mean confidence {_percent(sure)}; "
            f"{total:,} examples in {bins} bins",
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
    columns = min(SHEET_COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    tall = float(np.clip(images[0].shape[0] / images[0].shape[1], 0.5, 2.0))
    width = 1.75
    with drawing(max(width * columns, 5.0), rows * (width * tall + 0.55) + 0.8) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, image, (true, predicted, share) in zip(grid.flat, images, captions, strict=False):
            smooth = "antialiased" if image.shape[0] > 64 else "nearest"
            pixels = image[:, :, 0] if image.shape[2] == 1 else image
            axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation=smooth)
            axes.set_title(
                f"{_short(true)} \N{RIGHTWARDS ARROW}\n{_short(predicted)} {_percent(share)}", size=8
            )
            axes.add_patch(_frame(image.shape))
        headline(figure, "Most wrong: true class \N{RIGHTWARDS ARROW} predicted class", subtitle)
        return save(figure, Path(path))


def _frame(shape: tuple[int, ...]):
    """A hairline round an image, so that a white one has an edge."""
    from matplotlib.patches import Rectangle

    return Rectangle((-0.5, -0.5), shape[1], shape[0], fill=False, edgecolor=GRID, linewidth=1.0)


def _names(labels: Sequence[str] | None, classes: int) -> list[str]:
    if not labels:
        return [str(number) for number in range(classes)]
    return [_short(name) for name in drawable([str(label) for label in labels])]


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name[: LONGEST_NAME - 1].rstrip() + "…" if len(name) > LONGEST_NAME else name


def _percent(share: float) -> str:
    """Two figures at least: 97.0%, 9.7%, 0.97%; what is short of 1 is never written as 100%."""
    if share in (0, 1):
        return f"{100 * share:.0f}%"
    if share >= 0.9995:
        return f"{min(100 * share, 99.99):.2f}%"
    return f"{100 * share:.1f}%" if share >= 0.1 else f"{100 * share:.2g}%"
