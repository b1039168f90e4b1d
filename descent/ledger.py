"""The ledger: every number Descent claims, beside the published one and its source.

An entry is one JSON file under `ledger/`; the wheel carries them along.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from descent.errors import CorruptArtifact, unknown

__all__ = ["entries", "folder", "select"]

REQUIRED = ("id", "what", "metric", "value", "unit", "published", "seeds", "machine", "date")
_PACKAGE = Path(__file__).parent


def folder() -> Path | None:
    """Where the entries are: in the wheel, or beside the sources; None when there are none."""
    places = (_PACKAGE / "ledger_entries", _PACKAGE.parent / "ledger")
    return next((place for place in places if place.is_dir()), None)


def entries(place: Path | None = None) -> list[dict[str, Any]]:
    """All entries, sorted by id.

    Raises:
        CorruptArtifact: a file is no JSON object, or lacks a field every entry has.
    """
    place = place or folder()
    found = [_read(path) for path in sorted(place.glob("*.json"))] if place else []
    return sorted(found, key=lambda entry: entry["id"])


def select(names: list[str], place: Path | None = None) -> list[dict[str, Any]]:
    """The entries whose id contains one of `names` (all of them for no name)."""
    known = entries(place)
    for name in names if known else ():
        if not any(name in entry["id"] for entry in known):
            raise unknown("ledger entry", name, [entry["id"] for entry in known])
    return [entry for entry in known if not names or any(name in entry["id"] for name in names)]


def _read(path: Path) -> dict[str, Any]:
    try:
        entry = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CorruptArtifact(f"{path} is not a ledger entry: {error}") from None
    missing = [key for key in REQUIRED if key not in entry] if isinstance(entry, dict) else list(REQUIRED)
    if missing:
        raise CorruptArtifact(f"{path} is not a ledger entry: it lacks {', '.join(missing)}")
    value = entry["value"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise CorruptArtifact(f"{path}: value is not a number", got=value)
    return entry
