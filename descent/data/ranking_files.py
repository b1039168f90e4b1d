"""Documents, queries and judgements read from files: the user's own, and Cranfield's.

Policy for files: as for every text (UTF-8, see `textfiles`). Only a line feed ends a line; empty lines are
none. A first line that holds names of columns is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from descent.data.textfiles import read_text
from descent.errors import UserError, nearest

__all__ = ["Collection", "cranfield", "read_collection"]

SHOWN = 60
_HEADS = frozenset({"id", "_id", "docid", "doc_id", "qid", "query_id", "query-id"})


@dataclass
class Collection:
    """What is searched, what is asked, and what is right.

    Attributes:
        documents: text by name.
        queries: likewise.
        judged: for each query the grade of every judged document; 1 or more is relevant.
    """

    documents: dict[str, str]
    queries: dict[str, str]
    judged: dict[str, dict[str, int]] = field(default_factory=dict)


def read_collection(path: str) -> Collection:
    """The collection in a folder (see `RankingData.path`).

    Raises:
        UserError: a file that is not there or no text, a name twice, an empty query, a judgement of what is
            not there; the message says where.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise UserError("there is no such folder", got=path, expected="one with corpus, queries and qrels")
    found = Collection(_texts(_file(folder, "corpus")), _texts(_file(folder, "queries")))
    empty = next((name for name, text in found.queries.items() if not text), None)
    if empty is not None:
        raise UserError(f"{_file(folder, 'queries')}: the query {empty} is empty", expected="a text")
    file = _file(folder, "qrels", (".tsv", ".txt", ".qrels"))
    for where, (query, document, grade) in _judgements(file):
        for name, known, noun, other in (
            (query, found.queries, "query", "queries"),
            (document, found.documents, "document", "corpus"),
        ):
            if name not in known:
                near = nearest(name, known) if len(known) < 100_000 else None
                hint = f"did you mean {near!r}?" if near else None
                raise UserError(f"{where}: there is no {noun} of that name in {other}", got=name, hint=hint)
        held = found.judged.setdefault(query, {})
        if held.setdefault(document, grade) != grade:
            raise UserError(f"{where}: {document} has another grade for {query} above", got=grade)
    return found


def _file(folder: Path, name: str, suffixes: tuple[str, ...] = (".tsv", ".jsonl")) -> Path:
    found = [folder / f"{name}{suffix}" for suffix in suffixes if (folder / f"{name}{suffix}").is_file()]
    if len(found) != 1:
        what = f"there is no file {name}" if not found else f"there are two files {name}"
        raise UserError(
            f"{folder}: {what}",
            got=", ".join(sorted(item.name for item in folder.iterdir())[:12]) or "an empty folder",
            expected=" or ".join(f"{name}{suffix}" for suffix in suffixes),
        )
    return found[0]


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """Every line that is not empty, with its place."""
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            yield f"{file}, line {number:,}", line.removesuffix("\r")


def _texts(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    read = _json_record if file.suffix == ".jsonl" else _tab_record
    for turn, (where, line) in enumerate(_lines(file)):
        name, text = read(line, where)
        if file.suffix == ".tsv" and not turn and name.lower() in _HEADS:
            continue
        if not name:
            raise UserError(f"{where}: the name is empty", got=line[:SHOWN])
        if name in found:
            raise UserError(f"{where}: this name was there before", got=name)
        found[name] = text.strip()
    if not found:
        raise UserError(f"{file} is empty", expected="a name and a text a line")
    return found


def _tab_record(line: str, where: str) -> tuple[str, str]:
    name, tab, text = line.partition("\t")
    if not tab:
        raise UserError(f"{where}: no tab", got=line[:SHOWN], expected="a name, a tab and a text")
    return name.strip(), text.replace("\t", " ")


def _json_record(line: str, where: str) -> tuple[str, str]:
    try:
        record: Any = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not JSON: {getattr(error, 'msg', error)}", got=line[:SHOWN]) from None
    wanted = '{"id": "7", "text": "..."}'
    if not isinstance(record, dict):
        raise UserError(f"{where}: not an object", got=record, expected=wanted)
    key = "id" if "id" in record else "_id"
    for needed in (key, "text"):
        if needed not in record:
            shown = "id" if needed == "_id" else needed
            raise UserError(f'{where}: there is no "{shown}"', got=", ".join(record), expected=wanted)
    name, text, title = record[key], record["text"], record.get("title") or ""
    if not isinstance(text, str) or not isinstance(title, str):
        raise UserError(f"{where}: the text is no text", got=text, expected=wanted)
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise UserError(f"{where}: the name is neither text nor number", got=name, expected=wanted)
    whole = f"{title}\n{text}" if title else text
    try:
        whole.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError(f"{where}: half of a surrogate pair, which no text holds", got=text[:SHOWN]) from None
    return str(name).strip(), whole


def _judgements(file: Path) -> Iterator[tuple[str, tuple[str, str, int]]]:
    seen = False
    for turn, (where, line) in enumerate(_lines(file)):
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        grade = cells[-1]
        whole = re.fullmatch(r"[-+]?\d{1,9}", grade)
        if len(cells) not in (3, 4) or (whole is None and turn):
            raise UserError(
                f"{where}: no judgement",
                got=line[:SHOWN],
                expected="query, document and a whole number, with tabs between them; or TREC's query, 0, "
                "document, number",
            )
        if whole is not None:
            seen = True
            yield where, (cells[0], cells[-2], int(grade))
    if not seen:
        raise UserError(f"{file} holds no judgements", expected="query, document, grade a line")


def cranfield(files: list[Path]) -> Collection:
    """The Cranfield collection.

    Its queries have numbers with gaps, but are judged by their places, 1 to 225. Its codes run from 1, "a
    complete answer", over 2 and 3 to 4, "minimum interest" (cranqrel.readme, after Cleverdon): code c becomes
    the grade 5 - c, so 4, 3, 2, 1. The code -1 stands once a query and is explained nowhere; neighbouring
    queries share the document, and words of the query fill it, so it seems to be the paper that the question
    was asked from. It stays -1: not relevant, as trec_eval counts it, but no example of a wrong one either.
    A document is its title and its abstract; most abstracts begin with the title, which then stands once.
    """
    held = {file.name: read_text(file) for file in files}
    documents = {name: _abstract(fields) for name, fields in _marked(held["cran.all.1400"])}
    asked = enumerate(_marked(held["cran.qry"]), 1)
    found = Collection(documents, {str(place): fields.get("W", "") for place, (_, fields) in asked})
    for line in held["cranqrel"].split("\n"):
        if line.strip():
            query, document, code = line.split()
            found.judged.setdefault(query, {})[document] = 5 - int(code) if int(code) > 0 else -1
    return found


def _abstract(fields: dict[str, str]) -> str:
    title, text = fields.get("T", ""), fields.get("W", "")
    return text if text.startswith(title) else f"{title} {text}".strip()


def _marked(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The records of SMART's format: a number after .I, then fields that a dot and a letter begin."""
    for record in re.split(r"^\.I", text, flags=re.MULTILINE)[1:]:
        name, _, rest = record.partition("\n")
        parts = re.split(r"^\.([A-Z])\s*?$", rest, flags=re.MULTILINE)[1:]
        yield (
            name.strip(),
            {key: " ".join(value.split()) for key, value in zip(parts[::2], parts[1::2], strict=True)},
        )
