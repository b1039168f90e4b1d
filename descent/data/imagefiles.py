"""The user's own images: a folder per class, or a CSV of paths and labels."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from descent.data.config import ImageData
from descent.data.imagesets import Pictures
from descent.data.pictures import SUFFIXES, look, open_image, to_array
from descent.data.splits import NAMES, named
from descent.data.textfiles import missing, rows_of_csv
from descent.errors import UserError, nearest

__all__ = ["read_csv", "read_folder"]

_DEFAULT_SIDE = 32
_LARGEST_OWN_SIDE = 256
_THREADS = 4


@dataclass(frozen=True)
class Listed:
    """An image file, its class, and its split where one is given."""

    file: Path
    label: str
    split: str | None = None


def read_folder(root: Path, config: ImageData) -> Pictures:
    """A folder with one folder per class, inside folders named for splits where these exist."""
    if not root.is_dir():
        if root.is_file():
            raise UserError(
                "images are given as a folder with one folder per class, as a CSV of path and label, or as "
                "X.npy",
                got=str(root),
                hint="add data.type=table for a table",
            )
        raise missing(root)
    parts = {split: folder for folder in _folders(root) if (split := named(folder.name))}
    official = "train" in parts and bool(_folders(parts["train"]))  # else it is a class of trains
    roots = parts if official else {None: root}
    classes = {folder.name for part in roots.values() for folder in _folders(part)}
    listed = [
        Listed(file, folder.name, split)
        for split, part in roots.items()
        for folder in _folders(part)
        for file in _images(folder)
    ]
    if len(classes) < 2 or not listed:
        raise UserError(
            f"{root} is no folder of images by class",
            got=f"{len(classes)} folders, {len(listed):,} images",
            expected="two folders or more, one per class, each with images named " + " ".join(SUFFIXES),
        )
    return _pictures(root, listed, classes, config)


def _folders(root: Path) -> list[Path]:
    return sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """Files named as images anywhere below, but for those that are hidden."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and not file.is_dir()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def read_csv(path: Path, config: ImageData) -> Pictures:
    """A CSV or TSV of paths and labels, and of splits where it has a column `split`.

    The columns are those named `path` and `label`, else the first two; a first line that names an image is
    no header. A path is taken as it stands, with no pattern, escape or `~`, from the CSV's folder on, and
    must stay in it.
    """
    if not path.is_file():
        raise missing(path)
    header, rows = rows_of_csv(path)
    if Path(header[0]).suffix.lower() in SUFFIXES:
        rows.insert(0, header)
        header = ["path", "label", "split"][: len(header)]
    places = _columns(path, header, config.target)
    listed = []
    for number, row in enumerate(rows, start=1):
        file, label = row[places["path"]], row[places["label"]].strip()
        given = row[places["split"]].strip() if "split" in places else ""
        split = (named(given) if given else "train") if "split" in places else None
        if not label or ("split" in places and split is None):
            raise UserError(
                f"{path}, row {number:,} under the header: {'no label' if not label else 'no such split'}",
                got=given if label else row,
                expected="train, validation or test" if label else "a path and a label",
            )
        listed.append(Listed(_inside(path, file, number), label, split))
    classes = {item.label for item in listed}
    if len(classes) < 2:
        raise UserError(f"{path} has only one label", got=next(iter(classes)), expected="two or more")
    if "split" in places and not any(item.split == "train" for item in listed):
        raise UserError(f"{path}: no row is of the split train")
    return _pictures(path, listed, classes, config)


def _columns(path: Path, header: list[str], target: str) -> dict[str, int]:
    """The places of the columns `path`, `label` and, where there is one, `split`."""
    low = [name.lower() for name in header]
    if len(header) < 2:
        raise UserError(f"{path} has one column", got=header, expected="path and label")
    if target and target not in header:
        near = nearest(target, header)
        raise UserError(
            f"{path}: there is no column {target!r}",
            expected="one of " + ", ".join(header),
            hint=f"did you mean data.target={near}?" if near else None,
        )
    if "path" in low and not target and "label" not in low and len(header) > 2:
        raise UserError(
            f"{path}: which column is the label?",
            expected="one of " + ", ".join(header),
            hint=f"name it, for example data.target={next(n for n in header if n.lower() != 'path')}",
        )
    file = low.index("path") if "path" in low else 0
    label = header.index(target) if target else low.index("label") if "label" in low else int(file == 0)
    if file == label:
        raise UserError(f"{path}: the column {header[label]!r} cannot be both path and label")
    places = {"path": file, "label": label}
    return {**places, "split": low.index("split")} if "split" in low else places


