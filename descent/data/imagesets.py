"""The named sets of images, from their published files to pixels, class numbers and splits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descent.data import embedded
from descent.data.archives import mat_arrays, npz_arrays, tar_members
from descent.data.formats import read_idx
from descent.data.pictures import Fit, open_image
from descent.data.tables import whole_labels
from descent.data.textfiles import read_text
from descent.errors import CorruptArtifact, UserError

__all__ = ["SETS", "Pictures"]

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.int64]

_DIGITS = tuple("0123456789")
_FASHION = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_STL = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
_CIFAR_SIDE = 32
_STL_SIDE = 96
_SHEET_ROWS = 1000
_MAT_LIMIT = 300_000_000
_NPZ_LIMIT = 16_000_000


@dataclass
class Pictures:
    """Images as bytes (n, channels, height, width), their class numbers, and where they belong.

    Attributes:
        official: the places of each official split; None where there is none.
        validation: what is held out where the user says nothing: a share, or how many.
        fit: how an image is brought to another size where the user asks for nothing; None = crop.
        skipped: files that could not be read, each with the reason.
        keys: a hash of each image's file, by which it is split; None = its pixels are hashed as they stand.
        notes: what was decided for the user, or left aside.
    """

    images: Pixels
    labels: Numbers
    classes: tuple[str, ...]
    official: dict[str, Numbers] | None = None
    validation: int | float = 0.1
    fit: Fit | None = None
    skipped: tuple[str, ...] = ()
    keys: NDArray[np.uint64] | None = None
    notes: tuple[str, ...] = ()


def _joined(
    parts: dict[str, tuple[Pixels, Numbers]], classes: tuple[str, ...], validation: int | float, **more: Any
) -> Pictures:
    """Official splits, laid one behind the other."""
    borders = np.cumsum([0, *(len(labels) for _, labels in parts.values())])
    official = {name: np.arange(borders[n], borders[n + 1]) for n, name in enumerate(parts)}
    images = np.concatenate([pixels for pixels, _ in parts.values()])
    labels = np.concatenate([numbers for _, numbers in parts.values()])
    return Pictures(images, labels, classes, official, validation, **more)


def _digits(files: list[Path]) -> Pictures:
    return Pictures(*embedded.digits(), _DIGITS, fit="pad")


def _idx(files: list[Path], classes: tuple[str, ...]) -> Pictures:
    """MNIST's four files: training images and labels, test images and labels."""
    parts = {}
    for name, (pixels, numbers) in {"train": files[:2], "test": files[2:]}.items():
        images, labels = read_idx(pixels), read_idx(numbers)
        if images.ndim != 3 or len(images) != len(labels) or images.dtype != np.uint8:
            raise CorruptArtifact(
                f"{pixels.name} and {numbers.name} do not fit together",
                got=f"{images.shape} and {labels.shape}",
            )
        parts[name] = (images[:, None], whole_labels(labels, len(classes), str(numbers)))
    return _joined(parts, classes, 5000, fit="pad")


def _cifar10(files: list[Path]) -> Pictures:
    """Records of a label and 3 x 32 x 32 pixels, 10,000 to a file (the archive's binary version)."""
    folder, path = "cifar-10-batches-bin", files[0]
    batches = {"train": [f"data_batch_{n}.bin" for n in range(1, 6)], "test": ["test_batch.bin"]}
    record = 1 + 3 * _CIFAR_SIDE**2
    wanted = {f"{folder}/{name}": 10_000 * record for names in batches.values() for name in names}
    members = tar_members(path, {**wanted, f"{folder}/batches.meta.txt": 4096}, 200_000_000)
    parts = {}
    for split, names in batches.items():
        rows = []
        for name in names:
            data = np.frombuffer(members[f"{folder}/{name}"], dtype=np.uint8)
            if not len(data) or len(data) % record:
                raise CorruptArtifact(
                    f"{path}: {name} is not made of whole records",
                    got=f"{len(data):,} bytes",
                    expected=f"a multiple of {record:,}",
                )
            rows.append(data.reshape(-1, record))
            whole_labels(rows[-1][:, 0], len(_CIFAR), f"{path}, {name}")
        table = np.concatenate(rows)
        images = table[:, 1:].reshape(-1, 3, _CIFAR_SIDE, _CIFAR_SIDE)
        parts[split] = (images, table[:, 0].astype(np.int64))
    names = members[f"{folder}/batches.meta.txt"].decode("utf-8", "replace").split()
    if len(set(names)) != len(_CIFAR):
        raise CorruptArtifact(f"{path}: batches.meta.txt does not name ten classes", got=names[:12])
    return _joined(parts, tuple(names), 5000)


def _cifar10_sheets(files: list[Path], only: tuple[int, ...], validation: int) -> Pictures:
    """Sheets of 1,000 rows, each the pixels of one image; the last sheet is the test; then the labels."""
    *sheets, text = files
    numbers = read_text(text).split()
    if not all(number.isdecimal() and len(number) < 10 for number in numbers):
        raise CorruptArtifact(f"{text} does not hold whole numbers alone")
    labels = whole_labels(np.array([int(number) for number in numbers]), len(_CIFAR), str(text))
    with ThreadPoolExecutor(2) as pool:
        images = np.concatenate(list(pool.map(_sheet, sheets)))
    if len(images) != len(labels):
        raise CorruptArtifact(
            f"{text} does not fit the images", got=f"{len(labels):,} labels", expected=f"{len(images):,}"
        )
    renumbered = np.full(len(_CIFAR), -1, dtype=np.int64)
    renumbered[list(only)] = np.arange(len(only))
    chosen, border = np.isin(labels, only), len(images) - _SHEET_ROWS
    parts = {
        name: (images[part][chosen[part]], renumbered[labels[part][chosen[part]]])
        for name, part in {"train": slice(border), "test": slice(border, None)}.items()
    }
    return _joined(parts, tuple(_CIFAR[number] for number in only), validation)


