"""Fields of other libraries' JSON files, checked before they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from descent.errors import UserError, shown

LARGEST_SIDE = 8192
"""Pixels; a file that asks for larger images is not believed."""


def check(
    table: Mapping[str, Any],
    where: str,
    kind: str,
    fixed: Mapping[str, tuple[Any, ...]],
    needed: Iterable[str],
) -> None:
    """Raises a `UserError` that lists the fields that do not have one of the values that are computed here.

    Args:
        table: the file's.
        where: its name.
        kind: what it should be, for the message.
        fixed: field -> the values it may have if it is there.
        needed: fields that must be there.
    """
    problems = [
        f"  {name}: got {shown(table[name], 60)}, expected {' or '.join(map(repr, values))}"
        for name, values in fixed.items()
        if name in table and not any(_same(table[name], value) for value in values)
    ]
    problems += [f"  {name}: is required" for name in needed if name not in table]
    if problems:
        raise UserError("\n".join([f"{where}: not {kind} that can be loaded", *problems]))


def _same(value: Any, other: Any) -> bool:
    """Equal, and no boolean for a number; a whole number may be written as 0 or 0.0."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def number(value: Any) -> Any:
    """A probability may be written as 0; anything but a number is left for the configuration to refuse."""
    return float(value) if type(value) is int and abs(value) <= 1 else value


def size_of(value: Any, where: str, name: str = "image_size") -> tuple[int, int]:
    """Height and width from one number or two.

    Raises:
        UserError: neither, or a side that is not between 1 and 8,192.
    """
    pair = value if isinstance(value, list) else [value, value]
    if len(pair) != 2 or any(type(side) is not int or not 0 < side <= LARGEST_SIDE for side in pair):
        raise UserError(
            f"{where}: {name}", got=value, expected=f"a side, or height and width, from 1 to {LARGEST_SIDE:,}"
        )
    return pair[0], pair[1]
