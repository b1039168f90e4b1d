"""What an entry of the table of data sets says. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

__all__ = ["RAW", "Entry", "File", "files"]

RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class File:
    """One file of a data set: its name in the folder, where it is, and what its bytes must be.

    `md5` stands where no SHA-256 is published; it tells a damaged file, not a forged one, so all addresses
    of such a file are https. Neither stands where a server packs the file anew each time: there `content`,
    `module.function` in this folder, reads the file and raises `CorruptArtifact` unless what is in it is what
    was published. `bytes` is 0 where no size is published.
    """

    name: str
    urls: tuple[str, ...]
    bytes: int
    sha256: str = ""
    md5: str = ""
    content: str = ""

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def checksum(self) -> str:
        """The algorithm and the sum, as `sha256:...` or `md5:...`; empty where none is published."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"md5:{self.md5}" if self.md5 else ""


@dataclass(frozen=True)
class Entry:
    """A named data set; `files` is empty when its bytes come with Python or with a library."""

    name: str
    about: str
    kind: Literal[
        "text",
        "table",
        "images",
        "series",
        "sound",
        "music",
        "pairs",
        "sentences",
        "entities",
        "questions",
        "ranking",
    ]
    parser: str
    licence: str
    citation: str
    files: tuple[File, ...] = ()
    folder: str = ""

    @property
    def embedded(self) -> bool:
        return not self.files

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def files(base: str | tuple[str, ...], *rows: tuple[str, int, str]) -> tuple[File, ...]:
    """Files under one address (or its mirrors); a name outside ASCII is quoted in the address only."""
    bases = (base,) if isinstance(base, str) else base
    return tuple(
        File(
            name,
            tuple(f"{start}/{quote(name)}" for start in bases),
            size,
            sha256=digest if len(digest) == 64 else "",
            md5=digest if len(digest) == 32 else "",
        )
        for name, size, digest in rows
    )
