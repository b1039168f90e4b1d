"""The curves of a run: its loss, its second metric and its learning rate over the steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descent.runs.figure import drawing, headline, save
from descent.runs.metrics import higher_is_better, series
from descent.runs.progress import SHARES, format_count, format_metric, format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["curves"]

TRAIN, VALIDATION, BEST, RATE = "#2f6fb5", "#d9622b", "#b3261e", "#5b8f6a"
PHASES = ("#2f6fb5", "#7a4fa3", "#2a8f8a", "#a3752a")
# Beside the loss, the metric worth a panel of its own.
SECOND = ("accuracy", "r2", "bits_per_byte", "perplexity")


def curves(lines: Iterable[Mapping[str, Any]], folder: Path | str, title: str) -> list[Path]:
    """Draws a run's loss, its second metric and its learning rate over the steps.

    Args:
        lines: what `read_metrics` gave.
        folder: gets `curves.png`; made when it does not exist.
        title: stands above the picture.

    Returns:
        The files written; none while there is nothing to draw.
    """
    from matplotlib.ticker import MaxNLocator

    lines = list(lines)
    panels = [draw for draw in (_loss_panel, _second_panel, _rate_panel) if draw(lines, None)]
    if _loss_panel not in panels:
        return []
    heights = [{_loss_panel: 4.2, _second_panel: 2.4, _rate_panel: 1.1}[draw] for draw in panels]
    with drawing(9.0, sum(heights) + 1.2) as figure:
        grid = figure.subplots(
            len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for draw, axes in zip(panels, grid[:, 0], strict=True):
            draw(lines, axes)
            axes.margins(x=0.015)
        bottom = grid[-1, 0]
        bottom.set_xlabel("step")
        bottom.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 2.5, 5, 10]))
        bottom.xaxis.set_major_formatter(lambda value, _: format_count(value) if value else "0")
        figure.align_ylabels(grid[:, 0])
        headline(figure, title, _subtitle(lines))
        return [save(figure, Path(folder) / "curves.png")]


def _loss_panel(lines: list[Mapping[str, Any]], axes: Axes | None) -> bool:
    found = {name: series(lines, "step", key) for name, key in _losses(lines).items()}
    found = {name: values for name, values in found.items() if values[0]}
    scored = series(lines, "evaluation", "loss", "validation")
    if axes is None:
        return bool(found or scored[0])
    for (name, (steps, values)), color in zip(found.items(), (TRAIN, *PHASES[1:] * 9), strict=False):
        smooth = _smooth(np.array(values))
        if len(values) > 20:
            axes.plot(steps, values, color=color, alpha=0.22, linewidth=0.8)
        alone = "o" if len(values) == 1 else None
        axes.plot(steps, smooth, color=color, linewidth=1.8, label=name, marker=alone, markersize=4.5)
    if scored[0]:
        axes.plot(
            *scored, color=VALIDATION, linewidth=1.4, marker="o", markersize=4.5, markeredgecolor="white",
            markeredgewidth=0.7, label="validation", zorder=4,
        )  # fmt: skip
        _mark_best(axes, *scored, "loss")
    _choose_scale(axes, [np.array(v) for _, v in (*found.values(), scored) if v])
    axes.set_ylabel("loss")
    axes.legend(loc="upper right")
    return True


def _second_panel(lines: list[Mapping[str, Any]], axes: Axes | None) -> bool:
    name = next((n for n in SECOND if series(lines, "evaluation", n, "validation")[0]), None)
    if axes is None or name is None:
        return name is not None
    for split, color in (("train", TRAIN), ("validation", VALIDATION)):
        steps, values = series(lines, "evaluation", name, split)
        if steps:
            axes.plot(
                steps, values, color=color, linewidth=1.4, marker="o", markersize=4.5,
                markeredgecolor="white", markeredgewidth=0.7, label=split,
            )  # fmt: skip
    if len(axes.lines) > 1:
        axes.legend(loc="best")
    _mark_best(axes, *series(lines, "evaluation", name, "validation"), name)
    axes.set_ylabel(name.replace("_", " "))
    if name in SHARES:
        axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.4g}%")
    axes.margins(y=0.2)
    return True


def _rate_panel(lines: list[Mapping[str, Any]], axes: Axes | None) -> bool:
    steps, values = series(lines, "step", "learning_rate")
    if axes is None:
        return bool(steps)
    axes.fill_between(steps, values, color=RATE, alpha=0.18, linewidth=0)
    axes.plot(steps, values, color=RATE, linewidth=1.4)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning rate")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    axes.locator_params(axis="y", nbins=3)
    return True


def _losses(lines: list[Mapping[str, Any]]) -> dict[str, str]:
    """The training losses to draw: the one there is, or each phase's."""
    phases = next((line["losses"] for line in lines if line["event"] == "step" and line.get("losses")), {})
    if len(phases) < 2:
        return {"training": "loss"}
    return {name: f"losses.{name}" for name in phases}


def _smooth(values: np.ndarray) -> np.ndarray:
    """A running mean over about a twentieth of the run.

    Near the start, where a loss falls steeply, the window shrinks on both sides, so that the curve
    begins where the values do; near the end it keeps its past half, so that the curve ends calm.
    """
    count = len(values)
    reach = count // 40
    for _ in range(2):  # a box twice is a triangle, and leaves no steps
        here = np.arange(count)
        start = here - np.minimum(here, reach)
        stop = here + np.minimum(np.minimum(here, reach), count - 1 - here) + 1
        sums = np.concatenate([[0.0], np.cumsum(values)])
        values = (sums[stop] - sums[start]) / (stop - start)
    return values


def _choose_scale(axes: Axes, curves_drawn: list[np.ndarray]) -> None:
    """A logarithmic axis where the loss falls by more than ten; else one no first spike can squash."""
    from matplotlib.ticker import LogLocator

    values = np.concatenate(curves_drawn)
    low, high = values.min(), values.max()
    if low > 0 and high / low > 10:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        axes.yaxis.set_minor_formatter(lambda *_: "")
        return
    usual = np.percentile(values, 99)
    if high - low > 2 * (usual - low) > 0:
        axes.set_ylim(low - 0.05 * (usual - low), usual + 0.25 * (usual - low))


def _mark_best(axes: Axes, steps: list[int], values: list[float], name: str) -> None:
    best = int(np.argmax(values) if higher_is_better(name) else np.argmin(values))
    step, value = steps[best], values[best]
    axes.plot([step], [value], marker="*", color=BEST, markersize=12, linestyle="none", zorder=5)
    late = step > (steps[0] + steps[-1]) / 2
    axes.annotate(
        f"best {format_metric(name, value)} at step {step:,}",
        (step, value),
        xytext=(-10 if late else 10, 12),
        textcoords="offset points",
        ha="right" if late else "left",
        color=BEST,
        size=9,
        bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.65},
        zorder=6,
    )


def _subtitle(lines: list[Mapping[str, Any]]) -> str:
    steps, seconds = series(lines, "step", "seconds")
    if not steps:
        return ""
    return f"{steps[-1]:,} steps in {format_seconds(seconds[-1])} of training"
