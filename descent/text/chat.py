"""Conversations as text: the chat templates that come with a model, and how what a user says stays text.

A model that was taught to converse saw each message between marks, as a template in Jinja's language says:

    <|im_start|>user
    Hello<|im_end|>
    <|im_start|>assistant

A template is a program from somewhere else, so it runs in Jinja's sandbox, which gives it nothing but its
messages. How much it writes is bounded, and how often it repeats a text; how long it takes is not.

The template's marks become the ids of marks. A message that contains "<|im_end|>" must not: it would end the
user's turn and begin one that the user never had. So before rendering, a guard, a character that stands for
nothing, is put into every such name in a message, and into what stands at its ends where that is part of a
name that the template's text could complete. The text is cut at its marks, then the guards are taken out.
"""

from __future__ import annotations

import datetime
import json
import operator
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from descent.errors import CorruptArtifact, UserError, shown
from descent.text.tokenizer import Tokenizer

__all__ = ["LARGEST_TEMPLATE", "ROLES", "Chat", "Message", "as_messages", "opening", "render"]

Message = Mapping[str, Any]
"""A `role` and a `content`, both texts."""

ROLES = ("system", "user", "assistant", "tool", "developer")
"""Who may speak: words that no part of a mark's name can be hidden in."""

LARGEST_TEMPLATE = 1_000_000
LARGEST_TEXT = 10_000_000
"""Characters that a template may have, and write."""

# What a template may run into, as any program may.
_FAILURES = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)

# Unicode keeps these 32 for a program's own use: no text means anything by them.
_GUARDS = [chr(point) for point in range(0xFDD0, 0xFDF0)]


