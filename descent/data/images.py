"""Sets of images of classes: named ones, a folder per class, or `.npy` files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from descent.data import embedded
from descent.data.config import ImageData
from descent.data.dataset import Dataset, ImageSplit, channel_statistics
from descent.data.formats import read_idx, read_npy
from descent.data.pictures import SUFFIXES, look, open_image, to_array
from descent.data.registry import Entry
from descent.data.splits import NAMES, fingerprint, hash_split, keys, named
from descent.data.tables import npy_partner, whole_labels
from descent.data.textfiles import missing
from descent.errors import CorruptArtifact, UserError

__all__ = ["load_images"]

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
_DIGITS = tuple("0123456789")
_OFFICIAL_VALIDATION = 5000
_DEFAULT_SIDE = 32
_LARGEST_OWN_SIDE = 256


@dataclass
class Pictures:
    """Images as bytes (n, channels, height, width), their class numbers, and where they belong."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    official: dict[str, NDArray[np.int64]] | None = None
    validation: int | float = 0.1
    fit: str | None = None
    skipped: tuple[str, ...] = ()


def load_images(config: ImageData, entry: Entry | None, files: list[Path]) -> Dataset:
    """A set of images as a dataset; see `ImageData` for what the options mean."""
    found = _read(config, entry, files)
    if len(found.images) < 3:
        raise UserError(
            f"{config.path or config.source}: too few images", got=len(found.images), expected="3 or more"
        )
    images = _resized(found.images, config)
    chosen = _split(found, config)
    if not len(chosen["train"]):
        raise UserError(
            f"{config.path or config.source}: no image is left to train on", hint="give more images"
        )
    train = torch.from_numpy(images[chosen["train"]])
    mean, std = channel_statistics(train)
    splits: dict[str, ImageSplit] = {}
    for name, places in chosen.items():
        if len(places):
            pixels = train if name == "train" else torch.from_numpy(images[places])
            labels = torch.from_numpy(found.labels[places])
            splits[name] = ImageSplit(
                pixels, labels, mean, std, config.augment if name == "train" else "none"
            )
    shape = tuple(int(side) for side in images.shape[1:])
    parts = [
        part for split in splits.values() for part in (split.images.numpy().data, split.labels.numpy().data)
    ]
    return Dataset(
        name=config.source or Path(str(config.path)).name,
        splits=dict(splits),
        sizes={"inputs": shape, "outputs": len(found.classes)},
        unit="images",
        fingerprint=fingerprint([str(shape), *parts]),
        labels=found.classes,
        preparation={
            "kind": "images",
            "shape": list(shape),
            "fit": found.fit or config.fit,
            "mean": mean,
            "std": std,
            "labels": list(found.classes),
        },
        about=_about(found),
        skipped=found.skipped,
    )


def _about(found: Pictures) -> str:
    if found.official is None:
        return "images split by hash of their content"
    held = "validation" not in found.official
    return "official test split" + ("; validation chosen from the training part by hash" if held else "")


def _read(config: ImageData, entry: Entry | None, files: list[Path]) -> Pictures:
    if entry is None:
        path = Path(str(config.path)).expanduser()
        if path.suffix.lower() == ".npy":
            return _from_npy(path, config)
        return _from_folder(path, config)
    if entry.parser == "digits":
        images, labels = embedded.digits()
        return Pictures(images, labels, _DIGITS, fit="pad")
    return _from_idx(files, _FASHION if entry.parser == "fashion-mnist" else _DIGITS)


def _from_idx(files: list[Path], classes: tuple[str, ...]) -> Pictures:
    images, labels = [], []
    for pixels, numbers in (files[:2], files[2:]):
        pictures, targets = read_idx(pixels), read_idx(numbers)
        if pictures.ndim != 3 or len(pictures) != len(targets) or pictures.dtype != np.uint8:
            raise CorruptArtifact(
                f"{pixels.name} and {numbers.name} do not fit together",
                got=f"{pictures.shape} and {targets.shape}",
            )
        images.append(pictures)
        labels.append(whole_labels(targets, len(classes), str(numbers)))
    border = len(images[0])
    official = {"train": np.arange(border), "test": np.arange(border, border + len(images[1]))}
    held = _OFFICIAL_VALIDATION
    return Pictures(
        np.concatenate(images)[:, None], np.concatenate(labels), classes, official, held, fit="pad"
    )


