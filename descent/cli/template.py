"""A recipe of the user's own: what it starts from, and every option as a comment that explains itself."""

from __future__ import annotations

import inspect
import re
import textwrap
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tomli_w
from pydantic import BaseModel
from pydantic.fields import FieldInfo

WIDTH = 100
NAMES = {int: "whole number", float: "number", bool: "true or false", str: "text"}


def template(recipe: BaseModel, base: str) -> str:
    """TOML that resolves to the recipe it was made from, until a line of it is uncommented.

    Args:
        recipe: the resolved recipe.
        base: its name, or the path of its file.
    """
    head = [
        f"# A recipe of your own, starting from {base!r}: take the # from a line to change that option.",
        "# The values shown are the base's, and what stays commented goes on following the base.",
        "",
        f"base = {_toml(base)}",
        "",
        "# The name its runs go by; this file's own name when left out.",
        '#name = "my-recipe"',
    ]
    return "\n".join([*head, *_options(recipe), *_tables(recipe)]).rstrip() + "\n"


def _tables(config: BaseModel, path: str = "") -> Iterator[str]:
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        if name == "claim" or not (isinstance(value, BaseModel) or _is_table(field)):
            continue
        dotted = f"{path}{name}"
        yield ""
        if not isinstance(value, BaseModel):
            yield f"#[{dotted}]   # none in the base"
            yield from (f"#{line}" for line in _unset(field))
            continue
        yield from _comment(inspect.cleandoc(type(value).__doc__ or "").partition("\n")[0])
        yield f"[{dotted}]"
        kinds = _choices(field)
        if len(kinds) > 1:
            yield f"#type = {_toml(getattr(value, 'type', ''))}   # one of {', '.join(kinds)}"
        yield from _options(value)
        yield from _tables(value, f"{dotted}.")


def _options(config: BaseModel) -> Iterator[str]:
    about = _described(type(config))
    table = config.model_dump(mode="json")
    for name, field in type(config).model_fields.items():
        if name in ("type", "name") or isinstance(getattr(config, name), BaseModel) or _is_table(field):
            continue
        yield ""
        yield from _comment(about.get(name, ""))
        yield f"#{name} = {_toml(table[name])}   # {_kind(field)}"


def _unset(field: FieldInfo) -> Iterator[str]:
    """The options of a table the base does not have, at their defaults."""
    kind = next(m for m in _members(field.annotation) if isinstance(m, type) and issubclass(m, BaseModel))
    for name, inner in kind.model_fields.items():
        default = '""' if inner.is_required() else _toml(inner.get_default(call_default_factory=True))
        yield f"{name} = {default}   # {_kind(inner)}"


def _described(config: type[BaseModel]) -> dict[str, str]:
    """What is said of each option: its field's description, else its entry in the class's docstring."""
    found: dict[str, str] = {}
    for owner in reversed(config.__mro__):
        doc = inspect.cleandoc(owner.__doc__ or "") if issubclass(owner, BaseModel) else ""
        for section in re.findall(r"^(?:Args|Attributes):\n((?:[ ]+.*\n?|\n)+)", doc, flags=re.MULTILINE):
            entries = re.split(r"^(?=\w[\w, ]*:)", textwrap.dedent(section), flags=re.MULTILINE)
            for entry in entries:
                names, colon, text = entry.partition(":")
                if colon:
                    found |= dict.fromkeys(re.split(r",\s*", names.strip()), " ".join(text.split()))
    for name, field in config.model_fields.items():
        if field.description:
            found[name] = field.description
    return found


def _comment(text: str) -> list[str]:
    first = text.partition(" ")[0]
    text = text[:1].upper() + text[1:] if first.isalpha() else text
    return [f"# {line}" for line in textwrap.wrap(text, WIDTH)]


def _kind(field: FieldInfo) -> str:
    """The type an option takes, its limits and, where it has one, its default."""
    limits = [str(note) for note in field.metadata if re.match(r"(Gt|Ge|Lt|Le)\(", str(note))]
    said = " or ".join(dict.fromkeys(_name(member) for member in _members(field.annotation)))
    bounds = " and ".join(_bound(limit) for limit in limits)
    default = "" if field.is_required() or field.default is None else f"; default {_toml(field.default)}"
    return f"{said}{', ' + bounds if bounds else ''}{default}"


def _bound(limit: str) -> str:
    sign, value = re.match(r"(\w+)\(\w+=(.*)\)", limit).groups()  # type: ignore[union-attr]
    return {"Gt": "above", "Ge": "at least", "Lt": "below", "Le": "at most"}[sign] + f" {value}"


def _name(kind: Any) -> str:
    if isinstance(kind, str):
        return _toml(kind)
    if kind is type(None):
        return "absent"
    if get_origin(kind) in (tuple, list):
        return f"list of {NAMES.get(_members(get_args(kind)[0])[0], 'values')}s"
    return NAMES.get(kind, str(kind))


def _members(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for part in get_args(kind) for member in _members(part)]
    return list(get_args(kind)) if get_origin(kind) is Literal else [kind]


def _is_table(field: FieldInfo) -> bool:
    return any(isinstance(m, type) and issubclass(m, BaseModel) for m in _members(field.annotation))


def _choices(field: FieldInfo) -> list[str]:
    members = [m for m in _members(field.annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
    return [_toml(m.model_fields["type"].default) for m in members if "type" in m.model_fields]


def _toml(value: Any) -> str:
    """A value as TOML writes it, on one line; what TOML does not have is shown as an empty text."""
    if value is None:
        return '""'
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(inner) for inner in value)}]"
    if isinstance(value, Mapping):
        told = {key: inner for key, inner in value.items() if inner is not None}
        return "{ " + ", ".join(f"{key} = {_toml(inner)}" for key, inner in told.items()) + " }"
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
