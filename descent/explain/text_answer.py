"""The answer of a Transformer over text that is explained: a class, a token, a span; and its score.

Legend: N rows, T tokens, V outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError, unknown
from descent.explain.probes import at_rest
from descent.explain.text_reading import Reading, is_encoder_decoder
from descent.explain.text_tokens import label

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded
    from descent.text.tokenizer import Tokenizer

__all__ = ["Answer", "answer_of", "single_token"]

Score = Callable[[Any, Mapping[str, Tensor]], Float[Tensor, " rows"]]


@dataclass(frozen=True)
class Answer:
    """An answer of a model to one text.

    Attributes:
        label: in words.
        probability: of it, among all answers.
        place: the token at which the model gives it; of a span its first.
        score: (model, inputs) -> the answer's logit, a row each; of a span the sum of those of its ends.
    """

    label: str
    probability: float
    place: int
    score: Score


def answer_of(
    loaded: Loaded,
    tokenizer: Tokenizer,
    reading: Reading,
    position: int | None = None,
    wanted: str | None = None,
) -> Answer:
    """The answer that a model gives to a text, or another one it could give.

    Args:
        loaded, tokenizer, reading: see `read_text`.
        position: number of the shown token that answers: of a language model the one after which it goes on,
            the last by default; of hidden words the first mark; of names the surest that is one; of an
            encoder-decoder which of the written tokens, the first by default. Classes and spans have none.
        wanted: the name or number of a class, or one token; by default what the model answers, of an
            encoder-decoder what is written.

    Raises:
        UserError: the model answers nothing that can be explained, or there is no such answer or position.
    """
    model = loaded.model
    head = _head_of(model, reading, tokenizer)
    if head in ("classes", "next", "span") and position is not None:
        raise UserError("this model answers once a text, so there is no row to choose")
    with at_rest(model), torch.no_grad():
        hidden = _features(model, reading.inputs)
        if head == "span":
            return _span(model, tokenizer, reading, model.answer(hidden)[0], wanted)  # type: ignore[operator]
        if head == "tokens":
            outputs = model.answer(hidden)[0]  # type: ignore[operator]
            place = _name_at(loaded, reading, outputs, position)
        else:
            place = 0 if head in ("classes", "next") else _place(reading, tokenizer, head, position)
            outputs = _outputs(model, hidden, head, place)[0]
    outputs = outputs[place] if head == "tokens" else outputs
    binary = len(outputs) == 1
    logits = torch.stack([-outputs[0], outputs[0]]) / 2 if binary else outputs
    number = _number(loaded, tokenizer, reading, head, place, wanted)
    number = int(logits.argmax()) if number is None else number
    if not 0 <= number < len(logits):
        raise UserError("there is no such answer", got=number, expected=f"0 to {len(logits) - 1}")

    def score(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        found = _outputs(model, _features(model, inputs), head, place).float()
        return found[:, 0] * (2 * number - 1) if binary else found[:, number]

    name = _label(loaded, tokenizer, head, number)
    return Answer(name, float(logits.float().softmax(0)[number]), place, score)


def single_token(tokenizer: Tokenizer, word: str) -> int:
    """The id of a word that is one token, with a blank before it or without."""
    found = [tokenizer.encode(form) for form in (word, f" {word}")]
    if word in tokenizer.marks.special:
        return tokenizer.marks.special[word]
    single = next((ids for ids in found if len(ids) == 1), None)
    if single is None:
        raise UserError("this is not one token", got=word, expected=f"one, and this is {len(found[0])}")
    return single[0]


def _head_of(model: nn.Module, reading: Reading, tokenizer: Tokenizer) -> str:
    """What kind of answer the model gives: "written", "follows on", or the name of BERT's head."""
    if is_encoder_decoder(model):
        return "written"
    if hasattr(model, "new_cache"):
        return "goes on"
    head = str(getattr(model.config, "head", "none"))
    if head == "pretraining":
        mask = tokenizer.marks.find("mask")
        return "masked" if mask in reading.sides["tokens"].ids else "next"
    if head not in ("masked", "next", "classes", "tokens", "span"):
        raise UserError("this BERT answers nothing that could be explained", got=f"model.head={head}")
    return head