def _sheet(path: Path) -> Pixels:
    sheet = open_image(path)
    expected = (_CIFAR_SIDE**2, _SHEET_ROWS)
    if sheet.mode != "RGB" or sheet.size != expected:
        raise CorruptArtifact(f"{path} is no sheet of images", got=f"{sheet.mode} {sheet.size}")
    rows = np.asarray(sheet).reshape(-1, _CIFAR_SIDE, _CIFAR_SIDE, 3)
    return np.ascontiguousarray(rows.transpose(0, 3, 1, 2))


def _svhn(files: list[Path]) -> Pictures:
    """MATLAB arrays X (height, width, channels, n) and y, whose 10 stands for the digit 0."""
    parts = {}
    for name, path in zip(("train", "test"), files, strict=True):
        arrays = mat_arrays(path, ("X", "y"), _MAT_LIMIT)
        images, labels = arrays["X"], arrays["y"].reshape(-1)
        if images.ndim != 4 or images.shape[2:] != (3, len(labels)) or images.dtype != np.uint8:
            raise CorruptArtifact(
                f"{path}: X and y do not fit together", got=f"{images.shape} and {arrays['y'].shape}"
            )
        digits = _from_one(labels, len(_DIGITS), str(path))
        parts[name] = (np.ascontiguousarray(images.transpose(3, 2, 0, 1)), digits % 10)
    return _joined(parts, _DIGITS, 5000)


def _stl10(files: list[Path]) -> Pictures:
    """Raw bytes of 3 x 96 x 96, column by column, and labels from 1; the images without labels are left."""
    path, image = files[0], 3 * _STL_SIDE**2
    counts = {"train": 5000, "test": 8000}
    names = {split: (f"stl10_binary/{split}_X.bin", f"stl10_binary/{split}_y.bin") for split in counts}
    wanted = {names[split][0]: count * image for split, count in counts.items()}
    wanted |= {names[split][1]: count for split, count in counts.items()}
    members = tar_members(path, wanted, 4_000_000_000)
    parts = {}
    for split, (pixels, numbers) in names.items():
        data = np.frombuffer(members.pop(pixels), dtype=np.uint8)
        labels = np.frombuffer(members.pop(numbers), dtype=np.uint8)
        if not len(data) or len(data) != len(labels) * image:
            raise CorruptArtifact(
                f"{path}: the {split} images and labels do not fit together",
                got=f"{len(data):,} bytes of images, {len(labels):,} labels",
            )
        classes = _from_one(labels, len(_STL), f"{path}, {numbers}") - 1
        images = data.reshape(-1, 3, _STL_SIDE, _STL_SIDE).transpose(0, 1, 3, 2)
        parts[split] = (np.ascontiguousarray(images), classes)
    return _joined(parts, _STL, 500)


def _medmnist(files: list[Path], classes: tuple[str, ...]) -> Pictures:
    """Arrays of images (n, 28, 28) and labels (n, 1) for three official splits."""
    path, splits = files[0], {"train": "train", "validation": "val", "test": "test"}
    names = [f"{short}_{kind}" for short in splits.values() for kind in ("images", "labels")]
    arrays = npz_arrays(path, names, _NPZ_LIMIT)
    parts = {}
    for split, short in splits.items():
        images, labels = arrays[f"{short}_images"], arrays[f"{short}_labels"]
        if images.ndim != 3 or len(images) != len(labels) or images.dtype != np.uint8:
            raise CorruptArtifact(
                f"{path}: the {split} images and labels do not fit together",
                got=f"{images.shape} and {labels.shape}",
            )
        parts[split] = (images[:, None], whole_labels(labels, len(classes), f"{path}, {short}_labels"))
    return _joined(parts, classes, 0.0)


def _from_one(labels: NDArray[Any], classes: int, where: str) -> Numbers:
    """Labels that count from 1, as they are; one that is out of range is named with its sample."""
    wrong = (labels < 1) | (labels > classes) | (labels != np.rint(labels))
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"{where}: the label of sample {place:,} (counting from 0) is out of range",
            got=labels[place].item(),
            expected=f"a whole number from 1 to {classes}",
        )
    return labels.astype(np.int64)


SETS: dict[str, Callable[[list[Path]], Pictures]] = {
    "digits": _digits,
    "mnist": partial(_idx, classes=_DIGITS),
    "fashion-mnist": partial(_idx, classes=_FASHION),
    "kmnist": partial(_idx, classes=_KANA),
    "cifar10": _cifar10,
    "cifar10-20k": partial(_cifar10_sheets, only=tuple(range(10)), validation=1000),
    "cats-dogs": partial(_cifar10_sheets, only=(3, 5), validation=400),
    "cifar10-20k-others": partial(_cifar10_sheets, only=(0, 1, 2, 4, 6, 7, 8, 9), validation=1000),
    "svhn": _svhn,
    "stl10": _stl10,
    "breastmnist": partial(_medmnist, classes=("malignant", "normal or benign")),
    "pneumoniamnist": partial(_medmnist, classes=("normal", "pneumonia")),
}
"""By the `parser` of an entry: what reads its files, in the entry's order."""
