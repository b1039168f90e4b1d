"""Colour and RandAugment against Pillow, image by image, and hue against the standard library."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torch.testing import assert_close

from descent.data import colour
from descent.data.augment import Augmentation
from descent.data.augment_config import Augment
from descent.data.randaugment import OPERATIONS, randaugment

SIZES = [(1, 8, 8), (3, 32, 32), (3, 13, 21), (1, 40, 9), (3, 2, 5)]


def pictures(channels: int, height: int, width: int, count: int = 7) -> Tensor:
    """Noise of different ranges, a picture of one colour, a smooth one and one of two values."""
    generator = np.random.default_rng(channels * height * width)
    found = generator.integers(0, 256, (count, channels, height, width))
    found[1] = found[1] // 4 + 60
    found[2] = found[2, :, :1, :1]
    found[3] = np.linspace(10, 200, height * width).reshape(height, width) + found[3, :, :1, :1] // 8
    found[4] = np.where(found[4] < 40, 30, 220)
    found[5] = np.minimum(255, found[5] ** 2 // 200)
    return torch.from_numpy(found.astype(np.uint8))


def to_pillow(image: Tensor) -> Image.Image:
    array = image.numpy()
    return Image.fromarray(array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0)))


def from_pillow(image: Image.Image) -> Tensor:
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def compare(
    found: Tensor, images: Tensor, reference: Callable[[Image.Image, int], Image.Image], off: int = 0
):
    assert found.dtype == torch.uint8
    for number, image in enumerate(images):
        expected = from_pillow(reference(to_pillow(image), number))
        assert_close(found[number].int(), expected.int(), atol=off, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_tables_of_values(size: tuple[int, int, int]):
    images = pictures(*size)
    compare(colour.equalise(images), images, lambda image, _: ImageOps.equalize(image))
    # Pillow cuts off what a float falls short of a whole number by
    compare(colour.autocontrast(images), images, lambda image, _: ImageOps.autocontrast(image), 1)
    thresholds = torch.tensor([0.0, 1, 100, 128, 200, 255, 256])
    compare(
        colour.solarise(images, thresholds),
        images,
        lambda image, number: ImageOps.solarize(image, int(thresholds[number])),
    )
    bits = torch.tensor([1, 2, 4, 5, 6, 7, 8])
    compare(
        colour.posterise(images, bits),
        images,
        lambda image, number: ImageOps.posterize(image, int(bits[number])),
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("change", "reference"),
    [
        (colour.brightness, ImageEnhance.Brightness),
        (colour.contrast, ImageEnhance.Contrast),
        (colour.saturation, ImageEnhance.Color),
        (colour.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements(size: tuple[int, int, int], change: Callable, reference: Callable):
    images = pictures(*size)
    factors = torch.tensor([0.0, 0.1, 0.55, 0.9, 1.0, 1.4, 1.9])
    # Pillow cuts decimals off, in the smoothed image too, where these round
    compare(
        change(images, factors),
        images,
        lambda image, number: reference(image).enhance(factors[number].item()),
        2 if change is colour.sharpness else 1,
    )
    assert_close(change(images[4:5], factors[4:5]), images[4:5])


def test_grey_is_pillows():
    images = pictures(3, 32, 32)
    compare(colour.grey(images).to(torch.uint8), images, lambda image, _: image.convert("L"))


def test_hue_turns_in_the_plane_of_colour():
    images, turns = pictures(3, 6, 7), torch.tensor([0.0, 0.1, -0.1, 0.25, 0.5, -0.3, 0.02])
    found = colour.hue(images, turns)
    to_rows = [colorsys.rgb_to_yiq(*row) for row in np.eye(3)]
    back = np.linalg.inv(np.array(to_rows).T)
    for number, turn in enumerate(turns.double().numpy() * 2 * np.pi):
        for row in range(6):
            for column in range(7):
                y, i, q = colorsys.rgb_to_yiq(*(images[number, :, row, column].double() / 255).tolist())
                seen = complex(i, q) * complex(np.cos(turn), np.sin(turn))
                expected = np.clip(back @ [y, seen.real, seen.imag], 0, 1) * 255
                np.testing.assert_allclose(found[number, :, row, column].numpy(), expected, atol=0.51)
    assert_close(found[0], images[0])
    grey = pictures(1, 6, 7)
    assert_close(colour.hue(grey, turns), grey)
    assert_close(colour.hue(grey.repeat(1, 3, 1, 1), turns), grey.repeat(1, 3, 1, 1), atol=1, rtol=0)


def test_jitter_is_its_changes_in_order():
    images, draws = pictures(3, 9, 8), torch.rand(7, 4, generator=torch.Generator().manual_seed(0))
    config = Augment(brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
    found = Augmentation(config, 7, 9, 8).altered(images, {"jitter": draws})
    swing = draws * 2 - 1
    expected = colour.brightness(images, 1 + 0.4 * swing[:, 0])
    expected = colour.contrast(expected, 1 + 0.3 * swing[:, 1])
    expected = colour.saturation(expected, 1 + 0.2 * swing[:, 2])
    expected = colour.hue(expected, 0.1 * swing[:, 3])
    assert_close(found, expected.float())


LEVELS = torch.tensor([-1.0, -0.5, 0.5, 1.0, 0.3, -0.3, 0.9])
ENHANCED = {
    "colour": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}


def pillow_operation(name: str, image: Image.Image, level: float) -> Image.Image:
    """The operation by Pillow, strong as in table 6 of AutoAugment (moves have their own test)."""
    if name in ENHANCED:
        return ENHANCED[name](image).enhance(1 + 0.9 * level)
    if name == "solarise":
        return ImageOps.solarize(image, math.ceil(256 - 256 * abs(level)))
    if name == "posterise":
        return ImageOps.posterize(image, 8 - round(4 * abs(level)))
    return {"identity": lambda i: i, "autocontrast": ImageOps.autocontrast, "equalise": ImageOps.equalize}[
        name
    ](image)


@pytest.mark.parametrize(
    "name", [n for n in OPERATIONS if not n.startswith(("rotate", "shear", "translate"))]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_operations_on_values(name: str, channels: int):
    if name == "colour" and channels == 1:
        return
    images = pictures(channels, 16, 16)
    compare(
        OPERATIONS[name](images, LEVELS),
        images,
        lambda image, number: pillow_operation(name, image, LEVELS[number].item()),
        2 if name == "sharpness" else 1,
    )


def turned(angle: float) -> tuple[float, ...]:
    return np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0


@pytest.mark.parametrize(
    ("name", "matrix"),
    [
        ("rotate", lambda v: turned(v * np.pi / 6)),
        ("shear-x", lambda v: (1, 0.3 * v, 0, 0, 1, 0)),
        ("shear-y", lambda v: (1, 0, 0, 0.3 * v, 1, 0)),
        ("translate-x", lambda v: (1, 0, 0.45 * v * 20, 0, 1, 0)),
        ("translate-y", lambda v: (1, 0, 0, 0, 1, 0.45 * v * 16)),
    ],
)
def test_moves(name: str, matrix: Callable[[float], tuple[float, ...]]):
    """Against Pillow's affine transform, where all four pixels a value comes from are inside the image."""
    images = pictures(3, 16, 20)
    found = OPERATIONS[name](images, LEVELS)
    seen = 0
    for number, level in enumerate(LEVELS.tolist()):
        a, b, c, d, e, f = matrix(level)
        # measured from the middle, as Pillow measures from the corner
        about = (a, b, c + 10 - a * 10 - b * 8, d, e, f + 8 - d * 10 - e * 8)
        expected = from_pillow(
            to_pillow(images[number]).transform(
                (20, 16), Image.Transform.AFFINE, about, Image.Resampling.BILINEAR
            )
        )
        y, x = np.mgrid[0:16, 0:20] + 0.5
        from_x, from_y = about[0] * x + about[1] * y + about[2], about[3] * x + about[4] * y + about[5]
        inside = torch.from_numpy((from_x > 1) & (from_x < 19) & (from_y > 1) & (from_y < 15))
        outside = torch.from_numpy((from_x < -1) | (from_x > 21) | (from_y < -1) | (from_y > 17))
        assert_close(found[number][:, inside].int(), expected[:, inside].int(), atol=1, rtol=0)
        assert (found[number][:, outside] == 128).all()
        seen += int(inside.sum())
    assert seen > 1000


