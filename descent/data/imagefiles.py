"""The user's own images: a folder per class, or a CSV of paths and labels."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from descent.data.config import ImageData
from descent.data.imagesets import Pictures
from descent.data.picture_names import SUFFIXES, image_files
from descent.data.pictures import look, read_image, room
from descent.data.splits import NAMES, file_key, named
from descent.data.textfiles import missing, rows_of_csv
from descent.errors import UserError, nearest

__all__ = ["read_csv", "read_folder"]

_DEFAULT_SIDE = 32
_LARGEST_OWN_SIDE = 64
_THREADS = 4
_NAMED_FOLDERS = 5


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
    roots, notes = _roots(root)
    classes = {folder.name for part in roots.values() for folder in _folders(part)}
    listed = [
        Listed(file, folder.name, split)
        for split, part in roots.items()
        for folder in _folders(part)
        for file in image_files(folder)
    ]
    if len(classes) < 2 or not listed:
        raise UserError(
            f"{root} is no folder of images by class",
            got=f"{len(classes)} folders, {len(listed):,} images",
            expected="two folders or more, one per class, each with images named " + " ".join(SUFFIXES),
        )
    return _pictures(root, listed, classes, config, notes)


def _roots(root: Path) -> tuple[dict[str | None, Path], list[str]]:
    """The folders that hold a folder per class, by their splits; and those beside them, in words."""
    parts: dict[str | None, Path] = {}
    others, twins = [], []
    for folder in _folders(root):
        split = named(folder.name)
        if split is None:
            others.append(folder.name)
        elif split in parts:
            twins.append((split, parts[split].name, folder.name))
        else:
            parts[split] = folder
    if "train" not in parts or not _folders(parts["train"]):
        return {None: root}, []  # train is absent, or a class of trains
    if twins:
        split, first, second = twins[0]
        raise UserError(
            f"{root} has two folders for the split {split}",
            got=f"{first} and {second}",
            hint="put the images of both into one, or take one away",
        )
    more = ", ..." if len(others) > _NAMED_FOLDERS else ""
    named_others = ", ".join(map(repr, others[:_NAMED_FOLDERS])) + more
    return parts, [f"not used, as it is no split: {named_others}"] if others else []


def _folders(root: Path) -> list[Path]:
    return sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))


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
    try:
        inside = "\0" not in file and os.path.commonpath([root, whole]) == root
    except ValueError:  # another drive
        inside = False
    if not inside:
        raise UserError(
            f"{path}, row {number:,} under the header: the path leads out of the CSV's folder",
            got=file,
            expected=f"a path within {root}",
            hint="put the CSV into a folder that holds all the images",
        )
    return path.parent / os.path.relpath(whole, root)


def _pictures(
    where: Path, listed: list[Listed], names: Iterable[str], config: ImageData, notes: Sequence[str] = ()
) -> Pictures:
    """The listed images that can be read, numbered by class."""
    classes = _in_order(names)
    for name in classes:
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
            raise UserError(
                f"{where}: a class whose name is no text", got=name, expected="Unicode without control codes"
            )
    decoded = _decode([item.file for item in listed], config)
    kept, skipped = decoded.places, decoded.skipped
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
    return Pictures(
        decoded.images,
        labels,
        classes,
        official,
        skipped=tuple(skipped),
        keys=decoded.keys,
        notes=(*decoded.notes, *notes),
    )


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in alphabetical order, or by size where all are whole numbers."""
    listed = sorted(names)
    numeric = all(name.isascii() and name.isdecimal() and len(name) < 10 for name in listed)
    return tuple(sorted(listed, key=int) if numeric else listed)


@dataclass(frozen=True)
class Decoded:
    """Images that could be read, brought to one shape.

    Attributes:
        keys: a hash of each one's file.
        places: of each one in the list of files.
        skipped: the others, with the reason.
        notes: that their size is not their own.
    """

    images: NDArray[np.uint8]
    keys: NDArray[np.uint64]
    places: list[int]
    skipped: list[str]
    notes: tuple[str, ...]


def _decode(files: list[Path], config: ImageData) -> Decoded:
    """The listed files as images of one shape.

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
        own = _own_size({sides[:2] for sides in seen})
        height, width = config.size or own or (_DEFAULT_SIDE, _DEFAULT_SIDE)
        images = room(len(readable), channels, (height, width))
        keys = np.zeros(len(readable), dtype=np.uint64)

        def read(at: int) -> str | None:
            file = files[readable[at]]
            try:
                images[at] = read_image(file, channels, (height, width), config.fit)
                keys[at] = file_key(file)
            except UserError as error:
                return error.what
            except OSError as error:
                return f"{file} cannot be read: {error.strerror}"
            return None

        faults |= {
            readable[at]: fault
            for at, fault in enumerate(pool.map(read, range(len(readable))))
            if fault is not None
        }
    good = [at for at, place in enumerate(readable) if place not in faults]
    return Decoded(
        images if len(good) == len(images) else images[good],
        keys[good],
        [readable[at] for at in good],
        [faults[place] for place in sorted(faults)],
        () if config.size or own else (f"brought to {height} x {width}, which data.size changes",),
    )


def _look(file: Path) -> tuple[int, int, bool] | str:
    if not file.is_file():
        return f"{file} is no file" if os.path.lexists(file) else f"{file} is not there"
    try:
        return look(file)
    except UserError as error:
        return error.what


def _own_size(sizes: set[tuple[int, int]]) -> tuple[int, int] | None:
    """The one size all images have, where it is a small one."""
    own = next(iter(sizes)) if len(sizes) == 1 else None
    return own if own and max(own) <= _LARGEST_OWN_SIDE else None
