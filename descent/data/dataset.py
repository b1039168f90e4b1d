"""Splits that give any examples by number, and the dataset they belong to.

A split never remembers where it is: `gather(indices, seed, epoch)` is a pure function. With
`seed=None` it gives the examples as they are, which is what evaluation sees.

Legend: N examples, M examples and those they are mixed with, T row length, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from descent.data.augment import Augmentation, Epoch
from descent.data.augment_config import Augment
from descent.data.mixing import cut_out, mixed
from descent.data.random import bits
from descent.errors import UserError

__all__ = [
    "IGNORED",
    "ArraySplit",
    "Batch",
    "Dataset",
    "ImageSplit",
    "Split",
    "StreamSplit",
    "compact",
    "normalise",
    "restored",
]

Batch = dict[str, Tensor]
Indices = NDArray[np.int64]
IGNORED = -100
"""The target that no loss counts."""


class Split(ABC):
    """Part of a dataset: so many examples, each to be had by its number."""

    ordered: bool = False
    """Whether examples follow one another, so that training takes them in their order."""
    lanes: int = 0
    """Rows that go on from batch to batch (see `lanes.LaneSplit`); 0 = none, every row is a start."""
    answers: bool = False
    """Whether the targets of tokens are answers to be right or wrong, rather than text."""
    decoded: bool = True
    """Whether the targets of an encoder-decoder are worth writing out when it is scored."""
    scorer: str = ""
    """The module of `evaluation` that scores it; empty = that of the objective."""
    metrics: tuple[str, ...] = ()
    """Scores it has of its own, beside those of the objective."""
    bytes: int | None = None
    """UTF-8 bytes of the text that a sweep predicts (for bits per byte); None for other data."""

    @abstractmethod
    def __len__(self) -> int:
        """Examples of one training epoch."""

    @property
    def whole(self) -> int:
        """Examples of a sweep: the numbers `0..whole-1` with `seed=None` give all of the split once."""
        return len(self)

    @abstractmethod
    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        """The examples of these numbers, as (seed, epoch) shifts or alters them; as they are for None."""

    def join(self, parts: Sequence[Batch]) -> Batch:
        """The rows of several batches in one, padded along their second axis to the longest of all.

        Padding is 0, of class targets -100.
        """
        rows: Batch = {}
        for name in parts[0]:
            held = [part[name] for part in parts]
            classes = name == "targets" and not held[0].is_floating_point()
            rows[name] = torch.cat(_equally_long(held, IGNORED if classes else 0))
        return rows

    @abstractmethod
    def describe(self) -> str:
        """What is in it, in a few words."""


def _equally_long(parts: list[Tensor], fill: int) -> list[Tensor]:
    """The tensors, filled up to the longest along their second axis."""
    if parts[0].dim() < 2 or len({part.shape[1] for part in parts}) == 1:
        return parts
    longest = max(part.shape[1] for part in parts)
    return [
        pad(part, (*[0] * (2 * part.dim() - 4), 0, longest - part.shape[1]), value=fill) for part in parts
    ]


class ArraySplit(Split):
    """Examples that are rows of tensors of equal length, such as `inputs` and `targets`."""

    def __init__(self, tensors: Batch, unit: str = "rows"):
        if len({len(tensor) for tensor in tensors.values()}) != 1:
            sizes = {name: len(tensor) for name, tensor in tensors.items()}
            raise UserError("the arrays of a split differ in length", got=sizes)
        self.tensors, self.unit = tensors, unit

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        chosen = torch.from_numpy(indices)
        return {name: tensor[chosen] for name, tensor in self.tensors.items()}

    def describe(self) -> str:
        return f"{len(self):,} {self.unit}"


class ImageSplit(Split):
    """Images kept as bytes; a batch is normalised, and in training augmented, when it is gathered.

    Where `augment` mixes images, a training batch's targets are rows of each class's share, (n, classes).
    Colour comes with its channels innermost in memory, which convolutions prefer.

    Args:
        images: (N, C, H, W) bytes.
        labels: (N,) class numbers.
        mean: per channel, of pixels in 0..1, from the training split.
        std: likewise.
        augment: how training images are altered, drawn from (seed, epoch, image number); None = not.
        classes: how many there are; needed only where images are mixed.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "n channels height width"],
        labels: Int[Tensor, "n"],
        mean: list[float],
        std: list[float],
        augment: Augment | None = None,
        classes: int = 0,
    ):
        self.images, self.labels, self.classes = images, labels, classes
        self.augment = augment or Augment()
        if self.augment.mixes and not classes:
            raise UserError("a split that mixes its images must know how many classes there are")
        self.mean, self.std = mean, std
        height, width = images.shape[-2:]
        self._augmentation = Augmentation(self.augment, len(images), height, width)

    def __len__(self) -> int:
        return len(self.images)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        chosen = torch.from_numpy(indices)
        labels = self.labels[chosen]
        if seed is None:
            pixels_NCHW = normalise(self.images[chosen].float(), self.mean, self.std)
            return {"inputs": _laid_out(pixels_NCHW), "targets": labels}
        drawn = self._augmentation.epoch(seed, epoch)
        if drawn.partners is None:
            return {"inputs": _laid_out(self._altered(indices, drawn)), "targets": labels}
        partners = drawn.partners[indices]
        needed, places = np.unique(np.concatenate([indices, partners]), return_inverse=True)
        own, other = torch.from_numpy(places).view(2, -1)
        altered_MCHW = self._altered(needed, drawn)
        inputs, targets = mixed(
            (altered_MCHW[own], altered_MCHW[other]),
            (labels, self.labels[torch.from_numpy(partners)]),
            drawn.rows(indices)["mix"],
            (self.augment.mixup, self.augment.cutmix),
            self.classes,
        )
        return {"inputs": _laid_out(inputs), "targets": targets}

    def _altered(self, indices: Indices, drawn: Epoch) -> Float[Tensor, "n channels height width"]:
        """Normalised images as an epoch alters them, before they are mixed."""
        draws = drawn.rows(indices)
        pixels_NCHW = self._augmentation.altered(self.images[torch.from_numpy(indices)], draws)
        normalise(pixels_NCHW, self.mean, self.std)
        if self.augment.cutout:
            cut_out(pixels_NCHW, draws["cutout"], self.augment.cutout)
        return pixels_NCHW

    def describe(self) -> str:
        channels, height, width = self.images.shape[1:]
        return f"{len(self):,} images of {channels} x {height} x {width}"


