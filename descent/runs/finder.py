"""The learning-rate finder: how the loss answers as the rate rises from far too small to far too large.

    rate(i) = low (high / low)^(i / (steps - 1)),   one training step at each

Source: L. N. Smith (2017), "Cyclical Learning Rates for Training Neural Networks", section 3.3.
Differs: the rate rises geometrically, not linearly, so that one test covers all magnitudes. All is done on
a copy: weights, statistics, optimizer state and the generators of random numbers stay as they were.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from descent.errors import UserError
from descent.objectives import Objective
from descent.runs.assemble import Parts
from descent.runs.recipe import Recipe
from descent.runs.transfer import begin
from descent.training.loop import NonFiniteLoss, train_step
from descent.training.schedules import ConstantConfig
from descent.training.state import State

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOW, HIGH, STEPS = 1e-7, 10.0, 100
TOO_HIGH = 4.0
"""A loss so many times the best one ends the test."""
MEMORY = 0.8
"""Share of the past in the running mean that decides this."""
FEWEST = 10


@dataclass(frozen=True)
class RateCurve:
    """The course of a test.

    Attributes:
        rates: of `optimizer.learning_rate`, rising; the optimizer's other rates rose along.
        losses: of the training batch at each.
        smooth: the losses, averaged over their neighbours.
        steepest: the rate at which the loss falls fastest.
        tenth: a tenth of the rate with the least loss.
        options: what to set in the recipe, by dotted name, for the rate `steepest`.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    steepest: float
    tenth: float
    options: Mapping[str, float]

    @property
    def advice(self) -> str:
        """The options as they are written on a command line."""
        return " ".join(f"{name}={value:g}" for name, value in self.options.items())


def find_rate(
    what: Recipe | Parts, *, low: float = LOW, high: float = HIGH, steps: int = STEPS, progress: bool = False
) -> RateCurve:
    """Tries rising learning rates on a copy of a model, and says which to take.

    The test ends before `high` where the loss is no number any more or four times the best.

    Args:
        what: a recipe, with weights to start from if it names any; or the parts of a run, as they stand.
        low: the first rate.
        high: the last.
        steps: how many are tried.
        progress: show downloads on stderr.

    Raises:
        UserError: no rate makes the loss smaller, or the range is empty.
    """
    if not 0 < low < high < math.inf or steps < FEWEST:
        raise UserError(
            "the rates to try must rise",
            got=f"from {low:g} to {high:g} in {steps} steps",
            expected=f"0 < low < high, and {FEWEST} steps or more",
        )
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        parts = what if isinstance(what, Parts) else begin(what, progress)[0]
        tried = np.geomspace(low, high, steps)
        losses = _losses(parts, tried.tolist())
    return _curve(parts.recipe, tried[: len(losses)], np.array(losses))


def _losses(parts: Parts, rates: Sequence[float]) -> list[float]:
    """The loss at each rate, until it is too high to go on."""
    (state, objective), reference = _copied(parts), parts.recipe.optimizer.learning_rate
    settings = replace(parts.settings, schedule=ConstantConfig())
    groups = [g for listed in state.optimizers.values() for o in listed for g in o.param_groups]
    shares = [group["initial_lr"] / reference for group in groups]
    losses: list[float] = []
    mean, best = 0.0, math.inf
    for number, rate in enumerate(rates):
        for group, share in zip(groups, shares, strict=True):
            group["initial_lr"] = rate * share
        batch = parts.batches.batch(state.step)
        try:
            loss = next(iter(train_step(state, objective, batch, settings).losses.values()))
        except NonFiniteLoss:
            break
        losses.append(loss)
        mean = MEMORY * mean + (1 - MEMORY) * loss
        running = mean / (1 - MEMORY ** (number + 1))
        best = min(best, running)
        if running > TOO_HIGH * best:
            break
    return losses


