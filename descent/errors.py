"""The one error a user sees: what is wrong, what was got, what was expected, what to do next.

Raised anywhere, printed once by the command line without a traceback. Each kind carries the exit
code of the contract: 2 the user's input, 3 a corrupt artifact, 4 a run held by another process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

_MISSING = object()
# Control codes, marks that turn the direction of writing, halves of a surrogate pair: a file's name or a
# key may hold them, and a terminal would obey them.
_UNSEEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """Something the user can put right.

    Args:
        what: the option or file, and what is wrong with it.
        got: the offending value, shown with `repr` (leave out when there is none).
        expected: what would have been accepted.
        hint: the next thing to do.
    """

    exit_code = 2

    def __init__(
        self, what: str, *, got: object = _MISSING, expected: str | None = None, hint: str | None = None
    ):
        self.what, self.expected, self.hint = what, expected, hint
        self.got = None if got is _MISSING else shown(got)
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [self.what]
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        if self.expected is not None:
            lines.append(f"  expected: {self.expected}")
        if self.hint is not None:
            lines.append(f"  next:     {self.hint}")
        return _UNSEEN.sub(lambda found: ascii(found[0])[1:-1], "\n".join(lines))


class CorruptArtifact(UserError):
    """A file that should be whole is not: truncated, altered, or never one of ours."""

    exit_code = 3


class LockedRun(UserError):
    """Another process holds the run's folder."""

    exit_code = 4


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate closest in spelling to `name`, or None when none is close."""
    matches = get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    return matches[0] if matches else None


def unknown(kind: str, name: str, candidates: Iterable[str]) -> UserError:
    """The error for a name that is not in a list of names, with the nearest one that is."""
    names = sorted(candidates)
    near = nearest(name, names)
    hint = f"did you mean {near!r}?" if near else None
    return UserError(f"no {kind} is called {name!r}", expected="one of " + ", ".join(names), hint=hint)


def shown(value: Any, limit: int = 200) -> str:
    """`repr` cut to `limit` characters, for any value: one nested too deeply, a number too long to print."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):
        return f"({type(value).__name__} too large to print)"
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"
