"""The user's own images: a folder per class, or a CSV of paths and labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from descent.data.config import ImageData
from descent.data.imagesets import Pictures
from descent.data.listed import Listed, list_csv, list_folder
from descent.data.picture_names import SUFFIXES, image_files
from descent.data.pictures import look, read_image, room
from descent.data.splits import NAMES, file_key
from descent.errors import UserError

__all__ = ["read_csv", "read_folder"]

_DEFAULT_SIDE = 32
_LARGEST_OWN_SIDE = 64
_THREADS = 4


def read_folder(root: Path, config: ImageData) -> Pictures:
    """A folder with one folder per class, inside folders named for splits where these exist."""
    if root.is_file():
        raise UserError(
            "images are given as a folder with one folder per class, as a CSV of path and label, or as X.npy",
            got=str(root),
            hint="add data.type=table for a table",
        )
    listed, classes, notes = list_folder(root, image_files, "images", SUFFIXES)
    return _pictures(root, listed, classes, config, notes)


def read_csv(path: Path, config: ImageData) -> Pictures:
    """A CSV or TSV of paths and labels, and of splits where it has a column `split`; see `list_csv`."""
    listed, classes = list_csv(path, config.target, SUFFIXES, "images")
    return _pictures(path, listed, classes, config)


def _pictures(
    where: Path,
    listed: list[Listed],
    classes: tuple[str, ...],
    config: ImageData,
    notes: Sequence[str] = (),
) -> Pictures:
    """The listed images that can be read, numbered by class."""
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
