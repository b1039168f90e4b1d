"""What a `[data]` table of type "questions" may say. Nothing here imports torch or numpy."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from descent.config import Field
from descent.data.config import Fraction, Sourced

__all__ = ["MARKS", "QuestionsData"]

MARKS = 3
"""The marks of an example: one before the question, one behind it, one behind the context."""


class QuestionsData(Sourced):
    """Questions, each with a text that holds the answer: the answer is a piece of that text.

    Attributes:
        source: a registered set, or several joined by `+`, such as `cmrc2018+xquad-zh`.
        path: a file in the JSON of SQuAD 1.1 or 2.0. A folder or a pattern whose files are named train,
            validation (or dev) and test keeps those splits; other files are put together.
        length: the most tokens of an example, and of a packed row. A longer text is read in windows.
        stride: tokens from where one window of a text begins to where the next does.
        question_length: the most tokens of a question; a longer one is cut.
        longest: the most tokens of an answer that is given.
        language: by whose rule answers are compared: `en` SQuAD's, `zh` CMRC's; `auto` = by each text.
        packing: "documents" puts several windows in a row, none of which sees another; "padded" one.
        validation: the share held out for validation where no part is named so; the questions of one
            article are in one split.
        test: likewise, for testing.
    """

    type: Literal["questions"] = "questions"
    length: int = Field(default=256, ge=8, le=65536)
    stride: int = Field(default=128, ge=1)
    question_length: int = Field(default=64, ge=1)
    longest: int = Field(default=30, ge=1, le=65536)
    language: Literal["auto", "en", "zh"] = "auto"
    packing: Literal["documents", "padded"] = "documents"
    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _windows_meet(self) -> Self:
        room = self.length - self.question_length - MARKS
        if room < 1:
            raise ValueError("length leaves no room for a text beside a question of question_length tokens")
        if self.stride > room:
            raise ValueError(f"stride leaves gaps between windows of {room} tokens: at most {room}")
        return self
