"""Cutout, mixup and cutmix: pixel by pixel, and the distributions they draw from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from descent.data import Batches, ImageSplit
from descent.data.augment_config import Augment
from descent.data.mixing import beta, cut_out, mixed, partners
from descent.errors import UserError


def seeded(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)))


def split(config: Augment, count: int = 24, side: int = 12, classes: int = 4) -> ImageSplit:
    pixels = (seeded(count, 3, side, side) * 256).to(torch.uint8)
    return ImageSplit(
        pixels, torch.arange(count) % classes, [0.4, 0.5, 0.6], [0.2, 0.3, 0.25], config, classes
    )


@pytest.mark.parametrize(("height", "width", "side"), [(9, 14, 4), (9, 14, 5), (16, 8, 0.25), (8, 8, 30)])
def test_cutout_blots_out_a_square(height: int, width: int, side: float):
    images, draws = seeded(200, 3, height, width) + 1, seeded(200, 2)
    found = cut_out(images.clone(), draws, side)
    tall, wide = (side, side) if side >= 1 else (round(side * height), round(side * width))
    for number, (x, y) in enumerate(draws.tolist()):
        top, left = int(y * height) - tall // 2, int(x * width) - wide // 2
        for row in range(height):
            for column in range(width):
                out = top <= row < top + tall and left <= column < left + wide
                wanted = images[number, :, row, column] * (not out)
                assert torch.equal(found[number, :, row, column], wanted)


def test_cutout_falls_on_every_pixel_as_its_middle():
    found = cut_out(torch.ones(20_000, 1, 8, 8), seeded(20_000, 2), 1)
    counts = (found == 0).sum((0, 1))
    assert counts.sum() == 20_000
    assert (counts - 20_000 / 64).abs().max() < 4.5 * math.sqrt(20_000 / 64)


def test_the_mean_colour_fills_a_cutout():
    alone = split(Augment(cutout=4))
    plain, cut = (alone.gather(np.arange(24), seed, 0)["inputs"] for seed in (None, 5))
    changed = (plain != cut).any(1)
    assert (cut.permute(0, 2, 3, 1)[changed] == 0).all()
    assert 4 <= changed.sum((1, 2)).min() <= changed.sum((1, 2)).max() == 16


@pytest.mark.parametrize("alpha", [0.2, 0.4, 1.0, 3.0])
def test_shares_are_drawn_from_beta(alpha: float):
    found = beta(seeded(20_000), alpha).double().numpy()
    assert found.min() >= 0
    assert found.max() <= 1
    places = np.linspace(0.02, 0.98, 25)
    shares = (found[:, None] < places).mean(0)
    np.testing.assert_allclose(shares, stats.beta(alpha, alpha).cdf(places), atol=0.012)
    assert np.abs(shares - stats.beta(alpha * 1.3, alpha * 1.3).cdf(places)).max() > 0.012


def test_mixup_is_a_weighted_sum_of_images_and_targets():
    own, other, draws = seeded(50, 3, 8, 9), seeded(50, 3, 8, 9) - 1, seeded(50, 4)
    labels = (torch.arange(50) % 5, torch.arange(50) % 3)
    inputs, targets = mixed((own, other), labels, draws, (0.4, 0.0), 5)
    for number in range(50):
        share = stats.beta(0.4, 0.4).ppf(draws[number, 1].item())
        assert_close(inputs[number], (share * own + (1 - share) * other)[number].float(), atol=1e-5, rtol=0)
        wanted = torch.zeros(5)
        wanted[labels[0][number]] += share
        wanted[labels[1][number]] += 1 - share
        assert_close(targets[number], wanted, atol=1e-5, rtol=0)


def test_cutmix_puts_in_a_rectangle_and_counts_its_pixels():
    height, width = 11, 14
    own, other, draws = torch.zeros(300, 1, height, width), torch.ones(300, 1, height, width), seeded(300, 4)
    labels = (torch.zeros(300, dtype=torch.int64), torch.ones(300, dtype=torch.int64))
    inputs, targets = mixed((own, other), labels, draws, (0.0, 1.0), 3)
    for number, (_, share, x, y) in enumerate(draws.tolist()):
        tall, wide = int(height * math.sqrt(1 - share)), int(width * math.sqrt(1 - share))
        top, left = int(y * height) - tall // 2, int(x * width) - wide // 2
        wanted = torch.zeros(height, width)
        wanted[max(0, top) : max(0, top + tall), max(0, left) : max(0, left + wide)] = 1
        assert_close(inputs[number, 0], wanted)
        part = wanted.mean().item()
        assert_close(targets[number], torch.tensor([1 - part, part, 0.0]))


def test_with_both_an_image_has_one_of_them():
    own, other = torch.zeros(4000, 1, 8, 8), torch.ones(4000, 1, 8, 8)
    labels = (torch.zeros(4000, dtype=torch.int64), torch.ones(4000, dtype=torch.int64))
    inputs, targets = mixed((own, other), labels, seeded(4000, 4), (1.0, 1.0), 2)
    of_one_piece = (inputs == inputs[:, :, :1, :1]).flatten(1).all(1)
    half = (inputs > 0.001) & (inputs < 0.999)
    assert 0.47 < half.flatten(1).any(1).float().mean() < 0.53
    assert_close(half.flatten(1).all(1) | ~half.flatten(1).any(1), torch.ones(4000, dtype=torch.bool))
    assert of_one_piece.float().mean() < 0.65
    assert_close(inputs.mean((1, 2, 3)), targets[:, 1])


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_partners_are_neighbours_in_the_order(count: int):
    order = np.random.default_rng(count).permutation(count)
    found = partners(order)
    assert (found[found] == np.arange(count)).all()
    assert (found == np.arange(count)).sum() == count % 2
    for place in range(0, count - 1, 2):
        assert found[order[place]] == order[place + 1]


@pytest.mark.parametrize(
    "config", [Augment(mixup=0.4), Augment(cutmix=1.0), Augment(mixup=0.2, cutmix=1, crop=2)]
)
def test_a_mixed_batch_is_mixed_from_altered_images(config: Augment):
    mixing, plain = split(config), split(config.replace(mixup=0.0, cutmix=0.0))
    batch = Batches(mixing, 8, seed=3).batch(1)
    inputs, targets = batch["inputs"], batch["targets"]
    assert targets.shape == (8, 4)
    assert_close(targets.sum(1), torch.ones(8))
    order = Batches(plain, 8, seed=3)._order(0)[8:16]
    own, other = (plain.gather(rows, 3, 0) for rows in (order, order[np.arange(8) ^ 1]))
    draws = mixing._augmentation.epoch(3, 0).rows(order)["mix"]
    expected = mixed(
        (own["inputs"], other["inputs"]),
        (own["targets"], other["targets"]),
        draws,
        (config.mixup, config.cutmix),
        4,
    )
    assert_close((inputs, targets), expected)
    assert (targets.max(1).values < 1).sum() >= 4


def test_evaluation_sees_class_numbers():
    batch = split(Augment(mixup=0.4)).gather(np.arange(5))
    assert batch["targets"].tolist() == [0, 1, 2, 3, 0]


def test_mixing_needs_the_number_of_classes():
    images = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(UserError, match="how many classes"):
        ImageSplit(images, torch.zeros(2, dtype=torch.int64), [0.0], [1.0], Augment(cutmix=1.0))
