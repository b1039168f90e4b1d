"""What a BERT puts in the place of hidden words, and how it expects each word of a text.

Legend: N rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.probes import at_rest
from descent.explain.text_reading import read_text
from descent.explain.text_tokens import label

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded

__all__ = ["HiddenWord", "PseudoLikelihood", "masked_words", "pseudo_likelihood"]

AT_ONCE = 2**20
"""Logits of a batch, about."""


@dataclass(frozen=True)
class HiddenWord:
    """What may stand in the place of one mark.

    Attributes:
        place: which of the shown tokens the mark is.
        words: the likeliest tokens, as they read.
        probabilities: of each.
        ids: of each.
    """

    place: int
    words: tuple[str, ...]
    probabilities: tuple[float, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True)
class PseudoLikelihood:
    """How a model expects the tokens of a text from all the others.

    Attributes:
        pieces: the tokens as they read.
        log_probabilities: of each where it alone is hidden, natural; of one of several tokens the sum.
        total: of all.
        perplexity: exp(-total / tokens).
    """

    pieces: tuple[str, ...]
    log_probabilities: tuple[float, ...]
    total: float
    perplexity: float


def masked_words(loaded: Loaded, text: str, second: str | None = None, *, top: int = 5) -> list[HiddenWord]:
    """The likeliest tokens behind every [MASK] of a text, with their probabilities.

    Args:
        loaded: a BERT with a head for hidden words.
        text, second: one text or two, with at least one mark.
        top: how many tokens to give for each.

    Raises:
        UserError: the model has no such head, or the text no mark.
    """
    model, tokenizer, reading = read_text(loaded, text, None, second)
    _check(model)
    side, mask = reading.sides["tokens"], tokenizer.mask
    if top < 1:
        raise UserError("top", got=top, expected="1 or more")
    places = [place for place, index in enumerate(side.ids) if index == mask]
    if not places:
        name = tokenizer.token(mask)
        raise UserError("no word of the text is hidden", hint=f"write {name} in place of one")
    with at_rest(model), torch.no_grad():
        logits_KV = model.unembed(model.features(**reading.inputs)[0, places])  # type: ignore[operator]
    best = logits_KV.float().softmax(-1).topk(min(top, logits_KV.shape[-1]))
    shown = {place: number for number, group in enumerate(side.groups) for place in group}
    return [
        HiddenWord(
            shown[place],
            tuple(label(tokenizer, [index]) for index in ids),
            tuple(shares),
            tuple(ids),
        )
        for place, shares, ids in zip(places, best.values.tolist(), best.indices.tolist(), strict=True)
    ]


def pseudo_likelihood(loaded: Loaded, text: str, second: str | None = None) -> PseudoLikelihood:
    """The probability of each token of a text where it alone is hidden: a mark a pass of the model.

    Salazar, Liang, Nguyen, Kirchhoff (2020), "Masked Language Model Scoring", section 2.1.

    Args:
        loaded, second: see `masked_words`.
        text: without marks.
    """
    model, tokenizer, reading = read_text(loaded, text, None, second)
    _check(model)
    side, mask = reading.sides["tokens"], tokenizer.mask
    places = [place for place, index in enumerate(side.ids) if index not in tokenizer.special]
    if not places:
        raise UserError("there is no word to hide", got=text)
    found = torch.zeros(len(side.ids))
    rows = max(1, AT_ONCE // (len(side.ids) * model.config.dim))  # type: ignore[union-attr]
    for start in range(0, len(places), rows):
        part = places[start : start + rows]
        found[part] = _expected(model, reading.inputs, part, mask)
    sums = tuple(float(found[group.start : group.stop].sum()) for group in side.groups)
    total = sum(sums)
    return PseudoLikelihood(side.pieces, sums, total, float(torch.tensor(-total / len(places)).exp()))


def _expected(model: Any, inputs: dict[str, Tensor], places: list[int], mask: int) -> Tensor:
    """The log-probabilities of the tokens at some places, each hidden in a row of its own."""
    rows = {name: ids.expand(len(places), -1).clone() for name, ids in inputs.items()}
    turn, column = torch.arange(len(places)), torch.tensor(places)
    true = rows["tokens"][turn, column]
    rows["tokens"][turn, column] = mask
    with at_rest(model), torch.no_grad():
        logits_NV = model.unembed(model.features(**rows)[turn, column])
    return logits_NV.float().log_softmax(-1).gather(1, true[:, None])[:, 0].cpu()


def _check(model: nn.Module) -> None:
    if getattr(model, "masked", None) is None:
        raise UserError(
            "this model has no head for hidden words",
            got=type(model).__name__,
            expected="a BERT with model.head=masked or pretraining",
        )
