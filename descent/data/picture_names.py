"""Which files are images, by their names. Nothing here imports numpy, torch or Pillow."""

from __future__ import annotations

from pathlib import Path

__all__ = ["SUFFIXES", "image_files"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm")


def image_files(folder: Path) -> list[Path]:
    """What is named as an image in a folder, at any depth, sorted.

    Hidden files and what lies in hidden folders (`._a.png`, `.git`) is left out, and so are folders that are
    named as images. A link that leads nowhere is in the list.
    """
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and not file.is_dir()
    )
