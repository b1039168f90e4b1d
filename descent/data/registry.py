"""The data sets Descent knows by name: where their bytes are, whose they are, how they are read.

Nothing here imports torch, and only `locate` opens the network. The table itself is in `entries`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from descent.data.entries import ALL, Entry, File
from descent.errors import unknown

__all__ = ["ENTRIES", "Entry", "File", "entry", "listing", "locate", "show"]


ENTRIES: dict[str, Entry] = {item.name: item for item in ALL}


def entry(name: str) -> Entry:
    """The entry of that name, or a `UserError` with the nearest one."""
    if name not in ENTRIES:
        raise unknown("data set", name, ENTRIES)
    return ENTRIES[name]


def listing() -> list[dict[str, Any]]:
    """One plain row per entry: name, kind, bytes (0 = embedded), licence, about."""
    return [
        {
            "name": item.name,
            "kind": item.kind,
            "bytes": item.bytes,
            "embedded": item.embedded,
            "licence": item.licence,
            "about": item.about,
        }
        for item in ENTRIES.values()
    ]


def show(name: str) -> dict[str, Any]:
    """Everything known of one entry, with the place of each file that is already on this machine."""
    from descent.data.download import present

    item = entry(name)
    files = [
        {
            "name": file.name,
            "url": file.url,
            "bytes": file.bytes,
            "checksum": file.checksum,
            "path": str(place) if (place := present(item, file)) else None,
        }
        for file in item.files
    ]
    return {
        "name": item.name,
        "kind": item.kind,
        "about": item.about,
        "licence": item.licence,
        "citation": item.citation,
        "embedded": item.embedded,
        "bytes": item.bytes,
        "files": files,
    }


def locate(
    name: str, progress: bool | Callable[[str, int, int], None] = True, *, download: bool = True
) -> list[Path]:
    """The verified files of an entry, in its order, downloaded where they are not here yet.

    Args:
        name: an entry; an embedded one has no files.
        progress: True shows a bar on stderr; a callable gets (file name, bytes so far, bytes in all).
        download: False raises a `UserError` for a missing file instead of opening the network.
    """
    from descent.data.download import obtain

    item = entry(name)
    return [obtain(item, file, progress, download=download) for file in item.files]
