"""What `descent predict` is asked about: images, rows of a file, or a row in words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from descent.errors import UserError, nearest

__all__ = ["images_of", "read_inputs"]

LARGEST_FILE = 100_000_000


def read_inputs(words: Sequence[str], kind: str = "") -> list[tuple[str, Any]]:
    """A name and a value for each input: a path for a file, a mapping of column to value for a row.

    Args:
        words: files (`.csv`, `.tsv`, `.json`, `.jsonl` and `.ndjson` hold rows, anything else is an image),
            folders (every image in them, at any depth, by name), or `name=value` words that together make
            one row.
        kind: of the data the model was trained on: a file of a series is one input, and folders hold sounds
            for a model of sound.
    """
    pairs = [word for word in words if "=" in word and not Path(word).exists()]
    if pairs and kind in ("series", "sound"):
        raise _absent(Path(pairs[0]), kind)
    if pairs and len(pairs) < len(words):
        other = next(word for word in words if word not in pairs)
        raise UserError(f"{other!r} is not of the form name=value, as {pairs[0]!r} is")
    if pairs:
        row = dict(word.split("=", 1) for word in pairs)
        return [("row", {name.strip(): value.strip() for name, value in row.items()})]
    found: list[tuple[str, Any]] = []
    for word in words:
        path = Path(word)
        if path.is_dir():
            found += [(str(file), file) for file in _files_of(path, kind)]
            continue
        if not path.is_file():
            raise _absent(path, kind)
        rows = None if kind in ("series", "sound") else _rows(path)
        found += (
            [(str(path), path)] if rows is None else [(f"{path}:{n}", row) for n, row in enumerate(rows, 1)]
        )
    if not found:
        raise UserError("there are no rows in " + ", ".join(words))
    return found


def _absent(path: Path, kind: str) -> UserError:
    """The error for a file that is not there: what this model is asked with, and the nearest name."""
    from descent.data.sound_config import SOUND_SUFFIXES

    images, rows = "image files or folders of them", "a CSV or JSON file of rows, or name=value words"
    wanted = {
        "sound": "recordings or folders of them, named " + " ".join(SOUND_SUFFIXES),
        "series": "the file of a series: a .csv or .tsv with the columns of training",
        "images": images,
        "table": rows,
    }
    held = path.parent if path.parent.is_dir() else None
    near = nearest(path.name, [item.name for item in held.iterdir()]) if held else None
    return UserError(
        f"{path} is not a file",
        expected=wanted.get(kind, f"{images}, {rows}"),
        hint=f"did you mean {path.with_name(near)}?" if near else None,
    )


def _files_of(folder: Path, kind: str) -> list[Path]:
    if kind == "series":
        raise UserError(f"{folder} is a folder", expected="a file of one series")
    if kind != "sound":
        return images_of(folder)
    from descent.data.soundfiles import sound_files

    files = sound_files(folder)
    if not files:
        raise UserError(f"there is no sound file in {folder}")
    return files


def images_of(folder: Path) -> list[Path]:
    """The image files of a folder and of the folders in it, known by their names' endings.

    Raises:
        UserError: there are none.
    """
    from descent.data.picture_names import SUFFIXES, image_files

    files = [file for file in image_files(folder) if file.is_file()]
    if not files:
        raise UserError(f"there is no image in {folder}", expected="files named " + " ".join(SUFFIXES))
    return files


def _rows(path: Path) -> list[dict[str, Any]] | None:
    """The rows of a file by its name; None for what is no table."""
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".tsv", ".json", ".jsonl", ".ndjson"):
        return None
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(f"{path} is too large to predict in one go", expected="at most 100 MB")
    # What a cell means is decided where training decided it: here it stays text.
    from descent.data.textfiles import read_text, rows_of_csv

    if suffix in (".csv", ".tsv"):
        header, rows = rows_of_csv(path)
        return [dict(zip(header, row, strict=True)) for row in rows]
    text = read_text(path)
    return _json_rows(path, [text] if suffix == ".json" else text.split("\n"))


def _json_rows(path: Path, texts: Sequence[str]) -> list[dict[str, Any]]:
    rows: list[Any] = []
    for number, text in enumerate(texts, start=1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not valid JSON ({error})") from None
        rows += value if isinstance(value, list) else [value]
    if not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} must hold one JSON object, or a list of them: column names and values")
    return rows
