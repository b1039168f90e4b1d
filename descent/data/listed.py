"""The user's own files of classes, as they are listed: a folder per class, or a CSV of paths and labels.

What the files hold, images or sound, is for others to read.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from descent.data.splits import named
from descent.data.textfiles import missing, placed_rows
from descent.errors import UserError, nearest

__all__ = ["Listed", "in_order", "list_csv", "list_folder"]

_NAMED_FOLDERS = 5


@dataclass(frozen=True)
class Listed:
    """A file, its class, and its split and its speaker where they are given."""

    file: Path
    label: str
    split: str | None = None
    speaker: str | None = None


def list_folder(
    root: Path, files_in: Callable[[Path], list[Path]], noun: str, suffixes: Iterable[str]
) -> tuple[list[Listed], tuple[str, ...], list[str]]:
    """The files of a folder with one folder per class, inside folders named for splits where these exist.

    Args:
        root: the folder.
        files_in: what lists the files of one class's folder.
        noun: what the files are, for messages: `images`.
        suffixes: how they are named, for messages.

    Returns:
        the files, the classes (of all splits), and what was left aside, in words.

    Raises:
        UserError: no such folder, fewer than two classes, or no file.
    """
    if not root.is_dir():
        raise missing(root)
    roots, notes = _roots(root, noun)
    classes = {folder.name for part in roots.values() for folder in _folders(part)}
    listed = [
        Listed(file, folder.name, split)
        for split, part in roots.items()
        for folder in _folders(part)
        for file in files_in(folder)
    ]
    if len(classes) < 2 or not listed:
        raise UserError(
            f"{root} is no folder of {noun} by class",
            got=_found(roots, files_in, noun, len(classes), len(listed)),
            expected=f"two folders or more, one per class, each with {noun} named " + " ".join(suffixes),
            hint=f"put the {noun} of each class into a folder named for it, or list all in a CSV whose "
            "columns are path and label",
        )
    return listed, in_order(classes, root), notes


def _found(
    roots: dict[str | None, Path],
    files_in: Callable[[Path], list[Path]],
    noun: str,
    classes: int,
    listed: int,
) -> str:
    """What lies in folders that are none by class: also what lies beside the folders."""
    loose = sum(file.parent == part for part in roots.values() for file in files_in(part))
    folders = f"{classes} folder{'s' * (classes != 1)} with {listed:,} {noun}"
    return f"{folders}, and {loose:,} {noun} in no folder" if loose else folders


def _roots(root: Path, noun: str) -> tuple[dict[str | None, Path], list[str]]:
    """The folders that hold a folder per class, by their splits; and those beside them, in words."""
    parts: dict[str | None, Path] = {}
    others, twins = [], []
    for folder in _folders(root):
        split = named(folder.name)
        if split is None:
            others.append(folder.name)
        elif split in parts:
            twins.append((split, parts[split].name, folder.name))
        else:
            parts[split] = folder
    if "train" not in parts or not _folders(parts["train"]):
        return {None: root}, []  # train is absent, or a class of trains
    if twins:
        split, first, second = twins[0]
        raise UserError(
            f"{root} has two folders for the split {split}",
            got=f"{first} and {second}",
            hint=f"put the {noun} of both into one, or take one away",
        )
    more = ", ..." if len(others) > _NAMED_FOLDERS else ""
    named_others = ", ".join(map(repr, others[:_NAMED_FOLDERS])) + more
    return parts, [f"not used, as it is no split: {named_others}"] if others else []


def _folders(root: Path) -> list[Path]:
    return sorted(item for item in root.iterdir() if item.is_dir() and not item.name.startswith("."))


def list_csv(
    path: Path, target: str, suffixes: Iterable[str], noun: str
) -> tuple[list[Listed], tuple[str, ...]]:
    """The files that a CSV or TSV of paths and labels names, and the classes.

    The columns are those named `path` and `label`, else the first two; `split` and `speaker` may stand
    beside them. A first line that names a file is no header. A path is taken as it stands, with no pattern,
    escape or `~`, from the CSV's folder on, and must stay in it.

    Args:
        path: the CSV.
        target: the column of labels; empty = as above.
        suffixes: how a file is named.
        noun: what the files are, for messages: `images`.
    """
    if not path.is_file():
        raise missing(path)
    header, rows, lines = placed_rows(path)
    if Path(header[0]).suffix.lower() in tuple(suffixes):
        rows.insert(0, header)
        lines.insert(0, 1)
        header = ["path", "label", "split"][: len(header)]
    places = _columns(path, header, target)
    listed = []
    for line, row in zip(lines, rows, strict=True):
        label = row[places["label"]].strip()
        given = row[places["split"]].strip() if "split" in places else ""
        split = (named(given) if given else "train") if "split" in places else None
        if not label or ("split" in places and split is None):
            raise UserError(
                f"{path}, line {line:,}: {'no label' if not label else 'no such split'}",
                got=given if label else row,
                expected="train, validation or test" if label else "a path and a label",
            )
        speaker = row[places["speaker"]].strip() if "speaker" in places else None
        listed.append(Listed(_inside(path, row[places["path"]], line, noun), label, split, speaker))
    classes = {item.label for item in listed}
    if len(classes) < 2:
        raise UserError(f"{path} has only one label", got=next(iter(classes)), expected="two or more")
    if "split" in places and not any(item.split == "train" for item in listed):
        raise UserError(f"{path}: no row is of the split train")
    return listed, in_order(classes, path)


def _columns(path: Path, header: list[str], target: str) -> dict[str, int]:
    """The places of the columns `path`, `label` and, where they are there, `split` and `speaker`."""
    low = [name.lower() for name in header]
    if len(header) < 2:
        raise UserError(f"{path} has one column", got=header, expected="path and label")
    if target and target not in header:
        near = nearest(target, header)
        raise UserError(
            f"{path}: there is no column {target!r}",
            expected="one of " + ", ".join(header),
            hint=f"did you mean data.target={near}?" if near else None,
        )
    if "path" in low and not target and "label" not in low and len(header) > 2:
        raise UserError(
            f"{path}: which column is the label?",
            expected="one of " + ", ".join(header),
            hint=f"name it, for example data.target={next(n for n in header if n.lower() != 'path')}",
        )
    file = low.index("path") if "path" in low else 0
    label = header.index(target) if target else low.index("label") if "label" in low else int(file == 0)
    if file == label:
        raise UserError(f"{path}: the column {header[label]!r} cannot be both path and label")
    more = {name: low.index(name) for name in ("split", "speaker") if name in low}
    return {"path": file, "label": label, **{name: at for name, at in more.items() if at != label}}


def _inside(path: Path, file: str, line: int, noun: str) -> Path:
    """The file a row names, which must lie in the folder of the CSV (links in it may lead anywhere)."""
    root = os.path.abspath(path.parent)
    whole = os.path.normpath(os.path.join(root, file))
    try:
        inside = "\0" not in file and os.path.commonpath([root, whole]) == root
    except ValueError:  # another drive
        inside = False
    if not inside:
        raise UserError(
            f"{path}, line {line:,}: the path leads out of the CSV's folder",
            got=file,
            expected=f"a path within {root}",
            hint=f"put the CSV into a folder that holds all the {noun}",
        )
    return path.parent / os.path.relpath(whole, root)


def in_order(names: Iterable[str], where: Path) -> tuple[str, ...]:
    """Class names in alphabetical order, or by size where all are whole numbers.

    Raises:
        UserError: one is no text.
    """
    listed = sorted(names)
    for name in listed:
        if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in name):
            raise UserError(
                f"{where}: a class whose name is no text", got=name, expected="Unicode without control codes"
            )
    numeric = all(name.isascii() and name.isdecimal() and len(name) < 10 for name in listed)
    return tuple(sorted(listed, key=int) if numeric else listed)
