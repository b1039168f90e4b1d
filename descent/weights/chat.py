"""The chat template beside a model's weights.

chat_template.jinja      the template; in older folders a field of tokenizer_config.json, `chat_template`
tokenizer_config.json    what the template calls bos_token and eos_token
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descent.errors import CorruptArtifact
from descent.text.chat import LARGEST_TEMPLATE, Chat
from descent.weights.json_file import read_json

TEMPLATE, TOKENIZER_CONFIG = "chat_template.jinja", "tokenizer_config.json"


def read_chat(folder: Path) -> Chat | None:
    """How the folder's model converses; None if it does not say.

    Raises:
        CorruptArtifact: a file that is not text, or too large.
    """
    table = read_json(folder / TOKENIZER_CONFIG) if (folder / TOKENIZER_CONFIG).is_file() else {}
    template = _template(folder / TEMPLATE) if (folder / TEMPLATE).is_file() else _field(table)
    if not template:
        return None
    return Chat(template, _mark(table, "bos_token"), _mark(table, "eos_token"))


def write_chat(folder: Path, chat: Chat) -> None:
    """Writes the template, and its marks into the tokenizer_config.json that is there."""
    (folder / TEMPLATE).write_text(chat.template, encoding="utf-8", newline="")
    path = folder / TOKENIZER_CONFIG
    marks = {"bos_token": chat.begin, "eos_token": chat.end}
    table = {**json.loads(path.read_text(encoding="utf-8")), **{n: mark for n, mark in marks.items() if mark}}
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _template(path: Path) -> str:
    if path.stat().st_size > 4 * LARGEST_TEMPLATE:
        raise CorruptArtifact(f"{path} is too large for a chat template")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptArtifact(f"{path} is not UTF-8: {error}") from None


def _field(table: Mapping[str, Any]) -> str:
    """The template in a table, or of several the one called default."""
    found = table.get("chat_template")
    if isinstance(found, list):
        named = [entry for entry in found if isinstance(entry, dict) and entry.get("name") == "default"]
        found = named[0].get("template") if named else None
    return found if isinstance(found, str) else ""


def _mark(table: Mapping[str, Any], name: str) -> str:
    """A mark, written as a text or as a table with its content."""
    found = table.get(name)
    found = found.get("content") if isinstance(found, dict) else found
    return found if isinstance(found, str) else ""
