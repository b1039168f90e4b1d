"""Attention and what else is seen of a text as pictures: a grid of heads, a map, lines, bars, the lens.

A PNG has the code of a character in its place where no font here has it; an SVG keeps the text itself, which
is drawn by the fonts of who opens it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from descent.errors import UserError
from descent.explain.attention_text import AttentionLayer, TextAttention
from descent.explain.hidden_words import HiddenWord
from descent.explain.text_lens import LogitLens
from descent.runs.figure import GRID, INK, MUTED, drawable, drawing, headline, percent, save, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_heads", "draw_lens", "draw_lines", "draw_map", "draw_values", "draw_words", "picture"]

LONGEST = 80
"""Tokens of a side that are drawn with their names."""
MOST_MAPS = 600
MOST_COLUMNS = 40
LONGEST_LABEL = 16
WARM, COLD = "#d9622b", "#2f6fb5"
TITLES = {
    "self": "what each token looks at",
    "encoder": "what each token of the source looks at",
    "decoder": "what each written token looks at in what was written",
    "cross": "what each written token looks at in the source",
}


def picture(path: Path | str) -> Path:
    """A path that a figure can be written to.

    Raises:
        UserError: its name is neither that of a PNG nor of an SVG, or it is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg") or path.is_dir():
        raise UserError(
            "a figure must be a PNG or an SVG",
            got=str(path),
            expected="a file's name that ends with .png or .svg",
        )
    return path


def draw_heads(found: TextAttention, path: Path | str) -> Path:
    """Draws small maps, a row a layer and a column a head: rows of a map look, columns are looked at.

    Args:
        found: of at most 600 heads.
        path: the PNG or SVG to write.
    """
    path, count = picture(path), sum(len(layer.heads) for layer in found.layers)
    if count > MOST_MAPS:
        raise UserError(
            "there are too many heads to draw",
            got=count,
            expected=f"at most {MOST_MAPS}",
            hint="choose layers",
        )
    widest = max(len(layer.heads) for layer in found.layers)
    with _drawing(path, max(0.95 * widest + 1.6, 6.4), 0.98 * len(found.layers) + 0.9) as figure:
        grid = figure.subplots(len(found.layers), 1, squeeze=False)[:, 0]
        for axes, layer in zip(grid, found.layers, strict=True):
            maps, (_, width) = layer.weights.numpy(), layer.weights.shape[1:]
            gap = max(1, round(0.08 * width))
            row = np.full((maps.shape[1], widest * (width + gap) - gap), np.nan)
            starts = [place * (width + gap) for place in range(len(maps))]
            for start, small in zip(starts, maps, strict=True):
                row[:, start : start + width] = small
            top = float(np.abs(maps).max()) or 1.0
            signed = bool((maps < 0).any())
            axes.imshow(
                row, cmap="RdBu_r" if signed else "Blues", vmin=-top * signed, vmax=top if signed else 1.0,
                aspect="auto", interpolation="nearest",
            )  # fmt: skip
            axes.set_xticks(
                [start + (width - 1) / 2 for start in starts], [f"{n}" for n in layer.heads], size=7
            )
            axes.set_yticks([])
            axes.set_ylabel(layer.name.replace(".", "\n"), rotation=0, ha="right", va="center", size=7)
            axes.tick_params(length=0, pad=1)
            axes.grid(visible=False)
            for side in axes.spines.values():
                side.set_visible(False)
        headline(figure, "Attention by layer and head", "a row looks, a column is looked at; below, the head")
        return save(figure, path)


def draw_map(layer: AttentionLayer, path: Path | str, title: str = "Attention") -> Path:
    """Draws one map with its tokens: the mean of the layer's heads, or the one that was asked for.

    Args:
        layer: of at most 80 tokens a side.
        path: the PNG or SVG to write.
        title: of the figure.
    """
    path, weights = picture(path), layer.weights.mean(0).numpy()
    _fits(layer)
    height, width = weights.shape
    signed = bool((weights < 0).any())
    top = float(np.abs(weights).max()) or 1.0
    with _drawing(path, max(0.26 * width + 2.0, 6.4), 0.26 * height + 1.9) as figure:
        axes = figure.add_subplot()
        drawn = axes.imshow(
            weights, cmap="RdBu_r" if signed else "Blues", vmin=-top * signed, vmax=top if signed else 1.0
        )
        rows, keys = _named(path, layer.rows), _named(path, layer.keys)
        turn = 90 if max(map(len, keys)) > 1 else 0
        axes.set_xticks(range(width), keys, rotation=turn, size=8)
        axes.set_yticks(range(height), rows, size=8)
        axes.xaxis.tick_top()
        axes.tick_params(length=0, labelcolor=INK)
        axes.grid(visible=False)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
        bar.outline.set_edgecolor(GRID)  # type: ignore[operator]
        headline(figure, title, _note(layer))
        return save(figure, path)


