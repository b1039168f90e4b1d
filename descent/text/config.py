"""What a recipe's `[tokenizer]` table may say."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from descent.config import Config, Field

__all__ = ["Kind", "MarkSet", "TokenizerConfig"]

Kind = Literal["char", "byte", "bpe", "wordpiece", "unigram"]
MarkSet = Literal["document", "bert", "t5"]


class TokenizerConfig(Config):
    """A tokenizer trained on the training split, or one that exists.

    Attributes:
        kind: `char` one token per character seen in training; `byte` one per UTF-8 byte; `bpe`,
            `wordpiece` and `unigram` learn pieces of words over the bytes of UTF-8.
        vocab_size: tokens in all; 0 = every character seen (char), 257 (byte), 4,096 (the others).
        marks: the ids that stand for no text: `document` has one, the end of a document (and one for what is
            unknown); `bert` has [PAD], [UNK], [CLS], [SEP] and [MASK]; `t5` <pad>, </s>, <unk> and 100
            sentinels.
        lowercase: read every letter as a small one; text is then not given back exactly.
        path: a `tokenizer.json` to use instead of training one; all of the above is then its own.
    """

    kind: Kind = "bpe"
    vocab_size: int = Field(default=0, ge=0, le=1_000_000)
    marks: MarkSet = "document"
    lowercase: bool = False
    path: str | None = None

    @model_validator(mode="after")
    def _bytes_are_256(self) -> Self:
        if self.path or self.marks != "document":
            return self
        if self.kind == "byte" and self.vocab_size not in (0, 257):
            raise ValueError("a byte tokenizer has 257 tokens, 256 bytes and the end of a document")
        return self