def _features(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
    return model.features(**inputs)


def _outputs(model: Any, hidden: Tensor, head: str, place: int) -> Float[Tensor, "rows outputs"]:
    if head in ("written", "goes on", "masked"):
        return model.unembed(hidden[:, place])
    if head == "tokens":
        return model.answer(hidden)[:, place]
    return model.follows(hidden) if head == "next" else model.answer(hidden)


def _place(reading: Reading, tokenizer: Tokenizer, head: str, position: int | None) -> int:
    """The token at which an answer stands."""
    side = reading.sides["written" if head == "written" else "tokens"]
    if head == "masked" and position is None:
        mask = tokenizer.mask
        if mask not in side.ids:
            raise UserError(
                "no word of the text is hidden", hint=f"write {tokenizer.token(mask)} in place of one"
            )
        return side.ids.index(mask)
    if position is None:
        return 0 if head == "written" else len(side.ids) - 1
    if not 0 <= position < len(side.groups):
        raise UserError("there is no such row", got=position, expected=f"0 to {len(side.groups) - 1}")
    group = side.groups[position]
    return group.start if head == "written" else group.stop - 1


def _name_at(loaded: Loaded, reading: Reading, outputs: Tensor, position: int | None) -> int:
    """The token of a name: the asked one, else the surest that is no O and no mark."""
    side = reading.sides["tokens"]
    if position is not None:
        if not 0 <= position < len(side.groups):
            raise UserError("there is no such row", got=position, expected=f"0 to {len(side.groups) - 1}")
        return side.groups[position].start
    shares = outputs.float().softmax(-1)[1:-1]
    labels = loaded.labels or tuple(loaded.preparation.get("labels", ()))
    others = [number for number, name in enumerate(labels) if name != "O"] or list(range(outputs.shape[-1]))
    return 1 + int(shares[:, others].amax(-1).argmax())


def _number(
    loaded: Loaded, tokenizer: Tokenizer, reading: Reading, head: str, place: int, wanted: str | None
) -> int | None:
    if wanted is None:
        return reading.sides["written"].ids[place] if head == "written" else None
    if head in ("written", "goes on", "masked"):
        return single_token(tokenizer, wanted)
    names = _names(loaded, head)
    if wanted in names:
        return names.index(wanted)
    if wanted.isascii() and wanted.isdigit():
        return int(wanted)
    raise unknown("class", wanted, names)


def _names(loaded: Loaded, head: str) -> tuple[str, ...]:
    if head == "next":
        return ("follows", "does not follow")
    return tuple(loaded.labels or loaded.preparation.get("labels", ()))


def _label(loaded: Loaded, tokenizer: Tokenizer, head: str, number: int) -> str:
    if head in ("written", "goes on", "masked"):
        return label(tokenizer, [number])
    names = _names(loaded, head)
    return names[number] if number < len(names) else str(number)


def _span(
    model: Any, tokenizer: Tokenizer, reading: Reading, outputs: Float[Tensor, "time 2"], wanted: str | None
) -> Answer:
    """The surest span inside the second text, or where there is one, the first."""
    if wanted is not None:
        raise UserError("a span has no class to choose", got=wanted)
    ids = reading.sides["tokens"].ids
    marks = [place for place, index in enumerate(ids) if index == tokenizer.separator]
    first = marks[-2] + 1 if len(marks) > 1 else 1
    starts, ends = outputs.float().log_softmax(0)[first : marks[-1]].T
    sums = (starts[:, None] + ends[None]).masked_fill(
        torch.ones(len(starts), len(ends), dtype=torch.bool, device=starts.device).tril(-1), float("-inf")
    )
    best = int(sums.argmax())
    start, end = first + best // len(ends), first + best % len(ends)

    def score(model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        found = model.answer(_features(model, inputs)).float()
        return found[:, start, 0] + found[:, end, 1]

    text = label(tokenizer, list(ids[start : end + 1]))
    return Answer(text, float(sums.max().exp()), start, score)
