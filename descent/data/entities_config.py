"""What a recipe's `[data]` table may say of words with tags. Nothing here imports torch or numpy."""

from __future__ import annotations

from typing import Literal

from descent.config import Field
from descent.data.config import Fraction, Sourced

__all__ = ["EntitiesData"]


class EntitiesData(Sourced):
    """Sentences whose words have tags: the names in a text, or any parts of it that have a type.

    Attributes:
        source: a registered set.
        path: a file in the format of CoNLL: a word and its tag a line, the first and the last of its columns,
            with tabs or blanks between them; an empty line ends a sentence. Tags are IOB1, IOB2 or BIOES. A
            folder or a pattern whose files are named train, validation and test keeps those splits.
        joiner: what stands between two words of a text: a blank, or nothing for Chinese characters.
        length: the most tokens of a row, marks included; a longer sentence is cut between two words.
        packing: `documents` puts several sentences into a row, which never see each other; `padded` one.
        validation: the share held out for validation (a set with official splits keeps its own).
        test: the share held out for testing.
    """

    type: Literal["entities"] = "entities"
    joiner: Literal[" ", ""] = " "
    length: int = Field(default=128, ge=8, le=65536)
    packing: Literal["documents", "padded"] = "documents"
    validation: Fraction = 0.1
    test: Fraction = 0.1
