"""How much of a text a tokenizer does not know."""

from __future__ import annotations

from collections.abc import Iterable

from descent.text.tokenizer import Tokenizer

__all__ = ["unknown_share"]

_PIECE = 1 << 16
_READ = 1 << 22


def unknown_share(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    """The share of the texts' tokens that are unknown; of long texts about 4 million characters are read,
    spread evenly.

    Args:
        tokenizer: of any kind; one over bytes knows every text.
        texts: any.
    """
    if tokenizer.unknown is None:
        return 0.0
    pieces = [text[at : at + _PIECE] for text in texts for at in range(0, len(text), _PIECE)]
    every = sum(map(len, pieces)) // _READ + 1
    tokens = unknown = 0
    for ids in tokenizer.encode_batch(pieces[::every]):
        tokens, unknown = tokens + len(ids), unknown + ids.count(tokenizer.unknown)
    return unknown / max(tokens, 1)
