"""What `descent predict` is asked about by a model of texts: words typed by hand, or the texts of a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from descent.errors import UserError

__all__ = ["TEXT_KINDS", "read_texts"]

TEXT_KINDS = ("sentences", "entities")
"""The kinds of data whose models read texts (known here without importing anything heavy)."""
LARGEST_FILE = 100_000_000
WORDS = (".conll", ".iob", ".bio")


def read_texts(
    files: Sequence[str], texts: Sequence[str], preparation: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    """A name and a value for each input: the text, or the two, or the words.

    Args:
        files: a `.csv`, `.tsv`, `.jsonl` or `.json` file of texts, or a `.txt` file of a text a line (of two
            with a tab between them); for a model of names also a file of words in the format of CoNLL.
        texts: what was typed: a text, or two.
        preparation: of the model.
    """
    if texts:
        if files:
            raise UserError("--text takes the place of a file", got=files[0])
        return [("text", texts[0] if len(texts) == 1 else tuple(texts))]
    found: list[tuple[str, Any]] = []
    for name in files:
        file = Path(name)
        if not file.is_file():
            raise UserError(
                f"{file} is not a file", expected="a file of texts", hint='one text alone: --text "..."'
            )
        if file.stat().st_size > LARGEST_FILE:
            raise UserError(f"{file} is too large to predict in one go", expected="at most 100 MB")
        found += _texts_of(file, preparation)
    if not found:
        raise UserError("nothing to predict", expected='a file of texts, or --text "..."')
    return found


def _texts_of(file: Path, preparation: Mapping[str, Any]) -> list[tuple[str, Any]]:
    from descent.data.entities import read_words
    from descent.data.textrows import read_rows, rows_of_text

    if preparation["kind"] == "entities" and file.suffix.lower() in WORDS:
        return [(f"{file}:{line}", words) for line, words in read_words(file)]
    columns, count = list(preparation.get("columns", ())), int(preparation.get("texts", 1))
    if file.suffix.lower() == ".txt":
        rows = rows_of_text(file)
        if count == 1:
            cells = [["\t".join(row)] for row in rows.cells]
            return _checked(file, rows.lines, cells)
        places = list(range(count))
    else:
        from descent.data.sentence_files import KNOWN

        rows = read_rows(file, (*KNOWN, *(name.lower() for name in columns)), header=False)
        places = _places(rows, columns, count)
    short = next((n for n, row in enumerate(rows.cells) if len(row) < count), None)
    if short is not None:
        raise UserError(f"{rows.where(short)}: one text", expected="two texts with a tab between them")
    return _checked(file, rows.lines, [[row[place] for place in places] for row in rows.cells])


def _places(rows: Any, columns: list[str], count: int) -> list[int]:
    """The columns of the texts: those of training, or as their names tell, or the first ones of a file that
    has no names, as that of training, or no other columns."""
    from descent.data.sentence_files import text_columns

    if rows.header is None and (len(rows.cells[0]) == count or all(name.isdigit() for name in columns)):
        return list(range(count))
    if rows.header is None:
        raise UserError(
            f"{rows.file}: the first line names no column of texts",
            got=[cell[:60] for cell in rows.cells[0][:8]],
            expected=", ".join(columns) or "text",
        )
    if columns and all(name in rows.header for name in columns):
        return [rows.header.index(name) for name in columns]
    named = text_columns(rows.header)
    if len(named) == count:
        return [rows.header.index(name) for name in named]
    if len(rows.header) == count:
        return list(range(count))
    raise UserError(
        f"{rows.file}: no column is named as in training",
        got=", ".join(rows.header),
        expected=", ".join(columns) or "text",
    )


def _checked(file: Path, lines: Sequence[int], rows: list[list[str]]) -> list[tuple[str, Any]]:
    for line, row in zip(lines, rows, strict=True):
        if not all(cell.strip() for cell in row):
            raise UserError(f"{file}, line {line:,}: the text is empty", hint="remove that line")
    return [
        (f"{file}:{line}", row[0] if len(row) == 1 else tuple(row))
        for line, row in zip(lines, rows, strict=True)
    ]
