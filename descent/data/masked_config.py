"""What `[data]` tables of types "masked" and "spans" may say. Nothing here imports torch or numpy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import model_validator

from descent.config import Field
from descent.data.config import Fraction, Sourced

__all__ = ["MaskedData", "SpansData"]

Share = Annotated[float, Field(gt=0, lt=1)]


class MaskedData(Sourced):
    """Text to pretrain an encoder on: some tokens are hidden, to be found from the others.

    Attributes:
        source: a registered text, or several with + between them, of which `NAME*3` is trained on three times
            as often; a set with labels gives its texts without them, but for those of its test.
        path: a file, a folder searched for text files, or a pattern such as `books/*.txt`; by its name a
            file is plain text, `.jsonl`, `.json`, `.csv` or `.tsv`.
        column: the field that holds the text in JSON, CSV and TSV files; empty means `text`.
        document: what one document of a plain text file is: the whole file, a line, or a paragraph.
        length: tokens of one row, its marks included; longer documents are cut.
        packing: `documents` packs several documents into a row, which never see each other; `padded` gives
            each its own.
        share: of the tokens, that are to be found.
        whole_words: all pieces of a word are hidden together.
        next_sentence: a row is two pieces of text, and whether the second follows the first is asked too.
        short: the share of such rows that are made shorter than `length`, by chance.
        validation: the share held out for validation (a set with official splits keeps its own).
        test: the share held out for testing.
    """

    type: Literal["masked"] = "masked"
    column: str = ""
    document: Literal["file", "line", "paragraph"] = "file"
    length: int = Field(default=128, ge=8, le=65535)
    packing: Literal["documents", "padded"] = "documents"
    share: Share = 0.15
    whole_words: bool = False
    next_sentence: bool = False
    short: Fraction = 0.1
    validation: Fraction = 0.05
    test: Fraction = 0.05


class SpansData(Sourced):
    """Text to pretrain an encoder-decoder on: spans are cut out of it, to be written from the rest.

    Attributes:
        source: a registered text, or several with + between them, of which `NAME*3` is trained on three times
            as often; a set with labels gives its texts without them, but for those of its test.
        path: a file, a folder searched for text files, or a pattern such as `books/*.txt`; by its name a
            file is plain text, `.jsonl`, `.json`, `.csv` or `.tsv`.
        column: the field that holds the text in JSON, CSV and TSV files; empty means `text`.
        document: what one document of a plain text file is: the whole file, a line, or a paragraph.
        length: tokens the encoder reads, sentinels and end mark included; how much text that takes, and how
            much the decoder writes, follow from it.
        share: of the tokens, that are cut out.
        mean_span: tokens of a span, on average.
        validation: the share held out for validation (a set with official splits keeps its own).
        test: the share held out for testing.
    """

    type: Literal["spans"] = "spans"
    column: str = ""
    document: Literal["file", "line", "paragraph"] = "file"
    length: int = Field(default=512, ge=8, le=65535)
    share: Share = 0.15
    mean_span: float = Field(default=3.0, ge=1)
    validation: Fraction = 0.05
    test: Fraction = 0.05

    @model_validator(mode="after")
    def _room(self) -> SpansData:
        if self.share > 0.5:
            raise ValueError("share is at most 0.5: a sentinel stands for each span, and text around it")
        return self
