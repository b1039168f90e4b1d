"""Recordings as batches of features: alone, altered, joined to strings, and new ones for a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sound_toys import soundfile, tone, wav, write_folder
from torch.testing import assert_close

from descent.config import Config
from descent.data.melspectrogram import LogMel
from descent.data.sound import load_sound, prepare_clip
from descent.data.sound_config import SoundAugment, SoundData
from descent.data.sound_splits import Clips, SoundSplit, StringSplit
from descent.errors import UserError

LOUD = SoundAugment(
    speed=0.1, shift=0.05, gain=6, noise=(5, 20), frequency_masks=1, time_masks=1, time_width=0.3
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("sound") / "own", 15)


def _load(folder: Path, **options: object) -> dict[str, SoundSplit]:
    return load_sound(SoundData(path=str(folder)).replace(**options), None, []).splits  # type: ignore[return-value]


def _numbers(split: SoundSplit | StringSplit) -> NDArray[np.int64]:
    return np.arange(split.whole)


def test_a_batch_holds_normalised_features_and_their_lengths(folder: Path) -> None:
    dataset = load_sound(SoundData(path=str(folder), mels=20, fmax=1500.0), None, [])
    train = dataset.splits["train"]
    assert isinstance(train, SoundSplit)
    batch = train.gather(_numbers(train))
    assert dataset.sizes == {"inputs": (20,), "outputs": 2}
    log_mel = LogMel(8000, 0.025, 0.01, 20, 20.0, 1500.0)
    mean, std = (torch.tensor(dataset.preparation[name]) for name in ("mean", "std"))
    frames = []
    for row, length, place in zip(batch["inputs"], batch["lengths"], range(len(train)), strict=True):
        start, end = train.clips.starts[place : place + 2]
        wave = torch.from_numpy(train.clips.samples[start:end] / np.float32(32768))
        assert length == (end - start - 200) // 80 + 1
        assert_close(row[:length], (log_mel(wave[None])[0] - mean) / std, rtol=1e-4, atol=1e-4)
        assert not row[length:].any()
        frames.append(row[:length])
    joined = torch.cat(frames)
    assert_close(joined.mean(0), torch.zeros(20), rtol=0, atol=1e-3)
    assert_close(joined.std(0, correction=0), torch.ones(20), rtol=1e-3, atol=1e-3)


def test_a_batch_of_many_is_many_batches_of_one(folder: Path) -> None:
    for options in ({}, {"augment": LOUD.table()}, {"strings": [2, 4], "augment": LOUD.table()}):
        train = _load(folder, **options)["train"]
        numbers = np.array([5, 0, 11])
        for seed in (None, 3):
            together = train.gather(numbers, seed, 2)
            for row, number in enumerate(numbers):
                alone = train.gather(np.array([number]), seed, 2)
                length = int(alone["lengths"][0])
                assert length == together["lengths"][row]
                assert_close(together["inputs"][row, :length], alone["inputs"][0], rtol=1e-4, atol=1e-4)
                assert not together["inputs"][row, length:].any()
                assert_close(together["targets"][row], alone["targets"][0])


def test_augmentation_is_a_function_of_seed_epoch_and_recording(folder: Path) -> None:
    train, again = (_load(folder, augment=LOUD.table())["train"] for _ in range(2))
    numbers = np.array([3, 4])
    first = train.gather(numbers, 1, 0)
    again.gather(np.array([9]), 1, 7)  # what came before does not matter
    assert_close(again.gather(numbers, 1, 0), first, rtol=0, atol=0)
    for seed, epoch in ((1, 1), (2, 0), (None, 0)):
        other = train.gather(numbers, seed, epoch)["inputs"]
        assert other.shape != first["inputs"].shape or not torch.equal(other, first["inputs"])
    for name in ("validation", "test"):
        held = _load(folder, augment=LOUD.table())[name]
        plain = _load(folder)[name]
        assert_close(held.gather(_numbers(held), 1, 0), plain.gather(_numbers(plain), None), rtol=0, atol=0)


def test_unaltered_recordings_are_kept_ready(folder: Path) -> None:
    train = _load(folder)["train"]
    before = train.gather(np.array([1, 2]))
    train.clips.samples[:] = 0  # no longer looked at
    assert_close(train.gather(np.array([1, 2]), 1, 5), before)


def test_the_level_of_a_recording_can_be_taken_off(folder: Path, tmp_path: Path) -> None:
    preparation = load_sound(SoundData(path=str(folder), level="clip"), None, []).preparation
    random = np.random.default_rng(0).normal(0, 0.02, 4000)
    quiet, loud = (prepare_clip(preparation, random * gain)["inputs"] for gain in (1.0, 8.0))
    assert_close(quiet, loud, rtol=1e-2, atol=2e-2)  # to the rounding to 16 bits
    preparation = load_sound(SoundData(path=str(folder)), None, []).preparation
    quiet, loud = (prepare_clip(preparation, random * gain)["inputs"] for gain in (1.0, 8.0))
    difference = (loud - quiet) * torch.tensor(preparation["std"])
    assert_close(difference.mean(), torch.tensor(2 * np.log(8.0)).float(), rtol=1e-2, atol=1e-2)


def test_a_string_is_its_recordings_with_silence_between(folder: Path) -> None:
    options = {"strings": [2, 4], "training_strings": 50, "held_strings": 20, "silence": [0.1, 0.2]}
    parts = _load(folder, **options)
    train = parts["train"]
    assert isinstance(train, StringSplit)
    assert (len(train), len(parts["validation"]), len(parts["test"])) == (50, 20, 20)
    picks, silences = train._picked(train._strings.rows(7, 3, np.arange(50)).numpy())
    counts = (picks >= 0).sum(1)
    assert set(counts.tolist()) == {2, 3, 4}
    assert picks.shape == (50, 4)
    assert silences.min() >= 800
    assert silences.max() <= 1600
    waveforms, sizes = train._joined(picks, silences)
    clips = train.part.clips
    for row in range(50):
        pieces = []
        for pick, gap in zip(picks[row], silences[row], strict=False):
            if pick >= 0:
                pieces += [np.zeros(gap), clips.samples[clips.starts[pick] : clips.starts[pick + 1]] / 32768]
        pieces.append(np.zeros(silences[row, counts[row]]))
        expected = np.concatenate(pieces)
        assert sizes[row] == len(expected)
        assert_close(waveforms[row, : len(expected)], torch.from_numpy(expected).float())
        assert not waveforms[row, len(expected) :].any()
    batch = train.gather(np.arange(50), 7, 3)
    assert_close(batch["targets"], torch.from_numpy(np.where(picks >= 0, clips.labels[picks], -100)))
    assert_close(batch["lengths"], (sizes - 200) // 80 + 1)


def test_strings_of_training_are_new_in_every_epoch_and_held_ones_never(folder: Path) -> None:
    parts = _load(folder, strings=[2, 4], training_strings=30, held_strings=30)
    numbers = np.arange(30)
    first, second = (parts["train"].gather(numbers, 1, epoch)["targets"] for epoch in (0, 1))
    assert not torch.equal(first, second)
    for name in ("train", "validation", "test"):
        one, two = (parts[name].gather(numbers, None, epoch) for epoch in (0, 0))
        assert_close(one, two, rtol=0, atol=0)


def test_strings_ask_for_a_blank_and_stay_in_their_split(folder: Path) -> None:
    dataset = load_sound(SoundData(path=str(folder), strings=(3, 7)), None, [])
    assert dataset.sizes == {"inputs": (40,), "outputs": 3}
    assert dataset.unit == "strings"
    alone = _load(folder)
    for name, split in dataset.splits.items():
        assert isinstance(split, StringSplit)
        np.testing.assert_array_equal(split.part.clips.samples, alone[name].clips.samples)


def test_a_string_keeps_to_one_speaker(folder: Path) -> None:
    random = np.random.default_rng(0)
    clips = Clips.of(
        [random.integers(-99, 99, 300).astype(np.int16) for _ in range(12)],
        np.arange(12),
        8000,
        ["ann", "bob", "eve"] * 4,
    )
    part = SoundSplit(clips, _load(folder)["train"].features)
    for one_speaker in (True, False):
        split = StringSplit(part, 200, (3, 5), (0.0, 0.1), one_speaker)
        targets = split.gather(np.arange(200), 1, 0)["targets"].numpy()
        speakers = [set((row[row >= 0] % 3).tolist()) for row in targets]
        assert all(len(found) == 1 for found in speakers) == one_speaker
        assert set(targets[targets >= 0].tolist()) == set(range(12))
        assert set((targets >= 0).sum(1).tolist()) == {3, 4, 5}


def test_a_new_recording_is_prepared_as_those_of_the_set(folder: Path, tmp_path: Path) -> None:
    dataset = load_sound(SoundData(path=str(folder)), None, [])
    train = dataset.splits["train"]
    assert isinstance(train, SoundSplit)
    batch = train.gather(np.array([2]))
    start, end = train.clips.starts[2:4]
    samples = train.clips.samples[start:end]
    path = tmp_path / "new.wav"
    soundfile.write(path, samples, 8000)
    for given in (path, str(path), path.read_bytes(), samples, samples / 32768):
        found = prepare_clip(dataset.preparation, given)
        assert_close(found["inputs"], batch["inputs"], rtol=1e-5, atol=1e-5)
        assert_close(found["lengths"], batch["lengths"])
    long = wav(tone(440, 12.0))
    assert prepare_clip(dataset.preparation, long)["lengths"].item() == 998  # the first 10 seconds
    strings = load_sound(SoundData(path=str(folder), strings=(1, 3)), None, []).preparation
    assert prepare_clip(strings, long)["lengths"].item() == 1198
    for given, words in ((b"", "no byte"), (np.zeros(0), "one row"), (np.zeros((2, 9)), "one row")):
        with pytest.raises(UserError, match=words):
            prepare_clip(dataset.preparation, given)
    with pytest.raises(UserError, match="not trained on sound"):
        prepare_clip({"kind": "images"}, path)


def test_the_fingerprint_is_of_what_is_used(folder: Path) -> None:
    config = SoundData(path=str(folder))
    found = {
        load_sound(config.replace(**change), None, []).fingerprint
        for change in ({}, {"mels": 30}, {"validation": 0.3}, {"level": "clip"}, {"longest": 0.2})
    }
    assert len(found) == 5
    assert load_sound(config, None, []).fingerprint in found


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strings": [3]}, "strings takes two numbers"),
        ({"strings": [7, 3]}, "strings takes two numbers"),
        ({"silence": [0.3, 0.1]}, "silence takes two numbers"),
        ({"rate": 10}, "rate must be 1,000 or more"),
        ({"fmax": 10.0}, "fmax must be more than fmin"),
        ({"rate": 8000, "fmax": 5000.0}, "at most half the rate"),
        ({"held_out": "theo", "held_out_validation": "theo"}, "two speakers"),
        ({"augment": {"noise": [30.0, 5.0]}}, "noise takes two numbers"),
        ({"path": "own"}, "exactly one of source"),
    ],
)
def test_a_configuration_that_cannot_be_meant_is_refused(options: dict[str, object], words: str) -> None:
    config: type[Config] = SoundData
    with pytest.raises(UserError, match=words):
        config.read({"source": "fsdd", **options})
