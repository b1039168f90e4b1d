"""What is noted beside the weights of models that find texts and places in them: see `noted`."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from descent.config import Config, Field

__all__ = ["QuestionsNote", "RankingNote", "SimilarNote"]

Length = Annotated[int, Field(ge=8, le=65536)]
Count = Annotated[int, Field(ge=1, le=65536)]


class QuestionsNote(Config):
    """See `descent.data.questions`."""

    kind: Literal["questions"]
    length: Length
    stride: Count
    question_length: Count
    longest: Count
    unanswerable: bool


class RankingNote(Config):
    """See `descent.data.ranking`."""

    kind: Literal["ranking"]
    source: str | None = None
    path: str | None = None
    length: Length
    query_length: Count
    depth: Count
    stem: bool
    corpus: str

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.source is None) == (self.path is None):
            raise ValueError("the documents are either a named set's or a folder's")
        return self


class SimilarNote(Config):
    """See `descent.data.similar`."""

    kind: Literal["similar"]
    length: Length
