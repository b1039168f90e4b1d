"""JSON of other programs, read without trusting it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from descent.errors import CorruptArtifact, UserError

LARGEST = 8_000_000


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of up to 8 MB; NaN, infinity and a key that stands twice are refused."""
    try:
        if path.stat().st_size > LARGEST:
            raise CorruptArtifact(f"{path} is larger than {LARGEST:,} bytes")
        table = json.loads(
            path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_no_constant
        )
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is not valid JSON: {str(error)[:200]}") from None
    if not isinstance(table, dict):
        raise CorruptArtifact(f"{path} is not a JSON object")
    return table


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key stands there twice")
    return table


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
