"""What models of labelled texts say of new ones: the class of a text or of two, the names in a text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from descent.data.chunks import chunks
from descent.data.dataset import IGNORED, Batch
from descent.data.entities import entity_rows
from descent.data.rows import Row, lay_out
from descent.data.sentences import sentence_rows
from descent.errors import UserError
from descent.objectives.objective import model_inputs
from descent.text import Tokenizer

__all__ = ["TEXT_KINDS", "text_answers", "words_of"]

TEXT_KINDS = ("sentences", "entities")
"""Kinds of data whose examples are texts with a label."""
AT_ONCE = 64
"""Texts of a batch."""
_WORD = re.compile(r"https?://\S+|www\.\S+|[@#]?\w+(?:[-'’.&]\w+)*|\S")

Answer = dict[str, Any]
Item = TypeVar("Item")


def text_answers(
    model: nn.Module,
    tokenizer: Tokenizer,
    preparation: Mapping[str, Any],
    inputs: Sequence[Any],
    say: Callable[[Tensor], Answer],
) -> Iterator[Answer | UserError]:
    """For each input, in order, what the model says of it, or what is wrong with it.

    Args:
        model: in evaluation mode.
        tokenizer, preparation: as in training.
        inputs: see `Loaded.predict`.
        say: what the outputs of a classifier for one text mean.
    """
    answer = _classes if preparation["kind"] == "sentences" else _names
    for start in range(0, len(inputs), AT_ONCE):
        yield from answer(model, tokenizer, preparation, inputs[start : start + AT_ONCE], say)


def _classes(
    model: nn.Module,
    tokenizer: Tokenizer,
    preparation: Mapping[str, Any],
    inputs: Sequence[Any],
    say: Callable[[Tensor], Answer],
) -> Iterator[Answer | UserError]:
    sides = [_tried(lambda item: _sides(item, preparation), item) for item in inputs]
    good = [one for one in sides if not isinstance(one, UserError)]
    outputs: Iterator[Tensor] = iter(())
    if good:
        rows, _ = sentence_rows(good, tokenizer, preparation["length"])
        for row in rows:
            row["answer"] = np.zeros((), dtype=np.int64)
        outputs = iter(_outputs(model, rows, tokenizer, preparation["length"])[0])
    for one in sides:
        yield one if isinstance(one, UserError) else say(next(outputs))


def _names(
    model: nn.Module,
    tokenizer: Tokenizer,
    preparation: Mapping[str, Any],
    inputs: Sequence[Any],
    say: Callable[[Tensor], Answer],
) -> Iterator[Answer | UserError]:
    joiner, labels = preparation["joiner"], preparation["labels"]
    texts = [_tried(lambda item: _words(item, joiner), item) for item in inputs]
    good = [one for one in texts if not isinstance(one, UserError)]
    tags: Iterator[str] = iter(())
    if good:
        found = entity_rows([words for words, _, _ in good], tokenizer, preparation["length"], joiner)
        rows = [row for parts in found for row in parts]
        outputs, _ = _outputs(model, rows, tokenizer, preparation["length"])
        tags = iter([labels[number] for number in outputs.argmax(-1).tolist()])
    for one in texts:
        yield one if isinstance(one, UserError) else _named(*one, [next(tags) for _ in one[0]])


def _named(words: list[str], places: list[tuple[int, int]], text: str, tags: list[str]) -> Answer:
    """The names that tags stand for, with their places in the text."""
    found = []
    for chunk in chunks(tags):
        start, end = places[chunk.start][0], places[chunk.end - 1][1]
        found.append({"type": chunk.type, "text": text[start:end], "start": start, "end": end})
    return {"words": words, "tags": tags, "entities": found}


def _outputs(model: nn.Module, rows: list[Row], tokenizer: Tokenizer, length: int) -> tuple[Tensor, Batch]:
    """The model's outputs where the rows ask for an answer, in their order."""
    batch = lay_out(rows, length, pad=tokenizer.pad, ordered=True)
    device = next(model.parameters()).device
    with torch.inference_mode():
        outputs = model(**{name: value.to(device) for name, value in model_inputs(batch).items()})
    return outputs.float().cpu()[batch["targets"] != IGNORED], batch


def _sides(item: Any, preparation: Mapping[str, Any]) -> tuple[str, ...]:
    """The text, or two, of an input."""
    count, columns = preparation["texts"], preparation["columns"]
    expected = "a text" if count == 1 else "two texts"
    if isinstance(item, Mapping):
        names = columns if all(name in item for name in columns) else ("text", "second")[:count]
        lacking = next((name for name in names if name not in item), None)
        if lacking is not None:
            raise UserError(
                f"there is no {lacking!r} in the row", got=sorted(map(str, item)), expected=", ".join(columns)
            )
        item = tuple(item[name] for name in names)
    sides = (item,) if isinstance(item, str) else item
    if not isinstance(sides, (list, tuple)) or not all(isinstance(side, str) for side in sides):
        raise UserError("the model reads texts", got=item, expected=expected)
    if len(sides) != count:
        raise UserError(
            "the model was trained on " + ("single texts" if count == 1 else "pairs of texts"),
            got=f"{len(sides)} text{'s' * (len(sides) != 1)}",
            expected=expected,
        )
    if not all(side.strip() for side in sides):
        raise UserError("the text is empty", expected=expected)
    return tuple(side.strip() for side in sides)


def _words(item: Any, joiner: str) -> tuple[list[str], list[tuple[int, int]], str]:
    """The words of an input, their places, and the text they are in."""
    if isinstance(item, Mapping) and isinstance(item.get("text"), str):
        item = item["text"]
    if isinstance(item, str):
        words, places = words_of(item, joiner)
        text = item
    elif isinstance(item, (list, tuple)) and all(isinstance(word, str) and word for word in item):
        words, text = list(item), joiner.join(item)
        ends = np.cumsum([len(word) + len(joiner) for word in words]) - len(joiner)
        places = [(int(end) - len(word), int(end)) for word, end in zip(words, ends, strict=True)]
    else:
        raise UserError("the model reads a text or a list of words", got=item)
    if not words:
        raise UserError("there is no word in the text", got=item)
    return words, places, text


def words_of(text: str, joiner: str) -> tuple[list[str], list[tuple[int, int]]]:
    """The words of a text and their places.

    Where words were joined by nothing, every character is one; else words are what blanks set apart, signs
    before and behind a word being words of their own.
    """
    pattern = _WORD if joiner else re.compile(r"\S")
    found = list(pattern.finditer(text))
    return [match[0] for match in found], [match.span() for match in found]


def _tried(use: Callable[[Any], Item], item: Any) -> Item | UserError:
    try:
        return use(item)
    except UserError as error:
        return error
