"""A run's folder on disk: its name, and small files that are never half written."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from descent.errors import UserError, unknown
from descent.runs.layout import RECIPE_FILE, check_removable, is_begun, is_run
from descent.runs.lock import RunLock
from descent.runs.recipe import NAME_RULE, Recipe, recipe_toml, safe_name
from descent.weights.folder import read_json as json_object


def open_run(where: str | Path) -> Path:
    """The folder of an existing run, or a `UserError` naming the nearest one."""
    folder = Path(where)
    if is_run(folder):
        return folder
    if folder.is_dir():
        inner = sorted(path.parent for path in folder.glob(f"*/{RECIPE_FILE}"))
        hint = f"did you mean {inner[-1]}?" if inner else None
        raise UserError(f"{folder} holds no run (no {RECIPE_FILE})", hint=hint)
    siblings = [str(p) for p in folder.parent.glob("*")] if folder.parent.is_dir() else []
    if siblings:
        raise unknown("run folder", str(folder), siblings[-20:])
    raise UserError(f"{folder} does not exist", hint="`descent runs list` shows the runs there are")


def new_folder(recipe: Recipe, out: str | Path | None, overwrite: bool | None = None) -> Path:
    """Makes the folder for a new run: `out`, or `runs/<recipe>/<time>` in the current folder."""
    if out is None:
        base = Path("runs") / recipe.name
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder, count = base / stamp, 1
        while folder.exists():
            count += 1
            folder = base / f"{stamp}-{count}"
    else:
        folder = Path(out)
        check_target(folder, overwrite)
        if is_run(folder):
            with RunLock(folder):
                shutil.rmtree(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made: {error.strerror}") from None
    return folder


def check_target(folder: Path, overwrite: bool | None = None) -> None:
    """Raises a `UserError` if a new run cannot take this folder; changes nothing.

    Args:
        overwrite: whether a run that is there may go; None where that is no choice.
    """
    if not safe_name(folder.name):
        raise UserError(f"a run cannot be called {folder.name!r}", expected=NAME_RULE)
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} exists and is not a folder", hint="choose another folder")
    if is_begun(folder):
        return
    if not is_run(folder):
        raise UserError(f"{folder} exists and is not a run", hint="choose another folder")
    if not overwrite:
        raise UserError(
            f"{folder} already holds a run",
            hint=f"`descent train --resume {folder}` goes on with it; --overwrite removes it first"
            if overwrite is not None
            else "choose another folder",
        )
    check_removable(folder)
    with RunLock(folder):
        pass  # raises if another process holds it


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns what a full, failing or read-only disk says into a `UserError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        raise UserError(
            f"{error.filename or folder}: {error.strerror}",
            hint=f"make room or mend the disk, then `descent train --resume {folder}`",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Writes a small file so that it is either the old one or the new one, never part of one."""
    temporary = path.with_name(f".{path.name}.part")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in one of a run's own files; empty when there is no file."""
    return json_object(path) if path.exists() else {}


def write_recipe(folder: Path, recipe: Recipe) -> None:
    write_text(folder / RECIPE_FILE, recipe_toml(recipe))
