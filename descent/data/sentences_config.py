"""What a recipe's `[data]` table may say of texts with a class. Nothing here imports torch or numpy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from descent.config import Field
from descent.data.config import Fraction, Sourced

__all__ = ["SentencesData"]


class SentencesData(Sourced):
    """Texts, or pairs of texts, of classes: reviews, topics, what follows from what.

    Attributes:
        source: a registered set.
        path: a `.csv`, `.tsv`, `.jsonl` or `.json` file with named columns, or a file of two or three columns
            without names whose last is the class (`text TAB class`). A folder or a pattern whose files are
            named train, validation and test keeps those splits.
        text: the column of the text; empty = found by its name (`text`, `sentence`, `review`, ...).
        second: the column of a second text; empty = none where `text` is given, else found likewise.
        label: the column of the class; empty = found likewise (`label`, `class`, `sentiment`, ...).
        length: the most tokens of a row, marks included. A longer text is cut at its end, of two the longer
            one first.
        packing: `documents` puts several texts into a row, which never see each other; `padded` one.
        per_class: the most training texts of a class, chosen by hash, for learning from few; 0 = all.
        validation: the share held out for validation (a set with official splits keeps its own); rows whose
            first text is the same are in one split.
        test: the share held out for testing.
    """

    type: Literal["sentences"] = "sentences"
    text: str = ""
    second: str = ""
    label: str = ""
    length: int = Field(default=128, ge=8, le=65536)
    packing: Literal["documents", "padded"] = "documents"
    per_class: int = Field(default=0, ge=0)
    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _columns(self) -> Self:
        if self.second and not self.text:
            raise ValueError("second is the other column beside text: give text too")
        named = [name for name in (self.text, self.second, self.label) if name]
        if len(set(named)) < len(named):
            raise ValueError("text, second and label must be different columns")
        return self
