"""One option changed, and what follows from it: recipes laid over recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from descent.config import parse_override
from descent.errors import UserError
from descent.runs.recipe import Recipe

# What a model takes from its data; other data, other sizes.
SIZES = ("inputs", "outputs", "vocab_size")


def override(recipe: Recipe, overrides: Sequence[str] | Mapping[str, Any]) -> Recipe:
    """The recipe with some options changed: `key=value` strings, or dotted keys with values.

    A claim holds for what was measured, so a changed recipe has none.
    """
    return apply(recipe.table(), overrides, recipe.name)


def apply(tables: dict[str, Any], overrides: Sequence[str] | Mapping[str, Any], where: str) -> Recipe:
    """The recipe that nested tables and some overrides make; `where` names it in errors."""
    changes: dict[str, Any] = {}
    if isinstance(overrides, Mapping):
        changes = nest({key: list(v) if isinstance(v, tuple) else v for key, v in overrides.items()})
    else:
        # A type makes a table start afresh, so it goes before that table's other options.
        for text in sorted(overrides, key=lambda text: not text.partition("=")[0].strip().endswith(".type")):
            current = merge(tables, changes)
            key, value = parse_override(Recipe, current, text)
            changes = merge(changes, nest({key: value}))
    before, merged = tables, merge(tables, exclusive(changes))
    other = any(tables.get(table) != merged.get(table) for table in ("data", "tokenizer"))
    tables = renew_sizes(merged, changes) if other else merged
    if changes:
        tables.pop("claim", None)  # a changed recipe has not been measured
    if _place(tables) != _place(before) and "about" not in changes:
        tables["about"] = ""  # it speaks of other data
    return Recipe.read(tables, where=where)


def _place(tables: Mapping[str, Any]) -> tuple[Any, Any]:
    data = tables.get("data")
    return (data.get("source"), data.get("path")) if isinstance(data, Mapping) else (None, None)


def exclusive(changes: Mapping[str, Any]) -> dict[str, Any]:
    """A new choice between two exclusive options takes the old one back."""
    changes = {key: dict(value) if isinstance(value, Mapping) else value for key, value in changes.items()}
    for table, first, second in (("data", "source", "path"), ("budget", "steps", "epochs")):
        given = changes.get(table)
        if isinstance(given, dict):
            for chosen, other in ((first, second), (second, first)):
                if chosen in given and other not in given and given[chosen]:
                    given[other] = 0 if table == "budget" else None
    return changes


def renew_sizes(tables: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Forgets the sizes a model took from its data, where `changes` bring other data."""
    given = changes.get("model", {})
    model = tables.get("model")
    if not isinstance(model, Mapping) or not ("data" in changes or "tokenizer" in changes):
        return tables
    kept = {key: value for key, value in model.items() if key not in SIZES or key in given}
    return {**tables, "model": kept}


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with `changes` laid over `base`.

    A table whose `type` changes starts afresh: options of an MLP mean nothing to a GPT. Other data
    have other sizes, so the sizes a model took from the data before are taken anew.
    """
    merged: dict[str, Any] = dict(base)
    for key, value in changes.items():
        held = merged.get(key)
        if isinstance(value, Mapping) and isinstance(held, Mapping):
            changed_type = "type" in value and value["type"] != held.get("type")
            merged[key] = dict(value) if changed_type else merge(held, value)
        else:
            merged[key] = value
    return merged


def nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.depth": 6}` as `{"model": {"depth": 6}}`; values that are tables are kept."""
    nested: dict[str, Any] = {}
    for key, value in dotted.items():
        *tables, last = key.split(".")
        inner = nested
        for table in tables:
            inner = inner.setdefault(table, {})
            if not isinstance(inner, dict):
                raise UserError(f"{table} is given both as a value and as a table", got=key)
        inner[last] = value
    return nested
