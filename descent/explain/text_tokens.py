"""Tokens as people read them: parts of one character stand together, and what cannot be seen has a sign."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from descent.text.tokenizer import END, Tokenizer

__all__ = ["apart", "averaged", "label", "summed", "together", "visible"]

LONGEST = 32
"""Tokens that are joined at most: bytes that are no text come to an end."""
_BROKEN = "\N{REPLACEMENT CHARACTER}"
_SIGNS = {"\n": "\N{RETURN SYMBOL}", "\t": "\N{RIGHTWARDS ARROW}"}


def together(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[range, ...]:
    """The places of tokens that are read as one, in order: each a whole token, or the parts of characters.

    A byte-level tokenizer cuts a rare character, as many of Chinese are, into tokens of a byte or two. Tokens
    that share a character's place in a text (`Tokenizer.pieces`) are together.
    """
    found: list[range] = []
    start = 0
    for place, index in enumerate(ids):
        alone = index in tokenizer.special or _BROKEN not in tokenizer.decode([index])
        if alone and start < place:  # what came before was no whole character and never will be
            found.append(range(start, place))
            start = place
        if alone or place - start >= LONGEST or _BROKEN not in tokenizer.decode(ids[start : place + 1]):
            found.append(range(start, place + 1))
            start = place + 1
    return (*found, range(start, len(ids))) if start < len(ids) else tuple(found)


def label(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Tokens that are together as they read; a mark by its name, bytes that are no text by their codes."""
    if len(ids) == 1 and ids[0] in tokenizer.special:
        name = tokenizer.token(ids[0])
        return "end" if name == END else name
    text = tokenizer.decode(list(ids))
    if _BROKEN in text:
        codes = b"".join(tokenizer.token_bytes(index) for index in ids)
        return "<" + " ".join(f"{code:02X}" for code in codes) + ">"
    return visible(text) or _SIGN_OF_BLANK


def apart(tokenizer: Tokenizer, ids: Sequence[int]) -> tuple[str, ...]:
    """A label for every token by itself: parts of a character are numbered behind it."""
    found: list[str] = []
    for group in together(tokenizer, ids):
        name, count = label(tokenizer, [ids[place] for place in group]), len(group)
        found += [name] if count == 1 else [f"{name} {part}/{count}" for part in range(1, count + 1)]
    return tuple(found)


_SIGN_OF_BLANK = "\N{OPEN BOX}"


def visible(text: str) -> str:
    """The text with signs for blanks and codes for what has no shape or turns its neighbours round."""
    return "".join(_sign(char) for char in text)


def _sign(char: str) -> str:
    kind = unicodedata.category(char)
    if char in _SIGNS:
        return _SIGNS[char]
    if kind in ("Zs", "Zl", "Zp"):
        return _SIGN_OF_BLANK
    return f"<{ord(char):04X}>" if kind in ("Cc", "Cf", "Cs", "Co", "Cn") else char


def summed(
    weights: Float[Tensor, "*batch tokens"], groups: Sequence[range]
) -> Float[Tensor, "*batch pieces"]:
    """What is given to tokens that are together, added up."""
    return torch.stack([weights[..., group.start : group.stop].sum(-1) for group in groups], dim=-1)


def averaged(
    weights: Float[Tensor, "*batch rows keys"], sizes: Sequence[int]
) -> Float[Tensor, "*batch pieces keys"]:
    """The mean of rows that are together, `sizes` of them at a time."""
    return torch.stack([part.mean(-2) for part in weights.split(list(sizes), dim=-2)], dim=-2)
