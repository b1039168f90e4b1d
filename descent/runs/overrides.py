"""One option changed, and what follows from it: recipes laid over recipes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from descent.config import parse_override
from descent.errors import UserError
from descent.runs.recipe import Recipe
from descent.weights.names import published_file

SIZES = ("inputs", "outputs", "vocab_size")
TASK = ("head", "dropout", "attention_dropout")
LEARNED = ("bpe", "wordpiece", "unigram")
"""Kinds of tokenizers whose size is a choice, and means the same for each."""
WINDOW = ("channels", "outputs", "known", "history", "horizon", "quantiles")


def data_sizes(model: str) -> tuple[str, ...]:
    """The options that a model of this type takes from its data; other data, other sizes."""
    return WINDOW if model in ("forecaster", "dlinear") else SIZES


def override(recipe: Recipe, overrides: Sequence[str] | Mapping[str, Any]) -> Recipe:
    """The recipe with some options changed: `key=value` strings, or dotted keys with values.

    A claim holds for what was measured, so a changed recipe has none.
    """
    tables = recipe.table()
    if recipe.transfer is not None:  # a model's option that was asked for stays told from one that was not
        asked = {"type", *recipe.model.model_fields_set}
        tables["model"] = {key: value for key, value in tables["model"].items() if key in asked}
    return apply(tables, overrides, recipe.name)


def apply(tables: dict[str, Any], overrides: Sequence[str] | Mapping[str, Any], where: str) -> Recipe:
    """The recipe that nested tables and some overrides make; `where` names it in errors."""
    changes: dict[str, Any] = {}
    tables = placed(tables)
    if isinstance(overrides, Mapping):
        changes = nest({key: list(v) if isinstance(v, tuple) else v for key, v in overrides.items()})
    else:
        for text in sorted(overrides, key=_precedence):
            current = merge(tables, changes)
            key, value = parse_override(Recipe, current, _known(text))
            changes = merge(changes, nest({key: value}))
    changes = exclusive(changes, tables)
    if weights_of(changes) == weights_of(tables) is not None:
        del changes["transfer"]["weights"]  # nothing new
    before, merged = tables, merge(tables, changes)
    other = any(tables.get(table) != merged.get(table) for table in ("data", "tokenizer"))
    tables = renew_sizes(merged, changes) if other or weights_of(changes) else merged
    if changes:
        tables.pop("claim", None)  # a changed recipe has not been measured
    if _place(tables) != _place(before) and "about" not in changes:
        tables["about"] = ""  # it speaks of other data
    return Recipe.read(tables, where=where)


def _precedence(text: str) -> tuple[bool, int]:
    """A type, or a name in a table's place, makes the table start afresh: it goes before other options."""
    key = text.partition("=")[0].strip()
    return not key.endswith(".type"), key.count(".")


def _place(tables: Mapping[str, Any]) -> tuple[Any, ...]:
    data = tables.get("data")
    return tuple(data.get(key) for key in ("source", "path", "tasks")) if isinstance(data, Mapping) else ()


def exclusive(changes: Mapping[str, Any], held: Mapping[str, Any]) -> dict[str, Any]:
    """A new choice between two exclusive options takes the old one back; another kind of tokenizer, such as
    characters for pieces of words, the number of tokens."""
    changes = placed(changes)
    for table, first, second in (("data", "source", "path"), ("budget", "steps", "epochs")):
        given = changes.get(table)
        if isinstance(given, dict):
            for chosen, other in ((first, second), (second, first)):
                if chosen in given and other not in given and given[chosen]:
                    given[other] = 0 if table == "budget" else None
    given, before = changes.get("tokenizer"), held.get("tokenizer")
    if isinstance(given, dict) and isinstance(before, Mapping) and "vocab_size" not in given:
        old = before.get("kind", LEARNED[0])
        new = given.get("kind", old)
        if new != old and not (new in LEARNED and old in LEARNED):
            given["vocab_size"] = 0
    return changes


def placed(tables: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in which `model.weights`, as a user says it, is `transfer.weights`: a model knows no file."""
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in tables.items()}
    model, transfer = found.get("model"), found.get("transfer") or {}
    if isinstance(model, dict) and "weights" in model and isinstance(transfer, dict):
        weights = model.pop("weights")
        found["transfer"] = {**transfer, "weights": str(weights) if isinstance(weights, Path) else weights}
    return found


def _known(text: str) -> str:
    """`model.weights=...` under the name the schema has for it."""
    key, equals, value = text.partition("=")
    return f"transfer.weights={value}" if equals and key.strip() == "model.weights" else text


def weights_of(tables: Mapping[str, Any]) -> Any:
    """The weights that tables name to start from, None if they name none."""
    transfer = placed(tables).get("transfer")
    return transfer.get("weights") if isinstance(transfer, Mapping) else None


def renew_sizes(tables: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Forgets the sizes a model took from its data, where `changes` bring other data.

    Where they bring weights with a shape of their own, only what they say of the model stays beside its type;
    and, of one whose head is an option, what it answers and how it is kept from overfitting: these belong to
    the task.
    """
    given = changes.get("model", {})
    model, weights = tables.get("model"), weights_of(changes)
    if not isinstance(model, Mapping):
        return tables
    if weights and (published_file(weights) or not str(weights).endswith(".safetensors")):
        own = TASK if "head" in model else ()
        kept = {key: value for key, value in model.items() if key in ("type", *own, *given)}
    elif "data" in changes or "tokenizer" in changes:
        sizes = data_sizes(model.get("type", ""))
        kept = {key: value for key, value in model.items() if key not in sizes or key in given}
    else:
        return tables
    return {**tables, "model": kept}


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with `changes` laid over `base`.

    A table whose `type` changes starts afresh: options of an MLP mean nothing to a GPT. So does one that
    names the preset it changes; a name in a table's place is such a preset. Other data have other sizes,
    so the sizes a model took from the data before are taken anew.
    """
    merged: dict[str, Any] = dict(base)
    for key, value in changes.items():
        held = merged.get(key)
        if isinstance(value, Mapping) and isinstance(held, str):
            held = {"preset": held}
        if isinstance(value, Mapping) and isinstance(held, Mapping):
            changed_type = "type" in value and value["type"] != held.get("type")
            merged[key] = dict(value) if changed_type or "preset" in value else merge(held, value)
        else:
            merged[key] = value
    return merged


def nest(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """`{"model.depth": 6}` as `{"model": {"depth": 6}}`; values that are tables are kept."""
    nested: dict[str, Any] = {}
    for key, value in sorted(dotted.items(), key=lambda item: item[0].count(".")):
        *tables, last = key.split(".")
        inner = nested
        for table in tables:
            if isinstance(inner.get(table), str):
                inner[table] = {"preset": inner[table]}
            inner = inner.setdefault(table, {})
            if not isinstance(inner, dict):
                raise UserError(f"{table} is given both as a value and as a table", got=key)
        inner[last] = value
    return nested
