"""What a recipe's `[data]` table may say of music. The class imports neither torch nor numpy."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from descent.config import Field
from descent.data.config import Sourced

__all__ = ["GRIDS", "Grid", "MusicData"]

Grid = Literal["quarter", "8th", "16th"]
GRIDS: dict[Grid, int] = dict(zip(get_args(Grid), (1, 2, 4), strict=True))
"""Steps of a quarter note."""

Share = Annotated[float, Field(ge=0, lt=1)]


class MusicData(Sourced):
    """Pieces of music in equal steps of time.

    Attributes:
        source: a registered set of pieces.
        path: a MIDI file, or a folder searched for files named `.mid` or `.midi`.
        form: `frames`, which of a piano's 88 keys sound at each step, to predict the next step from those
            before; or `voices`, a token for each voice of each step, to continue as a language model does.
        grid: the step of time that MIDI files are brought to; a registered set has its own.
        voices: for form `voices`, how many tracks with notes a MIDI file must have, one a voice.
        transpose: the most semitones by which a training piece is moved up or down, drawn anew for every
            pass, as far as it stays in the range of the training pieces (of `voices`, each in its own).
        length: steps of a training row; longer pieces are cut into rows, at other places in every pass.
            0 = whole pieces. Evaluation is always on whole pieces.
        validation: the share of MIDI files held out for validation, by hash (a set keeps its own splits).
        test: the share held out for testing.
    """

    type: Literal["music"] = "music"
    form: Literal["frames", "voices"] = "frames"
    grid: Grid = "16th"
    voices: int = Field(default=4, ge=1, le=16)
    transpose: int = Field(default=0, ge=0, le=12)
    length: int = Field(default=0, ge=0)
    validation: Share = 0.1
    test: Share = 0.1
