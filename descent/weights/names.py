"""A published file of weights in one word: `torchvision/resnet50:FILE.safetensors`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["published_file"]

LIBRARIES = ("torchvision/", "timm/")


def published_file(where: str | Path) -> tuple[Path, str] | None:
    """The file and the name of the network in it, if `where` gives both; opens nothing.

    Args:
        where: `NAME:FILE`, the name one of `descent.weights.published.NAMES`.
    """
    name, colon, file = str(where).partition(":")
    if not (colon and file and name.startswith(LIBRARIES)):
        return None
    return Path(file).expanduser(), name
