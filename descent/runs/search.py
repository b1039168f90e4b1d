"""Nearest neighbours of a text among the texts of a file: exact, by cosine.

The vectors of a file are kept beside the model, in `vectors/`, under a name made of the SHA-256 of the texts
and of all that their vectors depend on: a changed file, model or tokenizer makes new ones. What is kept is
checked before it is used, and made anew if it is not sound.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from descent.data.sentence_files import KNOWN, text_columns
from descent.data.textrows import TextRows, read_rows, rows_of_text
from descent.errors import CorruptArtifact, UserError
from descent.runs.loaded import Loaded
from descent.runs.vectors import as_bert, longest_text
from descent.training.state import hash_tensors
from descent.weights import safetensors_file

__all__ = ["FOLDER", "Found", "Texts", "file_vectors", "nearest", "read_file", "search"]

FOLDER = "vectors"
_FORM = "1"
"""Of what is kept; another form, other files."""
_PLAIN = (".txt", ".text", ".md", "")


@dataclass(frozen=True)
class Texts:
    """The texts of a file that are not empty.

    Attributes:
        texts: in their order.
        lines: where each stands (in a `.json` file its number).
        empty: rows that were left out, as their text is empty.
    """

    texts: list[str]
    lines: list[int]
    empty: int = 0


@dataclass(frozen=True)
class Found:
    """A text that is near.

    Attributes:
        score: the cosine of the angle between the two vectors, from -1 to 1.
        line: where it stands in its file.
        text: itself.
    """

    score: float
    line: int
    text: str


def read_file(file: str | Path, column: str = "") -> Texts:
    """The texts of a file: of a `.txt` file its lines, of CSV, tabs and JSON a column.

    Args:
        file: what is searched.
        column: the column of the text; empty = the only one, or found by its name (text, sentence, ...).

    Raises:
        UserError: there is no such file or column, or no text.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path} is not a file", expected="a .txt file with a text a line, or CSV or JSON")
    if path.suffix.lower() in _PLAIN:
        if column:
            raise UserError(f"{path} has no columns", got=column, hint="leave out --column")
        rows = rows_of_text(path)
        cells = ["\t".join(row) for row in rows.cells]
    else:
        rows = read_rows(path, (*KNOWN, *([column.lower()] if column else [])), header=bool(column))
        place = _place(rows, column)
        cells = [row[place] for row in rows.cells]
    kept = [(text.strip(), line) for text, line in zip(cells, rows.lines, strict=True) if text.strip()]
    if not kept:
        raise UserError(f"{path}: every text is empty", expected="at least one text")
    return Texts([text for text, _ in kept], [line for _, line in kept], len(cells) - len(kept))


def _place(rows: TextRows, column: str) -> int:
    """The number of the column of the texts."""
    if column:
        return rows.place(column, "--column")
    if len(rows.cells[0]) == 1:
        return 0
    named = text_columns(rows.header or ())
    if len(named) != 1:
        raise UserError(
            f"{rows.file}: which column holds the texts?",
            got=", ".join(rows.header or (f"{len(rows.cells[0])} columns without names",)),
            hint="name it with --column" if rows.header else "give a first line of column names",
        )
    return (rows.header or ()).index(named[0])


def search(
    loaded: Loaded, file: str | Path, query: str, top: int = 5, column: str = "", keep: bool = True
) -> list[Found]:
    """The texts of a file whose vectors are nearest to a query's, the nearest first.

    Args:
        loaded: a BERT; one trained on texts that mean alike finds more than one that only read.
        file, column: see `read_file`.
        query: the text they are compared with.
        top: how many.
        keep: whether the vectors are kept beside the model for the next time.
    """
    texts = read_file(file, column)
    return nearest(file_vectors(loaded, texts, keep), texts, loaded.embed([query])[0], top)


def nearest(
    vectors: Float[Tensor, "texts dim"], texts: Texts, query: Float[Tensor, " dim"], top: int
) -> list[Found]:
    """The nearest texts; of equally near ones the first in the file first."""
    cosines, order = (vectors @ query).sort(descending=True, stable=True)
    chosen = zip(cosines[:top].tolist(), order[:top].tolist(), strict=True)
    return [Found(cosine, texts.lines[place], texts.texts[place]) for cosine, place in chosen]


def file_vectors(loaded: Loaded, texts: Texts, keep: bool = True) -> Float[Tensor, "texts dim"]:
    """The vectors of a file's texts, those kept from the last time where nothing has changed.

    Args:
        loaded: a BERT.
        texts: of the file.
        keep: whether to look for kept ones, and to keep new ones.
    """
    dim, place = as_bert(loaded.model, loaded.name).config.dim, Path(loaded.name)
    if not keep or not place.is_dir():
        return loaded.embed(texts.texts)
    told = _key(loaded, texts.texts)
    kept = place / FOLDER / f"{told['texts'][:16]}-{told['model'][:16]}.safetensors"
    found = _kept(kept, told, (len(texts.texts), dim))
    if found is None:
        found = loaded.embed(texts.texts)
        _keep(kept, found, told)
    return found


def _key(loaded: Loaded, texts: Sequence[str]) -> dict[str, str]:
    """What vectors are a function of, as hashes."""
    content = hashlib.sha256()
    for text in texts:
        held = text.encode("utf-8")
        content.update(len(held).to_bytes(8, "little") + held)
    model = hashlib.sha256(loaded.config.model_dump_json().encode())
    assert loaded.tokenizer is not None
    length = longest_text(as_bert(loaded.model), loaded.preparation)
    model.update(f"{_FORM} {length} {loaded.tokenizer.fingerprint}".encode())
    hash_tensors(model, "model", loaded.model.state_dict())
    return {"texts": content.hexdigest(), "model": model.hexdigest()}


def _kept(path: Path, told: dict[str, str], shape: tuple[int, int]) -> Tensor | None:
    """The vectors of an earlier time, if they are there and sound."""
    if not path.is_file():
        return None
    try:
        about = safetensors_file.read_header(path).get("__metadata__", {})
        vectors = safetensors_file.read(path).get("vectors")
    except (CorruptArtifact, UserError):
        return None
    if vectors is None or about != {**told, "sha256": _digest(vectors)}:
        return None
    return vectors if vectors.dtype == torch.float32 and tuple(vectors.shape) == shape else None


def _keep(path: Path, vectors: Tensor, told: dict[str, str]) -> None:
    """Writes vectors for the next time; a folder that cannot be written is left as it is."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(exist_ok=True)
        part.unlink(missing_ok=True)
        safetensors_file.write(part, {"vectors": vectors}, {**told, "sha256": _digest(vectors)})
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)


def _digest(vectors: Tensor) -> str:
    return hashlib.sha256(safetensors_file.raw_bytes(vectors)).hexdigest()
