"""What is noted beside a model's weights, checked before it is believed: classes, preparation, loss.

It comes from a run's data.json or the `descent` table of a folder's config.json, and either may be damaged,
or written by anyone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import StrictFloat, model_validator

from descent.config import Config, Field, Items
from descent.data.pictures import Fit
from descent.errors import CorruptArtifact, UserError
from descent.objectives.supervised import LossName
from descent.runs.noted_sequences import FORMS, SequenceNote, unfit

__all__ = ["checked_preparation"]

LARGEST_SIDE = 4096
_ANY_SIZE = ("resnet",)  # networks whose head sees a mean over all places
Spread = Annotated[StrictFloat, Field(gt=0)]


class _Images(Config):
    """See `descent.data.images`."""

    kind: Literal["images"]
    shape: Items[Annotated[int, Field(ge=1, le=LARGEST_SIDE)]] = Field(min_length=3, max_length=3)
    fit: Fit
    mean: Items[float]
    std: Items[Spread]
    labels: Items[str] = ()

    @model_validator(mode="after")
    def _channels(self) -> Self:
        if self.shape[0] not in (1, 3):
            raise ValueError("an image has 1 channel or 3")
        if not len(self.mean) == len(self.std) == self.shape[0]:
            raise ValueError(f"mean and std take {self.shape[0]} numbers each, one per channel")
        return self


class _Feature(Config):
    name: str
    categories: Items[str] | None = Field(default=None, min_length=1)
    fill: float | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.categories is None) == (self.fill is None):
            raise ValueError("a feature has either categories or fill")
        return self


class _Table(Config):
    """See `descent.data.tables`."""

    kind: Literal["table"]
    features: Items[_Feature] = Field(min_length=1)
    drop_first: bool
    target: str
    mean: Items[float]
    std: Items[Spread]
    labels: Items[str] | None = None
    target_mean: float | None = None
    target_std: Spread | None = None

    @property
    def width(self) -> int:
        """Numbers that a row becomes."""
        return sum(1 if f.categories is None else len(f.categories) - self.drop_first for f in self.features)

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if not len(self.mean) == len(self.std) == self.width:
            raise ValueError(f"mean and std take {self.width} numbers each, as many as a row becomes")
        if (self.target_mean is None) != (self.target_std is None):
            raise ValueError("target_mean and target_std go together")
        return self


class _Text(Config):
    """See `descent.data.load`."""

    kind: Literal["text"]
    start: Items[Annotated[int, Field(ge=0)]] = ()
    marked: bool = False


_FORMS: dict[str, Any] = {"images": _Images, "table": _Table, "text": _Text, **FORMS}


class _Noted(Config):
    """What stands beside the preparation."""

    labels: Items[str] | None = None
    loss: LossName | None = None


def checked_preparation(table: Mapping[str, Any], config: Config, where: str) -> dict[str, Any]:
    """The preparation in a table that stands beside weights, once all that is used of it is sound.

    Args:
        table: has `labels`, `preparation` and `loss`, as far as they are known; other keys are not looked at.
        config: of the model.
        where: the file, for messages.

    Returns:
        The preparation as it stands in the table; empty if there is none.

    Raises:
        CorruptArtifact: a field that is missing, of another kind, or does not fit the model.
    """
    given = {name: table[name] for name in _Noted.model_fields if table.get(name) not in (None, "", [], {})}
    preparation = {} if table.get("preparation") is None else table["preparation"]
    kind = preparation.get("kind") if isinstance(preparation, Mapping) else preparation
    if preparation != {} and kind not in tuple(_FORMS):
        raise CorruptArtifact(f"{where}: preparation.kind", got=kind, expected=" or ".join(_FORMS))
    try:
        noted = _Noted.read(given, where)
        prepared = _FORMS[str(kind)].read(preparation, f"{where}: preparation") if preparation else None
    except UserError as error:  # written by a program, so what is wrong with it befell it
        raise CorruptArtifact(str(error)) from None
    wrong = _unfit(noted, prepared, config)
    if wrong is not None:
        field, got, expected = wrong
        raise CorruptArtifact(f"{where}: {field} does not fit the model", got=got, expected=expected)
    return dict(preparation)


def _unfit(
    noted: _Noted, prepared: _Images | _Table | _Text | SequenceNote | None, config: Config
) -> tuple[str, object, str] | None:
    """The first field that does not fit the model: its name, what it is, what was expected."""
    outputs, inputs = getattr(config, "outputs", None), tuple(getattr(config, "inputs", ()))
    if noted.loss == "binary" and outputs != 1:
        return "loss", noted.loss, f"one of a model with {outputs} outputs, and binary has 1"
    classes = 2 if noted.loss == "binary" else outputs
    if prepared is not None and not isinstance(prepared, _Images | _Table | _Text):
        return unfit(prepared, config)
    if noted.labels and len(noted.labels) != classes:
        return "labels", f"{len(noted.labels):,} names of classes", f"{classes or 0:,}"
    if isinstance(prepared, _Text):
        size = getattr(config, "vocab_size", None)
        if size is None or any(token >= size for token in prepared.start):
            return "preparation.start", list(prepared.start), f"tokens below {size}" if size else "no text"
    elif isinstance(prepared, _Table) and inputs != (prepared.width,):
        return "preparation.features", f"{prepared.width} numbers a row", f"inputs of {list(inputs)}"
    elif isinstance(prepared, _Images):
        free = getattr(config, "type", "") in _ANY_SIZE and inputs[:1] == prepared.shape[:1]
        if inputs != prepared.shape and not free:
            return "preparation.shape", list(prepared.shape), str(list(inputs))
    return None