@dataclass(frozen=True)
class Chat:
    """How a model was taught to converse.

    Attributes:
        template: in Jinja's language.
        begin: the mark a template calls `bos_token`; empty if there is none.
        end: the one it calls `eos_token`, which ends an answer.
    """

    template: str
    begin: str = ""
    end: str = ""

    def text(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """The conversation as text, the beginning of the next answer included unless `answer` is False."""
        return render(
            self.template, messages, add_generation_prompt=answer, bos_token=self.begin, eos_token=self.end
        )

    def encode(self, messages: Sequence[Message], tokenizer: Tokenizer, *, answer: bool = True) -> list[int]:
        """The conversation as ids: the template's marks as marks, what the messages say as text.

        Args:
            messages: each a `role`, one of `ROLES`, and a `content`.
            tokenizer: the model's.
            answer: whether to begin the next answer.

        Raises:
            UserError: messages the template refuses, or that are none.
            CorruptArtifact: the template is not one.
        """
        _check(messages)
        marks = tokenizer.marks.special
        guard = _unused(self.template, messages)
        guarded = [{**said, "content": _guarded(said["content"], marks, guard)} for said in messages]
        names = sorted(marks, key=len, reverse=True)
        cut = re.split(f"({'|'.join(map(re.escape, names))})", self.text(guarded, answer=answer))
        ids: list[int] = []
        for number, part in enumerate(cut):
            ids += [marks[part]] if number % 2 else tokenizer.encode(part.replace(guard, ""))
        return ids


def as_messages(said: str | Sequence[Message]) -> Sequence[Message]:
    """A conversation; a text alone is what a user says first."""
    return [{"role": "user", "content": said}] if isinstance(said, str) else said


def opening(tokenizer: Tokenizer) -> list[int]:
    """The mark a published tokenizer puts before a text, such as Llama's <|begin_of_text|>; often none."""
    ids = tokenizer._library.encode("", add_special_tokens=True).ids
    return ids if len(ids) == 1 else []


def render(
    template: str,
    messages: Sequence[Message],
    *,
    add_generation_prompt: bool = True,
    bos_token: str = "",
    eos_token: str = "",
    now: datetime.datetime | None = None,
) -> str:
    """The text a template makes of a conversation, as transformers' `apply_chat_template` gives it.

    Args:
        template: in Jinja's language; it knows the names below, `raise_exception` and `strftime_now`.
        messages: each a `role`, one of `ROLES`, and a `content`.
        add_generation_prompt: whether to begin the next answer.
        bos_token, eos_token: marks a template may write.
        now: the day a template may write; today when not given.

    Raises:
        UserError: messages the template refuses, or that are none.
        CorruptArtifact: the template is not one.
    """
    _check(messages)
    moment = now or datetime.datetime.now()
    values = {
        "messages": [dict(said) for said in messages],
        "add_generation_prompt": add_generation_prompt,
        "tools": None,
        "documents": None,
        "bos_token": bos_token,
        "eos_token": eos_token,
        "strftime_now": moment.strftime,
    }
    written, count = [], 0
    try:
        for part in _compiled(template).generate(values):
            written.append(part)
            count += len(part)
            if count > LARGEST_TEXT:
                raise SecurityError(f"it writes more than {LARGEST_TEXT:,} characters")
    except (jinja2.TemplateError, *_FAILURES) as error:
        raise UserError(
            f"the model's chat template refuses these messages: {shown(str(error))[1:-1]}",
            hint="most take an optional system message, then user and assistant in turn",
        ) from None
    return "".join(written)


class _Generation(Extension):
    """`{% generation %}` marks an assistant's words for training; here it is what stands inside."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


@lru_cache(maxsize=8)
def _compiled(template: str) -> jinja2.Template:
    if len(template) > LARGEST_TEMPLATE:
        raise CorruptArtifact(
            "a chat template is too large", got=f"{len(template):,}", expected=f"at most {LARGEST_TEMPLATE:,}"
        )
    room = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    room.filters["tojson"] = _json
    room.globals["raise_exception"] = _refuse
    room.intercepted_binops = frozenset(("*", "**"))
    room.binop_table = {**room.binop_table, "*": _product, "**": _power}
    try:
        return room.from_string(template)
    except (jinja2.TemplateError, RecursionError, ValueError) as error:
        raise CorruptArtifact(f"the chat template cannot be read: {shown(str(error))[1:-1]}") from None


def _json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **more: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **more)


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _product(left: Any, right: Any) -> Any:
    for many, count in ((left, right), (right, left)):
        if hasattr(many, "__len__") and isinstance(count, int) and len(many) * count > LARGEST_TEXT:
            raise SecurityError("it multiplies a text or a list too often")
    return operator.mul(left, right)


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * right > 4096:
        raise SecurityError("it takes too high a power")
    return operator.pow(left, right)


def _check(messages: Any) -> None:
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise UserError("a conversation is a list of messages", got=messages, expected=_EXPECTED)
    for said in messages:
        sound = isinstance(said, Mapping) and said.keys() == {"role", "content"}
        if not sound or said["role"] not in ROLES or not isinstance(said["content"], str):
            raise UserError("this is no message of a conversation", got=said, expected=_EXPECTED)


_EXPECTED = '{"role": "user", "content": "..."}, the role one of ' + ", ".join(ROLES)


def _unused(template: str, messages: Sequence[Message]) -> str:
    """A guard that neither the template nor a message contains."""
    held = {character for text in (template, *(said["content"] for said in messages)) for character in text}
    free = [guard for guard in _GUARDS if guard not in held]
    if not free:
        raise UserError("these messages use every character that Unicode keeps free for programs")
    return free[0]


def _guarded(content: str, marks: Collection[str], guard: str) -> str:
    """The content with a guard in every mark's name, and in what could be the beginning or the end of one."""
    for name in sorted(marks, key=len, reverse=True):
        if len(name) == 1 and name in content:
            raise UserError(
                "a message contains a mark of one character, which cannot be told from text", got=name
            )
        while name in content:
            content = content.replace(name, name[0] + guard + name[1:])
    core = content.strip()  # templates trim
    sizes = [(name, size) for name in marks for size in range(1, len(name))]
    last = max((size for name, size in sizes if core.endswith(name[:size])), default=0)
    first = max((size for name, size in sizes if core.startswith(name[-size:])), default=0)
    if not (first or last):
        return content
    middle = core[first : len(core) - last] if first + last < len(core) else ""
    parts = (core[:first], core[len(core) - last :]) if middle else (core, "")
    apart = [guard + guard.join(part) + guard if part else "" for part in parts]
    return content.replace(core, apart[0] + middle + apart[1], 1)
