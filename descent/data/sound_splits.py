"""Recordings kept as 16-bit samples, and batches of their features, alone or joined to strings.

Legend: B batch, N samples, T frames, M mels, S recordings of the longest string.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from descent.data.dataset import IGNORED, Batch, Indices, Split
from descent.data.melspectrogram import LogMel
from descent.data.random import Purpose, uniform
from descent.data.sound_augment import SoundAugmentation, inside
from descent.data.sound_config import SoundAugment

__all__ = ["Clips", "Features", "SoundSplit", "StringSplit"]

_CHUNK = 128
_LOUDEST = 32768.0


@dataclass(frozen=True)
class Clips:
    """Recordings one behind the other.

    Attributes:
        samples: of all, 16 bits.
        starts: where each begins, and where the last ends.
        labels: class numbers.
        rate: samples a second.
        speakers: a number each; all 0 where nothing is known.
    """

    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    rate: int
    speakers: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        clips: Sequence[NDArray[np.int16]],
        labels: NDArray[np.int64],
        rate: int,
        speakers: Sequence[str] | None = None,
    ) -> Clips:
        """From samples of each, and who speaks."""
        starts = np.cumsum([0, *map(len, clips)]).astype(np.int64)
        numbers = np.zeros(len(clips), dtype=np.int64)
        if speakers is not None:
            numbers = np.unique(list(speakers), return_inverse=True)[1].astype(np.int64)
        return cls(np.concatenate(clips), starts, labels, rate, numbers)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def seconds(self) -> float:
        """Of all together."""
        return len(self.samples) / self.rate

    def padded(self, indices: Indices) -> tuple[Float[Tensor, "batch samples"], Int[Tensor, "batch"]]:
        """Some of them in -1..1 with zeros behind, and their sizes."""
        sizes = self.starts[indices + 1] - self.starts[indices]
        places = np.arange(sizes.max())
        within = places < sizes[:, None]
        rows = np.zeros(within.shape, dtype=np.float32)
        rows[within] = self.samples[(self.starts[indices][:, None] + places)[within]]
        return torch.from_numpy(rows / np.float32(_LOUDEST)), torch.from_numpy(sizes)


class Features:
    """From samples to what a model gets: log-mel, levelled, of mean 0 and deviation 1 over the training part.

    Args:
        preparation: of the data set; without `mean` and `std`, `fit` must come first.
    """

    def __init__(self, preparation: Mapping[str, Any]):
        self.preparation = dict(preparation)
        names = ("rate", "window", "hop", "mels", "fmin", "fmax")
        self.log_mel = LogMel(*(preparation[name] for name in names))
        self._mean = torch.tensor(preparation.get("mean", 0.0))
        self._std = torch.tensor(preparation.get("std", 1.0))

    @property
    def longest(self) -> float:
        """Seconds that are taken of a new recording."""
        strings = self.preparation["strings"]
        return self.preparation["longest"] * (strings[1] if strings else 1)

    def fit(self, clips: Clips) -> None:
        """Takes mean and deviation of each mel from recordings, over all of their frames."""
        total, squares, count = (torch.zeros(1, dtype=torch.float64) for _ in range(3))
        by_size = np.argsort(np.diff(clips.starts), kind="stable")  # so that little is padded
        for start in range(0, len(clips), _CHUNK):
            waveforms, sizes = clips.padded(by_size[start : start + _CHUNK])
            levelled, lengths = self._levelled(waveforms, sizes)
            total = total + levelled.double().sum((0, 1))
            squares = squares + levelled.double().square().sum((0, 1))
            count += lengths.sum()
        mean = total / count
        std = (squares / count - mean**2).clamp(min=0).sqrt()
        self._mean, self._std = mean.float(), torch.where(std > 1e-6, std, 1.0).float()
        self.preparation |= {"mean": self._mean.tolist(), "std": self._std.tolist()}

    def _levelled(
        self, waveforms: Float[Tensor, "batch samples"], sizes: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch frames mels"], Int[Tensor, "batch"]]:
        """Log-mel, each recording's mean taken off where that is asked; 0 behind its end."""
        lengths = self.log_mel.frames(sizes)
        features_BTM = self.log_mel(waveforms)
        real_BT1 = inside(lengths, features_BTM.shape[1])[:, :, None]
        features_BTM *= real_BT1
        if self.preparation["level"] == "clip":
            features_BTM -= features_BTM.sum(1, keepdim=True) / lengths[:, None, None]
            features_BTM *= real_BT1
        return features_BTM, lengths

    def __call__(
        self, waveforms: Float[Tensor, "batch samples"], sizes: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch frames mels"], Int[Tensor, "batch"]]:
        """Features, 0 behind the end of each, and how many frames each has."""
        features_BTM, lengths = self._levelled(waveforms, sizes)
        features_BTM = (features_BTM - self._mean) / self._std
        return features_BTM * inside(lengths, features_BTM.shape[1])[:, :, None], lengths


class Draws:
    """Numbers in [0, 1) for every example of an epoch; two are kept, for a batch on their border.

    Args:
        purpose: keys them, with seed and epoch.
        examples: how many there are.
        columns: numbers of each.
    """

    def __init__(self, purpose: Purpose, examples: int, columns: int):
        self._purpose: Purpose = purpose
        self._shape = (examples, columns)
        self._epochs: dict[tuple[int, int], Tensor] = {}

    def rows(self, seed: int, epoch: int, indices: Indices) -> Float[Tensor, "batch columns"]:
        """The numbers of some examples."""
        if (seed, epoch) not in self._epochs:
            kept = list(self._epochs.items())[-1:]
            drawn = torch.from_numpy(uniform(seed, epoch, self._purpose, self._shape))
            self._epochs = {**dict(kept), (seed, epoch): drawn}
        return self._epochs[seed, epoch][torch.from_numpy(indices)]


class SoundSplit(Split):
    """Recordings; a batch's features are made, and in training altered, when it is gathered.

    Those of unaltered recordings are made once and kept. A batch is as long as its longest recording.

    Args:
        clips: the recordings.
        features: what turns them into a model's inputs.
        augment: how training recordings are altered, drawn from (seed, epoch, number); None = not.
    """

    def __init__(self, clips: Clips, features: Features, augment: SoundAugment | None = None):
        self.clips, self.features = clips, features
        self.augmentation = SoundAugmentation(augment or SoundAugment(), clips.rate)
        self._kept: tuple[Tensor, Tensor] | None = None
        self._draws = Draws("jitter", len(clips), self.augmentation.columns)

    def __len__(self) -> int:
        return len(self.clips)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        draws = None if seed is None else self._draws.rows(seed, epoch, indices)
        if seed is None or not self.augmentation.of_samples:
            inputs, lengths = self._unaltered(indices)
            if draws is not None and self.augmentation.of_frames:
                inputs = self.augmentation.masked(inputs, lengths, draws)
        else:
            inputs, lengths = self.altered(*self.clips.padded(indices), draws, seed)
        return {"inputs": inputs, "lengths": lengths, "targets": torch.from_numpy(self.clips.labels[indices])}

    def altered(
        self, waveforms: Tensor, sizes: Tensor, draws: Tensor | None, seed: int | None
    ) -> tuple[Float[Tensor, "batch frames mels"], Int[Tensor, "batch"]]:
        """Features of recordings, or of strings of them, as these draws alter them (None = as they are)."""
        if draws is None or seed is None:
            return self.features(waveforms, sizes)
        if self.augmentation.of_samples:
            waveforms, sizes = self.augmentation.altered(waveforms, sizes, draws, seed)
        inputs, lengths = self.features(waveforms, sizes)
        return self.augmentation.masked(inputs, lengths, draws), lengths

    def _unaltered(self, indices: Indices) -> tuple[Tensor, Tensor]:
        """Features that were made once for the whole split: frames one behind the other."""
        if self._kept is None:
            frames, counts = [], []
            for start in range(0, len(self.clips), _CHUNK):
                places = np.arange(start, min(start + _CHUNK, len(self.clips)))
                inputs, lengths = self.features(*self.clips.padded(places))
                frames.append(inputs[inside(lengths, inputs.shape[1])])
                counts.append(lengths)
            self._kept = torch.cat(frames), torch.cat(counts)
        frames_NM, counts = self._kept
        chosen = torch.from_numpy(indices)
        starts, lengths = (counts.cumsum(0) - counts)[chosen], counts[chosen]
        within_BT = inside(lengths, int(lengths.max()))
        places_BT = (starts[:, None] + torch.arange(within_BT.shape[1])) * within_BT
        return frames_NM[places_BT] * within_BT[:, :, None], lengths

    def describe(self) -> str:
        return f"{len(self):,} recordings, {self.clips.seconds:,.0f} s"


class StringSplit(Split):
    """Strings of recordings with silence before, between and after them, for CTC.

    A batch has `targets` (B, S), class numbers filled up with -100 to the longest string that can come. Which
    recordings, how many and how much silence is drawn from (seed, epoch, number); evaluation always
    sees the same strings.

    Args:
        part: the recordings, and how training alters a whole string.
        count: strings of an epoch.
        numbers: fewest and most recordings of a string.
        silence: shortest and longest silence in seconds.
        one_speaker: a string keeps to the speaker of its first recording.
    """

    def __init__(
        self,
        part: SoundSplit,
        count: int,
        numbers: tuple[int, int],
        silence: tuple[float, float],
        one_speaker: bool,
    ):
        self.part, self.numbers, self.silence, self._count = part, numbers, silence, count
        self._strings = Draws("mix", count, 2 * (numbers[1] + 1))
        self._changes = Draws("jitter", count, part.augmentation.columns)
        # recordings speaker by speaker: the first of each recording's speaker, and how many there are
        speakers = part.clips.speakers if one_speaker else np.zeros(len(part.clips), dtype=np.int64)
        self._order = np.argsort(speakers, kind="stable")
        counts = np.bincount(speakers)
        self._first, self._many = (np.cumsum(counts) - counts)[speakers], counts[speakers]

    def __len__(self) -> int:
        return self._count

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        picks_BS, silences_BS = self._picked(self._strings.rows(seed or 0, epoch, indices).numpy())
        waveforms, sizes = self._joined(picks_BS, silences_BS)
        draws = None if seed is None else self._changes.rows(seed, epoch, indices)
        inputs, lengths = self.part.altered(waveforms, sizes, draws, seed)
        targets = np.where(picks_BS >= 0, self.part.clips.labels[picks_BS], IGNORED)
        return {"inputs": inputs, "lengths": lengths, "targets": torch.from_numpy(targets)}

    def _picked(self, draws: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Recordings of each string, -1 behind the last, and the silence before each and after the last."""
        (fewest, most), (shortest, longest) = self.numbers, self.silence
        exact = draws.astype(np.float64)
        first = (exact[:, 1] * len(self._order)).astype(np.int64)
        start, many = self._first[first][:, None], self._many[first][:, None]
        picks = self._order[start + (exact[:, 2 : most + 1] * many).astype(np.int64)]
        picks = np.concatenate([first[:, None], picks], axis=1)
        count = fewest + (exact[:, :1] * (most - fewest + 1)).astype(np.int64)
        seconds = shortest + (longest - shortest) * exact[:, most + 1 :]
        return np.where(np.arange(most) < count, picks, -1), np.rint(seconds * self.part.clips.rate).astype(
            int
        )

    def _joined(
        self, picks: NDArray[np.int64], silences: NDArray[np.int64]
    ) -> tuple[Float[Tensor, "batch samples"], Int[Tensor, "batch"]]:
        """The samples of whole strings, and their sizes."""
        clips = self.part.clips
        sizes_BS = np.where(picks >= 0, clips.starts[picks + 1] - clips.starts[picks], 0)
        counts = (picks >= 0).sum(1)
        real = np.arange(silences.shape[1]) <= counts[:, None]
        gaps = silences * real
        totals = sizes_BS.sum(1) + gaps.sum(1)
        rows = np.zeros((len(picks), totals.max()), dtype=np.float32)
        for row, (chosen, sizes, before) in enumerate(zip(picks, sizes_BS, gaps, strict=True)):
            at = 0
            for pick, size, gap in zip(chosen, sizes, before[:-1], strict=True):
                if pick >= 0:
                    rows[row, at + gap : at + gap + size] = clips.samples[clips.starts[pick] :][:size]
                    at += gap + size
        return torch.from_numpy(rows / np.float32(_LOUDEST)), torch.from_numpy(totals)

    def describe(self) -> str:
        fewest, most = self.numbers
        return f"{len(self):,} strings of {fewest} to {most} out of {self.part.describe()}"
