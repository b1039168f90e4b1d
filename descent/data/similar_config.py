"""What a `[data]` table of type "similar" may say. Nothing here imports torch or numpy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from descent.config import Field
from descent.data.config import Fraction, Sourced

__all__ = ["SimilarData"]


class SimilarData(Sourced):
    """Pairs of texts that mean alike, or texts alone, for vectors of texts.

    Attributes:
        source: a registered set of pairs (translations and written forms mean alike), or of pairs with
            classes, of which those are taken whose second text follows from the first.
        path: a file of two columns with a tab between them, a pair a line; or, beside `target_path`, a file
            of first texts, one a line. A folder or a pattern whose files are named train, validation and test
            keeps those splits.
        target_path: the file, folder or pattern of the second texts, line by line those of `path`.
        itself: train on texts alone: each is paired with itself, and dropout makes the two differ. Of pairs
            and of texts with classes every training text is taken. What is held out stays pairs where there
            are pairs; else it is texts beside themselves, which are always found.
        length: the most tokens of a text, marks included, and of a packed row; longer texts are cut.
        packing: `documents` puts several texts into a row, which never see each other; `padded` one.
        validation: the share held out for validation (a set with official splits keeps its own); pairs of one
            first text are in one split.
        test: the share held out for testing.
    """

    type: Literal["similar"] = "similar"
    target_path: str | None = None
    itself: bool = False
    length: int = Field(default=128, ge=8, le=65536)
    packing: Literal["documents", "padded"] = "documents"
    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _both_sides(self) -> Self:
        if self.target_path is not None and self.path is None:
            raise ValueError("target_path is the other side of path: give path too")
        if self.target_path is not None and self.itself:
            raise ValueError("itself takes texts alone: leave target_path out")
        return self
