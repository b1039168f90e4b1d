"""Which steps of a sequence an answer hangs on: its gradient by the embedded tokens, or by the features.

Simonyan, Vedaldi, Zisserman (2014), "Deep Inside Convolutional Networks", section 3.1; for words: Li, Chen,
Hovy, Jurafsky (2016), "Visualizing and Understanding Neural Models in NLP", section 5. Times the
input: Denil, Demiraj, de Freitas (2014), "Extraction of Salient Sentences from Labelled Documents".

Legend: T steps, D numbers that a step is embedded in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.sequences import embedding

__all__ = ["SequenceSaliency", "sequence_saliency"]


@dataclass(frozen=True)
class SequenceSaliency:
    """What each step of a row has to do with one answer.

    Attributes:
        values: (T,), the length of the gradient of the answer by each embedded step.
        products: (T,), gradient times input: to first order what the step adds to the answer.
        features: (T, F), the gradient itself where the inputs are features; None for tokens.
        position: the step, or the horizon, that answers; None where there is one answer a row.
        target: the number of the output that is explained.
        score: that output's value.
        probability: of the target among all outputs, as far as they are classes.
        pieces: of a text, what each step reads.
    """

    values: NDArray[np.float32]
    products: NDArray[np.float32]
    features: NDArray[np.float32] | None
    position: int | None
    target: int
    score: float
    probability: float
    pieces: tuple[str, ...] = ()


def sequence_saliency(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    target: int | None = None,
    position: int | None = None,
    pieces: Sequence[str] = (),
) -> SequenceSaliency:
    """The saliency of the inputs of a batch's first row.

    Args:
        model: any over tokens or over features.
        batch: as the model takes it; of seq2seq the source is what is looked at.
        target: the output to explain: a token, a class, a channel; by default the greatest.
        position: the step or horizon that answers, counted from the end where negative; the row's last by
            default.
        pieces: of a text, kept for figures.

    Raises:
        UserError: there is no such output or position.
    """
    with embedding(model, batch) as run:
        answer = run.outputs[0]
        where = None
        if answer.dim() > 1:
            where = _place(position, _answers(batch, len(answer), run.name))
            answer = answer[where]
        elif position is not None:
            raise UserError("this model answers once a row, so there is no position to choose")
        answer = answer if answer.dim() == 1 else answer[:, answer.shape[1] // 2]  # of quantiles the middle
        wanted = int(answer.argmax()) if target is None else target
        if not 0 <= wanted < len(answer):
            raise UserError("there is no such output", got=wanted, expected=f"0 to {len(answer) - 1}")
        (slope_BTD,) = torch.autograd.grad(answer[wanted], run.leaf)
    steps = _answers(batch, run.leaf.shape[1], run.name, of_input=True)
    slope_TD, x_TD = slope_BTD[0, :steps].float().cpu(), run.leaf[0, :steps].detach().float().cpu()
    floats = batch[run.name].is_floating_point()
    return SequenceSaliency(
        slope_TD.norm(dim=1).numpy(),
        (slope_TD * x_TD).sum(1).numpy(),
        slope_TD.numpy() if floats else None,
        where,
        wanted,
        float(answer.detach()[wanted]),
        float(answer.detach().softmax(0)[wanted]),
        tuple(pieces),
    )


def _answers(batch: Mapping[str, Tensor], count: int, name: str, of_input: bool = False) -> int:
    """Real steps of the first row, of those there are."""
    held = batch.get("source_lengths" if name == "source" else "lengths")
    if held is None or (name == "source" and not of_input):
        return count
    return min(count, int(held[0]))


def _place(position: int | None, count: int) -> int:
    place = count - 1 if position is None else position + count * (position < 0)
    if not 0 <= place < count:
        raise UserError("there is no such position", got=position, expected=f"0 to {count - 1}")
    return place
