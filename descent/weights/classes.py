"""The names of classes in config.json: `id2label` and `label2id`, both ways."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from descent.errors import UserError

MOST = 1_000_000
_NAMELESS = re.compile(r"LABEL_\d+", re.ASCII)


def outputs_of(table: Mapping[str, Any], where: str) -> int:
    """How many classes a config.json has; 2 where it does not say, as in transformers.

    Raises:
        UserError: `id2label` does not number its classes 0, 1, ..., or `num_labels` is another number.
    """
    names = table.get("id2label")
    count = table.get("num_labels", 2 if names is None else len(names) if isinstance(names, dict) else 0)
    if names is not None and (
        not isinstance(names, dict)
        or not all(isinstance(name, str) for name in names.values())
        or names.keys() != {str(number) for number in range(len(names))}
    ):
        raise UserError(
            f"{where}: id2label", got=names, expected='a table of names, {"0": "cat", "1": "dog", ...}'
        )
    if type(count) is not int or not 0 < count <= MOST:
        raise UserError(f"{where}: the number of classes", got=count, expected=f"from 1 to {MOST:,}")
    if names is not None and count != len(names):
        raise UserError(f"{where}: num_labels is {count}, but id2label names {len(names)} classes")
    return count


def labels_from(table: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the classes in a table that `outputs_of` took; None if they are only numbered.

    A name that two classes share (ImageNet has two kinds of crane) gets the class's number added.
    """
    names: dict[str, str] = table.get("id2label") or {}
    ordered = [names[str(number)] for number in range(len(names))]
    return None if all(_NAMELESS.fullmatch(name) for name in ordered) else distinct(ordered)


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The same names, a repeated one with its place added."""
    seen: set[str] = set()
    found: list[str] = []
    for number, name in enumerate(names):
        found.append(f"{name} ({number})" if name in seen else name)
        seen.add(name)
    return tuple(found)


def labels_to(labels: Sequence[str] | None, outputs: int) -> dict[str, Any]:
    """The fields of config.json for a model with so many outputs."""
    named = labels is not None and len(labels) == outputs
    names = list(labels or ()) if named else [f"LABEL_{number}" for number in range(outputs)]
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }
