"""Recordings of classes as a dataset, alone or joined to strings; and a new recording as a model's input.

Legend: B batch, N samples, T frames, M mels, S recordings of the longest string.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from descent.data.dataset import Dataset
from descent.data.registry import Entry
from descent.data.sound_config import SoundData
from descent.data.sound_splits import Clips, Features, SoundSplit, StringSplit
from descent.data.soundfiles import read_sound, to_samples
from descent.data.soundsets import SETS, Sounds, read_own
from descent.data.splits import NAMES, fingerprint, hash_split, keys
from descent.errors import UserError, nearest

__all__ = ["load_sound", "prepare_clip"]

Places = NDArray[np.int64]


def load_sound(config: SoundData, entry: Entry | None, files: list[Path]) -> Dataset:
    """A set of recordings as a dataset; see `SoundData` for what the options mean, and for the batches."""
    name = config.source or Path(str(config.path)).name
    found = (
        SETS[entry.parser](files, config) if entry else read_own(Path(str(config.path)).expanduser(), config)
    )
    if len(found.clips) < 3:
        raise UserError(f"{name}: too few recordings", got=len(found.clips), expected="3 or more")
    chosen = {split: places for split, places in _divided(found, config).items() if len(places)}
    if "train" not in chosen:
        raise UserError(f"{name}: no recording is left to train on", hint="give more recordings")
    clips = {split: _clips(found, places) for split, places in chosen.items()}
    features = Features(_preparation(config, found))
    features.fit(clips["train"])
    splits = {
        split: SoundSplit(part, features, config.augment if split == "train" else None)
        for split, part in clips.items()
    }
    if config.strings:
        splits = {split: _strings(part, config, split) for split, part in splits.items()}
    content = [part for split in clips.values() for part in (split.samples.data, split.labels.data)]
    return Dataset(
        name=name,
        splits=dict(splits),
        sizes={"inputs": (config.mels,), "outputs": len(found.classes) + bool(config.strings)},
        unit="strings" if config.strings else "recordings",
        fingerprint=fingerprint([str(sorted(features.preparation.items())), *content]),
        labels=found.classes,
        preparation=features.preparation,
        about="; ".join([_about(found, config), *found.notes]),
        skipped=found.skipped,
        notes=found.notes,
    )


def _preparation(config: SoundData, found: Sounds) -> dict[str, Any]:
    """What turns a recording into features, but for the mean and deviation of the training part."""
    fields = ("window", "hop", "mels", "fmin", "fmax", "level", "longest")
    return {
        "kind": "sound",
        "rate": found.rate,
        **{name: getattr(config, name) for name in fields},
        "strings": list(config.strings),
        "labels": list(found.classes),
    }


def _clips(found: Sounds, places: Places) -> Clips:
    chosen = [found.clips[place] for place in places]
    speakers = None if found.speakers is None else [found.speakers[place] for place in places]
    return Clips.of(chosen, found.labels[places], found.rate, speakers)


def _strings(part: SoundSplit, config: SoundData, split: str) -> StringSplit:
    count = config.training_strings if split == "train" else config.held_strings
    fewest, most = config.strings
    shortest, longest = config.silence
    return StringSplit(part, count, (fewest, most), (shortest, longest), config.one_speaker)


def _divided(found: Sounds, config: SoundData) -> dict[str, Places]:
    """The places of each split; a speaker who is held out is in no other."""
    parts = _parts(found, config)
    held = {"test": config.held_out, "validation": config.held_out_validation}
    who = {split: _spoken_by(found, speaker) for split, speaker in held.items() if speaker}
    if not who:
        return parts
    taken = np.logical_or.reduce(list(who.values()))
    for split in who:  # what others spoke of the part that a speaker takes
        parts["train"] = np.concatenate([parts["train"], parts.pop(split, np.zeros(0, np.int64))])
    parts = {split: np.sort(places[~taken[places]]) for split, places in parts.items()}
    parts |= {split: np.flatnonzero(theirs) for split, theirs in who.items()}
    return {split: parts[split] for split in NAMES if split in parts}


def _spoken_by(found: Sounds, speaker: str) -> NDArray[np.bool_]:
    if found.speakers is None:
        raise UserError(
            "data.held_out: these recordings do not say who speaks",
            got=speaker,
            hint="give a CSV with a column speaker, or leave data.held_out out",
        )
    theirs = np.array([name == speaker for name in found.speakers])
    if not theirs.any() or theirs.all():
        known = sorted(set(found.speakers))
        near = nearest(speaker, known)
        raise UserError(
            "data.held_out: no such speaker"
            if not theirs.any()
            else "data.held_out: there is no other speaker",
            got=speaker,
            expected="one of " + ", ".join(known),
            hint=f"did you mean {near!r}?" if near and near != speaker else None,
        )
    return theirs


def _parts(found: Sounds, config: SoundData) -> dict[str, Places]:
    """Official splits as they are; what is not official is chosen by hash of each file."""
    official = found.official
    if official is not None and "validation" in official:
        return dict(official)
    everything = np.arange(len(found.clips)) if official is None else official["train"]
    hashes = keys(clip.tobytes() for clip in found.clips) if found.keys is None else found.keys
    test = 0.0 if official is not None and "test" in official else config.test
    share = 0.1 if config.validation is None else config.validation
    parts = {name: everything[at] for name, at in hash_split(hashes[everything], share, test).items()}
    return parts if official is None or "test" not in official else {**parts, "test": official["test"]}


def _about(found: Sounds, config: SoundData) -> str:
    held = {"test": config.held_out, "validation": config.held_out_validation}
    spoken = [f"{split}: all that {speaker} says" for split, speaker in held.items() if speaker]
    if spoken:
        return "; ".join([*spoken, "train: the other speakers"])
    if found.official is None:
        return "recordings split by hash of their content"
    whole = "validation" in found.official
    return "official splits" if whole else "official test split; validation chosen from train by hash"


def prepare_clip(
    preparation: Mapping[str, Any], recording: str | Path | bytes | NDArray[Any]
) -> dict[str, Float[Tensor, "1 frames mels"] | Int[Tensor, "1"]]:
    """The model's inputs for one new recording, a batch of one: `inputs` and `lengths`.

    It is cut to the longest length that the model was trained with, as the training recordings were; where
    it was trained on strings, to the length of the longest possible string.

    Args:
        preparation: of the recordings the model was trained on.
        recording: a sound file or its bytes; or samples (n,) in -1..1, or of 16 bits, at the preparation's
            rate.

    Raises:
        UserError: the file cannot be read or has no sample; the message says why.
    """
    if preparation.get("kind") != "sound":
        raise UserError("this model was not trained on sound", got=preparation.get("kind"))
    features = Features(preparation)
    if isinstance(recording, np.ndarray):
        if recording.ndim != 1 or not len(recording):
            raise UserError("a recording is one row of samples", got=recording.shape, expected="(n,)")
        rate = preparation["rate"]
        samples = recording
        if recording.dtype != np.int16:
            samples = to_samples(recording, rate, rate, "the recording")
        samples = samples[: round(features.longest * rate)]
    else:
        source = Path(recording) if isinstance(recording, str) else recording
        name = "the recording" if isinstance(source, bytes) else str(source)
        samples, _ = read_sound(source, preparation["rate"], features.longest, name)
    one = Clips.of([samples], np.zeros(1, np.int64), preparation["rate"])
    inputs, lengths = features(*one.padded(np.zeros(1, np.int64)))
    return {"inputs": inputs, "lengths": lengths}
