"""Tokenizers: text to token ids and back, exactly.

`TokenizerConfig` imports nothing heavy; the other names load the `tokenizers` library when first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from descent.text.config import Kind, TokenizerConfig

if TYPE_CHECKING:
    from descent.text.tokenizer import Tokenizer, TokenStream
    from descent.text.training import obtain, train

__all__ = ["Kind", "TokenStream", "Tokenizer", "TokenizerConfig", "obtain", "train"]


def __getattr__(name: str) -> Any:
    if name in ("Tokenizer", "TokenStream"):
        from descent.text import tokenizer

        return getattr(tokenizer, name)
    if name in ("obtain", "train"):
        from descent.text import training

        return getattr(training, name)
    raise AttributeError(f"module 'descent.text' has no attribute {name!r}")
