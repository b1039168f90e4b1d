"""What `[data.augment]` does to the images of a training split, whole batches at a time.

Every number behind a change is drawn from (seed, epoch, image), so that an image comes out the same in
whatever batch it stands, on whatever process, after whatever restart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.typing import NDArray
from torch import Tensor

from descent.data import colour, geometry
from descent.data.augment_config import Augment
from descent.data.mixing import partners
from descent.data.randaugment import randaugment
from descent.data.random import Purpose, permutation, uniform
from descent.errors import UserError

__all__ = ["Augmentation", "Epoch"]

Draws = Mapping[Purpose, Tensor]
_JITTER = ("brightness", "contrast", "saturation", "hue")


@dataclass(frozen=True)
class Epoch:
    """What one epoch does to every image.

    Attributes:
        numbers: of each change, a row of numbers in [0, 1) an image.
        partners: whom each image is mixed with; None if images are not mixed.
    """

    numbers: dict[Purpose, NDArray[np.float32]]
    partners: NDArray[np.int64] | None

    def rows(self, indices: NDArray[np.int64]) -> Draws:
        """The numbers of some images."""
        return {purpose: torch.from_numpy(drawn[indices]) for purpose, drawn in self.numbers.items()}


class Augmentation:
    """The changes of one split's images.

    Args:
        config: which, and how strong.
        count: images of the split.
        height: of the images.
        width: of the images.
    """

    def __init__(self, config: Augment, count: int, height: int, width: int):
        self.config, self._count = config, count
        for side in (height, width):
            if geometry.pixels(config.crop, side) >= side:
                raise UserError("data.augment.crop must be less than the image's side", got=config.crop)
        self._affine = any((config.rotate, config.scale, config.shear))
        self._jitter = any(getattr(config, name) for name in _JITTER)
        self._needed: dict[Purpose, int] = {
            "affine": 6 if self._affine or config.shift else 0,
            "crop": 2 * geometry.ATTEMPTS + 2 if config.resized_crop else 2 if config.crop else 0,
            "flip": int(config.flip != "none"),
            "jitter": len(_JITTER) * self._jitter,
            "randaugment": 2 * config.randaugment,
            "cutout": 2 if config.cutout else 0,
            "mix": 4 if config.mixes else 0,
        }
        self._epochs: dict[tuple[int, int], Epoch] = {}

    def epoch(self, seed: int, epoch: int) -> Epoch:
        """What an epoch draws; two are kept, for a batch on their border."""
        if (seed, epoch) not in self._epochs:
            numbers: dict[Purpose, NDArray[np.float32]] = {
                purpose: self._drawn(seed, epoch, purpose, columns)
                for purpose, columns in self._needed.items()
                if columns
            }
            pairs = partners(permutation(seed, epoch, self._count)) if self.config.mixes else None
            kept = list(self._epochs.items())[-1:]
            self._epochs = {**dict(kept), (seed, epoch): Epoch(numbers, pairs)}
        return self._epochs[seed, epoch]

    def _drawn(self, seed: int, epoch: int, purpose: Purpose, columns: int) -> NDArray[np.float32]:
        alternates = purpose == "flip" and self.config.flip == "alternating"
        drawn = uniform(seed, 0 if alternates else epoch, purpose, (self._count, columns))
        return (drawn + np.float32(0.5) * (epoch & 1)) % np.float32(1) if alternates else drawn

    def altered(
        self, images: UInt8[Tensor, "n channels height width"], draws: Draws
    ) -> Float[Tensor, "n channels height width"]:
        """The images as these draws place, turn and colour them, as pixels of 0..255."""
        images = self._placed(images, draws)
        exact: Tensor | None = None
        if self.config.resized_crop:
            boxes = geometry.crop_boxes(draws["crop"], self._shares(), *images.shape[-2:])
            exact = geometry.resized(images.float(), boxes)
        if self._affine:
            exact = self._turned(images.float() if exact is None else exact, draws["affine"])
        if not (self._jitter or self.config.randaugment):
            return images.float() if exact is None else exact
        if exact is not None:
            images = exact.round_().to(torch.uint8)
        if self._jitter:
            images = self._jittered(images, draws["jitter"])
        if self.config.randaugment:
            images = randaugment(images, draws["randaugment"], self.config.magnitude)
        return images.float()

    def _shares(self) -> tuple[float, float]:
        low, high = self.config.resized_crop
        return low, high

    def _placed(
        self, images: UInt8[Tensor, "n channels height width"], draws: Draws
    ) -> UInt8[Tensor, "n channels height width"]:
        """Flip, padded crop, and a shift that stands alone: whole pixels, all in one step."""
        config, (height, width) = self.config, images.shape[-2:]
        moves = torch.zeros(len(images), 2, dtype=torch.int64)
        flipped = torch.zeros(len(images), dtype=torch.bool)
        if config.crop:
            padding = torch.tensor([round(geometry.pixels(config.crop, side)) for side in (width, height)])
            moves += (draws["crop"] * (2 * padding + 1)).long() - padding
        if config.shift and not self._affine:
            moves += self._shift(draws["affine"], height, width).round().long()
        if config.flip != "none":
            flipped = draws["flip"][:, 0] < 0.5
        moved = bool(moves.any() or flipped.any())
        return geometry.placed(images, moves, flipped, config.border) if moved else images

    def _shift(self, draws: Float[Tensor, "n 6"], height: int, width: int) -> Float[Tensor, "n 2"]:
        most = [geometry.pixels(self.config.shift, side) for side in (width, height)]
        return (draws[:, 4:] * 2 - 1) * torch.tensor(most)

    def _turned(
        self, images: Float[Tensor, "n channels height width"], draws: Float[Tensor, "n 6"]
    ) -> Float[Tensor, "n channels height width"]:
        """Rotation, scale, shear and shift."""
        config, swing = self.config, draws * 2 - 1
        matrices = geometry.affine_matrices(
            swing[:, 0] * math.radians(config.rotate),
            1 + swing[:, 1] * config.scale,
            1 + swing[:, 2] * config.scale,
            swing[:, 3] * config.shear,
        )
        moves = self._shift(draws, *images.shape[-2:])
        return geometry.warped(images, matrices, moves, config.border)

    def _jittered(
        self, images: UInt8[Tensor, "n channels height width"], draws: Float[Tensor, "n 4"]
    ) -> UInt8[Tensor, "n channels height width"]:
        swing = draws * 2 - 1
        for place, name in enumerate(_JITTER):
            if most := getattr(self.config, name):
                least = 0.0 if name == "hue" else 1.0
                images = getattr(colour, name)(images, least + most * swing[:, place])
        return images