def draw_lines(layer: AttentionLayer, path: Path | str, title: str = "Attention") -> Path:
    """Draws two columns of tokens, those that look on the left; the thicker a line, the greater the weight.

    Vig (2019), "A Multiscale Visualization of Attention in the Transformer Model", section 2.1.

    Args:
        layer: of at most 80 tokens a side; of several heads the mean is drawn.
        path: the PNG or SVG to write.
        title: of the figure.
    """
    from matplotlib.collections import LineCollection

    path, weights = picture(path), layer.weights.mean(0).numpy()
    _fits(layer)
    top = float(np.abs(weights).max()) or 1.0
    tall = max(weights.shape)
    with _drawing(path, 6.4, 0.24 * tall + 1.1) as figure:
        axes = figure.add_subplot()
        left, right = (_spread(count, tall) for count in weights.shape)
        shares = weights / max(1.0, top)
        pairs = [(row, key) for row, key in np.ndindex(*weights.shape) if abs(shares[row, key]) > 0.005]
        lines = LineCollection(
            [np.array([(0.0, left[row]), (1.0, right[key])]) for row, key in pairs],
            colors=[WARM if shares[pair] < 0 else COLD for pair in pairs],
            linewidths=[0.3 + 4.2 * abs(shares[pair]) for pair in pairs],
            alpha=[0.25 + 0.6 * abs(float(shares[pair])) for pair in pairs],
            capstyle="round",
        )
        axes.add_collection(lines)
        for place, name in zip(left, _named(path, layer.rows), strict=True):
            axes.text(-0.03, place, name, ha="right", va="center", size=9)
        for place, name in zip(right, _named(path, layer.keys), strict=True):
            axes.text(1.03, place, name, ha="left", va="center", size=9)
        axes.set_xlim(-0.8, 1.8)
        axes.set_ylim(tall - 0.5, -0.5)
        axes.set_axis_off()
        headline(figure, title, _note(layer))
        return save(figure, path)


def draw_values(
    pieces: Mapping[str, Sequence[str]],
    values: Mapping[str, Any],
    title: str,
    note: str,
    path: Path | str,
) -> Path:
    """Draws a bar for every token, orange for a value over 0 and blue below, each side in its own column.

    Args:
        pieces, values: by side.
        title, note: of the figure.
        path: the PNG or SVG to write.
    """
    path, longest = picture(path), max(map(len, pieces.values()))
    if longest > LONGEST:
        raise _too_long(longest)
    bounds = [float(bound) for side in values for bound in (values[side].min(), values[side].max())]
    low, high = min(0.0, *bounds), max(0.0, *bounds)
    room = 0.04 * ((high - low) or 1.0)
    with _drawing(path, 5.2 * len(pieces) + 1.2, 0.22 * longest + 1.2) as figure:
        grid = figure.subplots(1, len(pieces), squeeze=False)[0]
        for axes, side in zip(grid, pieces, strict=True):
            held = np.asarray(values[side], dtype=np.float64)
            axes.barh(
                range(len(held)), held, color=[WARM if value > 0 else COLD for value in held], height=0.7
            )
            axes.set_yticks(range(len(held)), _named(path, pieces[side]), size=9)
            axes.set_ylim(longest - 0.4, -0.6)
            axes.set_xlim(low - room, high + room)
            axes.axvline(0, color=MUTED, linewidth=0.8)
            axes.set_axisbelow(True)
            axes.tick_params(axis="y", length=0, labelcolor=INK)
            axes.grid(visible=False, axis="y")
            if len(pieces) > 1:
                axes.set_title("source" if side == "source" else "written before", size=9, color=MUTED)
        headline(figure, title, _plain(path, note))
        return save(figure, path)


