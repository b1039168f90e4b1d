"""One process at a time writes to a run's folder; the kernel frees the lock when the holder dies."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from descent.errors import LockedRun

try:
    import fcntl
except ImportError:  # Windows has no flock; there, msvcrt locks the file's first byte.
    fcntl = None


LOOKING = 0.02
"""Seconds after which someone who only looked whether the run is locked has let go of it."""


class RunLock:
    """Holds `<run>/lock` while the context lasts, or raises `LockedRun` naming the holder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        file = open(self.folder / "lock", "a+", encoding="utf-8")
        if not _acquire(file) and (time.sleep(LOOKING) or not _acquire(file)):
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise LockedRun(
                f"{self.folder} is in use by {holder}", hint="wait for it to end, or stop that process"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        self._file = file
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def is_locked(folder: Path) -> bool:
    """Whether some process (this one too) holds the run's folder; nothing is written."""
    try:
        with open(folder / "lock", encoding="utf-8") as file:
            return not _acquire(file, shared=True)
    except FileNotFoundError:
        return False


def _acquire(file: IO[str], shared: bool = False) -> bool:
    try:
        if fcntl is not None:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        else:
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError:
        return False
    return True
