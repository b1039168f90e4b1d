"""How well answers are found in texts: every question once, over all windows of its text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from descent.data.batches import sweep
from descent.data.dataset import Batch
from descent.data.question_rows import QuestionSplit, Window
from descent.evaluation.result import Evaluation, moved
from descent.evaluation.squad import exact_match, f1, language_of
from descent.objectives.objective import model_inputs
from descent.objectives.span import SpanObjective, own_probabilities, span_losses

NAMES = ("loss", "exact_match", "f1")
"""`loss`: the objective's, a mean over windows; `exact_match` and `f1`: means over questions, 0 to 1, see
`squad`."""


@dataclass(frozen=True)
class Answer:
    """What is said to a question.

    Attributes:
        text: a piece of the text; empty where the answer is that there is none.
        start, end: where in the text it begins and ends, in characters.
        probability: of that span, within the window it was found in.
    """

    text: str
    start: int
    end: int
    probability: float


def score(
    model: nn.Module, objective: SpanObjective, split: QuestionSplit, batch_size: int, device: str
) -> Evaluation:
    """Scores a model on a whole split; it is in evaluation mode already."""
    losses: list[float] = []
    answers = _answers(model, split, batch_size, device, losses)
    matches, means = [], []
    for question, answer in zip(split.questions, answers, strict=True):
        language = language_of(question.context) if split.language == "auto" else split.language
        matches.append(exact_match(answer.text, question.answers, language))
        means.append(f1(answer.text, question.answers, language))
    values = {
        "loss": float(np.mean(losses)),
        "exact_match": float(np.mean(matches)),
        "f1": float(np.mean(means)),
    }
    return Evaluation(values, len(matches))


def answers_of(
    model: nn.Module, split: QuestionSplit, batch_size: int = 32, device: str = "cpu"
) -> list[Answer]:
    """The answer to each question of a split; the model is in evaluation mode already.

    It is the most probable span of the text that has at most `longest` tokens, over all windows, each with
    probabilities of its own. Where "there is no answer" may be one, it is given
    if every window thinks it more probable than that span.
    """
    with torch.inference_mode():
        return _answers(model, split, batch_size, device, [])


def _answers(
    model: nn.Module, split: QuestionSplit, batch_size: int, device: str, losses: list[float]
) -> list[Answer]:
    best: list[tuple[float, int, int, int]] = [(-np.inf, 0, 0, 0)] * len(split.questions)
    none = [np.inf] * len(split.questions)
    numbered = enumerate(split.windows)
    for batch in sweep(split, batch_size):
        held = moved(batch, device)
        logits = model(**model_inputs(held))
        losses += span_losses(logits, held).double().tolist()
        chances = own_probabilities(logits, held).cpu().numpy()
        for (number, window), start, own in zip(
            _next(numbered, len(chances)), _starts(batch), chances, strict=True
        ):
            at = start + window.head
            inside = own[at : at + window.count]
            value, first, last = best_span(inside, split.longest)
            asked = window.question
            none[asked] = min(none[asked], float(own[start].sum()))
            if value > best[asked][0]:
                best[asked] = (value, number, first, last)
    return [_said(split, held, without) for held, without in zip(best, none, strict=True)]


def _said(split: QuestionSplit, best: tuple[float, int, int, int], without: float) -> Answer:
    value, number, first, last = best
    if not np.isfinite(value) or (split.unanswerable and without > value):
        return Answer("", 0, 0, float(np.exp(without)))
    window = split.windows[number]
    context = split.questions[window.question].context
    start, end = split.characters(window, first, last)
    text = context[start:end]
    start += len(text) - len(text.lstrip())
    return Answer(text.strip(), start, start + len(text.strip()), float(np.exp(value)))


def best_span(chances: Float[np.ndarray, "tokens 2"], longest: int) -> tuple[float, int, int]:
    """The greatest sum of a first and a last token's score among spans of at most `longest` tokens.

    Returns:
        The sum, the first token and the last one; minus infinity for no tokens.
    """
    size = len(chances)
    if not size:
        return -np.inf, 0, 0
    longest = min(longest, size)
    ends = np.concatenate([chances[:, 1], np.full(longest - 1, -np.inf, dtype=chances.dtype)])
    sums = chances[:, :1] + np.lib.stride_tricks.sliding_window_view(ends, longest)
    first, more = divmod(int(sums.argmax()), longest)
    return float(sums[first, more]), first, first + more


def _next(numbered: Iterator[tuple[int, Window]], count: int) -> list[tuple[int, Window]]:
    return [next(numbered) for _ in range(count)]


def _starts(batch: Batch) -> list[int]:
    """Where in its row each example begins, row after row."""
    return batch["starts"][batch["targets"][..., 0] != -100].tolist()
