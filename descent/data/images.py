"""Sets of images of classes: named ones, a folder per class, a CSV of paths and labels, or `.npy` files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from descent.data.colour import grey
from descent.data.config import ImageData
from descent.data.dataset import Dataset, ImageSplit, channel_statistics
from descent.data.formats import read_npy
from descent.data.imagefiles import read_csv, read_folder
from descent.data.imagesets import SETS, Pictures
from descent.data.pictures import Fit, room, to_array
from descent.data.registry import Entry
from descent.data.splits import fingerprint, hash_split, keys
from descent.data.tables import npy_partner, whole_labels
from descent.data.textfiles import missing
from descent.errors import UserError

__all__ = ["load_images"]

_CHUNK = 256


def load_images(config: ImageData, entry: Entry | None, files: list[Path]) -> Dataset:
    """A set of images as a dataset; see `ImageData` for what the options mean."""
    found = _read(config, entry, files)
    if len(found.images) < 3:
        raise UserError(
            f"{config.path or config.source}: too few images", got=len(found.images), expected="3 or more"
        )
    fit = config.fit if config.fit != "crop" else found.fit or "crop"
    images = _resized(found.images, config, fit)
    chosen = _split(found, config)
    if config.per_class:
        chosen["train"] = _few(found, chosen["train"], config.per_class)
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
            augment = config.augment if name == "train" else None
            splits[name] = ImageSplit(pixels, labels, mean, std, augment, len(found.classes))
    shape = tuple(int(side) for side in images.shape[1:])
    notes = _notes(found, config)
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
            "fit": fit,
            "mean": mean,
            "std": std,
            "labels": list(found.classes),
        },
        about="; ".join([_about(found), *notes]),
        skipped=found.skipped,
        notes=notes,
    )


def _notes(found: Pictures, config: ImageData) -> tuple[str, ...]:
    if config.validation is None or found.official is None or "validation" not in found.official:
        return found.notes
    return (*found.notes, "data.validation has no effect, as the set has a validation part of its own")


def _about(found: Pictures) -> str:
    if found.official is None:
        return "images split by hash of their content"
    held = "validation" not in found.official
    return "official test split" + ("; validation chosen from the training part by hash" if held else "")


def _read(config: ImageData, entry: Entry | None, files: list[Path]) -> Pictures:
    if entry is not None:
        return SETS[entry.parser](files)
    path = Path(str(config.path)).expanduser()
    if path.is_dir():
        return read_folder(path, config)
    if path.suffix.lower() in (".csv", ".tsv"):
        return read_csv(path, config)
    return _from_npy(path, config) if path.suffix.lower() == ".npy" else read_folder(path, config)


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


def _resized(images: NDArray[np.uint8], config: ImageData, fit: Fit) -> NDArray[np.uint8]:
    """Images that came as arrays, in the asked size and channels, as a new image is brought to them."""
    height, width = config.size or images.shape[2:]
    channels = config.channels or images.shape[1]
    if (channels, height, width) == images.shape[1:]:
        return images
    changed = room(len(images), channels, (height, width))
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK]
        changed[start : start + _CHUNK] = _changed(chunk, channels, (height, width), fit)
    return changed


def _changed(images: NDArray[np.uint8], channels: int, size: tuple[int, int], fit: Fit) -> NDArray[np.uint8]:
    """A few images in another shape, what `to_array` makes of each (to a rounding where they are scaled)."""
    height, width = images.shape[2:]
    if fit != "stretch" and height * size[1] != width * size[0]:
        pictures = (Image.fromarray(_last(image)) for image in images)
        return np.stack([to_array(picture, channels, size, fit) for picture in pictures])
    pixels = torch.from_numpy(images)
    if channels < images.shape[1]:
        pixels = grey(pixels)
    if size != (height, width):
        wide = F.interpolate(pixels.float(), size, mode="bilinear", antialias=True)
        pixels = wide.round().clamp(0, 255)
    return pixels.to(torch.uint8).expand(-1, channels, -1, -1).numpy()


def _last(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image as Pillow takes it: colour with its channels last, grey with none."""
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))


def _keys(found: Pictures, places: NDArray[np.int64]) -> NDArray[np.uint64]:
    """What decides over the images at these places."""
    if found.keys is not None:
        return found.keys[places]
    return keys(found.images[place].tobytes() for place in places)


def _split(found: Pictures, config: ImageData) -> dict[str, NDArray[np.int64]]:
    if found.official is None:
        share = found.validation if config.validation is None else config.validation
        return hash_split(_keys(found, np.arange(len(found.images))), share, config.test)
    train = found.official["train"]
    if "validation" in found.official:
        return found.official
    share = found.validation if config.validation is None else config.validation
    test = 0 if "test" in found.official else config.test
    parts = hash_split(_keys(found, train), share, test)
    held = {
        name: train[places]
        for name, places in parts.items()
        if name in ("train", "validation") or len(places)
    }
    return {**held, **{name: places for name, places in found.official.items() if name == "test"}}


def _few(found: Pictures, train: NDArray[np.int64], per_class: int) -> NDArray[np.int64]:
    """Of the training images so many of each class, those of the smallest hashes, in their order.

    More of them are the same ones and others, whatever else is in the set.
    """
    hashes = _keys(found, train)
    kept = []
    for number in range(len(found.classes)):
        own = np.flatnonzero(found.labels[train] == number)
        kept.append(own[np.argsort(hashes[own], kind="stable")[:per_class]])
    return train[np.sort(np.concatenate(kept))]
