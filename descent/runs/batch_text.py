"""A batch of text as text: what the model reads, and what it is to find there.

    row 1, text 2
      reads   [CLS]|the| river|[MASK]→ runs|[SEP]

Tokens stand between bars, marks by their names; behind an arrow is what is to be found at a token. Tokens
that are parts of one character are one, or bytes between angle brackets where they do not add up.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from descent.data import Batches, Dataset
from descent.data.dataset import IGNORED, Batch
from descent.errors import UserError
from descent.runs.assemble import load_data
from descent.runs.recipe import TOKENIZED, Recipe
from descent.runs.transfer import adopted, read_source
from descent.text import Tokenizer

__all__ = ["batch_text", "spelled"]

Facts = list[tuple[str, str]]
_ESCAPES = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def batch_text(recipe: Recipe, step: int = 0, rows: int = 64) -> str:
    """The first rows of a step's batch of text, packed, masked and drawn as in training.

    Args:
        recipe: one that trains on text of any form.
        step: whose batch; steps count from 0.
        rows: the most that are shown.

    Raises:
        UserError: the recipe trains on something else, or there is no such step.
    """
    if recipe.data.type not in TOKENIZED:
        raise UserError(f"{recipe.name} trains on no text", got=recipe.data.type)
    if step < 0 or rows < 1:
        raise UserError("no such batch", got=f"step {step}, {rows} rows", expected="step 0 or more")
    source = None if recipe.transfer is None else read_source(recipe.transfer.weights)
    recipe, given = (recipe, None) if source is None else (adopted(recipe, source), source.tokenizer)
    dataset, tokenizer = load_data(recipe, given, progress=sys.stderr.isatty())
    assert tokenizer is not None  # all data of this kind have one
    train = dataset.splits["train"]
    size = recipe.budget.batch_size or len(train)
    batch = Batches(train, size, recipe.seed).batch(step)
    count = len(batch["tokens"])
    widths = " and ".join(str(batch[name].shape[1]) for name in ("source", "tokens") if name in batch)
    facts = f"a batch of {size:,}, inputs of {count:,} x {widths} tokens"
    lines = [f"{recipe.name} on {dataset.name}, step {step:,}: {facts}"]
    for row in range(min(rows, count)):
        for number, facts in _VIEWS[recipe.data.type](_View(batch, row, dataset, tokenizer)):
            lines.append(f"\nrow {row + 1}" + (f", text {number + 1}" if "documents" in batch else ""))
            width = max(len(name) for name, _ in facts)
            lines += [f"  {name:<{width}}  {value}" for name, value in facts]
    return "\n".join(lines)


def spelled(tokenizer: Tokenizer, ids: Sequence[int], wanted: Mapping[int, str] | None = None) -> str:
    """Tokens between bars.

    Args:
        tokenizer: theirs.
        ids: the tokens.
        wanted: by places among the tokens, what is to be found there.
    """
    wanted = wanted or {}
    parts: list[str] = []
    held, note = b"", ""
    for place, index in enumerate(ids):
        mark = index in tokenizer.special
        raw = tokenizer.token(index).encode() if mark else tokenizer.token_bytes(index)
        if held and (mark or place in wanted or _begun(held + raw) is None):
            parts.append(f"<{held.hex(' ')}>{note}")
            held, note = b"", ""
        note = f"→{wanted[place]}" if place in wanted else note
        held += raw
        whole = _begun(held)
        if whole is None:
            parts.append(f"<{held.hex(' ')}>{note}")
        elif whole:
            parts.append("".join(_ESCAPES.get(sign, sign) for sign in held.decode()) + note)
        if whole is not False:
            held, note = b"", ""
    return "|".join([*parts, f"<{held.hex(' ')}>{note}"] if held else parts)


def _begun(raw: bytes) -> bool | None:
    """Whether bytes are whole characters; None if they are not even the beginning of any."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        decoder.decode(raw)
    except UnicodeDecodeError:
        return None
    return not decoder.getstate()[0]


