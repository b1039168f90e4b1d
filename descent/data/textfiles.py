"""The user's own text: files, folders and patterns, as documents.

Policy for bytes, the same for every text file:

- UTF-8 only. Bytes that are not are refused with their place, never replaced. UTF-16 is named as such.
- A byte order mark at the start is removed; everything else is kept exactly: CRLF, tabs, NUL.
- Binary is refused: by the first bytes of well-known formats, or when more than one character in a
  hundred is a control character.
- In JSON, half a surrogate pair (`"\\ud800"`) is refused with its line.
"""

from __future__ import annotations

import csv
import glob
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from descent.data.splits import named
from descent.errors import UserError, nearest

__all__ = ["find", "left_out", "missing", "placed_rows", "read_documents", "read_text", "rows_of_csv"]

SUFFIXES = (".txt", ".md", ".rst", ".text", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".py", ".tex")
MAX_BYTES = 4 * 2**30
MAX_FIELD = 1 << 24

_MAGIC = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"PK\x03\x04": "a zip file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"%PDF": "a PDF",
    b"\x7fELF": "a program",
    b"\x93NUMPY": "a .npy file",
    b"SQLite format 3": "a database",
    b"PAR1": "a Parquet file",
    b"\xd0\xcf\x11\xe0": "an old Office file",
}
_WIDE = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_REMOVE_CONTROL = {code: None for code in (*range(32), 0x7F) if chr(code) not in "\t\n\v\f\r\x1b"}

Unit = Literal["file", "line", "paragraph"]


def missing(path: str | Path) -> UserError:
    """The error for a path that is not there, with the nearest name in its folder."""
    place = Path(path)
    folder = place.parent
    if not folder.is_dir():
        return UserError("there is no such folder", got=str(folder))
    near = nearest(place.name, (item.name for item in folder.iterdir()))
    hint = f"did you mean {folder / near}?" if near else None
    return UserError("there is no such file or folder", got=str(path), hint=hint)


def find(path: str) -> list[Path]:
    """The text files that a file's name, a folder or a pattern stands for, in order of their names."""
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    if place.is_dir():
        found = sorted(
            item
            for item in place.rglob("*")
            if item.suffix.lower() in SUFFIXES
            and item.is_file()
            and not any(part.startswith(".") for part in item.relative_to(place).parts)
        )
        if not found:
            raise UserError(
                f"there are no text files in {path}", expected="files named " + " ".join(SUFFIXES)
            )
        return found
    if glob.has_magic(path):
        found = sorted(Path(item) for item in glob.glob(str(place), recursive=True) if Path(item).is_file())
        if not found:
            raise UserError("no file matches the pattern", got=path)
        return found
    raise missing(path)


def left_out(path: str) -> tuple[str, ...]:
    """The visible files of a folder whose names `find` takes for no text, each with that reason."""
    place = Path(path).expanduser()
    others = sorted(
        item
        for item in (place.rglob("*") if place.is_dir() else ())
        if item.suffix.lower() not in SUFFIXES
        and item.is_file()
        and not any(part.startswith(".") for part in item.relative_to(place).parts)
    )
    reason = "not named as text; a pattern such as data.path='folder/*' takes every file"
    return tuple(f"{item}: {reason}" for item in others)


def read_text(path: Path) -> str:
    """The text of one file under the policy above."""
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise UserError(
            f"{path} is too large to be read at once", got=f"{size:,} bytes", expected=f"{MAX_BYTES:,}"
        )
    data = path.read_bytes()
    for magic, kind in _MAGIC.items():
        if data.startswith(magic):
            raise UserError(f"{path} is {kind}, not text", expected="UTF-8 text")
    for mark, kind in _WIDE.items():
        if data.startswith(mark):
            raise UserError(
                f"{path} is {kind}",
                expected="UTF-8",
                hint=f"convert it: iconv -f UTF-16 -t UTF-8 {path.name} > new.txt",
            )
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        _refuse_binary(path, data[: 1 << 16].decode("latin-1"))
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8: byte {error.start:,} (line {line:,}) begins no character",
            got=data[error.start : error.start + 4],
            hint=f"convert it: iconv -f GB18030 -t UTF-8 {path.name} > new.txt (European text: WINDOWS-1252,"
            " not GB18030); or remove the byte",
        ) from None
    _refuse_binary(path, text[: 1 << 16])
    return text


def _refuse_binary(path: Path, head: str) -> None:
    controls = len(head) - len(head.translate(_REMOVE_CONTROL))
    if controls * 100 > len(head) and controls > 1:
        raise UserError(
            f"{path} looks binary", got=f"{controls:,} control characters in {len(head):,}", expected="text"
        )


