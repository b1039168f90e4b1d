"""Which tokens an answer hangs on: saliency, gradient times input, integrated gradients, by embedding.

Legend: N rows, T tokens of all sides one after another, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.gradient import integrated_gradients, saliency
from descent.explain.text_answer import Answer, answer_of
from descent.explain.text_reading import Reading, Side, read_text
from descent.explain.text_tokens import summed

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded

__all__ = ["TOKEN_METHODS", "TokenAttribution", "token_attribution"]

TokenMethod = Literal["saliency", "gradient-input", "integrated-gradients"]
TOKEN_METHODS: tuple[TokenMethod, ...] = ("saliency", "gradient-input", "integrated-gradients")


@dataclass(frozen=True)
class TokenAttribution:
    """What an answer hangs on, by token.

    Attributes:
        method: its name.
        pieces: by side, "tokens" and "source", the tokens as they read.
        values: by side, one number a token; signed but for saliency.
        answer: what is explained.
        residual: of integrated gradients: sum of all values minus the difference of the scores.
        points: of integrated gradients: gradients taken.
    """

    method: str
    pieces: dict[str, tuple[str, ...]]
    values: dict[str, Float[Tensor, " tokens"]]
    answer: Answer
    residual: float | None = None
    points: int | None = None


def token_attribution(
    loaded: Loaded,
    text: str,
    method: TokenMethod = "saliency",
    target: str | None = None,
    second: str | None = None,
    *,
    position: int | None = None,
    wanted: str | None = None,
    **options: Any,
) -> TokenAttribution:
    """What each token of a text has to do with one answer, from gradients by the embedded tokens.

    "saliency": the length of the gradient (Li, Chen, Hovy, Jurafsky, 2016, "Visualizing and Understanding
    Neural Models in NLP", section 5). "gradient-input": gradient times embedding, to first order what the
    token adds to the score. "integrated-gradients": parts of the difference between the score of the text and
    that of a text whose tokens, but for marks, are all hidden behind [MASK], or where the model has no such
    mark are the mean of all embeddings; see `gradient.integrated_gradients`.

    Args:
        loaded, text, target, second: see `read_text`.
        position, wanted: which answer, see `answer_of`.
        options: `tolerance` and `most` of integrated gradients.

    Raises:
        UserError: there is no such method, answer or position.
    """
    if method not in TOKEN_METHODS:
        raise UserError("there is no such method", got=method, expected=", ".join(TOKEN_METHODS))
    model, tokenizer, reading = read_text(loaded, text, target, second)
    answer = answer_of(loaded, tokenizer, reading, position, wanted)
    scored = _Scored(model, reading, answer)
    x_11TD = scored.embedded()
    residual = points = None
    if method == "integrated-gradients":
        baseline = _baseline(model, tokenizer, scored.ids, x_11TD)
        found = integrated_gradients(scored, x_11TD, 1, baseline=baseline, **options)
        values_T = found.maps[0].sum(-1)
        if found.residual is not None and found.points is not None:
            residual, points = float(found.residual[0]), int(found.points[0])
    else:
        found = saliency(scored, x_11TD, 1)
        slope_TD = found.values[0, 0]  # type: ignore[index]
        joint = slope_TD * x_11TD[0, 0].float().cpu()
        values_T = slope_TD.norm(dim=-1) if method == "saliency" else joint.sum(-1)
    parts = dict(
        zip(scored.sides, values_T.split([len(side.ids) for side in scored.sides.values()]), strict=True)
    )
    return TokenAttribution(
        method,
        {name: side.pieces for name, side in scored.sides.items()},
        {name: summed(parts[name], side.groups) for name, side in scored.sides.items()},
        answer,
        residual,
        points,
    )


class _Scored(nn.Module):
    """An answer's score as a function of the embedded tokens, laid out as the methods of images take them:
    (N, 1, T, D) -> (N, 1)."""

    def __init__(self, model: Any, reading: Reading, answer: Answer):
        super().__init__()
        self.model, self.reading, self.answer = model, reading, answer
        names = [name for name in ("source", "tokens") if name in reading.inputs]  # as they are embedded
        self.sides: dict[str, Side] = {name: reading.sides[name] for name in names}
        self.ids = [index for side in self.sides.values() for index in side.ids]

    def embedded(self) -> Float[Tensor, "1 1 tokens dim"]:
        table = self.model.tokens.weight.detach()
        return table[torch.tensor(self.ids, device=table.device)][None, None]

    def forward(self, inputs: Float[Tensor, "rows 1 tokens dim"]) -> Float[Tensor, "rows 1"]:
        rows = {name: ids.expand(len(inputs), -1) for name, ids in self.reading.inputs.items()}
        parts = inputs[:, 0].split([len(side.ids) for side in self.sides.values()], dim=1)
        with _in_place(self.model.tokens, list(parts)):
            return self.answer.score(self.model, rows)[:, None]


@contextmanager
def _in_place(table: nn.Module, parts: list[Tensor]) -> Iterator[None]:
    """While it lasts, what the table gives is these tensors, one a call."""
    waiting = iter(parts)
    handle = table.register_forward_hook(lambda module, inputs, output: next(waiting))
    try:
        yield
    finally:
        handle.remove()


def _baseline(model: Any, tokenizer: Any, ids: list[int], x_11TD: Tensor) -> Float[Tensor, "1 1 tokens dim"]:
    """The text with nothing in it: marks stay, other tokens are hidden."""
    table = model.tokens.weight.detach()
    mask = tokenizer.marks.find("mask") if getattr(model, "masked", None) is not None else None
    nothing_D = table.mean(0) if mask is None else table[mask]
    kept = torch.tensor([index in tokenizer.special for index in ids], device=x_11TD.device)
    return torch.where(kept[:, None], x_11TD, nothing_D)
