"""What a recipe's `[tokenizer]` table may say."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from descent.config import Config, Field

__all__ = ["Kind", "TokenizerConfig"]

Kind = Literal["char", "byte", "bpe", "wordpiece", "unigram"]


class TokenizerConfig(Config):
    """A tokenizer trained on the training split, or one that exists.

    Attributes:
        kind: `char` one token per character seen in training; `byte` one per UTF-8 byte; `bpe`,
            `wordpiece` and `unigram` learn pieces of words over the bytes of UTF-8.
        vocab_size: tokens in all; 0 = every character seen (char), 257 (byte), 4,096 (the others).
        path: a `tokenizer.json` to use instead of training one; `kind` and `vocab_size` are then its own.
    """

    kind: Kind = "bpe"
    vocab_size: int = Field(default=0, ge=0, le=1_000_000)
    path: str | None = None

    @model_validator(mode="after")
    def _bytes_are_256(self) -> Self:
        if self.path is None and self.kind == "byte" and self.vocab_size not in (0, 257):
            raise ValueError("a byte tokenizer has 257 tokens, 256 bytes and the end of a document")
        return self
