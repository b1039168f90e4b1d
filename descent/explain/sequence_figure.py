"""Views of sequences as pictures: gates, states, units over a text, saliency, gradients against distance."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from descent.explain.distance import GradientDistance
from descent.explain.recurrent import OPEN, SHUT, Trace
from descent.explain.sequence_saliency import SequenceSaliency
from descent.runs.figure import INK, MUTED, drawable, drawing, headline, percent, png, save, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_distance", "draw_gates", "draw_hidden", "draw_sequence_saliency", "draw_units"]

COLUMNS = 80
"""Characters of a line."""
LONGEST = 480
"""Steps of a text that are drawn; of a longer one the first."""
FEW = 100
"""Steps whose characters stand below the axis."""
COLOURS = {
    "input": "#2f6fb5", "forget": "#d9622b", "output": "#5b8f6a", "reset": "#2f6fb5", "update": "#d9622b",
}  # fmt: skip
LINES = ("#2f6fb5", "#d9622b", "#5b8f6a", "#7a4fa3", "#a3752a", "#2a8f8a")
FAINTEST = 1e-12
_SHOWN = {"\n": "↵", "\t": "→", "\r": "␍"}


def draw_gates(trace: Trace, path: Path | str) -> Path:
    """Draws each layer's gates over the steps: the mean of its units, and where nine of ten lie.

    Args:
        trace: of a network that has gates.
        path: the PNG to write.
    """
    path, shares = png(path), trace.saturation()
    with drawing(10.0, 2.3 * len(trace.layers) + 1.0) as figure:
        rows = figure.subplots(len(trace.layers), 1, sharex=True, squeeze=False)[:, 0]
        for index, (axes, layer) in enumerate(zip(rows, trace.layers, strict=True)):
            for name in trace.gates:
                values_TH = trace.values[name][index]
                low, high = np.percentile(values_TH, [5, 95], axis=1)
                shut, open_ = (share[index] for share in shares[name])
                label = f"{name}: {percent(float(shut))} shut, {percent(float(open_))} open"
                axes.fill_between(range(len(low)), low, high, color=COLOURS[name], alpha=0.13, linewidth=0)
                axes.plot(values_TH.mean(1), color=COLOURS[name], linewidth=1.5, label=label)
            axes.set_ylim(0, 1)
            axes.set_ylabel(f"{trace.module}\n{layer}")
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8)
        _name_steps(rows[-1], trace.pieces, trace.values["hidden"].shape[1])
        note = f"mean over the units, and nine of ten of them; shut: under {SHUT:g}, open: over {OPEN:g}"
        headline(figure, "Gates over time", note)
        return save(figure, path)


def draw_hidden(trace: Trace, path: Path | str) -> Path:
    """Draws each layer's hidden states as a map of units by steps, blue below 0 and red above.

    Args:
        trace: of any recurrent network.
        path: the PNG to write.
    """
    path, hidden = png(path), trace.values["hidden"]
    count = hidden.shape[2]
    top = max(1.0, float(np.percentile(np.abs(hidden), 99)))
    tall = float(np.clip(count / 40, 1.8, 4.5))
    with drawing(10.0, tall * len(trace.layers) + 1.2) as figure:
        rows = figure.subplots(len(trace.layers), 1, sharex=True, squeeze=False)[:, 0]
        for states_TH, axes, layer in zip(hidden, rows, trace.layers, strict=True):
            axes.grid(visible=False)
            axes.imshow(
                states_TH.T, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest"
            )
            axes.set_ylabel(f"{trace.module}\n{layer}: unit")
        bar = figure.colorbar(rows[0].images[0], ax=list(rows), shrink=0.6, pad=0.01)
        bar.outline.set_visible(False)  # type: ignore[operator]
        _name_steps(rows[-1], trace.pieces, hidden.shape[1])
        headline(figure, "Hidden states", f"{count} units a layer, in the order of their numbers")
        return save(figure, path)


def draw_units(trace: Trace, units: Sequence[tuple[int, int]], path: Path | str) -> Path:
    """Draws what single units remember, over the text itself or, of features, as curves.

    Args:
        trace: of any recurrent network.
        units: layer and number of each.
        path: the PNG to write.
    """
    path, memory = png(path), trace.memory
    names = [f"{trace.module} {trace.layers[layer]}, unit {unit}" for layer, unit in units]
    series = [memory[layer, :, unit] for layer, unit in units]
    what = "tanh of the cell" if "cell" in trace.values else "hidden state"
    if trace.pieces:
        scale = max(1.0, *(float(np.abs(values[:LONGEST]).max()) for values in series))
        note = f"{what}: blue is -{scale:.3g}, white 0, red {scale:.3g}"
        return _draw_texts(trace.pieces, series, names, "Units over the text", note, path, scale)
    with drawing(10.0, 1.6 * len(units) + 1.0) as figure:
        rows = figure.subplots(len(units), 1, sharex=True, squeeze=False)[:, 0]
        for values, name, axes in zip(series, names, rows, strict=True):
            axes.plot(values, color=LINES[0], linewidth=1.4)
            axes.set_title(name, size=9, loc="left")
        rows[-1].set_xlabel("step")
        headline(figure, "Units over time", what)
        return save(figure, path)


def draw_sequence_saliency(found: SequenceSaliency, label: str, path: Path | str) -> Path:
    """Draws what an answer hangs on: over the text, or as the curve and the map of the features.

    Args:
        label: the answer in words.
        path: the PNG to write.
    """
    path, values = png(path), found.values / (found.values.max() or 1.0)
    note = f"for {short(label, 60)}; the stronger, the more it hangs on that step"
    if found.pieces:
        return _draw_texts(found.pieces, [values], [""], "Saliency", note, path, 1.0)
    with drawing(10.0, 3.0 if found.features is None else 5.4) as figure:
        rows = figure.subplots(1 if found.features is None else 2, 1, sharex=True, squeeze=False)[:, 0]
        rows[0].plot(values, color=LINES[0], linewidth=1.5)
        rows[0].set_ylim(bottom=0)
        rows[0].set_ylabel("size of the gradient")
        if found.features is not None:
            top = float(np.abs(found.features).max()) or 1.0
            rows[1].grid(visible=False)
            rows[1].imshow(
                found.features.T, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto", interpolation="nearest"
            )
            rows[1].set_ylabel("feature")
        rows[-1].set_xlabel("step")
        headline(figure, "Saliency", note)
        return save(figure, path)


def draw_distance(
    curves: Mapping[str, tuple[GradientDistance, GradientDistance | None]], path: Path | str
) -> Path:
    """Draws how the gradient of a loss falls with the distance to an input, on a logarithmic axis.

    Args:
        curves: by name, as it is now and, dashed, as it was before it was trained.
        path: the PNG to write.
    """
    path = png(path)
    with drawing(8.4, 5.0) as figure:
        axes, lowest = figure.add_subplot(), 1.0
        for (name, (now, before)), colour in zip(curves.items(), LINES * len(curves), strict=False):
            for found, style in ((before, "--"), (now, "-")):
                if found is None:
                    continue
                shares = found.relative
                drawn = np.where(shares > FAINTEST, shares, np.nan)
                lowest = min(lowest, float(np.nanmin(drawn, initial=1.0)))
                axes.plot(drawn, style, color=colour, linewidth=1.6, label=name if found is now else None)
        axes.set_yscale("log")
        axes.set_ylim(bottom=max(FAINTEST, lowest / 2))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0e}" if value < 1e-3 else f"{value:g}")
        axes.set_xlim(left=0)
        axes.set_xlabel("distance k, in steps")
        axes.set_ylabel("gradient, as a share of that at k = 0")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        dashed = "; dashed: before training" if any(before for _, before in curves.values()) else ""
        note = f"length of the gradient of a loss by the input k steps before it{dashed}"
        headline(figure, "How far back the gradient reaches", note)
        return save(figure, path)


def _name_steps(axes: Axes, pieces: Sequence[str], steps: int) -> None:
    if pieces and steps <= FEW:
        axes.set_xticks(range(len(pieces)), [_sign(piece) for piece in pieces], size=7)
        axes.tick_params(axis="x", length=0)
    else:
        axes.set_xlabel("step")
    axes.set_xlim(-0.5, steps - 0.5)


def _sign(piece: str) -> str:
    """A piece as it can stand below an axis."""
    return "".join(sign if drawable([sign])[0] == sign else "□" for sign in map(_visible, piece))


def _draw_texts(
    pieces: Sequence[str],
    series: Sequence[NDArray[Any]],
    names: Sequence[str],
    title: str,
    note: str,
    path: Path,
    scale: float,
) -> Path:
    """The text once for each series of values, every character on the colour of its step."""
    if len(pieces) > LONGEST:
        note, pieces = f"{note}; the first {LONGEST} of {len(pieces):,} steps", pieces[:LONGEST]
    cells = _laid_out(pieces)
    lines = 1 + max(row for _, row, *_ in cells)
    tall = 0.21 * lines + 0.3
    widest = max(column + wide for _, _, column, wide, _ in cells)
    with drawing(max(0.125 * widest + 0.3, 6.4), tall * len(series) + 0.9) as figure:
        grid = figure.subplots(len(series), 1, squeeze=False)[:, 0]
        for axes, values, name in zip(grid, series, names, strict=True):
            _paint(axes, cells, values, (lines, max(widest, 48)), scale)
            axes.set_title(name, size=9, loc="left", color=MUTED, pad=2)
        headline(figure, title, note)
        return save(figure, path)


def _laid_out(pieces: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """Every character with its row, its column, its width in columns and its step."""
    found, row, column = [], 0, 0
    for step, piece in enumerate(pieces):
        for sign in piece:
            if unicodedata.combining(sign) and found:  # an accent belongs to the letter before it
                last = found[-1]
                found[-1] = (last[0] + sign, *last[1:])
                continue
            wide = 2 if unicodedata.east_asian_width(sign) in "WF" else 1
            if column + wide > COLUMNS:
                row, column = row + 1, 0
            found.append((sign, row, column, wide, step))
            column += wide
            if sign == "\n":
                row, column = row + 1, 0
    return found


def _paint(
    axes: Axes,
    cells: Sequence[tuple[str, int, int, int, int]],
    values: NDArray[Any],
    shape: tuple[int, int],
    scale: float,
) -> None:
    from matplotlib import colormaps

    picture = np.ones((*shape, 3))
    for sign, row, column, wide, step in cells:
        # half of the map's range, so that the characters stay readable on either end
        colour = colormaps["RdBu_r"](0.5 + 0.38 * float(values[step]) / scale)[:3]
        picture[row, column : column + wide] = colour
        shown, size = _glyph(sign)
        place = {"ha": "center", "va": "center" if "\n" in shown else "center_baseline", "in_layout": False}
        axes.text(column + (wide - 1) / 2, row, shown, size=size, color=INK, linespacing=0.9, **place)
    axes.imshow(picture, aspect="auto", interpolation="nearest")
    axes.set_axis_off()


def _glyph(sign: str) -> tuple[str, float]:
    """What stands for a character, and its size: its code in two lines where no font here has it."""
    shown = _visible(sign)
    if all(drawable([part])[0] == part for part in shown):
        return shown, 9.0
    code = f"{ord(shown[0]):04X}"
    half = (len(code) + 1) // 2
    return f"{code[:half]}\n{code[half:]}", 4.0


def _visible(sign: str) -> str:
    if sign in _SHOWN:
        return _SHOWN[sign]
    return "·" if unicodedata.category(sign[0]) in ("Cc", "Cf", "Cs", "Co", "Cn") else sign
