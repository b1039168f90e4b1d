"""What a recipe's `[data]` table may say of sound: recordings of classes, alone or joined to strings.

The module imports neither torch nor numpy.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from descent.config import Config, Field, Items
from descent.data.config import Fraction, Sourced

__all__ = ["MAX_SECONDS", "SOUND_SUFFIXES", "SoundAugment", "SoundData"]

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
MAX_SECONDS = 60.0
"""The longest recording that can be kept."""

Share = Annotated[float, Field(ge=0, le=1)]


class SoundAugment(Config):
    """Random changes of training recordings, drawn anew for each in each epoch.

    They are made in the order of this list; 0 or empty leaves a change out.

    Attributes:
        speed: up to this share faster or slower, which also moves every pitch (T. Ko et al., Audio
            augmentation for speech recognition, 2015, who play at 0.9, 1 and 1.1 times the speed).
        shift: silence of up to so many seconds before a recording, and as much after it.
        gain: louder or softer by up to so many decibels.
        noise: white noise is added at a signal-to-noise ratio drawn between these two numbers of decibels.
        frequency_masks: bands of mels set to the training mean (D. Park et al., SpecAugment, 2019).
        frequency_width: the most mels of one band.
        time_masks: likewise, spans of frames.
        time_width: the most of one span, as a share of the recording's frames.
    """

    speed: float = Field(default=0.0, ge=0, le=0.5)
    shift: float = Field(default=0.0, ge=0, le=5)
    gain: float = Field(default=0.0, ge=0, le=40)
    noise: Items[Annotated[float, Field(ge=-20, le=100)]] = ()
    frequency_masks: int = Field(default=0, ge=0, le=10)
    frequency_width: int = Field(default=8, ge=0, le=256)
    time_masks: int = Field(default=0, ge=0, le=10)
    time_width: Share = 0.2

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if len(self.noise) not in (0, 2) or list(self.noise) != sorted(self.noise):
            raise ValueError("noise takes two numbers of decibels in order, for example [5.0, 30.0]")
        return self


class SoundData(Sourced):
    """Recordings of classes, as log-mel features; for classification, or joined to strings for CTC.

    A batch of recordings is `inputs` (batch, frames, mels), `lengths` (batch,) in frames and `targets`
    (batch,). One of strings has `targets` (batch, longest string), class numbers filled up with -100, and
    asks the model for one output more than there are classes, the last of which is the blank.

    Attributes:
        source: a registered set of recordings.
        path: a folder with one folder of sound files per class (inside `train`, `validation`, `test` folders
            where those exist), or a CSV of paths and labels. The paths of a CSV start at its folder and stay
            in it; columns `split` (train, validation, test) and `speaker` may stand beside them.
        target: for a CSV the column of labels; empty = `label`, or the second one.
        rate: samples a second that all recordings are brought to; 0 = the rate that most files have, but
            at most 16,000.
        window: seconds of sound that one frame of features sees.
        hop: seconds from one frame to the next.
        mels: bands of the mel scale, which are the features of a frame.
        fmin: hertz where the lowest band begins.
        fmax: hertz where the highest ends; 0 = half the rate.
        level: `clip` takes each recording's mean off each band, so that loudness and microphone matter less;
            `set` leaves the levels as they are. Both are then brought to mean 0 and deviation 1 over the
            training part.
        longest: a recording is cut to its first so many seconds.
        held_out: a speaker whose recordings, all of them, are the test part.
        held_out_validation: another whose recordings are the validation part.
        augment: random changes of the training recordings (see `SoundAugment`).
        strings: fewest and most recordings of one string; empty = recordings stay alone. A string is made of
            recordings of its own split, silence before, between and after them.
        training_strings: how many an epoch makes, each anew.
        held_strings: how many the validation and the test part have, always the same.
        one_speaker: a string keeps to one speaker.
        silence: shortest and longest silence in seconds.
        validation: the share held out for validation, of the training part where a test part is official;
            unset = 0.1, or as a named set says of itself. Without effect where a validation part is official.
        test: the share held out for testing, where no test part is official.
    """

    type: Literal["sound"] = "sound"
    target: str = ""
    rate: int = Field(default=0, ge=0, le=192_000)
    window: float = Field(default=0.025, ge=0.001, le=1)
    hop: float = Field(default=0.01, ge=0.001, le=1)
    mels: int = Field(default=40, ge=1, le=256)
    fmin: float = Field(default=20.0, ge=0)
    fmax: float = Field(default=0.0, ge=0)
    level: Literal["set", "clip"] = "set"
    longest: float = Field(default=10.0, ge=0.05, le=MAX_SECONDS)
    held_out: str = ""
    held_out_validation: str = ""
    augment: SoundAugment = SoundAugment()
    strings: Items[Annotated[int, Field(ge=1, le=50)]] = ()
    training_strings: int = Field(default=2000, ge=1, le=10_000_000)
    held_strings: int = Field(default=300, ge=1, le=1_000_000)
    one_speaker: bool = True
    silence: Items[Annotated[float, Field(ge=0, le=5)]] = (0.05, 0.3)
    validation: Fraction | None = None
    test: Fraction = 0.2

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        if len(self.strings) not in (0, 2) or list(self.strings) != sorted(self.strings):
            raise ValueError("strings takes two numbers in order, for example [3, 7]")
        if len(self.silence) != 2 or list(self.silence) != sorted(self.silence):
            raise ValueError("silence takes two numbers of seconds in order, for example [0.05, 0.3]")
        if self.rate and self.rate < 1000:
            raise ValueError("rate must be 1,000 or more (0 = as most files have it)")
        if self.fmax and self.fmax <= self.fmin:
            raise ValueError("fmax must be more than fmin (0 = half the rate)")
        if self.rate and max(self.fmin, self.fmax) > self.rate / 2:
            raise ValueError("fmin and fmax can be at most half the rate")
        if self.held_out_validation and self.held_out_validation == self.held_out:
            raise ValueError("held_out and held_out_validation must be two speakers")
        return self
