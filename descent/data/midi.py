"""MIDI files (Standard MIDI File 1.0) to piano rolls in equal steps, and back; mido reads and writes them.

A roll says which of a piano's 88 keys sound at each step: `roll[t, k]` is True while key k, MIDI note
21 + k, is held. It has no strokes: a note that is struck again at once is one long note in it.

Legend: T steps.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Bool

from descent.errors import UserError

__all__ = ["KEYS", "LOWEST", "SUFFIXES", "Roll", "notes", "read_midi", "write_midi"]

LOWEST, KEYS = 21, 88
SUFFIXES = (".mid", ".midi")
Roll = Bool[np.ndarray, "_ 88"]

MAX_BYTES = 4 << 20
MAX_STEPS = 100_000
MAX_PARTS = 64
TICKS = 480
_DRUMS = 9
# The reader's numbers grow with every byte of 128 or more, and its time with their square.
_ENDLESS = re.compile(rb"[\x80-\xff]{4096}")

Sounding = tuple[int, int, int]
"""Start and end in ticks, and the MIDI note."""


def read_midi(path: Path, per_quarter: int) -> list[Roll]:
    """The parts of a MIDI file that have notes, each on the nearest steps, all of equal length.

    A part is what one track plays on one channel; parts come in the file's order. A note lasts at least a
    step. Drums (channel 10) and notes that no piano has are left out; tempo changes nothing.

    Args:
        path: the file.
        per_quarter: steps of a quarter note.

    Raises:
        UserError: the file is broken, too large, has no notes, or its time is not counted in quarter notes.
    """
    file = _parsed(path)
    if file.type not in (0, 1) or file.ticks_per_beat <= 0:
        raise UserError(
            f"{path} does not count in common quarter notes",
            got=f"type {file.type}" if file.ticks_per_beat > 0 else "time in frames of film",
            expected="a MIDI file of type 0 or 1, with ticks of a quarter note",
        )
    parts = {
        (number, channel): played
        for number, track in enumerate(file.tracks)
        for channel, played in _played(track).items()
    }
    if len(parts) > MAX_PARTS:
        raise UserError(
            f"{path} has too many parts",
            got=f"{len(parts):,} tracks and channels",
            expected=f"up to {MAX_PARTS}",
        )
    if not parts:
        raise UserError(f"{path} has no notes", expected="notes from A0 to C8 that are no drums")
    ticks = file.ticks_per_beat
    steps = {part: [_on_grid(note, ticks, per_quarter) for note in played] for part, played in parts.items()}
    length = max(end for played in steps.values() for _, end, _ in played)
    if length > MAX_STEPS:
        raise UserError(
            f"{path} is too long", got=f"{min(length, 10**9):,} steps", expected=f"up to {MAX_STEPS:,}"
        )
    return [_roll(played, length) for played in steps.values()]


def write_midi(path: Path, tracks: Mapping[str, Roll], per_quarter: int, tempo: float) -> Path:
    """Writes rolls as a MIDI file of type 1, a track for each; steps that sound on are one long note.

    Args:
        path: the file; its folder is made where it is not there.
        tracks: a roll for each name, in order.
        per_quarter: steps of a quarter note.
        tempo: quarter notes a minute.
    """
    mido = _mido()
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    for number, (name, roll) in enumerate(tracks.items()):
        track = mido.MidiTrack()
        track.append(mido.MetaMessage("track_name", name=name))
        if number == 0:
            track.append(mido.MetaMessage("set_tempo", tempo=round(60e6 / tempo)))
        channel = number % 15 + (number % 15 >= _DRUMS)
        step, now = TICKS // per_quarter, 0
        for time, _, kind, key in _events(roll):
            wait, now = time * step - now, time * step
            track.append(mido.Message(kind, note=LOWEST + key, velocity=72, channel=channel, time=int(wait)))
        track.append(mido.MetaMessage("end_of_track", time=len(roll) * step - now))
        file.tracks.append(track)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    file.save(file=content)
    path.write_bytes(content.getvalue())
    return path


def notes(roll: Roll) -> list[tuple[int, int, int]]:
    """Start step, end step (the one after its last) and key of every held note, by their starts."""
    silent = np.zeros((1, roll.shape[1]), dtype=np.int8)
    change_KT = np.diff(np.concatenate([silent, roll.astype(np.int8), silent]), axis=0).T
    key, start = np.nonzero(change_KT == 1)
    _, end = np.nonzero(change_KT == -1)
    return sorted(zip(start.tolist(), end.tolist(), key.tolist(), strict=True))


def _events(roll: Roll) -> list[tuple[int, int, str, int]]:
    """Strokes and releases in order; at one time releases come first."""
    held = notes(roll)
    struck = [(start, 1, "note_on", key) for start, _, key in held]
    return sorted([*struck, *((end, 0, "note_off", key) for _, end, key in held)])


def _parsed(path: Path) -> Any:
    mido = _mido()
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UserError(f"{path} is too large", got=f"{size:,} bytes", expected=f"up to {MAX_BYTES:,}")
        content = path.read_bytes()
        if _ENDLESS.search(content):
            raise ValueError("a number without an end")
        return mido.MidiFile(file=BytesIO(content))
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        struct.error,
        mido.KeySignatureError,
    ) as error:
        reason = "it ends too early" if isinstance(error, EOFError) else str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read as a MIDI file: {reason}") from None


def _played(track: Iterable[Any]) -> dict[int, list[Sounding]]:
    """The notes of a track by channel; one that is never released lasts to the track's end."""
    open_notes: dict[tuple[int, int], int] = {}
    found: dict[int, list[Sounding]] = {}
    now = 0

    def release(channel: int, note: int) -> None:
        start = open_notes.pop((channel, note), None)
        if start is not None:
            found.setdefault(channel, []).append((start, now, note))

    for message in track:
        now += message.time
        if message.type not in ("note_on", "note_off") or message.channel == _DRUMS:
            continue
        if not LOWEST <= message.note < LOWEST + KEYS:
            continue
        release(message.channel, message.note)
        if message.type == "note_on" and message.velocity:
            open_notes[message.channel, message.note] = now
    for channel, note in list(open_notes):
        release(channel, note)
    return dict(sorted(found.items()))


def _on_grid(note: Sounding, ticks: int, per_quarter: int) -> Sounding:
    """A note in steps, each end to the nearest one (halves up)."""
    start, end = ((2 * time * per_quarter + ticks) // (2 * ticks) for time in note[:2])
    return start, max(end, start + 1), note[2]


def _roll(played: Sequence[Sounding], length: int) -> Roll:
    roll = np.zeros((length, KEYS), dtype=np.bool_)
    for start, end, note in played:
        roll[start:end, note - LOWEST] = True
    return roll


def _mido() -> ModuleType:
    try:
        import mido
    except ModuleNotFoundError:
        raise UserError(
            "MIDI files need the package mido, which is not installed",
            hint="pip install 'descent[music]'",
        ) from None
    return mido
