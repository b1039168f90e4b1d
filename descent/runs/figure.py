"""The house style of figures, and the one way they are begun, titled and written.

Drawn with matplotlib's Agg canvas alone, so no display is needed and no global state of pyplot is
touched; matplotlib is imported when a picture is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["GRID", "INK", "MUTED", "drawable", "drawing", "headline", "save"]

INK, MUTED, GRID = "#1f2733", "#6b7685", "#e4e8ee"
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
