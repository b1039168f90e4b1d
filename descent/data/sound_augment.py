"""What `[data.augment]` does to training recordings, whole batches at a time.

Every number behind a change is drawn from (seed, epoch, recording), so that a recording comes out the same in
whatever batch it stands, but for the order in which a padded row is added up.

Legend: B batch, N samples, T frames, M mels, K masks.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from descent.data.random import uniform
from descent.data.sound_config import SoundAugment

__all__ = ["SoundAugmentation", "inside"]

_BANK = 1 << 18
_CHANGES = 6


class SoundAugmentation:
    """The changes of one split's recordings.

    Args:
        config: which, and how strong.
        rate: samples a second.
    """

    def __init__(self, config: SoundAugment, rate: int):
        self.config, self.rate = config, rate
        self.of_samples = any((config.speed, config.shift, config.gain, config.noise))
        self.of_frames = bool(config.frequency_masks or config.time_masks)
        self.columns = _CHANGES + 2 * (config.frequency_masks + config.time_masks)
        """Numbers in [0, 1) that a recording draws."""

    def altered(
        self, waveforms: Float[Tensor, "batch samples"], sizes: Int[Tensor, "batch"], draws: Tensor, seed: int
    ) -> tuple[Float[Tensor, "batch more"], Int[Tensor, "batch"]]:
        """Recordings faster or slower, moved, louder or softer, with noise; and their new sizes.

        Args:
            waveforms: samples in -1..1, zeros behind the end of each.
            sizes: samples of each.
            draws: (B, columns).
            seed: of the noise, of which each recording draws the place.
        """
        config = self.config
        swing = draws * 2 - 1
        if config.speed:
            waveforms, sizes = played(waveforms, sizes, 1 + config.speed * swing[:, 0])
        power_B = waveforms.square().sum(1) / sizes
        if config.shift:
            most = config.shift * self.rate
            before, after = (draws[:, 1] * most).long(), (draws[:, 2] * most).long()
            waveforms, sizes = moved(waveforms, before, sizes + before + after)
        if config.noise:
            low, high = config.noise
            ratio_B = 10 ** ((low + (high - low) * draws[:, 3]) / 10)
            hiss = _noise(seed, (draws[:, 4] * _BANK).long(), waveforms.shape[1])
            hiss *= (power_B / ratio_B).sqrt()[:, None]
            waveforms = waveforms + hiss.mul_(inside(sizes, waveforms.shape[1]))
        if config.gain:
            waveforms = waveforms * 10 ** (config.gain * swing[:, 5] / 20)[:, None]
        return waveforms, sizes

    def masked(
        self, features: Float[Tensor, "batch frames mels"], lengths: Int[Tensor, "batch"], draws: Tensor
    ) -> Float[Tensor, "batch frames mels"]:
        """Normalised features with bands and spans set to 0, their mean (SpecAugment, section 2)."""
        config, (_, frames, mels) = self.config, features.shape
        numbers = draws[:, _CHANGES:].unflatten(1, (-1, 2))
        bands, spans = numbers.split([config.frequency_masks, config.time_masks], 1)
        widest = torch.tensor(min(config.frequency_width, mels))
        hidden_BM = _hidden(bands, widest.expand(len(features)), torch.tensor(mels), mels)
        hidden_BT = _hidden(spans, (config.time_width * lengths).long(), lengths, frames)
        return features.masked_fill(hidden_BM[:, None, :] | hidden_BT[:, :, None], 0.0)


def inside(sizes: Int[Tensor, "batch"], count: int) -> Bool[Tensor, "batch {count}"]:
    """Which of so many places of each row hold something, the first `sizes` of them."""
    return torch.arange(count) < sizes[:, None]


def played(
    waveforms: Float[Tensor, "batch samples"], sizes: Int[Tensor, "batch"], speeds: Float[Tensor, "batch"]
) -> tuple[Float[Tensor, "batch more"], Int[Tensor, "batch"]]:
    """Recordings played so many times as fast, read between samples by a cubic through four of them."""
    speeds_B = speeds.double()
    after = ((sizes - 1) / speeds_B).long() + 1
    times_BN = torch.arange(int(after.max()), dtype=torch.float64) * speeds_B[:, None]
    # a place behind a row's end reads its zeros
    places_BN = times_BN.long().clamp_(max=waveforms.shape[1] - 1)
    t = times_BN.sub_(places_BN).float()
    padded = torch.nn.functional.pad(waveforms, (1, 2))
    width = waveforms.shape[1]
    a, b, c, d = (padded[:, step : step + width].gather(1, places_BN) for step in range(4))
    # b + t/2 (c - a + t (2a - 5b + 4c - d + t (3b - 3c + d - a))), with few passes over memory
    cubic = torch.sub(b, c).mul_(3).add_(d).sub_(a)
    square = torch.add(a, c).sub_(b, alpha=2).sub_(cubic)
    found = cubic.mul_(t).add_(square).mul_(t).add_(c.sub_(a)).mul_(t.mul_(0.5)).add_(b)
    return found.mul_(inside(after, found.shape[1])), after


def moved(
    waveforms: Float[Tensor, "batch samples"], before: Int[Tensor, "batch"], sizes: Int[Tensor, "batch"]
) -> tuple[Float[Tensor, "batch more"], Int[Tensor, "batch"]]:
    """Recordings that begin so many samples later, in rows of so many, silence around them."""
    places = torch.arange(int(sizes.max())) - before[:, None]
    within = (places >= 0) & (places < waveforms.shape[1])
    return waveforms.gather(1, places.clamp(0, waveforms.shape[1] - 1)) * within, sizes


def _hidden(
    draws: Float[Tensor, "batch masks 2"],
    widest: Int[Tensor, "batch"],
    room: Int[Tensor, "*batch"],
    count: int,
) -> Bool[Tensor, "batch {count}"]:
    """Places under one of the masks: a width up to the widest, then a beginning that leaves room for it."""
    width_BK = (draws[..., 0] * (widest[:, None] + 1)).long()
    start_BK = (draws[..., 1] * (room[..., None] - width_BK + 1)).long()
    places = torch.arange(count)
    begun = places >= start_BK[..., None]
    return (begun & (places < (start_BK + width_BK)[..., None])).any(1)


def _noise(seed: int, starts: Int[Tensor, "batch"], count: int) -> Float[Tensor, "batch {count}"]:
    """Pieces of one long row of white noise of deviation 1."""
    row = _bank(seed)
    return row.repeat(count // _BANK + 2).unfold(0, count, 1)[starts]


@lru_cache(maxsize=2)
def _bank(seed: int) -> Float[Tensor, "samples"]:
    drawn = torch.from_numpy(uniform(seed, 0, "jitter", (_BANK,))).double()
    return torch.special.ndtri(drawn + 2**-25).float()
