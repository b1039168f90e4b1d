"""Files of rows with texts in them: CSV, tabs, JSON; each row with its line.

CSV is read as RFC 4180 has it, so a cell in quotes may hold commas and line feeds. In a file of tabs, cells
are what stands between the tabs, quotes included: such files are written by hand, and by tools that quote
nothing.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descent.data.splits import named
from descent.data.textfiles import MAX_FIELD, read_text
from descent.errors import UserError, nearest

__all__ = ["TextRows", "no_column", "read_rows", "rows_of_text", "split_files"]

SHOWN = 60
_SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class TextRows:
    """The rows of one file.

    Attributes:
        file: where they are from.
        header: the names of the columns; None if the file has none.
        cells: of each row, as many as there are columns.
        lines: where each row ends in the file (of a `.json` file its number).
    """

    file: Path
    header: tuple[str, ...] | None
    cells: list[Sequence[str]]
    lines: list[int]

    def where(self, row: int) -> str:
        """The place of a row, for messages."""
        noun = "item" if self.file.suffix.lower() == ".json" else "line"
        return f"{self.file}, {noun} {self.lines[row]:,}"

    def place(self, name: str, option: str) -> int:
        """The number of the column of that name.

        Raises:
            UserError: there is none; the nearest name is suggested.
        """
        if self.header is None:
            raise UserError(
                f"{self.file} has no line of column names", got=f"{option}={name}", hint=f"leave out {option}"
            )
        if name not in self.header:
            raise no_column(name, self.header, str(self.file), option)
        return self.header.index(name)


def no_column(name: str, columns: Sequence[str], where: str, option: str) -> UserError:
    """The error for a column that is not there."""
    near = nearest(name, columns)
    hint = f"did you mean {option}={near}?" if near else f"name the column with {option}=..."
    return UserError(
        f"{where}: there is no column {name!r}", expected="one of " + ", ".join(columns), hint=hint
    )


def read_rows(file: Path, known: Sequence[str] = (), header: bool | None = None) -> TextRows:
    """The rows of a file, by its name: JSON, CSV, or columns with tabs between them.

    Args:
        file: what to read.
        known: names that columns have, in small letters: a first line that holds one gives names.
        header: whether another first line gives names, too; None where the last column is a class: it does if
            its last cell never comes again.

    Raises:
        UserError: nothing is in it, rows differ in length, or a line is not of its form.
    """
    suffix = file.suffix.lower()
    if suffix not in _SUFFIXES:
        raise UserError(
            f"{file} is of no kind that holds rows", expected="a file named " + ", ".join(_SUFFIXES)
        )
    text = read_text(file)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _records(file, list(_json(file, text, suffix == ".json")))
    numbered = list(_csv(file, text) if suffix == ".csv" else _tabs(file, text))
    if not numbered:
        raise UserError(f"{file} is empty", expected="rows with texts")
    first = [cell.strip() for cell in numbered[0][1]]
    named = any(cell.lower() in known for cell in first)
    if not named and header is not False and len(first) > 1:
        named = bool(header) or all(cells[-1].strip() != first[-1] for _, cells in numbered[1:])
    rows = numbered[1:] if named else numbered
    _equally_long(file, len(first), rows)
    if named and len(set(first)) < len(first):
        twice = next(name for name in first if first.count(name) > 1)
        raise UserError(f"{file}: two columns have the same name", got=twice)
    if not rows:
        raise UserError(f"{file} has no rows", expected="a line of column names, then rows")
    names = tuple(first) if named else None
    return TextRows(file, names, [cells for _, cells in rows], [line for line, _ in rows])


def rows_of_text(file: Path) -> TextRows:
    """The lines of a plain text file, each a row of the cells between its tabs; empty lines are left out."""
    rows = list(_tabs(file, read_text(file)))
    if not rows:
        raise UserError(f"{file} is empty", expected="a text on each line")
    return TextRows(file, None, [cells for _, cells in rows], [line for line, _ in rows])


def split_files(path: str, files: list[Path]) -> dict[str, Path]:
    """One file as "all", or several by the splits they are named for.

    Raises:
        UserError: several, and one is named for no split, two for the same one, or none for train.
    """
    if len(files) == 1:
        return {"all": files[0]}
    found: dict[str, Path] = {}
    for file in files:
        split = named(file.stem)
        if split is None or split in found:
            raise UserError(
                f"{file.name} names no split" if split is None else f"two files are named for {split}",
                got=[one.name for one in files[:8]],
                expected="one file, or one each named train, validation and test",
                hint=f"choose with a pattern, such as data.path='folder/*{files[0].suffix}'",
            )
        found[split] = file
    if "train" not in found:
        raise UserError(f"{path}: no file is named train", got=[file.name for file in files])
    return found


def _equally_long(file: Path, length: int, rows: list[tuple[int, list[str]]]) -> None:
    for line, cells in rows:
        if len(cells) != length:
            raise UserError(
                f"{file}, line {line:,}: a row of {len(cells)} cell{'s' * (len(cells) != 1)}",
                got=[cell[:SHOWN] for cell in cells[:8]],
                expected=f"{length} cells, as in the first line",
                hint="put cells that hold a comma in double quotes"
                if file.suffix.lower() == ".csv"
                else None,
            )


def _tabs(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    # only a line feed ends a line: other separators are part of the text
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.removesuffix("\r").split("\t")


def _csv(file: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(MAX_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if reader.line_num == 1 and len(cells) == 1:
                _refuse_delimiter(file, cells[0])
            yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num:,}: {error}") from None


def _refuse_delimiter(file: Path, line: str) -> None:
    other = next((mark for mark in ";\t|" if mark in line), None)
    if other:
        raise UserError(
            f"{file}: the columns are not separated by ',' but by {other!r}",
            hint="save it with commas, or with tabs as a .tsv file",
        )


def _json(file: Path, text: str, whole: bool) -> Iterator[tuple[int, Any]]:
    """The records of a file, each with its line (its number in a list)."""
    if whole and text.lstrip().startswith("["):
        yield from enumerate(_parsed(file, text, 1), 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, _parsed(file, line, number)


def _parsed(file: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        place = line + getattr(error, "lineno", 1) - 1
        reason = getattr(error, "msg", str(error))
        raise UserError(f"{file}, line {place:,}: not JSON: {reason}", got=text[:SHOWN]) from None


def _records(file: Path, numbered: list[tuple[int, Any]]) -> TextRows:
    """Objects as rows: a cell for every name that the first has; a null is an empty cell."""
    if not numbered:
        raise UserError(f"{file} is empty", expected='an object a line, for example {"text": "..."}')
    first = numbered[0][1]
    header = tuple(map(str, first)) if isinstance(first, dict) else ()
    cells: list[Sequence[str]] = []
    for line, record in numbered:
        if not isinstance(record, dict):
            where = f"{file}, {'item' if file.suffix.lower() == '.json' else 'line'} {line:,}"
            raise UserError(f"{where}: not an object", got=record, expected='for example {"text": "..."}')
        cells.append([_cell(record.get(name), file, line) for name in header])
    return TextRows(file, header, cells, [line for line, _ in numbered])


def _cell(value: Any, file: Path, line: int) -> str:
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(
            f"{file}, line {line:,}: half of a surrogate pair, which no text holds", got=text[:SHOWN]
        ) from None
    return text