class StreamSplit(Split):
    """One long row of tokens cut into rows of T inputs and T targets, each target one token later.

    In training every epoch shifts all cuts by an offset drawn from (seed, epoch). A sweep cuts at
    0, T, 2T, ... and pads the last row, so that every token but the first is predicted exactly once.

    Args:
        tokens: the ids, in the smallest type that holds them (see `compact`).
        length: T.
        bytes: UTF-8 bytes of the text from the second token on.
        pad: the id that fills the last row of a sweep.
    """

    def __init__(self, tokens: NDArray[np.integer], length: int, bytes: int | None = None, pad: int = 0):
        if len(tokens) < 2:
            raise UserError("the text is too short", got=f"{len(tokens)} tokens", expected="2 or more")
        self.tokens, self.length, self.bytes, self.pad = tokens, length, bytes, pad
        self._rows = max(1, (len(tokens) - 1) // length - 1)
        # One row less than would fit leaves room for the offset; a text of one row has only its slack.
        self._offsets = min(length, max(0, len(tokens) - 1 - self._rows * length) + 1)

    def __len__(self) -> int:
        return self._rows

    @property
    def whole(self) -> int:
        return -(-(len(self.tokens) - 1) // self.length)

    def offset(self, seed: int | None, epoch: int) -> int:
        """Where the first row of an epoch starts."""
        if seed is None:
            return 0
        return int(bits(seed, epoch, "offset", 1)[0] % np.uint64(self._offsets))

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        starts = indices * self.length + self.offset(seed, epoch)
        if not len(starts) or starts.max() + self.length < len(self.tokens):
            windows = np.lib.stride_tricks.sliding_window_view(self.tokens, self.length + 1)[starts]
            return {
                "tokens": torch.from_numpy(windows[:, :-1].astype(np.int64)),
                "targets": torch.from_numpy(windows[:, 1:].astype(np.int64)),
            }
        places = starts[:, None] + np.arange(self.length + 1)
        inside = places < len(self.tokens)
        wide = np.where(
            inside, self.tokens[np.minimum(places, len(self.tokens) - 1)].astype(np.int64), self.pad
        )
        targets = np.where(inside[:, 1:], wide[:, 1:], IGNORED)
        return {"tokens": torch.from_numpy(wide[:, :-1].copy()), "targets": torch.from_numpy(targets)}

    def describe(self) -> str:
        return f"{len(self.tokens):,} tokens"


def compact(ids: NDArray[np.integer] | list[int], vocab_size: int) -> NDArray[np.integer]:
    """Token ids in the smallest unsigned type that holds the vocabulary (2 or 4 bytes)."""
    return np.asarray(ids, dtype=np.uint16 if vocab_size <= 1 << 16 else np.uint32)


@dataclass
class Dataset:
    """Named splits of one data set, and what a model and a later prediction must know of it.

    Attributes:
        name: the entry, or the user's file.
        splits: "train" and, where they exist, "validation" and "test".
        sizes: fields of a model's configuration that the data decide (`inputs`, `outputs`, `vocab_size`).
        unit: what is counted per second, such as tokens, images or rows.
        fingerprint: SHA-256 of the content that was used, splits and preparation included.
        labels: the class names, in the order of their numbers.
        preparation: what turns a new row or image into the model's input (JSON values only).
        about: one sentence on where the splits come from.
        skipped: files that could not be read and were left out, each with the reason.
        notes: what was decided for the user, or left aside.
    """

    name: str
    splits: dict[str, Split]
    sizes: dict[str, Any]
    unit: str
    fingerprint: str
    labels: tuple[str, ...] | None = None
    preparation: dict[str, Any] = field(default_factory=dict)
    about: str = ""
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line: the name, each split and its size, what was left out, and the notes."""
        parts = ", ".join(f"{name} {split.describe()}" for name, split in self.splits.items())
        count = len(self.skipped)
        left_out = f"; {count} file{'s' if count > 1 else ''} left out" if count else ""
        return "; ".join([f"{self.name}: {parts}{left_out}", *self.notes])


def normalise(
    pixels: Float[Tensor, "*n channels height width"], mean: list[float], std: list[float]
) -> Float[Tensor, "*n channels height width"]:
    """Pixels of 0..255, changed in place to mean 0 and deviation 1 per channel (both given for 0..1)."""
    spread = 255 * torch.tensor(std)
    shift = -torch.tensor(mean) / torch.tensor(std)
    return pixels.mul_((1 / spread).view(-1, 1, 1)).add_(shift.view(-1, 1, 1))


def restored(
    inputs: Float[Tensor, "n channels height width"], mean: Sequence[float], std: Sequence[float]
) -> Float[Tensor, "n height width channels"]:
    """Normalised images as they look: values of 0..1, the channels last."""
    spread, centre = torch.tensor(std).view(-1, 1, 1), torch.tensor(mean).view(-1, 1, 1)
    return (inputs.float().cpu() * spread + centre).clamp(0, 1).permute(0, 2, 3, 1).contiguous()


def _laid_out(images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n channels height width"]:
    """Colour with the channels innermost in memory; grey as it is."""
    return images.contiguous(memory_format=torch.channels_last) if images.shape[1] == 3 else images


def channel_statistics(
    images: UInt8[Tensor, "n channels height width"],
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel of pixels in 0..1, exact (from counts of byte values)."""
    values = np.arange(256) / 255
    means, stds = [], []
    for channel in images.unbind(1):
        counts = torch.bincount(channel.reshape(-1), minlength=256).double().numpy()
        mean = float((counts * values).sum() / counts.sum())
        spread = float(np.sqrt((counts * (values - mean) ** 2).sum() / counts.sum()))
        means.append(mean)
        stds.append(spread or 1.0)
    return means, stds
