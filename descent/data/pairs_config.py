"""What a `[data]` table of type "pairs" may say. Nothing here imports torch or numpy."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from descent.config import Field
from descent.data.config import Fraction, Sourced

__all__ = ["PairsData"]


class PairsData(Sourced):
    """Texts and what each becomes: translations, written forms, questions and answers.

    Attributes:
        source: a registered set of pairs.
        path: a file of two columns with a tab between them, a pair a line; or, beside `target_path`, a file
            of sources, one a line. A folder or a pattern (`corpus/*.en`) whose files are named train,
            validation and test keeps those splits.
        target_path: the file, folder or pattern of the targets, line by line those of `path`.
        reverse: learn the way back, from the second side to the first.
        length: the most tokens of a side, its end mark included; longer pairs are left out and counted. Of a
            packed row, too.
        packing: "padded" gives each pair a row of its own; with "documents" several share a row, and none
            sees another, for models that tell them apart (a Transformer, not a recurrent network).
        validation: the share of pairs held out for validation (a set with official splits keeps its own);
            pairs of one source are in one split.
        test: the share held out for testing.
    """

    type: Literal["pairs"] = "pairs"
    target_path: str | None = None
    reverse: bool = False
    length: int = Field(default=256, ge=2, le=65536)
    packing: Literal["documents", "padded"] = "padded"
    validation: Fraction = 0.05
    test: Fraction = 0.05

    @model_validator(mode="after")
    def _both_sides(self) -> PairsData:
        if self.target_path is not None and self.path is None:
            raise ValueError("target_path is the other side of path: give path too")
        return self