def _copied(parts: Parts) -> tuple[State, Objective]:
    """Model, optimizers, and an objective with the memory of its own; averaged weights are left out, as
    nobody looks at them."""
    state = parts.state
    held = (
        state.model,
        state.optimizers,
        state.memory,
        parts.objective,
    )  # at once: the memory is the objective's
    model, optimizers, memory, objective = copy.deepcopy(held)
    for name in ("features", "forward"):  # a compiled one computes with the weights it was compiled for
        vars(model).pop(name, None)
    return State(model, optimizers, None, memory, state.step), objective


def _curve(recipe: Recipe, rates: NDArray[Any], losses: NDArray[Any]) -> RateCurve:
    smooth = smoothed(losses) if len(losses) >= FEWEST else losses
    lowest = int(smooth.argmin()) if len(smooth) else 0
    if lowest == 0:
        raise UserError(
            f"no learning rate that was tried makes the loss of {recipe.name} smaller",
            got=f"{len(rates)} rates from {rates[0]:.2g} to {rates[-1]:.2g}"
            if len(rates)
            else "a loss of NaN",
            hint="look at the data, or try other rates",
        )
    slopes = np.gradient(smooth, np.log(rates))
    steepest, tenth = float(rates[slopes[: lowest + 1].argmin()]), float(rates[lowest] / 10)
    options = _options(recipe, steepest)
    return RateCurve(
        tuple(rates.tolist()), tuple(losses.tolist()), tuple(smooth.tolist()), steepest, tenth, options
    )


def smoothed(values: NDArray[Any]) -> NDArray[Any]:
    """Each value averaged with its neighbours on both sides, so that the curve is not shifted."""
    width = max(1.0, len(values) / 25)
    places = np.arange(len(values))
    weights = np.exp(-0.5 * ((places[:, None] - places[None]) / width) ** 2)
    return weights @ values / weights.sum(1)


def _options(recipe: Recipe, rate: float) -> dict[str, float]:
    """All rates the optimizer has, as they were in proportion, to two digits."""
    table, reference = recipe.optimizer.table(), recipe.optimizer.learning_rate
    rates = {name: value for name, value in table.items() if name.endswith("learning_rate") and value}
    return {f"optimizer.{name}": float(f"{value * rate / reference:.2g}") for name, value in rates.items()}


def draw(curve: RateCurve, path: Path | str, title: str) -> Path:
    """Draws the loss over the rate, with what is suggested, as a PNG."""
    from descent.runs.figure import MUTED, drawing, headline, save

    loss, advised = "#2f6fb5", "#b3261e"
    with drawing(8.0, 4.6) as figure:
        axes = figure.add_subplot()
        axes.plot(curve.rates, curve.losses, color=loss, alpha=0.3, linewidth=0.9)
        axes.plot(curve.rates, curve.smooth, color=loss, linewidth=1.8)
        axes.set_xscale("log")
        top, bottom = max(curve.smooth[: len(curve.smooth) // 2]), min(curve.smooth)
        axes.set_ylim(bottom - 0.15 * (top - bottom), top + 0.35 * (top - bottom))
        at = float(np.interp(math.log(curve.steepest), np.log(curve.rates), curve.smooth))
        axes.plot([curve.steepest], [at], marker="o", color=advised, markersize=7, linestyle="none", zorder=5)
        axes.axvline(curve.tenth, color=MUTED, linewidth=1.0, linestyle="--")
        _label(axes, f"steepest {curve.steepest:.2g}", curve.steepest, at, "data", advised)
        _label(axes, f"minimum / 10 = {curve.tenth:.2g}", curve.tenth, 0.96, "axes fraction", MUTED)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("learning rate")
        axes.set_ylabel("training loss")
        headline(figure, title, f"try {curve.advice}")
        return save(figure, Path(path))


def _label(axes: Axes, text: str, rate: float, height: float, measure: str, color: str) -> None:
    axes.annotate(
        text,
        (rate, height),
        xycoords=("data", measure),
        xytext=(-10, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color=color,
        size=9,
    )
