"""Sound files through libsndfile, under a list of formats: one channel of 16 bits at the rate that is asked.

Channels are mixed down, other rates resampled by a polyphase filter, other widths (8, 24, 32 bits,
floating point) brought to 16. What a file says of its length is never believed: no more is read than is
kept. A file that ends before its time is refused, but for an Ogg, which tells nothing of its length: of
that one what is there is read.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descent.data.sound_config import SOUND_SUFFIXES
from descent.data.textfiles import missing
from descent.errors import UserError

__all__ = ["FORMATS", "look", "read_sound", "sound_files", "to_samples"]

FORMATS = ("WAV", "WAVEX", "RF64", "FLAC", "OGG", "MP3", "AIFF")
_RATES = (1_000, 384_000)
_CHANNELS = 8
_STREAMED = 0x7FFFFFFF  # what wrote to a pipe could not know the length, and put down the largest
_LOUDEST = 32768.0


def sound_files(folder: Path) -> list[Path]:
    """What is named as sound in a folder, at any depth, sorted; hidden files and folders are left out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SOUND_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and not file.is_dir()
    )


def look(path: Path) -> int:
    """The rate of a file, from its header alone.

    Raises:
        UserError: as `read_sound`.
    """
    with _opened(path, str(path)) as sound:
        return int(sound.samplerate)


def read_sound(
    source: Path | bytes, rate: int, longest: float, name: str = ""
) -> tuple[NDArray[np.int16], bool]:
    """A recording's samples at a rate, and whether more than the longest was there and left.

    Args:
        source: the file, or its bytes.
        rate: samples a second to bring it to; 0 = leave it at its own.
        longest: seconds from its beginning that are kept.
        name: for messages; the path where it is a path.

    Raises:
        UserError: not there, no accepted format, broken, cut short, without a sample, or with one that is no
            number.
    """
    name = name or str(source)
    with _opened(source, name) as sound:
        own = int(sound.samplerate)
        most = math.ceil(longest * own)
        values = sound.read(most + 1, dtype="float32", always_2d=True)
        if len(values) < min(most + 1, sound.frames) < _STREAMED:
            raise UserError(
                f"{name} is cut short", got=f"{len(values):,} samples", expected=f"{sound.frames:,}"
            )
    if not len(values):
        raise UserError(f"{name} is empty: it has no sample", expected="a recording")
    return to_samples(values[:most].mean(1), own, rate or own, name), len(values) > most


def to_samples(values: NDArray[Any], own: int, rate: int, name: str) -> NDArray[np.int16]:
    """Samples (n,) in -1..1 as 16 bits at another rate; louder ones are cut off at the loudest."""
    if not np.isfinite(values).all():
        raise UserError(f"{name} has samples that are infinite or no numbers")
    if own != rate:
        # here, as it takes long to import, and most recordings come at the rate that is asked
        resample = import_module("scipy.signal").resample_poly
        common = math.gcd(own, rate)
        values = resample(values.astype(np.float64), rate // common, own // common)
    return np.clip(np.rint(values * _LOUDEST), -_LOUDEST, _LOUDEST - 1).astype(np.int16)


@contextmanager
def _opened(source: Path | bytes, name: str) -> Iterator[Any]:
    """An open sound file whose header was found acceptable."""
    if isinstance(source, Path) and not source.is_file():
        raise missing(source)
    library = _soundfile()
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as stream:
            _refuse_cut(stream, name)
            with library.SoundFile(stream) as sound:
                _accept(sound, name)
                yield sound
    except library.LibsndfileError as error:
        reason = str(error.error_string).strip().rstrip(".")
        expected = ", ".join(SOUND_SUFFIXES)
        raise UserError(f"{name} is no sound that can be read: {reason}", expected=expected) from None
    except OSError as error:
        raise UserError(f"{name} cannot be read: {error.strerror or error}") from None


def _accept(sound: Any, name: str) -> None:
    if sound.format not in FORMATS:
        raise UserError(f"{name} is of a format that is not read", got=sound.format, expected=str(FORMATS))
    if not _RATES[0] <= sound.samplerate <= _RATES[1] or not 1 <= sound.channels <= _CHANNELS:
        raise UserError(
            f"{name} is of a rate or a number of channels that is not read",
            got=f"{sound.samplerate:,} Hz, {sound.channels} channels",
            expected=f"{_RATES[0]:,} to {_RATES[1]:,} Hz, 1 to {_CHANNELS} channels",
        )


def _refuse_cut(stream: io.BufferedIOBase, name: str) -> None:
    """Refuses a WAV or AIFF that ends before its samples do, which libsndfile passes over."""
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    head = stream.read(12)
    if not size:
        raise UserError(f"{name} is empty: it has no byte", expected="a recording")
    kinds = {b"RIFF": ("little", b"data"), b"FORM": ("big", b"SSND")}
    order, samples = kinds.get(head[:4], ("", b""))
    while order and len(chunk := stream.read(8)) == 8:
        length = int.from_bytes(chunk[4:], order)  # type: ignore[arg-type]
        rest = size - stream.tell()
        if chunk[:4] == samples and rest < length < _STREAMED:
            raise UserError(f"{name} is cut short", got=f"{rest:,} bytes of samples", expected=f"{length:,}")
        if chunk[:4] == samples or length > rest:
            break
        stream.seek(length + length % 2, io.SEEK_CUR)
    stream.seek(0)


def _soundfile() -> Any:
    try:
        return import_module("soundfile")
    except (ImportError, OSError):  # the package, or the library it loads
        raise UserError(
            "sound files are read by the package soundfile, which is not installed",
            hint='pip install "descent[sound]"',
        ) from None
