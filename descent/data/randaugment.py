"""RandAugment: operations drawn for each image, all at one strength.

E. Cubuk et al., RandAugment: practical automated data augmentation with a reduced search space, 2020;
how strong each operation is at magnitude 10 stands in E. Cubuk et al., AutoAugment, 2019, table 6.
Simplified: what comes in from outside is middle grey, and moves are bilinear.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from descent.data import colour
from descent.data.geometry import affine_matrices, warped

__all__ = ["OPERATIONS", "randaugment"]

Images = UInt8[Tensor, "n channels height width"]
PerImage = Float[Tensor, "n"]
_MIDDLE = 128


def randaugment(images: Images, draws: Float[Tensor, "n twice"], magnitude: float) -> Images:
    """Operations drawn from `OPERATIONS`, one after the other, changed in place.

    Args:
        images: pixels.
        draws: numbers in [0, 1), two an operation: which it is, and which way it goes.
        magnitude: 0 to 10.
    """
    for turn in draws.view(len(draws), -1, 2).unbind(1):
        chosen = (turn[:, 0] * len(OPERATIONS)).long()
        level = (magnitude / 10) * torch.where(turn[:, 1] < 0.5, -1.0, 1.0)
        for number, operation in enumerate(OPERATIONS.values()):
            places = (chosen == number).nonzero().flatten()
            if len(places):
                images[places] = operation(images[places], level[places])
    return images


def _moved(
    images: Images,
    *,
    angle: PerImage | float = 0.0,
    shear_x: PerImage | float = 0.0,
    shear_y: PerImage | float = 0.0,
    x: PerImage | float = 0.0,
    y: PerImage | float = 0.0,
) -> Images:
    count = len(images)
    angles, leans, tilts, across, down = (
        torch.as_tensor(value, dtype=torch.float32).expand(count) for value in (angle, shear_x, shear_y, x, y)
    )
    matrices = affine_matrices(angles, torch.ones(count), torch.ones(count), leans)
    matrices[:, 1, 0] += tilts
    moves = torch.stack([across * images.shape[-1], down * images.shape[-2]], dim=1)
    return (warped(images.float() - _MIDDLE, matrices, moves, "zero") + _MIDDLE).round_().to(torch.uint8)


def _factor(level: PerImage) -> PerImage:
    return 1 + 0.9 * level


OPERATIONS: dict[str, Callable[[Images, PerImage], Images]] = {
    "identity": lambda images, level: images,
    "autocontrast": lambda images, level: colour.autocontrast(images),
    "equalise": lambda images, level: colour.equalise(images),
    "rotate": lambda images, level: _moved(images, angle=level * math.radians(30)),
    "solarise": lambda images, level: colour.solarise(images, 256 * (1 - level.abs())),
    "colour": lambda images, level: colour.saturation(images, _factor(level)),
    "posterise": lambda images, level: colour.posterise(images, 8 - (4 * level.abs()).round().long()),
    "contrast": lambda images, level: colour.contrast(images, _factor(level)),
    "brightness": lambda images, level: colour.brightness(images, _factor(level)),
    "sharpness": lambda images, level: colour.sharpness(images, _factor(level)),
    "shear-x": lambda images, level: _moved(images, shear_x=0.3 * level),
    "shear-y": lambda images, level: _moved(images, shear_y=0.3 * level),
    "translate-x": lambda images, level: _moved(images, x=0.45 * level),
    "translate-y": lambda images, level: _moved(images, y=0.45 * level),
}
"""Each takes images and, an image, a strength of -1 to 1."""
