"""A text as a Transformer reads it: one row of its inputs, and its tokens as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from descent.data.pairs import source_ids
from descent.errors import UserError
from descent.explain.text_tokens import label, together
from descent.generation.protocol import device_of
from descent.generation.settings import Settings
from descent.generation.translate import translate
from descent.nn.attention import Attention
from descent.objectives.objective import Batch

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded
    from descent.text.tokenizer import Tokenizer

__all__ = ["MOST_WRITTEN", "Reading", "Side", "is_encoder_decoder", "read_text", "side_of"]

MOST_WRITTEN = 128
"""Tokens that an encoder-decoder writes at most where no target is given."""


@dataclass(frozen=True)
class Side:
    """Tokens of one side.

    Attributes:
        ids: of the tokens.
        groups: the places of those that are read as one.
        pieces: how each group reads.
    """

    ids: tuple[int, ...]
    groups: tuple[range, ...]
    pieces: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """One row of a model's inputs.

    Attributes:
        inputs: by the names of `features`, where the model is.
        sides: "tokens", what a language model, BERT or a decoder reads; of encoder-decoders "source", and
            "written": what the decoder writes at each place of "tokens".
        text: what an encoder-decoder wrote, or was given as written.
    """

    inputs: Batch
    sides: dict[str, Side]
    text: str = ""


def read_text(
    loaded: Loaded, text: str, target: str | None = None, second: str | None = None
) -> tuple[nn.Module, Tokenizer, Reading]:
    """A text as the model was taught to read one.

    Args:
        loaded: a language model, a BERT or an encoder-decoder with a tokenizer.
        text: for a BERT with a head for hidden words, [MASK] in it is the mark.
        target: for an encoder-decoder what it is to have written; its own greedy output when not given.
        second: for BERT the second text of an example.

    Returns:
        The model, its tokenizer and the row.

    Raises:
        UserError: the model is no Transformer over text, the text is empty, or something given is of no use.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    if tokenizer is None or not _attends(model) or not hasattr(model, "features"):
        raise UserError(
            f"{loaded.name or 'this model'} is no Transformer that reads text",
            got=type(model).__name__,
            expected="a GPT, Llama, BERT, T5 or Transformer with its tokenizer",
        )
    if not text:
        raise UserError("there is no text to explain", expected="one character or more")
    crossed = is_encoder_decoder(model)
    if target is not None and not crossed:
        raise UserError("a target is for models that turn a text into another", got=type(model).__name__)
    if second is not None and (crossed or hasattr(model, "new_cache")):
        raise UserError("a second text is for a BERT", got=type(model).__name__)
    if crossed:
        return model, tokenizer, _of_pair(loaded, model, tokenizer, text, target)
    if hasattr(model, "new_cache"):
        start = list(loaded.preparation.get("start") or ()) if loaded.preparation.get("marked") else []
        return model, tokenizer, _row(model, tokenizer, {"tokens": [*start, *tokenizer.encode(text)]})
    return model, tokenizer, _of_bert(model, tokenizer, text, second)


def is_encoder_decoder(model: nn.Module) -> bool:
    return hasattr(model, "encode") and hasattr(model, "decode")


def side_of(tokenizer: Tokenizer, ids: Sequence[int]) -> Side:
    """Tokens with what of them is read as one."""
    groups = together(tokenizer, ids)
    pieces = tuple(label(tokenizer, [ids[place] for place in group]) for group in groups)
    return Side(tuple(ids), groups, pieces)


def _of_bert(model: Any, tokenizer: Tokenizer, text: str, second: str | None) -> Reading:
    """[CLS] text [SEP], or [CLS] text [SEP] second [SEP]."""
    marks = getattr(model, "masked", None) is not None
    sides = [_encoded(tokenizer, part, marks) for part in (text, second) if part is not None]
    parts = [[*ids, tokenizer.separator] for ids in sides]
    rows = {"tokens": [tokenizer.begin, *(index for part in parts for index in part)]}
    if second is not None and model.config.segments > 1:
        rows["segments"] = [0] * (1 + len(parts[0])) + [1] * len(parts[1])
    return _row(model, tokenizer, rows)


def _encoded(tokenizer: Tokenizer, text: str, marks: bool) -> list[int]:
    """The ids of a text in which the name of the mask, and no other mark's, stands for the mark."""
    mask = tokenizer.token(tokenizer.mask) if marks else None
    if mask is None or mask not in text:
        return tokenizer.encode(text)
    found: list[int] = []
    for number, part in enumerate(re.split(rf" ?{re.escape(mask)}", text)):
        found += [tokenizer.mask] * (number > 0) + (tokenizer.encode(part) if part else [])
    return found


def _of_pair(
    loaded: Loaded, model: nn.Module, tokenizer: Tokenizer, text: str, target: str | None
) -> Reading:
    begun = list(loaded.preparation.get("start") or ()) or [tokenizer.pad]
    if target is None:
        settings = Settings(temperature=0.0, max_new_tokens=MOST_WRITTEN)
        (done,) = translate(model, [text], tokenizer, settings, start=begun)
        ids, ended = list(done.tokens), done.reason == "stop"
    else:
        ids, ended = tokenizer.encode(target), True
    ids = [*begun, *ids, *[tokenizer.end] * ended]
    rows = {"source": source_ids(text, tokenizer), "tokens": ids[:-1]}
    if not rows["tokens"]:
        raise UserError("the model wrote nothing to explain", hint="give a target")
    reading = _row(model, tokenizer, rows)
    tokens, written = reading.sides["tokens"], side_of(tokenizer, ids[1:])
    if tokens.ids[0] == begun[0]:
        tokens = Side(tokens.ids, tokens.groups, ("start", *tokens.pieces[1:]))
    return Reading(
        reading.inputs,
        {**reading.sides, "tokens": tokens, "written": written},
        tokenizer.decode(ids[len(begun) :]) if target is None else target,
    )


def _row(model: nn.Module, tokenizer: Tokenizer, rows: dict[str, list[int]]) -> Reading:
    device = device_of(model)
    inputs = {name: torch.tensor([ids], device=device) for name, ids in rows.items()}
    sides = {name: side_of(tokenizer, ids) for name, ids in rows.items() if name != "segments"}
    return Reading(inputs, sides)


def _attends(model: nn.Module) -> bool:
    return any(isinstance(module, Attention) for module in model.modules())
