"""Descent: the main line of deep learning as one small library.

`train`, `load`, `Run` and `Recipe` are imported when they are first used, so that `import descent`
alone costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descent import explain
    from descent.api import find_rate, load, show_batch, train
    from descent.runs.recipe import Recipe
    from descent.runs.run import Run

__version__ = "0.1.0"
__all__ = ["Recipe", "Run", "__version__", "explain", "find_rate", "load", "show_batch", "train"]

_HOME = {
    "Recipe": "descent.runs.recipe",
    "Run": "descent.runs.run",
    "find_rate": "descent.api",
    "load": "descent.api",
    "show_batch": "descent.api",
    "train": "descent.api",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "explain":
        return import_module("descent.explain")
    if name not in _HOME:
        raise AttributeError(f"module 'descent' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