def _inside(path: Path, file: str, number: int) -> Path:
    """The file a row names, which must lie in the folder of the CSV (links in it may lead anywhere)."""
    root = os.path.abspath(path.parent)
    whole = os.path.normpath(os.path.join(root, file))
    if "\0" in file or os.path.commonpath([root, whole]) != root:
        raise UserError(
            f"{path}, row {number:,} under the header: the path leads out of the CSV's folder",
            got=file,
            expected=f"a path within {root}",
            hint="put the CSV into a folder that holds all the images",
        )
    return path.parent / os.path.relpath(whole, root)


def _pictures(where: Path, listed: list[Listed], names: Iterable[str], config: ImageData) -> Pictures:
    """The listed images that can be read, numbered by class."""
    classes = _in_order(names)
    for name in classes:
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
            raise UserError(
                f"{where}: a class whose name is no text", got=name, expected="Unicode without control codes"
            )
    images, kept, skipped = _decode([item.file for item in listed], config)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[listed[place].label] for place in kept], dtype=np.int64)
    empty = [name for number, name in enumerate(classes) if number not in labels]
    if empty:
        raise UserError(
            f"{where}: no readable image in {', '.join(empty)}", hint=skipped[0] if skipped else None
        )
    official = None
    if listed[0].split is not None:
        splits = np.array([listed[place].split for place in kept])
        given = {item.split for item in listed}
        official = {name: np.flatnonzero(splits == name) for name in NAMES if name in given}
    return Pictures(images, labels, classes, official, skipped=tuple(skipped))


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in alphabetical order, or by size where all are whole numbers."""
    listed = sorted(names)
    numeric = all(name.isascii() and name.isdecimal() and len(name) < 10 for name in listed)
    return tuple(sorted(listed, key=int) if numeric else listed)


def _decode(files: list[Path], config: ImageData) -> tuple[NDArray[np.uint8], list[int], list[str]]:
    """Images that could be read, brought to one shape; their places; and the others with the reason.

    Threads share the work, each image going to a place of its own, so that their order changes nothing.
    """
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        faults: dict[int, str] = {}
        looks = list(pool.map(_look, files))
        for place, seen in enumerate(looks):
            if isinstance(seen, str):
                faults[place] = seen
        readable = [place for place in range(len(files)) if place not in faults]
        seen = [found for found in looks if not isinstance(found, str)]
        channels = config.channels or (1 if all(colourless for _, _, colourless in seen) else 3)
        height, width = config.size or _own_size({sides[:2] for sides in seen})
        images = np.empty((len(readable), channels, height, width), dtype=np.uint8)

        def read(at: int) -> str | None:
            try:
                picture = open_image(files[readable[at]], (height, width))
                images[at] = to_array(picture, channels, (height, width), config.fit)
            except UserError as error:
                return error.what
            return None

        faults |= {
            readable[at]: fault
            for at, fault in enumerate(pool.map(read, range(len(readable))))
            if fault is not None
        }
    good = [at for at, place in enumerate(readable) if place not in faults]
    images = images if len(good) == len(images) else images[good]
    return images, [readable[at] for at in good], [faults[place] for place in sorted(faults)]


def _look(file: Path) -> tuple[int, int, bool] | str:
    if not file.is_file():
        return f"{file} is no file" if os.path.lexists(file) else f"{file} is not there"
    try:
        return look(file)
    except UserError as error:
        return error.what


def _own_size(sizes: set[tuple[int, int]]) -> tuple[int, int]:
    """The one size all images have, where it is a small one."""
    own = next(iter(sizes)) if len(sizes) == 1 else None
    return own if own and max(own) <= _LARGEST_OWN_SIDE else (_DEFAULT_SIDE, _DEFAULT_SIDE)
