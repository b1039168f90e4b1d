"""What is noted beside the weights of models of sequences: see `noted`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import StrictFloat, model_validator

from descent.config import Config, Field, Items
from descent.data.clock import Unit
from descent.data.series_config import Calendar
from descent.runs.noted_texts import QuestionsNote, RankingNote, SimilarNote

Spread = Annotated[StrictFloat, Field(gt=0)]
Name = Annotated[str, Field(min_length=1)]
Key = Annotated[int, Field(ge=0, le=127)]


class SoundNote(Config):
    """See `descent.data.sound`."""

    kind: Literal["sound"]
    rate: Annotated[int, Field(ge=1000, le=384_000)]
    window: Annotated[float, Field(gt=0, le=10)]
    hop: Annotated[float, Field(gt=0, le=10)]
    mels: Annotated[int, Field(ge=1, le=1024)]
    fmin: Annotated[float, Field(ge=0)]
    fmax: Annotated[float, Field(ge=0)]
    level: Literal["set", "clip"]
    longest: Annotated[float, Field(gt=0, le=3600)]
    strings: Items[Annotated[int, Field(ge=1, le=1000)]] = Field(default=(), max_length=2)
    labels: Items[str] = Field(min_length=1)
    mean: Items[float]
    std: Items[Spread]

    @model_validator(mode="after")
    def _bands(self) -> Self:
        if not len(self.mean) == len(self.std) == self.mels:
            raise ValueError(f"mean and std take {self.mels} numbers each, one a band")
        return self


class StepNote(Config):
    """See `descent.data.clock.Step`."""

    unit: Unit
    count: Annotated[int, Field(ge=1, le=10**15)]


class ReadingNote(Config):
    """How a new file of a series is read."""

    time: str = ""
    time_format: str = ""
    missing: Literal["forward", "interpolate", "refuse"] = "forward"
    gaps: Literal["fill", "ignore", "refuse"] = "fill"
    duplicates: Literal["refuse", "first", "last", "mean"] = "refuse"


class SeriesNote(Config):
    """See `descent.data.series`."""

    kind: Literal["series"]
    targets: Items[Name] = Field(min_length=1)
    inputs: Items[Name] = ()
    known: Items[Name] = ()
    calendar: Items[Calendar] = ()
    mean: dict[str, float]
    std: dict[str, Spread]
    history: Annotated[int, Field(ge=1, le=100_000)]
    horizon: Annotated[int, Field(ge=1, le=100_000)]
    season: Annotated[int, Field(ge=0, le=1_000_000)]
    step: StepNote
    reading: ReadingNote
    quantiles: Items[Annotated[float, Field(gt=0, lt=1)]] = ()

    @model_validator(mode="after")
    def _scales(self) -> Self:
        names = {*self.targets, *self.inputs, *self.known}
        if names - set(self.mean) or names - set(self.std):
            raise ValueError("mean and std must hold a number for every column")
        return self


class FramesNote(Config):
    """See `descent.data.music`."""

    kind: Literal["frames"]
    grid: Literal["quarter", "8th", "16th"]
    keys: Items[Annotated[int, Field(ge=0, le=87)]] = Field(min_length=2, max_length=2)
    most: Annotated[int, Field(ge=1, le=88)]


class VoicesNote(Config):
    """See `descent.data.music`."""

    kind: Literal["voices"]
    grid: Literal["quarter", "8th", "16th"]
    voices: Items[Name] = Field(min_length=1, max_length=64)
    ranges: Items[Items[Key]]
    rests: Items[bool]
    lowest: Key
    highest: Key

    @model_validator(mode="after")
    def _of_each_voice(self) -> Self:
        low, high = self.lowest, self.highest
        pairs = all(len(pair) == 2 and low <= pair[0] <= pair[1] <= high for pair in self.ranges)
        if not (pairs and len(self.voices) == len(self.ranges) == len(self.rests)):
            raise ValueError("every voice has a range between the lowest and the highest pitch")
        return self


class PairsNote(Config):
    """See `descent.data.pairs`."""

    kind: Literal["pairs"]
    start: Items[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    length: Annotated[int, Field(ge=1)]
    tasks: dict[Name, Items[str]] = Field(default_factory=dict)


class GeneratedNote(Config):
    """See `descent.data.generated`."""

    kind: Literal["generated"]


class MaskedNote(Config):
    """See `descent.data.masked`."""

    kind: Literal["masked"]
    length: Annotated[int, Field(ge=1)]


class SentencesNote(Config):
    """See `descent.data.sentences`."""

    kind: Literal["sentences"]
    length: Annotated[int, Field(ge=8, le=65536)]
    texts: Literal[1, 2]
    columns: Items[Name] = Field(default=(), max_length=2)
    labels: Items[str] = Field(min_length=2)


class EntitiesNote(Config):
    """See `descent.data.entities`."""

    kind: Literal["entities"]
    length: Annotated[int, Field(ge=8, le=65536)]
    joiner: Literal[" ", ""]
    labels: Items[str] = Field(min_length=2)


TextNote = SentencesNote | EntitiesNote
FoundNote = QuestionsNote | RankingNote | SimilarNote
SequenceNote = (
    SoundNote
    | SeriesNote
    | FramesNote
    | VoicesNote
    | PairsNote
    | GeneratedNote
    | MaskedNote
    | TextNote
    | FoundNote
)
FORMS: dict[str, type[SequenceNote]] = {
    "sound": SoundNote,
    "series": SeriesNote,
    "frames": FramesNote,
    "voices": VoicesNote,
    "pairs": PairsNote,
    "sentences": SentencesNote,
    "entities": EntitiesNote,
    "questions": QuestionsNote,
    "ranking": RankingNote,
    "similar": SimilarNote,
    "generated": GeneratedNote,
    "masked": MaskedNote,
}


def unfit(note: SequenceNote, config: Config) -> tuple[str, object, str] | None:
    """The first field that does not fit the model: its name, what it is, what was expected."""

    def size(name: str) -> Any:
        return getattr(config, name, None)

    if isinstance(note, SoundNote) and size("inputs") != (note.mels,):
        return "preparation.mels", note.mels, f"inputs of {size('inputs')}"
    if isinstance(note, SoundNote) and size("outputs") != len(note.labels) + bool(note.strings):
        return "preparation.labels", f"{len(note.labels)} names", f"{size('outputs')} outputs"
    if isinstance(note, TextNote) and size("outputs") != len(note.labels) - (size("outputs") == 1):
        return "preparation.labels", f"{len(note.labels)} names", f"{size('outputs')} outputs"
    if isinstance(note, SeriesNote) and size("outputs") != len(note.targets):
        return "preparation.targets", f"{len(note.targets)} columns", f"{size('outputs')} outputs"
    if isinstance(note, SeriesNote) and size("horizon") != note.horizon:
        return "preparation.horizon", note.horizon, f"{size('horizon')}"
    if isinstance(note, VoicesNote) and size("vocab_size") != note.highest - note.lowest + 3:
        return "preparation.highest", note.highest, f"{size('vocab_size')} tokens"
    if isinstance(note, PairsNote) and any(token >= (size("vocab_size") or 0) for token in note.start):
        return "preparation.start", list(note.start), f"tokens below {size('vocab_size')}"
    return None
