"""What augmentation does to samples and to features, one change at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.data.sound_augment import SoundAugmentation, moved, played
from descent.data.sound_config import SoundAugment

SIZES = torch.tensor([4000, 2500])


def _tones(hertz: float = 500.0) -> torch.Tensor:
    waves = torch.sin(2 * torch.pi * hertz * torch.arange(4000) / 8000).repeat(2, 1) * 0.3
    waves[1, 2500:] = 0
    return waves


def _draws(augmentation: SoundAugmentation, rows: int = 2) -> torch.Tensor:
    return torch.rand(rows, augmentation.columns, generator=torch.Generator().manual_seed(1))


def test_a_recording_played_faster_is_shorter_and_higher() -> None:
    waves, sizes = played(_tones(), SIZES, torch.tensor([1.25, 0.8]))
    assert sizes.tolist() == [3200, 3124]
    times = torch.arange(3200) / 8000
    for row, (hertz, size) in enumerate(((625.0, 3200), (400.0, 3124))):
        expected = 0.3 * torch.sin(2 * torch.pi * hertz * times)
        inner = slice(2, size - 4)
        assert_close(waves[row, inner], expected[inner], rtol=0, atol=2e-3)
        assert not waves[row, size:].any()
    same, sizes = played(_tones(), SIZES, torch.ones(2))
    assert_close(same, _tones())
    assert sizes.tolist() == SIZES.tolist()


def test_a_recording_moved_stands_in_silence() -> None:
    before, sizes = torch.tensor([0, 100]), torch.tensor([4010, 2800])
    waves, found = moved(_tones(), before, sizes)
    assert found.tolist() == [4010, 2800]
    assert_close(waves[0, :4000], _tones()[0])
    assert not waves[0, 4000:].any()
    assert_close(waves[1, 100:2600], _tones()[1, :2500])
    assert not waves[1, :100].any()
    assert not waves[1, 2600:].any()


def test_noise_has_the_ratio_that_was_drawn() -> None:
    augmentation = SoundAugmentation(SoundAugment(noise=(10.0, 10.0)), 8000)
    waves, sizes = augmentation.altered(_tones(), SIZES, _draws(augmentation), 5)
    hiss = waves - _tones()
    for row, size in enumerate(SIZES):
        ratio = _tones()[row, :size].square().mean() / hiss[row, :size].square().mean()
        assert abs(10 * ratio.log10().item() - 10) < 0.3
        assert not hiss[row, size:].any()
    other, _ = augmentation.altered(_tones(), SIZES, _draws(augmentation), 6)
    assert not torch.equal(other, waves)
    assert sizes.tolist() == SIZES.tolist()


def test_gain_is_in_decibels() -> None:
    augmentation = SoundAugmentation(SoundAugment(gain=12.0), 8000)
    draws = torch.zeros(2, augmentation.columns)
    draws[1, 5] = 1.0
    waves, _ = augmentation.altered(_tones(), SIZES, draws, 0)
    assert_close(waves, _tones() * torch.tensor([[10 ** (-12 / 20)], [10 ** (12 / 20)]]))


def test_masks_are_bands_and_spans_within_the_recording() -> None:
    config = SoundAugment(frequency_masks=2, frequency_width=5, time_masks=1, time_width=0.25)
    augmentation = SoundAugmentation(config, 8000)
    lengths = torch.tensor([40, 12] * 200)
    features = torch.ones(400, 40, 16)
    masked = augmentation.masked(features, lengths, _draws(augmentation, 400))
    bands, spans = set(), set()
    for row, length in zip(masked, lengths.tolist(), strict=True):
        hidden_T, hidden_M = (~row.bool()).all(1), (~row.bool()).all(0)
        assert_close(row, (~(hidden_T[:, None] | hidden_M)).float())
        assert not hidden_T[length:].any()
        assert hidden_T.sum() <= 0.25 * length
        assert hidden_M.sum() <= 10
        places = np.flatnonzero(hidden_T.numpy())
        assert not len(places) or len(places) == places[-1] - places[0] + 1
        bands |= set(np.flatnonzero(hidden_M.numpy()).tolist())
        spans |= set(places.tolist())
    assert bands == set(range(16))
    assert spans == set(range(40))


@pytest.mark.parametrize("name", ["speed", "shift", "gain", "noise"])
def test_a_change_of_samples_is_told_from_one_of_frames(name: str) -> None:
    value = (5.0, 9.0) if name == "noise" else 0.1
    assert SoundAugmentation(SoundAugment().replace(**{name: value}), 8000).of_samples
    masks = SoundAugmentation(SoundAugment(time_masks=1), 8000)
    assert masks.of_frames
    assert not masks.of_samples
