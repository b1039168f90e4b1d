"""Where recordings come from: named sets, and the user's own, to samples, class numbers and splits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from descent.data.archives import is_packed, tar_members
from descent.data.listed import Listed, list_csv, list_folder
from descent.data.sound_config import SOUND_SUFFIXES, SoundData
from descent.data.soundfiles import look, read_sound, sound_files
from descent.data.splits import NAMES, file_key
from descent.errors import CorruptArtifact, UserError

__all__ = ["SETS", "Sounds", "fsdd_recordings", "read_own"]

Numbers = NDArray[np.int64]

_FASTEST = 16_000
_THREADS = 4
_SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
_RECORDINGS = 50
_FSDD_LISTED = [
    (digit, speaker, number) for digit in range(10) for speaker in _SPEAKERS for number in range(_RECORDINGS)
]
_FSDD_CONTENT = "fed1719db188f40ffb81efe9ff170e5885c96777271e86e7900d0754c5993cff"
_FSDD_RATE = 8000
_LARGEST_WAV = 100_000
_LARGEST_ARCHIVE = 100_000_000


@dataclass
class Sounds:
    """Recordings of 16 bits at one rate, their class numbers, and where they belong.

    Attributes:
        clips: the samples of each.
        speakers: who speaks; None where it is not known.
        official: the places of each official split; None where there is none.
        keys: a hash of each one's file, by which it is split; None = its samples are hashed.
        skipped: files that could not be read, each with the reason.
        notes: what was decided for the user, or left aside.
    """

    clips: list[NDArray[np.int16]]
    rate: int
    labels: Numbers
    classes: tuple[str, ...]
    speakers: tuple[str, ...] | None = None
    official: dict[str, Numbers] | None = None
    keys: NDArray[np.uint64] | None = None
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def fsdd_recordings(path: Path) -> dict[str, bytes]:
    """`recordings/{digit}_{speaker}_{n}.wav` in a tar, or in the folder of a repository's packed archive.

    Whichever it is, the recordings themselves must be the published ones: one SHA-256 over those of all,
    by name.

    Raises:
        CorruptArtifact: it is no such archive, or they are not.
    """
    wanted = {f"recordings/{digit}_{who}_{number}.wav": _LARGEST_WAV for digit, who, number in _FSDD_LISTED}
    members = tar_members(path, wanted, _LARGEST_ARCHIVE, rooted=is_packed(path))
    content = hashlib.sha256()
    for name in sorted(wanted):
        content.update(hashlib.sha256(members[name]).digest())
    if content.hexdigest() != _FSDD_CONTENT:
        raise CorruptArtifact(
            f"{path}: the recordings are not the published ones",
            got=f"sha256 {content.hexdigest()}",
            expected=f"sha256 {_FSDD_CONTENT} over those of all",
        )
    return {name: members[name] for name in wanted}


def _fsdd(files: list[Path], config: SoundData) -> Sounds:
    members, listed = fsdd_recordings(files[0]), _FSDD_LISTED
    rate = config.rate or _FSDD_RATE
    read = [read_sound(data, rate, config.longest, name) for name, data in members.items()]
    numbers = np.array([number for _, _, number in listed])
    return Sounds(
        [samples for samples, _ in read],
        rate,
        np.array([digit for digit, _, _ in listed], dtype=np.int64),
        tuple("0123456789"),
        tuple(speaker for _, speaker, _ in listed),
        {
            "train": np.flatnonzero(numbers >= 10),
            "validation": np.flatnonzero((numbers >= 5) & (numbers < 10)),
            "test": np.flatnonzero(numbers < 5),
        },
        notes=_cut(sum(cut for _, cut in read), config),
    )


def read_own(path: Path, config: SoundData) -> Sounds:
    """The user's own recordings: a folder with one folder per class, or a CSV of paths and labels.

    Raises:
        UserError: they are no such thing, or nothing of a class can be read.
    """
    if path.suffix.lower() in (".csv", ".tsv") and not path.is_dir():
        (listed, classes), notes = list_csv(path, config.target, SOUND_SUFFIXES, "recordings"), []
    elif path.is_file():
        raise UserError(
            "recordings are given as a folder with one folder per class, or as a CSV of path and label",
            got=str(path),
        )
    else:
        listed, classes, notes = list_folder(path, sound_files, "recordings", SOUND_SUFFIXES)
    read, rate = _read(listed, config)
    kept = [place for place, one in enumerate(read) if not isinstance(one, str)]
    good = [one for one in read if not isinstance(one, str)]
    skipped = [one for one in read if isinstance(one, str)]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[listed[place].label] for place in kept], dtype=np.int64)
    bare = [name for number, name in enumerate(classes) if number not in labels]
    if bare:
        raise UserError(
            f"{path}: no readable recording in {', '.join(bare)}", hint=skipped[0] if skipped else None
        )
    speakers = tuple(name for place in kept if (name := listed[place].speaker) is not None)
    official = None
    if listed[0].split is not None:
        splits = np.array([listed[place].split for place in kept])
        given = {item.split for item in listed}
        official = {name: np.flatnonzero(splits == name) for name in NAMES if name in given}
    return Sounds(
        [one.samples for one in good],
        rate,
        labels,
        classes,
        speakers if len(speakers) == len(kept) else None,
        official,
        np.array([one.key for one in good], dtype=np.uint64),
        tuple(skipped),
        (*_cut(sum(one.cut for one in good), config), *notes),
    )


@dataclass(frozen=True)
class _One:
    samples: NDArray[np.int16]
    cut: bool
    key: int


def _read(listed: list[Listed], config: SoundData) -> tuple[list[_One | str], int]:
    """Each listed file's samples, or why it was left out; and their rate.

    Threads share the work, each file keeping its place, so that their order changes nothing.
    """
    files = [item.file for item in listed]
    with ThreadPoolExecutor(_THREADS) as pool:
        rate = config.rate
        if not rate:
            rates = Counter(own for own in pool.map(_rate, files) if own)
            # of rates that are equally many, the highest
            rate = min(_FASTEST, max(rates, key=lambda own: (rates[own], own), default=_FASTEST))

        def read(file: Path) -> _One | str:
            try:
                samples, cut = read_sound(file, rate, config.longest)
                return _One(samples, cut, file_key(file))
            except UserError as error:
                return error.what

        return list(pool.map(read, files)), rate


def _rate(file: Path) -> int:
    """The rate in a file's header; 0 where it cannot be read, which is told when it is read."""
    try:
        return look(file)
    except UserError:
        return 0


def _cut(count: int, config: SoundData) -> tuple[str, ...]:
    if not count:
        return ()
    return (f"{count:,} recordings cut to their first {config.longest:g} seconds (data.longest)",)


SETS: dict[str, Callable[[list[Path], SoundData], Sounds]] = {"fsdd": _fsdd}
"""By the `parser` of an entry: what reads its files."""
