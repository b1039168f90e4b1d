"""Names in a text as tags of its words, and back: the rules of the CoNLL shared tasks' `conlleval`.

A tag is O outside of a name, or a letter and the name's type. I-PER goes on with a name; B-PER begins one;
where there are E- and S- (or L- and U-), they end one and are one of a single word.

    IOB1   B- only where a name follows another of its type     I-LOC I-LOC O
    IOB2   B- where a name begins (BIO)                         B-LOC I-LOC O
    BIOES  E- where it ends, S- for a single word (also BILOU)  B-LOC E-LOC O

E. Tjong Kim Sang, S. Buchholz, Introduction to the CoNLL-2000 shared task: chunking, 2000; L. Ratinov,
D. Roth, Design challenges and misconceptions in named entity recognition, 2009.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Chunk", "chunks", "is_tag", "scheme", "tags_of"]

_TAG = re.compile(r"O|[BIESLU]-\S.*", re.DOTALL)


class Chunk(NamedTuple):
    """A name: its type, its first word and the one behind its last."""

    type: str
    start: int
    end: int


def is_tag(tag: str) -> bool:
    """Whether it is one of the tags above."""
    return _TAG.fullmatch(tag) is not None


def chunks(tags: Sequence[str]) -> list[Chunk]:
    """The names that tags of any of the schemes stand for.

    As `conlleval` counts: a name is the longest run of one type in which no tag begins another, so an I- that
    follows O or another type begins one.
    """
    found: list[Chunk] = []
    start, before, held = 0, "O", ""
    for place, tag in enumerate([*tags, "O"]):
        kind, _, name = tag.partition("-")
        begins = kind != "O" and (before in "OESLU" or name != held or kind in "BSU")
        if before != "O" and (kind == "O" or begins):
            found.append(Chunk(held, start, place))
        if begins:
            start = place
        before, held = kind, name
    return found


def tags_of(names: Iterable[Chunk], length: int) -> list[str]:
    """The IOB2 tags of so many words."""
    tags = ["O"] * length
    for name in names:
        tags[name.start : name.end] = [f"I-{name.type}"] * (name.end - name.start)
        tags[name.start] = f"B-{name.type}"
    return tags


def scheme(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme that tags look like: BIOES, IOB2 or IOB1."""
    found = "IOB2"
    for tags in sentences:
        if any(tag[0] in "ESLU" for tag in tags):
            return "BIOES"
        if tags_of(chunks(tags), len(tags)) != list(tags):
            found = "IOB1"
    return found