def _from_npy(path: Path, config: ImageData) -> Pictures:
    if not path.is_file():
        raise missing(path)
    partner = npy_partner(path, config.target)
    values, targets = read_npy(path), read_npy(partner)
    if values.ndim == 3:
        values = values[:, None]
    elif values.ndim == 4 and values.shape[1] not in (1, 3) and values.shape[3] in (1, 3):
        values = values.transpose(0, 3, 1, 2)
    if values.ndim != 4 or values.shape[1] not in (1, 3) or not len(values):
        raise UserError(
            f"{path} holds no images",
            got=f"shape {values.shape}",
            expected="(n, height, width), or with 1 or 3 channels before or after height and width",
        )
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite([low, high]).all() and low >= 0 and high <= 255):
            raise UserError(
                f"{path}: pixels out of range", got=f"{low:g} to {high:g}", expected="0 to 255, or 0 to 1"
            )
        values = np.rint(values.astype(np.float32) * (255 if values.dtype.kind == "f" and high <= 1 else 1))
    labels = whole_labels(targets, config.classes, str(partner))
    if len(labels) != len(values):
        raise UserError(
            f"{path.name} and {partner.name} do not fit together",
            got=f"{len(values):,} images, {len(labels):,} labels",
        )
    classes = tuple(str(number) for number in range(config.classes or int(labels.max()) + 1))
    return Pictures(np.ascontiguousarray(values, dtype=np.uint8), labels, classes)


def _from_folder(root: Path, config: ImageData) -> Pictures:
    if not root.is_dir():
        if root.is_file():
            raise UserError(
                "images are given as a folder with one folder per class, or as X.npy",
                got=str(root),
                hint="add data.type=table for a table",
            )
        raise missing(root)
    parts = {split: folder for folder in _folders(root) if (split := named(folder.name))}
    official = "train" in parts and bool(_folders(parts["train"]))  # else it is a class of trains
    roots = parts if official else {"all": root}
    classes = tuple(sorted({folder.name for part in roots.values() for folder in _folders(part)}))
    listed = [
        (split, classes.index(folder.name), file)
        for split, part in roots.items()
        for folder in _folders(part)
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if len(classes) < 2 or not listed:
        raise UserError(
            f"{root} is no folder of images by class",
            got=f"{len(classes)} folders, {len(listed):,} images",
            expected="two folders or more, one per class, each with images named " + " ".join(SUFFIXES),
        )
    images, kept, skipped = _decode([file for _, _, file in listed], config)
    labels = np.array([listed[place][1] for place in kept], dtype=np.int64)
    empty = [name for number, name in enumerate(classes) if number not in labels]
    if empty:
        raise UserError(
            f"{root}: no readable image in {', '.join(empty)}", hint=skipped[0] if skipped else None
        )
    splits = np.array([listed[place][0] for place in kept])
    where = {name: np.flatnonzero(splits == name) for name in NAMES if name in parts} if official else None
    return Pictures(images, labels, classes, where, skipped=tuple(skipped))


def _folders(root: Path) -> list[Path]:
    return sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))


def _decode(files: list[Path], config: ImageData) -> tuple[NDArray[np.uint8], list[int], list[str]]:
    """Images that could be read, brought to one shape; their places; and the others with the reason."""
    shapes, grey, skipped, readable = set(), True, [], []
    for place, file in enumerate(files):
        try:
            height, width, colourless = look(file)
        except UserError as error:
            skipped.append(error.what)
            continue
        readable.append(place)
        shapes.add((height, width))
        grey = grey and colourless
    channels = config.channels or (1 if grey else 3)
    own = next(iter(shapes)) if len(shapes) == 1 else None
    size = config.size or (own if own and max(own) <= _LARGEST_OWN_SIDE else (_DEFAULT_SIDE, _DEFAULT_SIDE))
    images = np.empty((len(readable), channels, *size), dtype=np.uint8)
    kept: list[int] = []
    for place in readable:
        try:
            images[len(kept)] = to_array(open_image(files[place]), channels, (size[0], size[1]), config.fit)
        except UserError as error:
            skipped.append(error.what)
            continue
        kept.append(place)
    return images[: len(kept)], kept, skipped


def _resized(images: NDArray[np.uint8], config: ImageData) -> NDArray[np.uint8]:
    """Images that came as arrays, in the asked size and channels."""
    if config.channels and config.channels != images.shape[1]:
        if config.channels == 3:
            images = np.repeat(images, 3, axis=1)
        else:
            weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
            images = np.rint(np.einsum("nchw,c->nhw", images, weights))[:, None].astype(np.uint8)
    if config.size and tuple(config.size) != images.shape[2:]:
        wide = F.interpolate(
            torch.from_numpy(images).float(), tuple(config.size), mode="bilinear", antialias=True
        )
        images = wide.round().clamp(0, 255).to(torch.uint8).numpy()
    return images


def _split(found: Pictures, config: ImageData) -> dict[str, NDArray[np.int64]]:
    if found.official is None:
        share = found.validation if config.validation is None else config.validation
        return hash_split(keys(image.tobytes() for image in found.images), share, config.test)
    train = found.official["train"]
    if "validation" in found.official:
        return found.official
    share = found.validation if config.validation is None else config.validation
    test = 0 if "test" in found.official else config.test
    parts = hash_split(keys(image.tobytes() for image in found.images[train]), share, test)
    held = {
        name: train[places]
        for name, places in parts.items()
        if name in ("train", "validation") or len(places)
    }
    return {**held, **{name: places for name, places in found.official.items() if name == "test"}}
