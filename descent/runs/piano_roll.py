"""Music a model writes, as a MIDI file and as a picture of its piano roll beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from descent.data.dataset import Dataset
from descent.data.midi import LOWEST, SUFFIXES, Roll, notes, write_midi
from descent.data.music import read_frames, read_voices, rolls_of
from descent.data.music_config import GRIDS
from descent.data.music_splits import PieceSplit
from descent.errors import UserError
from descent.generation.music import FrameSettings, sample_frames, sample_voices
from descent.runs.figure import GRID, INK, MUTED, drawing, headline, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Tune", "compose", "draw_roll", "opening", "opening_of"]

BEATS = 4
"""Quarter notes of a bar, in the picture and in what is asked for."""
TEMPO = 90.0
LONGEST = 100_000
_COLORS = ("#d9622b", "#2f6fb5", "#5b8f6a", "#7a4fa3", "#a3752a", "#2a8f8a")


@dataclass(frozen=True)
class Tune:
    """What was written.

    Attributes:
        midi, picture: the files.
        steps: of all, the prompt's too.
        prompt: steps of the prompt.
        notes: held notes of all tracks.
    """

    midi: Path
    picture: Path
    steps: int
    prompt: int
    notes: int


def compose(
    model: nn.Module,
    preparation: Mapping[str, Any],
    out: Path | str,
    *,
    bars: int = 16,
    prompt: np.ndarray | None = None,
    tempo: float = TEMPO,
    name: str = "",
    **settings: Any,
) -> Tune:
    """Lets a model of music write a tune: a MIDI file, and its piano roll as a PNG of the same name.

    Args:
        model: trained on frames or on voices.
        preparation: of the data it was trained on.
        out: the MIDI file.
        bars: bars of four quarter notes to write at most, beside the prompt.
        prompt: what to go on from, see `opening` and `opening_of`; none = a new piece.
        tempo: quarter notes a minute.
        name: stands above the picture.
        settings: of frames the fields of `FrameSettings`, of voices those of `descent.generation.Settings`:
            temperature, seed and, of frames, most; of voices, top_p, top_k, min_p.

    Raises:
        UserError: the model was trained on no music, the file is not named as MIDI, a setting is not one.
    """
    path = Path(out)
    if path.suffix.lower() not in SUFFIXES or path.is_dir():
        raise UserError(
            "music is written as a MIDI file", got=str(out), expected="a name that ends with .mid"
        )
    if not 10 <= tempo <= 500:
        raise UserError("tempo", got=tempo, expected="10 to 500 quarter notes a minute")
    per_quarter = GRIDS[_grid(preparation)]
    steps = bars * BEATS * per_quarter
    if not 0 < steps <= LONGEST:
        raise UserError("bars", got=bars, expected=f"1 to {LONGEST // (BEATS * per_quarter):,}")
    if preparation["kind"] == "frames":
        chosen = FrameSettings.read({**settings, "steps": steps}, where="generate")
        drawn = sample_frames(model, preparation, chosen, prompt)
    else:
        drawn = sample_voices(model, preparation, steps, prompt, **settings)
    whole = drawn if prompt is None else np.concatenate([prompt, drawn])
    begun = 0 if prompt is None else len(prompt)
    tracks = rolls_of(whole, preparation)
    midi = write_midi(path, tracks, per_quarter, tempo)
    about = f"{len(whole) / (BEATS * per_quarter):g} bars of four quarter notes"
    about += f", the first {begun / (BEATS * per_quarter):g} given" if begun else ""
    picture = draw_roll(tracks, path.with_suffix(".png"), per_quarter, name or path.stem, about, begun)
    return Tune(midi, picture, len(whole), begun, sum(len(notes(roll)) for roll in tracks.values()))


def opening(path: Path | str, preparation: Mapping[str, Any], bars: int = 4) -> np.ndarray:
    """The first bars of a MIDI file as a model of this preparation takes them."""
    grid = _grid(preparation)
    if preparation["kind"] == "frames":
        piece = read_frames(Path(path), grid)
    else:
        piece = read_voices(Path(path), grid, len(preparation["voices"]))
    return piece[: bars * BEATS * GRIDS[grid]]


def opening_of(dataset: Dataset, split: str, number: int, bars: int = 4) -> np.ndarray:
    """The first bars of a piece of the data, counted from 0."""
    grid = _grid(dataset.preparation)
    found = dataset.splits.get(split)
    if not isinstance(found, PieceSplit):
        raise UserError(
            f"{dataset.name} has no split {split!r}", expected="one of " + ", ".join(dataset.splits)
        )
    if not 0 <= number < found.whole:
        raise UserError(f"no such piece of {split}", got=number, expected=f"0 to {found.whole - 1}")
    return found.pieces[number][: bars * BEATS * GRIDS[grid]]


def draw_roll(
    tracks: Mapping[str, Roll], path: Path, per_quarter: int, title: str, about: str, begun: int = 0
) -> Path:
    """Draws held notes as bars, time to the right and pitch upwards, a colour for each track.

    Args:
        tracks: a roll for each name.
        path: the PNG to write.
        per_quarter: steps of a quarter note.
        title: above the picture.
        about: a line of facts below it.
        begun: steps that were given, set apart by a line and paler.
    """
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    length = max(len(roll) for roll in tracks.values())
    bars = length / (BEATS * per_quarter)
    with drawing(min(max(0.62 * bars + 1.6, 6.0), 20.0), 4.6) as figure:
        axes = figure.add_subplot()
        colors = dict(zip(tracks, _COLORS * len(tracks), strict=False))
        for name, roll in tracks.items():
            _draw_track(axes, roll, colors[name], per_quarter, begun)
        if begun:
            axes.axvline(begun / (BEATS * per_quarter), color=INK, linewidth=1.0, linestyle=":", zorder=4)
        axes.set_xlim(0, max(bars, 1))
        axes.set_xlabel("bar")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))
        _pitches(axes, tracks)
        if len(tracks) > 1:
            handles = [Patch(facecolor=color, label=name) for name, color in colors.items()]
            axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1.0)
        headline(figure, title, about)
        return save(figure, path)


def _draw_track(axes: Axes, roll: Roll, color: str, per_quarter: int, begun: int) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    bar = BEATS * per_quarter
    for first, part, alpha in ((0, roll[:begun], 0.55), (begun, roll[begun:], 1.0)):
        boxes = [
            Rectangle(((first + start) / bar, LOWEST + key - 0.4), (end - start) / bar, 0.8)
            for start, end, key in notes(part)
        ]
        axes.add_collection(
            PatchCollection(boxes, facecolor=color, edgecolor="white", linewidth=0.4, alpha=alpha, zorder=3)
        )


def _pitches(axes: Axes, tracks: Mapping[str, Roll]) -> None:
    """The axis of pitch: a line at every C, from the lowest note there is to the highest."""
    keys = np.flatnonzero(np.logical_or.reduce([roll.any(axis=0) for roll in tracks.values()])) + LOWEST
    low, high = (int(keys[0]), int(keys[-1])) if len(keys) else (60, 72)
    octaves = [note for note in range(0, 128, 12) if low - 6 <= note <= high + 6]
    axes.set_ylim(low - 2, high + 2)
    axes.set_yticks(octaves, [f"C{note // 12 - 1}" for note in octaves])
    axes.set_ylabel("pitch", color=MUTED)
    axes.grid(color=GRID)


def _grid(preparation: Mapping[str, Any]) -> Any:
    if preparation.get("kind") not in ("frames", "voices"):
        raise UserError("this model was not trained on music", got=preparation.get("kind"))
    return preparation["grid"]
