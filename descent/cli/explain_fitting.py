"""Which methods of `descent explain` fit a model, and which of them is meant where none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from descent.cli.explain_texts import MODELS
from descent.errors import UserError, unknown
from descent.explain.names import METHODS, SEQUENCES, TEXTS

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded

__all__ = ["check_method", "default_method", "fitting"]

RECURRENT = ("rnn", "forecaster")
OVER_TIME = (*RECURRENT, "seq2seq", "dlinear", "dscnn")
"""Models of sequences, by the type of their configuration, that are no Transformers."""
ANY_SEQUENCE = ("saliency", "gradient-distance")


def fitting(loaded: Loaded) -> tuple[str, ...]:
    """The names of the methods that fit a model."""
    kind = str(getattr(loaded.config, "type", ""))
    if kind in MODELS:
        decoder = kind in ("gpt", "llama")
        return (*TEXTS, "gradient-distance") if decoder else tuple(TEXTS)
    if kind == "seq2seq":
        return tuple(SEQUENCES)
    if kind in RECURRENT:
        return tuple(name for name in SEQUENCES if name != "alignment")
    return ANY_SEQUENCE if kind in OVER_TIME else METHODS


def default_method(loaded: Loaded) -> str:
    """The method where none is named, of a model that is no Transformer over text."""
    return "saliency" if getattr(loaded.config, "type", "") in OVER_TIME else "gradcam"


def check_method(loaded: Loaded, method: str | None) -> None:
    """Answers a mistyped method, or one of images for another model, by the names of those that fit.

    Raises:
        UserError: the method is none at all, or none of this kind of model.
    """
    if method is None:
        return
    names = fitting(loaded)
    if method not in (*METHODS, *SEQUENCES, *TEXTS):
        raise unknown("method for this model", method, names)
    if method in METHODS and method not in names:
        raise UserError(
            f"{method} is for images: it is no view of a sequence or a text",
            got=loaded.name or "another model",
            expected="one of " + ", ".join(names),
        )