class _View(NamedTuple):
    """A row of a batch, and what its numbers mean."""

    batch: Batch
    row: int
    dataset: Dataset
    tokenizer: Tokenizer

    def of(self, name: str) -> Tensor:
        return self.batch[name][self.row]

    def texts(self) -> Iterator[tuple[int, Tensor]]:
        """The number of each text of the row, and the places of its tokens; what fills the row is none."""
        tokens = self.of("tokens")
        numbers = self.of("documents") if "documents" in self.batch else torch.zeros_like(tokens)
        filled = tokens != self.tokenizer.pad
        if self.of("targets").shape == tokens.shape:
            filled |= self.of("targets") != IGNORED
        for number in numbers[filled].unique().tolist():
            yield number, (numbers == number).nonzero()[:, 0]

    def spelled(self, ids: Tensor, wanted: Mapping[int, str] | None = None) -> str:
        return spelled(self.tokenizer, ids.tolist(), wanted)

    def label(self, number: int) -> str:
        return (self.dataset.labels or ())[number]


Shown = Iterator[tuple[int, Facts]]
"""Of each text of a row its number and what is to be said of it."""


def _next(view: _View) -> Shown:
    """What follows each token of a language model."""
    for number, places in view.texts():
        targets = view.of("targets")[places]
        facts = [("reads", view.spelled(view.of("tokens")[places]))]
        yield number, [*facts, ("writes", view.spelled(targets[targets != IGNORED]))]


def _hidden(view: _View) -> Shown:
    """Masked tokens, each with what it was."""
    for number, places in view.texts():
        targets = view.of("targets")[places].tolist()
        wanted = {at: view.spelled(torch.tensor([one])) for at, one in enumerate(targets) if one != IGNORED}
        facts = [("reads", view.spelled(view.of("tokens")[places], wanted))]
        if "next_targets" in view.batch:
            told = ("follows the first", "is from another document")
            facts.append(("second", told[int(view.of("next_targets")[number])]))
        yield number, facts


def _written(view: _View) -> Shown:
    """A source, what the decoder reads, and what it is to write."""
    for number, places in view.texts():
        targets = view.of("targets")[places]
        given = targets != IGNORED
        if "source_documents" in view.batch:
            source = view.of("source")[view.of("source_documents") == number]
        else:
            source = view.of("source")[: int(view.of("source_lengths"))]
        if given.any():
            yield (
                number,
                [
                    ("source", view.spelled(source)),
                    ("reads", view.spelled(view.of("tokens")[places][given])),
                    ("writes", view.spelled(targets[given])),
                ],
            )


def _class(view: _View) -> Shown:
    for number, places in view.texts():
        label = view.label(int(view.of("targets")[number]))
        yield number, [("reads", view.spelled(view.of("tokens")[places])), ("class", label)]


def _tags(view: _View) -> Shown:
    """Words, each with its tag at its first token."""
    for number, places in view.texts():
        targets = view.of("targets")[places].tolist()
        wanted = {at: view.label(one) for at, one in enumerate(targets) if one != IGNORED}
        yield number, [("reads", view.spelled(view.of("tokens")[places], wanted))]


def _answer(view: _View) -> Shown:
    """A question and a window of a text, and the answer there, whose first token points to it."""
    for number, places in view.texts():
        tokens, first = view.of("tokens"), int(places[0])
        start, end = view.of("targets")[number].tolist()
        inside = start > first  # otherwise [CLS] stands for no answer
        reads = view.spelled(tokens[places], {start - first: "answer"} if inside else None)
        answer = view.spelled(tokens[start : end + 1]) if inside else "not in this window"
        yield number, [("reads", reads), ("answer", answer)]


def _graded(view: _View) -> Shown:
    """A query and a document, and whether it is the one of its group."""
    for number, places in view.texts():
        group, grade = view.of("targets")[number].tolist()
        grade = "relevant" if grade else "not relevant"
        yield number, [("reads", view.spelled(view.of("tokens")[places])), ("group", f"{group}: {grade}")]


def _paired(view: _View) -> Shown:
    """One text of a pair, and which pair that is."""
    for number, places in view.texts():
        pair, second = divmod(int(view.of("targets")[number][0]), 2)
        of = f"{pair}: its {'second' if second else 'first'} text"
        yield number, [("reads", view.spelled(view.of("tokens")[places])), ("pair", of)]


_VIEWS: dict[str, Callable[[_View], Shown]] = {
    "text": _next,
    "masked": _hidden,
    "spans": _written,
    "pairs": _written,
    "tasks": _written,
    "sentences": _class,
    "entities": _tags,
    "questions": _answer,
    "ranking": _graded,
    "similar": _paired,
}