def draw_words(pieces: Sequence[str], found: Sequence[HiddenWord], path: Path | str) -> Path:
    """Draws what may stand behind each mark of a text, as bars of probability.

    Args:
        pieces: the tokens of the text.
        found: one mark each, at most 12.
        path: the PNG or SVG to write.
    """
    path, count = picture(path), len(found[0].words)
    if len(found) > 12:
        raise UserError("there are too many marks to draw", got=len(found), expected="at most 12")
    with _drawing(path, 6.4, (0.24 * count + 0.5) * len(found) + 1.0) as figure:
        grid = figure.subplots(len(found), 1, squeeze=False)[:, 0]
        for axes, word in zip(grid, found, strict=True):
            axes.barh(range(count), word.probabilities, color=COLD, height=0.7)
            for place, share in enumerate(word.probabilities):
                axes.text(share + 0.01, place, percent(share), va="center", size=8, color=MUTED)
            axes.set_yticks(range(count), _named(path, word.words), size=9)
            axes.tick_params(axis="y", length=0, labelcolor=INK)
            axes.set_xlim(0, 1.12)
            axes.set_axisbelow(True)
            axes.set_ylim(count - 0.4, -0.6)
            axes.grid(visible=False, axis="y")
            around = [*pieces[max(word.place - 6, 0) : word.place + 7]]
            axes.set_title(_plain(path, short(" ".join(around), 80)), size=9, loc="left", color=MUTED)
        headline(figure, "Hidden words", "the likeliest tokens in the place of each mark")
        return save(figure, path)


def draw_lens(found: LogitLens, path: Path | str) -> Path:
    """Draws the likeliest token of each layer (upwards) at each token of the text.

    Args:
        found: of at most 40 tokens.
        path: the PNG or SVG to write.
    """
    path, shares = picture(path), found.probabilities[:, :, 0].numpy()
    layers, columns = shares.shape
    if columns > MOST_COLUMNS:
        raise UserError(
            "the text is too long to draw", got=columns, expected=f"at most {MOST_COLUMNS} tokens"
        )
    with _drawing(path, max(0.72 * columns + 1.6, 6.4), 0.3 * layers + 1.8) as figure:
        axes = figure.add_subplot()
        drawn = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto", origin="lower")
        for layer, column in np.ndindex(layers, columns):
            (name,) = _named(path, [found.words[layer][column][0]], 9)
            colour = "white" if shares[layer, column] > 0.6 else INK
            axes.text(column, layer, name, ha="center", va="center", size=7, color=colour)
        axes.set_yticks(range(layers), found.layers, size=8)
        axes.set_xticks(range(columns), _named(path, found.pieces, 12), size=8, rotation=90)
        axes.tick_params(length=0, labelcolor=INK)
        axes.grid(visible=False)
        if found.written:
            above = axes.secondary_xaxis("top")
            above.set_xticks(range(columns), _named(path, found.written, 12), rotation=90, size=8)
            above.tick_params(length=0)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02)
        bar.outline.set_edgecolor(GRID)  # type: ignore[operator]
        headline(figure, "Logit lens", "what each layer would say; below, the token read" + (
            "; above, the one written" if found.written else ""))  # fmt: skip
        return save(figure, path)


@contextmanager
def _drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure whose SVG keeps texts as texts."""
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}), drawing(width, height) as figure:
        yield figure


def _named(path: Path, pieces: Sequence[str], longest: int = LONGEST_LABEL) -> list[str]:
    return [_plain(path, short(piece, longest)) for piece in pieces]


def _plain(path: Path, text: str) -> str:
    """A text as a figure can show it: in a PNG the codes of what no font here has."""
    if path.suffix.lower() == ".svg":
        return text
    return "".join(sign if drawable([sign])[0] == sign else f"{ord(sign):04X} " for sign in text).strip()


def _note(layer: AttentionLayer) -> str:
    heads = f"head {layer.heads[0]}" if len(layer.heads) == 1 else f"mean of {len(layer.heads)} heads"
    return f"{layer.name}, {heads}: {TITLES[layer.kind]}"


def _fits(layer: AttentionLayer) -> None:
    longest = max(layer.weights.shape[1:])
    if longest > LONGEST:
        raise _too_long(longest)


def _too_long(count: int) -> UserError:
    return UserError(
        "the text is too long to be drawn token by token",
        got=f"{count} tokens",
        expected=f"at most {LONGEST}",
        hint="an HTML or JSON file holds all of it, as do the arrays",
    )


def _spread(count: int, tall: int) -> NDArray[np.floating]:
    """Places of a column of tokens, in the middle of the taller one."""
    return np.arange(count) + (tall - count) / 2
