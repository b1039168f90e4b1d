"""The house style of figures, and the one way they are begun, titled and written.

Drawn with matplotlib's Agg canvas alone, so no display is needed and no global state of pyplot is
touched; matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descent.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = [
    "GRID", "INK", "MUTED", "Cell", "drawable", "drawing", "headline", "in_rows", "percent", "png", "save",
    "sheet", "short",
]  # fmt: skip

INK, MUTED, GRID = "#1f2733", "#6b7685", "#e4e8ee"
# A picture on a sheet, in inches; beyond so many pixels a side it has enough of them to be smoothed.
CELL, SHARP = 1.75, 64
STYLE = {
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": False,
    "figure.facecolor": "white",
    "font.size": 10.0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
}
# Families that hold Chinese, the best looking first; matplotlib falls through the list glyph by glyph.
CHINESE = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "PingFang SC",
    "Hiragino Sans GB",
    "Microsoft YaHei",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK JP",
    "SimHei",
    "Arial Unicode MS",
    "Droid Sans Fallback",
)


def headline(figure: Figure, title: str, subtitle: str) -> None:
    """A title and a line of facts at the top left, above everything that was drawn."""
    height = figure.get_figheight()
    figure.text(0.02, 1 - 0.18 / height, title, size=14, weight="bold", va="top")
    figure.text(0.02, 1 - 0.50 / height, subtitle, size=10, color=MUTED, va="top")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - 0.75 / height))  # type: ignore[union-attr, call-arg]


def save(figure: Figure, path: Path) -> Path:
    """Writes the figure as a PNG, into a folder that is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def drawable(names: Sequence[str]) -> list[str]:
    """Names of classes as a figure can show them: by its number where the fonts here lack a sign of it."""
    glyphs = _glyphs()
    return [
        name if all(ord(sign) in glyphs for sign in name) else str(number)
        for number, name in enumerate(names)
    ]


def short(name: str, longest: int) -> str:
    """A name on one line, cut where it is longer than so many signs."""
    name = " ".join(name.split())
    return name if len(name) <= longest else name[: longest - 1].rstrip() + "…"


def percent(share: float) -> str:
    """A share in two figures or more: 97.0%, 9.7%, 0.97%; what is short of 1 is never written as 100%."""
    if share in (0, 1):
        return f"{100 * share:.0f}%"
    if 0 < share < 0.0001:
        return "<0.01%"
    if share >= 0.9995:
        return f"{min(100 * share, 99.99):.2f}%"
    return f"{100 * share:.1f}%" if share >= 0.01 else f"{100 * share:.2f}%"


def png(path: Path | str) -> Path:
    """A path that a figure can be written to; to be asked before the work that the figure is of.

    Raises:
        UserError: its name is not that of a PNG, or it is a folder.
    """
    path = Path(path)
    if path.suffix.lower() != ".png" or path.is_dir():
        raise UserError("a figure must be a PNG", got=str(path), expected="a file's name that ends with .png")
    return path


@dataclass(frozen=True)
class Cell:
    """A small picture, its values in 0..1, of 1 or 3 channels or none (height, width); and its title."""

    pixels: NDArray[np.floating]
    title: str = ""


def in_rows(cells: Iterable[Cell], columns: int) -> list[list[Cell]]:
    """Cells in rows of so many, the last one shorter where they do not go up."""
    listed = list(cells)
    return [listed[start : start + columns] for start in range(0, len(listed), columns)]


def sheet(
    rows: Sequence[Sequence[Cell]], title: str, subtitle: str, path: Path, *, cell: float = CELL
) -> Path:
    """Draws small pictures in rows, each with its title above it and a hairline round it.

    Args:
        rows: all pictures of about one shape.
        title, subtitle: of the whole sheet.
        path: the PNG to write.
        cell: the width of a picture, in inches.
    """
    from matplotlib.patches import Rectangle

    columns, first = max(map(len, rows)), rows[0][0].pixels
    tall = min(max(first.shape[0] / first.shape[1], 0.4), 2.5)
    lines = max((small.title.count("\n") + 1 if small.title else 0) for row in rows for small in row)
    width = max(cell * columns + 0.1, 4.6)
    with drawing(width, len(rows) * (cell * tall + 0.16 * lines + 0.06) + 0.8) as figure:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for row, places in zip(rows, grid, strict=True):
            for small, axes in zip(row, places, strict=False):
                height, across = small.pixels.shape[:2]
                smooth = "antialiased" if height > SHARP else "nearest"
                pixels = small.pixels[:, :, 0] if small.pixels.shape[2:] == (1,) else small.pixels
                axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation=smooth)
                axes.set_title(small.title, size=8, pad=3)
                edge = Rectangle((-0.5, -0.5), across, height, fill=False, edgecolor=GRID, linewidth=1.0)
                axes.add_patch(edge)
        headline(figure, title, subtitle)
        return save(figure, path)


@contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches in the house style.

    A glyph that no font here has stays a box, without a warning; for names see `drawable`.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {**STYLE, "font.family": _families()}
    with warnings.catch_warnings(), matplotlib.rc_context(style):
        warnings.filterwarnings("ignore", message=r"Glyph .* missing", category=UserWarning)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        yield figure


@cache
def _families() -> list[str]:
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(family for family in CHINESE if family in known)]


@cache
def _glyphs() -> frozenset[int]:
    from matplotlib import font_manager

    places = [font_manager.findfont(family) for family in _families()]
    return frozenset(code for place in places for code in font_manager.get_font(place).get_charmap())
