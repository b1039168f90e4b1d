"""The named texts, from their files to documents by split."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from descent.data import embedded
from descent.data.formats import gunzip
from descent.data.textfiles import MAX_BYTES, read_text

__all__ = ["TEXTS", "articles"]

Parsed = dict[str, list[str]]
"""Documents by split, or all of them by "all". Where "validation" is lacking it is taken from "train"."""


def _tinyshakespeare(files: list[Path]) -> Parsed:
    text = read_text(files[0])
    cut = len(text) * 9 // 10
    return {"train": [text[:cut]], "validation": [text[cut:]]}


def _lines(files: list[Path]) -> Parsed:
    return {"all": [line for line in read_text(files[0]).split("\n") if line]}


def _poems(files: list[Path]) -> Parsed:
    poems = [poem for file in files for poem in json.loads(read_text(file))]
    return {"all": [text for poem in poems if (text := _poem(poem))]}


def _poem(poem: dict) -> str:
    lines = [line.strip() for line in poem["paragraphs"] if line.strip()]
    title = (poem.get("title") or poem.get("rhythmic") or "").strip()
    return "\n".join([title, poem["author"].strip(), *lines]) + "\n" if lines else ""


def _wikitext(files: list[Path]) -> Parsed:
    return {"train": articles(read_text(files[0])), "test": articles(read_text(files[1]))}


def _wikitext_all(files: list[Path]) -> Parsed:
    return {"all": [article for file in files for article in articles(read_text(file))]}


def _zipped_lines(files: list[Path]) -> Parsed:
    return {"train": [line for line in gunzip(files[0], MAX_BYTES).decode("utf-8").split("\n") if line]}


def _questions(files: list[Path]) -> Parsed:
    return {"train": [json.loads(line)["question"] for line in read_text(files[0]).split("\n") if line]}


def _tasks(files: list[Path]) -> Parsed:
    """Instructions with what they are about and what answers them, from lists of JSON or lines of it."""
    found: list[str] = []
    for file in files:
        text = read_text(file)
        tasks = json.loads(text) if file.suffix == ".json" else map(json.loads, text.strip().split("\n"))
        for task in tasks:
            for case in task.get("instances", [task]):
                parts = (task["instruction"], case["input"], case["output"])
                found.append("\n".join(part.strip() for part in parts if part.strip()) + "\n")
    return {"all": found}


def articles(text: str) -> list[str]:
    """The articles of a WikiText file; each begins at a heading of the first level, ` = Title = `.

    Joined, they are the text again.
    """
    starts = [match.start() for match in re.finditer(r"^ = (?!=)[^\n]*(?<!=) = $", text, re.MULTILINE)]
    starts = [0, *starts[1:]] if starts else [0]
    return [text[start:end] for start, end in zip(starts, [*starts[1:], len(text)], strict=True)]


TEXTS: dict[str, Callable[[list[Path]], Parsed]] = {
    "tinyshakespeare": _tinyshakespeare,
    "lines": _lines,
    "poems": _poems,
    "wikitext": _wikitext,
    "wikitext-all": _wikitext_all,
    "zipped-lines": _zipped_lines,
    "gsm8k-questions": _questions,
    "instructions": _tasks,
    "python-docs": lambda files: {"all": embedded.python_docs()},
    "python-source": lambda files: {"all": embedded.python_source()},
}
