"""`descent predict` for models that find things: a question and a text, or a query; and how answers look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from descent.errors import UserError

__all__ = ["FINDING_KINDS", "answer_line", "read_findings"]

FINDING_KINDS = ("questions", "ranking")
"""The kinds of data whose models find a place in a text, or texts (known here without importing them)."""
WIDEST = 100


def read_findings(
    kind: str, files: Sequence[str], question: str | None, context: Path | None, query: str | None
) -> list[tuple[str, Any]]:
    """A name and a value for each input.

    Args:
        kind: of the data the model was trained on.
        files: for questions JSON as SQuAD has it, or rows with `question` and `context`; for queries rows
            with `query`, or a `.txt` file of a query a line.
        question, context: a question, and the file of the text to find its answer in.
        query: what documents are looked for.
    """
    wanted = "--question with --context FILE" if kind == "questions" else "--query"
    typed = [value for value in (question, context, query) if value is not None]
    if typed and files:
        raise UserError(f"{wanted} takes the place of a file", got=files[0])
    if kind == "questions" and typed:
        if question is None or context is None or query is not None:
            raise UserError("a question and the text it is asked of belong together", expected=wanted)
        return [("question", {"question": question, "context": _text(context)})]
    if typed:
        if query is None or len(typed) > 1:
            raise UserError("this model ranks documents by a query", expected=wanted)
        return [("query", query)]
    found = [one for name in files for one in _of_file(kind, Path(name))]
    if not found:
        raise UserError("nothing to predict", expected=f"a file, or {wanted}")
    return found


def _of_file(kind: str, file: Path) -> list[tuple[str, Any]]:
    if kind == "ranking" and file.suffix.lower() == ".txt":
        lines = enumerate(_text(file).split("\n"), 1)
        return [(f"{file}:{number}", line.strip()) for number, line in lines if line.strip()]
    from descent.cli.inputs import read_inputs

    rows = read_inputs([str(file)])
    first = rows[0][1]
    if isinstance(first, Path):
        forms = "JSON, JSON lines or CSV" + (" or .txt" if kind == "ranking" else "")
        raise UserError(f"{file} holds no rows", expected=forms)
    if kind == "questions" and "data" in first and len(rows) == 1:
        from descent.data.questions import read_squad

        asked = enumerate(read_squad(file), 1)
        return [(q.id or f"{file}:{n}", {"question": q.question, "context": q.context}) for n, q in asked]
    return rows


def _text(file: Path) -> str:
    if not file.is_file():
        raise UserError(f"{file} is not a file", expected="a text file")
    from descent.data.textfiles import read_text

    return read_text(file)


def answer_line(result: dict[str, Any], top: int) -> str:
    """What stands behind the input's name: an answer and its probability, or the best documents."""
    if "answer" in result:
        return f"{result['answer'] or '(none)'}  {100 * result['probability']:.1f}%"
    rows = [
        f"  {place}. {one['document']}  {one['score']:.3f}  (BM25 {one['bm25']:.2f})  {_short(one['text'])}"
        for place, one in enumerate(result["ranked"][:top], 1)
    ]
    return "\n".join(["", *rows])


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDEST else f"{line[:WIDEST]}..."