def test_operations_are_drawn_alike_and_applied_in_turn():
    images = pictures(3, 8, 8)
    names = list(OPERATIONS)
    draws = torch.zeros(7, 4)
    draws[:, 0] = (names.index("solarise") + 0.5) / 14
    draws[:, 2] = (names.index("brightness") + 0.5) / 14
    draws[3:, 3] = 0.9
    found = randaugment(images.clone(), draws, 5.0)
    ways = torch.where(draws[:, 3] < 0.5, -0.45, 0.45)
    expected = colour.brightness(colour.solarise(images, torch.full((7,), 128.0)), 1 + ways)
    assert_close(found, expected)
    assert len(OPERATIONS) == 14


@pytest.mark.parametrize("magnitude", [0.0, 10.0])
def test_at_magnitude_nought_only_what_knows_no_magnitude_changes(magnitude: float):
    images = pictures(3, 20, 20)[1:2].repeat(14, 1, 1, 1)
    draws = torch.stack([(torch.arange(14) + 0.5) / 14, torch.zeros(14)], dim=1)
    same = (randaugment(images.clone(), draws, magnitude) == images).flatten(1).all(1).tolist()
    kept = {name for name, equal in zip(OPERATIONS, same, strict=True) if equal}
    wanted = set(OPERATIONS) - {"autocontrast", "equalise"} if magnitude == 0 else {"identity"}
    assert kept == wanted
