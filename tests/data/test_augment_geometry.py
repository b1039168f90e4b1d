"""Where pixels are taken from: against numpy's padding, torch's resizing and loops over single pixels."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from descent.data import ImageSplit
from descent.data.augment import Augmentation
from descent.data.augment_config import PRESETS, Augment
from descent.data.geometry import Border, affine_matrices, crop_boxes, pixels, placed, resized, warped

NUMPY: dict[str, Any] = {"reflect": "reflect", "edge": "edge", "zero": "constant"}


def noise(count: int, channels: int, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return torch.randint(0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator)


def seeded(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(len(shape)))


def altered(config: Augment, images: Tensor, **draws: Any) -> Tensor:
    numbers: Any = draws
    return Augmentation(config, len(images), *images.shape[-2:]).altered(images, numbers)


@pytest.mark.parametrize("border", ["reflect", "edge", "zero"])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (3, 32, 32), (3, 11, 17)])
def test_a_window_is_cut_from_the_padded_image(border: Border, channels: int, height: int, width: int):
    images = noise(6, channels, height, width)
    moves = torch.tensor([[0, 0], [3, -3], [-2, 1], [0, 3], [-3, -1], [1, 2]])
    flipped = torch.tensor([False, False, True, True, False, True])
    found = placed(images, moves, flipped, border)
    for number, (x, y) in enumerate(moves.tolist()):
        wide = np.pad(images[number].numpy(), ((0, 0), (3, 3), (3, 3)), mode=NUMPY[border])
        window = wide[:, 3 + y : 3 + y + height, 3 + x : 3 + x + width]
        window = window[:, :, ::-1] if flipped[number] else window
        assert_close(found[number], torch.from_numpy(window.copy()))


def test_a_window_far_outside_is_still_a_window():
    images = noise(1, 1, 3, 1)
    cases: list[tuple[Border, Any]] = [("reflect", [1, 2, 1]), ("edge", [2, 2, 2]), ("zero", None)]
    for border, expected in cases:
        found = placed(images, torch.tensor([[2, 5]]), torch.tensor([False]), border)
        wanted = images[0, 0, expected, 0] if expected else torch.zeros(3, dtype=torch.uint8)
        assert_close(found[0, 0, :, 0], wanted)


def test_a_crop_reaches_every_place_equally_often():
    """Of 9 places across and 9 down; the corner of a picture of its own places says which it was."""
    places = (torch.arange(32) + 32 * torch.arange(32)[:, None]).float()
    images = torch.stack([places // 32, places % 32, places * 0]).to(torch.uint8).expand(20_000, -1, -1, -1)
    split = ImageSplit(images, torch.zeros(20_000, dtype=torch.int64), [0.0] * 3, [1.0] * 3, Augment(crop=4))
    found = (split.gather(np.arange(20_000), seed=3, epoch=1)["inputs"][:, :2, 4, 4] * 255).round().long()
    counts = torch.bincount(found[:, 0] * 32 + found[:, 1], minlength=1024).view(32, 32)
    assert counts.sum() == counts[:9, :9].sum()
    assert (counts[:9, :9] - 20_000 / 81).abs().max() < 4.5 * math.sqrt(20_000 / 81)


def test_lengths_are_pixels_or_shares():
    assert [pixels(length, 28) for length in (0, 0.25, 1, 4)] == [0, 7, 1, 4]
    images, draws = noise(2, 1, 16, 64), torch.tensor([[0.0, 0.0], [0.9999, 0.9999]])
    found = altered(Augment(crop=0.125, border="zero"), images, crop=draws)
    assert_close(found[0, 0, 2:, 8:], images[0, 0, :-2, :-8].float())
    assert found[0, 0, :2].sum() == found[0, 0, :, :8].sum() == 0
    assert_close(found[1, 0, :-2, :-8], images[1, 0, 2:, 8:].float())


def split_of(config: Augment, count: int = 1000) -> ImageSplit:
    """Pictures whose left half is white."""
    images = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    images[..., :4] = 255
    return ImageSplit(images, torch.zeros(count, dtype=torch.int64), [0.0], [1.0], config)


@pytest.mark.parametrize("seed", [0, 1])
def test_alternating_flips_show_both_sides_in_any_two_epochs(seed: int):
    split, numbers = split_of(Augment(flip="alternating")), np.arange(1000)
    sides = [split.gather(numbers, seed, epoch)["inputs"][:, 0, 0, 0] for epoch in range(4)]
    assert 0.45 < sides[0].mean() < 0.55
    for before, after in pairwise(sides):
        assert_close(after, 1 - before)
    other = split.gather(numbers, seed + 2, 0)["inputs"][:, 0, 0, 0]
    assert 0.4 < (other == sides[0]).float().mean() < 0.6


def test_random_flips_are_drawn_anew_each_epoch():
    split, numbers = split_of(Augment(flip="random")), np.arange(1000)
    first, second = (split.gather(numbers, 0, epoch)["inputs"][:, 0, 0, 0] for epoch in (0, 1))
    assert 0.45 < first.mean() < 0.55
    assert 0.45 < (first == second).float().mean() < 0.55


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 37), (9, 8)])
def test_a_box_is_resized_as_torch_resizes_the_cut_out_part(height: int, width: int):
    images = noise(40, 3, height, width).float()
    boxes = crop_boxes(seeded(40, 22), (0.05, 1.0), height, width)
    found = resized(images, boxes)
    for number, (top, left, tall, wide) in enumerate(boxes.tolist()):
        part = images[number : number + 1, :, top : top + tall, left : left + wide]
        expected = F.interpolate(part, (height, width), mode="bilinear", align_corners=False)[0]
        assert_close(found[number], expected, atol=5e-3, rtol=0)


def plain_box(draws: list[float], low: float, high: float, height: int, width: int) -> list[int]:
    """One random resized crop, attempt by attempt."""
    for attempt in range(10):
        area = height * width * (low + (high - low) * draws[attempt])
        ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * draws[10 + attempt])
        wide, tall = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < wide <= width and 0 < tall <= height:
            top, left = int(draws[20] * (height - tall + 1)), int(draws[21] * (width - wide + 1))
            return [top, left, tall, wide]
    wide, tall = min(width, round(height * 4 / 3)), min(height, round(width / (3 / 4)))
    return [round((height - tall) / 2), round((width - wide) / 2), tall, wide]


@pytest.mark.parametrize(
    ("low", "high", "height", "width"),
    [(0.08, 1.0, 32, 32), (0.9, 1.0, 32, 32), (1.0, 1.0, 20, 20), (0.9, 1.0, 10, 40), (0.9, 1.0, 40, 12)],
)
def test_boxes_are_found_as_one_by_one(low: float, high: float, height: int, width: int):
    draws = seeded(500, 22)
    expected = [plain_box(row, low, high, height, width) for row in draws.double().tolist()]
    assert crop_boxes(draws, (low, high), height, width).tolist() == expected


def test_the_area_of_a_box_is_uniform():
    boxes = crop_boxes(seeded(20_000, 22), (0.1, 0.6), 200, 200)
    areas = (boxes[:, 2] * boxes[:, 3]).double() / 200**2
    wanted = torch.linspace(0.1, 0.6, 11, dtype=torch.float64)[1:-1]
    assert_close(areas.quantile(wanted * 2 - 0.2), wanted, atol=0.01, rtol=0)
    corners = boxes[:, :2].double() / (200 - boxes[:, 2:]).clamp(min=1)
    assert_close(corners.mean(0), torch.full((2,), 0.5, dtype=torch.float64), atol=0.01, rtol=0)


@pytest.mark.parametrize("side", [8, 9, 32])
@pytest.mark.parametrize("turns", [1, 2, -1])
def test_a_quarter_turn_is_exact(side: int, turns: int):
    images, one = noise(2, 3, side, side).float(), torch.ones(2)
    angle = torch.full((2,), turns * math.pi / 2)
    found = warped(images, affine_matrices(angle, one, one, 0 * one), torch.zeros(2, 2), "edge")
    assert_close(found, images.rot90(turns, (2, 3)), atol=2e-3, rtol=0)


@pytest.mark.parametrize("border", ["reflect", "edge", "zero"])
def test_an_affine_map_pixel_by_pixel(border: Border):
    """A rotation, unequal scales, a shear and a move, each pixel looked up alone."""
    angle, across, down, shear, move = 0.4, 1.3, 0.8, 0.25, (1.7, -2.6)
    images = noise(1, 2, 9, 13).double()
    values = [torch.tensor([value], dtype=torch.float32) for value in (angle, across, down, shear)]
    found = warped(images.float(), affine_matrices(*values), torch.tensor([move]), border)
    cos, sin = math.cos(angle), math.sin(angle)
    expected = torch.zeros_like(images)
    for row in range(9):
        for column in range(13):
            # scaled, then leaning, then turned
            x, y = (column - 6) * across, (row - 4) * down
            x += shear * y
            x, y = cos * x - sin * y + 6 + move[0], sin * x + cos * y + 4 + move[1]
            expected[0, :, row, column] = looked_up(images[0], x, y, border)
    assert_close(found.double(), expected, atol=2e-3, rtol=0)


def looked_up(image: Tensor, x: float, y: float, border: Border) -> Tensor:
    """The bilinear value of (channels, height, width) at a place between pixels."""
    total = torch.zeros(len(image), dtype=torch.float64)
    for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)):
        column, row = math.floor(x) + j, math.floor(y) + i
        weight = (1 - abs(x - column)) * (1 - abs(y - row))
        if border == "zero" and not (0 <= row < image.shape[1] and 0 <= column < image.shape[2]):
            continue
        total += (
            weight * image[:, mirrored(row, image.shape[1], border), mirrored(column, image.shape[2], border)]
        )
    return total


def mirrored(place: int, side: int, border: Border) -> int:
    if border == "reflect":
        place = place % (2 * side)
        return min(place, 2 * side - 1 - place)
    return min(max(place, 0), side - 1)


@pytest.mark.parametrize("name", ["shift", "affine"])
def test_no_swing_leaves_an_image_as_it_is(name: str):
    images = noise(3, 1, 28, 28)
    assert_close(
        altered(PRESETS[name], images, affine=torch.full((3, 6), 0.5)), images.float(), atol=2e-3, rtol=0
    )


def test_a_shift_moves_whole_pixels():
    images, draws = noise(2, 1, 28, 28), torch.full((2, 6), 0.5)
    draws[0, 4], draws[1, 5] = 1.0, 0.0
    moved = altered(PRESETS["shift"], images, affine=draws)
    assert_close(moved[0, :, :, :-2], images[0, :, :, 2:].float())
    assert_close(moved[1, :, 2:], images[1, :, :-2].float())
    assert_close(moved[0, :, :, -1], images[0, :, :, -1].float())


def test_affine_keeps_a_digit_inside_and_changes_it():
    images = torch.zeros(64, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 8:20, 8:20] = 255
    moved = altered(PRESETS["affine"], images, affine=seeded(64, 6)) / 255
    mass = moved.sum((1, 2, 3))
    assert ((mass > 90) & (mass < 220)).all()
    assert moved[:, :, 0].max() == 0
    assert len({tuple(image.flatten().tolist()) for image in moved}) == 64
