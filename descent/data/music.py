"""Sets of pieces of music: named ones, or a folder of MIDI files; and a new piece as a model's beginning.

Legend: T steps, V voices.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy.typing import NDArray

from descent.data.dataset import Dataset, Split
from descent.data.midi import KEYS, LOWEST, SUFFIXES, Roll, read_midi
from descent.data.music_config import GRIDS, Grid, MusicData
from descent.data.music_splits import FrameSplit, VoiceSplit
from descent.data.registry import Entry
from descent.data.splits import NAMES, fingerprint, hash_split, keys
from descent.data.textfiles import missing
from descent.errors import UserError

__all__ = ["Pieces", "Voices", "load_music", "read_frames", "read_voices", "rolls_of"]

Voices = Int[np.ndarray, "_ voices"]
"""The MIDI note of each voice at each step, -1 where it is silent; the highest voice first."""
Piece = NDArray[Any]
_NAMED = {1: ("melody",), 4: ("soprano", "alto", "tenor", "bass")}
_SHOWN = 3


@dataclass(frozen=True)
class Pieces:
    """Pieces by split, all rolls or all voices.

    Attributes:
        splits: "train", "validation" and "test", where there are any.
        grid: their step of time.
        about: where the splits come from.
        skipped: files that were left out, each with the reason.
    """

    splits: dict[str, list[Piece]]
    grid: Grid
    about: str
    skipped: tuple[str, ...] = ()


def load_music(config: MusicData, entry: Entry | None, files: list[Path]) -> Dataset:
    """A set of pieces as a dataset; see `MusicData` for what the options mean.

    Raises:
        UserError: the path is wrong, no piece can be used, or the set does not have the form asked for.
    """
    found = _own(config) if entry is None else SETS[entry.parser](files, config)
    name = config.source or Path(str(config.path)).name
    if not found.splits.get("train"):
        raise UserError(f"{name}: no piece is left to train on", hint="give more pieces")
    make = _frames if config.form == "frames" else _voices
    splits, sizes, preparation = make(found, config)
    sounds = [piece.astype(np.int8).tobytes() for part in found.splits.values() for piece in part]
    counts = [f"{part} {len(pieces)}" for part, pieces in found.splits.items()]
    options = [config.form, str(config.transpose), str(config.length), *counts]
    return Dataset(
        name=name,
        splits=splits,
        sizes=sizes,
        unit="frames" if config.form == "frames" else "tokens",
        fingerprint=fingerprint([*options, *sounds]),
        preparation={"kind": config.form, "grid": found.grid, **preparation},
        about=found.about,
        skipped=found.skipped,
    )


def read_frames(path: Path, grid: Grid) -> Roll:
    """All parts of a MIDI file as one roll."""
    return np.logical_or.reduce(read_midi(path, GRIDS[grid]))


def read_voices(path: Path, grid: Grid, voices: int) -> Voices:
    """The parts of a MIDI file as voices, from the highest on average to the lowest.

    Where a part has several notes at once its highest is taken.

    Raises:
        UserError: the file has another number of parts with notes.
    """
    parts = read_midi(path, GRIDS[grid])
    if len(parts) != voices:
        raise UserError(
            f"{path} does not have the voices asked for",
            got=f"{len(parts)} part{'s'[: len(parts) != 1]} with notes",
            expected=f"{voices}, each on a track or a channel of its own",
        )
    lines = [
        np.where(roll.any(axis=1), LOWEST + KEYS - 1 - roll[:, ::-1].argmax(axis=1), -1) for roll in parts
    ]
    lines.sort(key=lambda line: -float(line[line >= 0].mean()))
    return np.stack(lines, axis=1)


def rolls_of(piece: Roll | Voices, preparation: Mapping[str, Any]) -> dict[str, Roll]:
    """A piece as a roll for each of its tracks, by name: one of all notes, or one a voice."""
    if preparation["kind"] == "frames":
        return {"piano": piece.astype(np.bool_)}
    return {
        name: line[:, None] == np.arange(LOWEST, LOWEST + KEYS)
        for name, line in zip(preparation["voices"], piece.T, strict=True)
    }


def _frames(found: Pieces, config: MusicData) -> tuple[dict[str, Split], dict[str, Any], dict[str, Any]]:
    used = np.logical_or.reduce([piece.any(axis=0) for piece in found.splits["train"]])
    if not used.any():
        raise UserError("the training pieces are all silent")
    bounds = int(np.flatnonzero(used)[0]), int(np.flatnonzero(used)[-1])
    most = max(int(piece.sum(axis=1).max()) for piece in found.splits["train"])
    splits: dict[str, Split] = {
        name: FrameSplit(pieces, config.transpose, bounds, config.length if name == "train" else 0)
        for name, pieces in found.splits.items()
    }
    return splits, {"inputs": (KEYS,), "outputs": KEYS}, {"keys": list(bounds), "most": most}


def _voices(found: Pieces, config: MusicData) -> tuple[dict[str, Split], dict[str, Any], dict[str, Any]]:
    train = np.concatenate(found.splits["train"])
    count = train.shape[1]
    names = _NAMED.get(count) or tuple(f"voice {number + 1}" for number in range(count))
    silent = [name for name, line in zip(names, train.T, strict=True) if (line < 0).all()]
    if silent:
        raise UserError(f"the voice {silent[0]!r} is silent in all training pieces")
    ranges = [(int(line[line >= 0].min()), int(line.max())) for line in train.T]
    everything = [piece for pieces in found.splits.values() for piece in pieces]
    lowest = min(int(piece[piece >= 0].min()) for piece in everything if (piece >= 0).any())
    highest = max(int(piece.max()) for piece in everything)
    splits: dict[str, Split] = {
        name: VoiceSplit(pieces, ranges, lowest, config.transpose, config.length if name == "train" else 0)
        for name, pieces in found.splits.items()
    }
    preparation = {
        "voices": list(names),
        "ranges": [list(pair) for pair in ranges],
        "rests": [bool((line < 0).any()) for line in train.T],
        "lowest": lowest,
        "highest": highest,
    }
    return splits, {"vocab_size": 2 + highest - lowest + 1}, preparation


def _chorales(grid: Grid, has_voices: bool) -> Callable[[list[Path], MusicData], Pieces]:
    def read(files: list[Path], config: MusicData) -> Pieces:
        if config.form == "voices" and not has_voices:
            raise UserError(
                f"{config.source} does not tell the voices apart",
                got='data.form="voices"',
                expected='data.form="frames"',
                hint="data.source=jsb-chorales-voices has them",
            )
        parts = dict(zip(NAMES, ("train", "valid", "test"), strict=True))
        content = json.loads(files[0].read_text(encoding="utf-8"))
        as_frames = config.form == "frames"
        splits = {
            name: [_roll(piece) if as_frames else np.array(piece, dtype=np.int64) for piece in content[part]]
            for name, part in parts.items()
        }
        return Pieces(splits, grid, "splits as published")

    return read


SETS: dict[str, Callable[[list[Path], MusicData], Pieces]] = {
    "chorales-quarter": _chorales("quarter", has_voices=False),
    "chorales-16th": _chorales("16th", has_voices=False),
    "chorales-voices": _chorales("16th", has_voices=True),
}


def _roll(piece: Sequence[Sequence[float]]) -> Roll:
    """A list of chords as a roll; a negative note is a voice that is silent."""
    roll = np.zeros((len(piece), KEYS), dtype=np.bool_)
    for step, chord in enumerate(piece):
        roll[step, [int(note) - LOWEST for note in chord if note >= 0]] = True
    return roll


def _own(config: MusicData) -> Pieces:
    path = Path(str(config.path)).expanduser()
    if not path.exists():
        raise missing(path)
    listed = [path] if path.is_file() else _midi_files(path)
    pieces: list[Piece] = []
    skipped: list[str] = []
    for file in listed:
        try:
            pieces.append(_read(file, config))
        except UserError as error:
            skipped.append(_reason(file, error))
    if not pieces:
        shown = "; ".join(skipped[:_SHOWN]) + ("; ..." if len(skipped) > _SHOWN else "")
        raise UserError(f"{path}: no MIDI file can be used", got=shown)
    places = hash_split(
        keys(piece.astype(np.int8).tobytes() for piece in pieces), config.validation, config.test
    )
    splits = {name: [pieces[place] for place in chosen] for name, chosen in places.items() if len(chosen)}
    return Pieces(splits, config.grid, "pieces split by hash of their notes", tuple(skipped))


def _read(file: Path, config: MusicData) -> Piece:
    if config.form == "voices":
        return read_voices(file, config.grid, config.voices)
    return read_frames(file, config.grid)


def _reason(file: Path, error: UserError) -> str:
    """On one line why a file was left out."""
    what = error.what.removeprefix(f"{file} ")
    details = [f"got {error.got}"] * (error.got is not None) + [f"expected {error.expected}"] * bool(
        error.expected
    )
    return f"{file}: {what}" + (f" ({', '.join(details)})" if details else "")


def _midi_files(folder: Path) -> list[Path]:
    found = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )
    if not found:
        raise UserError(f"there are no MIDI files in {folder}", expected="files named " + " ".join(SUFFIXES))
    return found
