"""The strict, frozen base of every configuration in Descent.

Nothing is converted silently: `"1e-3"` is not a float, `true` is not an int, NaN and infinity are
no numbers, and a key that is not in the schema is an error naming the nearest one that is. All
errors of a configuration are reported together, each with the path of its field.
"""

from __future__ import annotations

import re
import tomllib
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from descent.errors import UserError, nearest, shown

__all__ = ["Config", "Field", "Items", "field_types", "flat", "parse_override", "parse_toml", "read_toml"]

MAX_DEPTH = 32
LARGEST_FILE = 1_000_000
# The TOML reader takes memory with the square of the parts of a dotted key: 200 kB of `a.a.a` take 40 GB.
_PART = r"""(?:[\w-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_LONG_KEY = re.compile(rf"(?:^|[\[{{,])[ \t]*+(?:{_PART}){{{MAX_DEPTH}}}", re.ASCII | re.MULTILINE)


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


T = TypeVar("T")
Items = Annotated[tuple[T, ...], BeforeValidator(_as_tuple)]
"""A tuple that also takes the list a TOML or JSON reader gives."""


class Config(BaseModel):
    """Base of all configurations: strict types, frozen, no extra keys, no NaN or infinity."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    @classmethod
    def read(cls, values: Any, where: str = "") -> Self:
        """Validates a nested mapping, or raises one `UserError` listing everything wrong with it.

        Args:
            values: nested tables as `tomllib` or `json` give them (anything else is refused).
            where: what is being read (a file's name), put before the list.
        """
        _check_values(values, where or cls.__name__)
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise UserError(_report(cls, error, where or cls.__name__)) from None

    def replace(self, **changes: Any) -> Self:
        """A validated copy with some fields changed."""
        return type(self).read({**self.model_dump(), **changes})

    def table(self) -> dict[str, Any]:
        """The configuration as nested tables TOML can hold (a field that is None is left out)."""
        return self.model_dump(mode="json", exclude_none=True)


def field_types(config: type[BaseModel], table: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The annotation of every field, dotted through nested configurations.

    A union of configurations told apart by `type` is narrowed by the `type` that stands in `table`.
    """
    found: dict[str, Any] = {}
    for name, field in config.model_fields.items():
        inner = (table or {}).get(name)
        inner = inner if isinstance(inner, Mapping) else {}
        members = [m for m in _members(field.annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
        if len(members) > 1:
            chosen = [m for m in members if inner.get("type") == m.model_fields["type"].default]
            members = chosen or members
        if not members:
            found[name] = field.annotation
        for member in members:
            found.update({f"{name}.{key}": kind for key, kind in field_types(member, inner).items()})
    return found


def flat(table: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys: `{"model": {"depth": 6}}` gives `{"model.depth": 6}`."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, Mapping) else {f"{before}{key}": value}
    return found


def parse_override(config: type[BaseModel], table: Mapping[str, Any], text: str) -> tuple[str, Any]:
    """Turns `key=value` from a command line into a dotted key and a value typed by the schema.

    A field that takes a string keeps the text as it stands; any other is read as a TOML value, so
    `1e-3`, `true` and `[1, 2]` mean what they mean in a recipe file. Wrong types are left for
    `Config.read` to report with all other errors.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"{text!r} is not of the form key=value", hint="for example: budget.steps=100")
    key = key.strip()
    kinds = field_types(config, table)
    if key not in kinds and not any(name.startswith(f"{key}.") for name in kinds):
        near = next((name for name in kinds if name.endswith(f".{key}")), None) or nearest(key, kinds)
        raise UserError(f"no such option: {key}", hint=f"did you mean {near}?" if near else None)
    members = _members(kinds.get(key))
    if value in ("none", "None") and type(None) in members:
        return key, None
    parsed = _toml_value(value)
    takes_text = any(m is str or isinstance(m, str) for m in members)
    return key, value if takes_text and not _meant(parsed, members) else parsed


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The tables of a TOML text, or a `UserError` that says where it is wrong; bounded in time and memory."""
    if _LONG_KEY.search(text):
        raise UserError(f"{where}: a key has more than {MAX_DEPTH} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise UserError(f"{where}: tables are nested deeper than {MAX_DEPTH} levels") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{where} is not valid TOML: {error}") from None
    except ValueError:  # Python refuses to read a number of so many digits
        raise UserError(f"{where}: an integer that does not fit in 64 bits") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file of at most 1 MB, or a `UserError` saying where it is wrong."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # a name with a NUL in it is a ValueError
        raise UserError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > LARGEST_FILE:
        raise UserError(f"{path} is too large for a recipe", expected="up to 1 MB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text") from None
    return parse_toml(text, str(path))


def _toml_value(text: str) -> Any:
    try:
        table = parse_toml(f"value = {text}", "value")
    except UserError:
        return text
    return table["value"] if len(table) == 1 else text  # a line break can start another key


def _meant(value: Any, members: list[Any]) -> bool:
    """Whether a value read from TOML is what a field that also takes text means by it."""
    if isinstance(value, list):
        return any(get_origin(member) is tuple for member in members)
    return isinstance(value, str) or type(value) in members or (type(value) is int and float in members)


def _members(kind: Any) -> list[Any]:
    """The plain types and literal values an annotation is made of."""
    if get_origin(kind) in (Union, types.UnionType, Annotated) or str(get_origin(kind)) == "typing.Literal":
        return [member for part in get_args(kind) for member in _members(part)]
    return [kind]


def _alternatives(kind: Any) -> list[Any]:
    """The members of a union as they were written, without None; one that is no union stands alone."""
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [member for part in get_args(kind) for member in _alternatives(part)]
    return [] if kind is type(None) else [kind]


def _check_values(values: Any, where: str) -> None:
    """Refuses what no schema should have to think of: depth, integers over 64 bits, half characters."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: should be a table of options", got=values)
    level: list[tuple[str, Any]] = [("", values)]
    for _ in range(MAX_DEPTH):
        inner: list[tuple[str, Any]] = []
        for path, value in level:
            if isinstance(value, Mapping):
                inner += [(f"{path}.{key}", part) for key, part in value.items()]
            elif isinstance(value, (list, tuple)):
                inner += [(f"{path}.{index}", part) for index, part in enumerate(value)]
            elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                raise UserError(f"{where}: {path[1:]}: an integer that does not fit in 64 bits")
            elif isinstance(value, str) and not _is_unicode(value):
                raise UserError(f"{where}: {path[1:]}: text that is not valid Unicode", got=value)
        if not inner:
            return
        level = inner
    raise UserError(f"{where}: tables are nested deeper than {MAX_DEPTH} levels")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: UTF-8 has no bytes for it
        return False
    return True