def read_documents(path: str, unit: Unit, column: str) -> tuple[dict[str, list[str]], bool]:
    """The documents of the user's text, by split.

    Args:
        path: see `find`.
        unit: what a document of a plain text file is.
        column: the field of JSON, CSV and TSV files.

    Returns:
        Documents by "train", "validation", "test" where the files are named so (`train.txt`, `test.jsonl`,
        ...), else all of them by "all"; and whether they are whole files of running text.
    """
    files = find(path)
    splits = {file: named(file.stem) for file in files}
    # A `train.py` somewhere deep in a folder of sources names no split.
    top = min(len(file.parts) for file in files)
    official = len(files) > 1 and any(splits[f] == "train" for f in files if len(f.parts) == top)
    found: dict[str, list[str]] = {}
    running = unit == "file"
    for file in files:
        split = splits[file] if official else "all"
        if split is None:
            raise UserError(
                f"{file.name} stands beside files named for splits, but names none",
                expected="only train, validation and test files, or none of these",
                hint="move one or the other, or choose with a pattern such as data.path='folder/*.txt'",
            )
        structured = file.suffix.lower() in (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
        running = running and not structured
        found.setdefault(split, []).extend(_structured(file, column) if structured else _plain(file, unit))
    if not any(found.values()):
        raise UserError(f"{path} is empty", expected="some text")
    return found, running


def _plain(file: Path, unit: Unit) -> Iterator[str]:
    text = read_text(file)
    if unit == "file":
        if text:
            yield text
    elif unit == "line":
        # not splitlines: only a line feed ends a line, other separators are part of the text
        yield from (line for line in (line.removesuffix("\r") for line in text.split("\n")) if line.strip())
    else:
        lines: list[str] = []
        for line in [*text.split("\n"), ""]:
            if line.strip():
                lines.append(line)
            elif lines:
                yield "\n".join(lines)
                lines = []


def _structured(file: Path, column: str) -> Iterator[str]:
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        yield from _csv_documents(file, column)
        return
    if suffix == ".json":
        content = _json(read_text(file), file, 1)
        if not isinstance(content, list):
            raise UserError(f"{file} does not hold a list of documents", got=type(content).__name__)
        records = enumerate(content, 1)
        noun = "item"
    else:
        lines = enumerate(read_text(file).split("\n"), 1)
        records = ((number, _json(line, file, number)) for number, line in lines if line.strip())
        noun = "line"
    for number, record in records:
        yield _field(record, column, f"{file}, {noun} {number:,}")


def _json(text: str, file: Path, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        place = line + getattr(error, "lineno", 1) - 1
        reason = getattr(error, "msg", str(error))
        raise UserError(f"{file}, line {place:,}: not JSON: {reason}", got=text[:60]) from None


def _field(record: Any, column: str, where: str) -> str:
    if isinstance(record, str) and not column:
        text = record
    elif not isinstance(record, dict):
        raise UserError(f"{where}: not an object", got=record, expected='for example {"text": "..."}')
    else:
        name = column or "text"
        if name not in record:
            raise _no_column(name, record, where)
        text = record[name]
        if not isinstance(text, str):
            raise UserError(f"{where}: {name} is not text", got=text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{where}: half of a surrogate pair, which no text holds", got=text[:60]) from None
    return text


def _no_column(name: str, columns: Any, where: str) -> UserError:
    near = nearest(name, columns)
    hint = f"did you mean data.column={near}?" if near else "name the field with data.column=..."
    return UserError(
        f"{where}: there is no column {name!r}", expected="one of " + ", ".join(columns), hint=hint
    )


def _csv_documents(file: Path, column: str) -> Iterator[str]:
    header, rows = rows_of_csv(file)
    name = column or "text"
    if name not in header:
        raise _no_column(name, header, str(file))
    place = header.index(name)
    yield from (row[place] for row in rows if row[place])


def rows_of_csv(file: Path) -> tuple[list[str], list[list[str]]]:
    """The column names and the rows of a CSV or TSV file; see `placed_rows`."""
    header, rows, _ = placed_rows(file)
    return header, rows


def placed_rows(file: Path) -> tuple[list[str], list[list[str]], list[int]]:
    """The column names and the rows of a CSV or TSV file, every row as long as the header, with their lines.

    Returns:
        the names, the rows, and the line of the file each begins in, counted from 1: by what an editor shows
        are rows named to a user.

    Raises:
        UserError: no rows, a row of another length (with its line), two columns of one name.
    """
    text = read_text(file)
    csv.field_size_limit(MAX_FIELD)
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        other = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
        if other:
            raise UserError(
                f"{file}: the columns are not separated by {delimiter!r} but by {other!r}",
                hint="save it with commas, or with tabs as a .tsv file",
            )
        ended = reader.line_num
        for row in reader:
            line, ended = ended + 1, reader.line_num
            if not row:
                continue
            if len(row) != len(header):
                raise UserError(
                    f"{file}, line {line:,}: a row of {len(row)} cells",
                    got=row[:8],
                    expected=f"{len(header)} cells, as in the first line",
                )
            rows.append(row)
            lines.append(line)
    except csv.Error as error:
        raise UserError(f"{file}, line {reader.line_num:,}: {error}") from None
    if not rows:
        raise UserError(f"{file} has no rows", expected="a line of column names, then rows")
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        raise UserError(f"{file}: two columns have the same name", got=sorted(twice)[0])
    return header, rows, lines