def _report(config: type[BaseModel], error: ValidationError, where: str) -> str:
    found: dict[str, list[str]] = {}
    values: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        path, beside = _locate(config, detail["loc"])
        reasons = found.setdefault(path, [])
        reason = _explain(config, detail, path, beside)
        if reason not in reasons:
            reasons.append(reason)
        if detail["type"] not in _WITHOUT_VALUE and not isinstance(detail["input"], (Mapping, BaseModel)):
            values[path] = f", got {shown(detail['input'], 80)}"
    lines = [f"  {path}: {' or '.join(reasons)}{values.get(path, '')}" for path, reasons in found.items()]
    count = f"{len(lines)} error{'s' if len(lines) > 1 else ''}"
    return "\n".join([f"{where}: {count} in the configuration", *lines])


_WITHOUT_VALUE = {"extra_forbidden", "missing", "union_tag_invalid", "union_tag_not_found"}


def _explain(config: type[BaseModel], detail: Any, path: str, beside: list[str]) -> str:
    """What is wrong, for someone who knows the option's name but not the validator's words."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        table, _, name = path.rpartition(".")
        others = [option for option in field_types(config) if not option.startswith(f"{table}.")]
        elsewhere = {option.rpartition(".")[2]: option for option in others}
        near = nearest(name, beside) or elsewhere.get(nearest(name, elsewhere) or "")
        return "no such option" + (f"; did you mean {near!r}?" if near else "")
    if kind == "missing":
        return "is required"
    if kind == "union_tag_not_found":
        return "needs a type"
    if kind == "union_tag_invalid":
        near = nearest(context["tag"], context["expected_tags"].replace("'", "").split(", "))
        did_you_mean = f"; did you mean {near!r}?" if near else ""
        return f"no such type as {context['tag']!r}, expected one of {context['expected_tags']}{did_you_mean}"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "should be a table of options"
    if kind == "tuple_type":
        return "should be a list"
    return detail["msg"].removeprefix("Value error, ").removeprefix("Input ")


def _locate(config: type[BaseModel], location: tuple[int | str, ...]) -> tuple[str, list[str]]:
    """The dotted name of the option at a location, and the names of the options beside it.

    The validator puts the member of a union that it tried into the location; no table is called so.
    """
    tables, parts, in_union = [config], [], False
    for depth, part in enumerate(location):
        if in_union and isinstance(part, str):
            tables = [t for t in tables if part in (t.__name__, _tag(t))] or tables
            in_union = False
            continue
        parts.append(str(part) if str(part).isprintable() and part != "" else repr(part))
        if depth == len(location) - 1:
            break
        kinds = [t.model_fields[part].annotation for t in tables if part in t.model_fields]
        members = [member for kind in kinds for member in _alternatives(kind)]
        in_union = len(members) > 1
        tables = [m for m in members if isinstance(m, type) and issubclass(m, BaseModel)]
    return ".".join(parts) or "(the whole)", [name for table in tables for name in table.model_fields]


def _tag(table: type[BaseModel]) -> Any:
    return table.model_fields["type"].default if "type" in table.model_fields else None
