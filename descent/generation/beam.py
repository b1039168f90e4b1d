"""Beam search: the most probable continuation, looked for along several hypotheses at once.

Shapes: K running hypotheses (one at first, then as many as beams), V vocabulary, N candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.config import Config, Field, Items
from descent.errors import UserError
from descent.generation.decode import Reason, check_prompts
from descent.generation.protocol import context_limit, device_of, next_logits


class BeamSettings(Config):
    """How beam search ranks hypotheses and when it ends.

    Attributes:
        max_new_tokens: greatest length of a hypothesis, its stop id included.
        beams: hypotheses followed at once.
        results: how many of the best are returned.
        length_penalty: a finished hypothesis of n tokens scores
            (sum of log-probabilities) / n^length_penalty.
        early_stopping: True ends with the first `beams` finished hypotheses; False also waits for a running
            one that would now score better than the worst of those; "never" for one that might still.
        stop_ids: tokens that finish a hypothesis; counted in its score and length, not returned.
    """

    max_new_tokens: int = Field(default=128, ge=1)
    beams: int = Field(default=4, ge=1)
    results: int = Field(default=1, ge=1)
    length_penalty: float = 1.0
    early_stopping: Literal[True, False, "never"] = False
    stop_ids: Items[Annotated[int, Field(ge=0)]] = ()


@dataclass(frozen=True)
class Hypothesis:
    """A continuation.

    Attributes:
        tokens: without the prompt and without a stop id.
        score: sum of natural log-probabilities / length^length_penalty.
        reason: "stop" for a stop id, "length" for `max_new_tokens` or the context's end.
    """

    tokens: list[int]
    score: float
    reason: Reason


def beam_search(
    model: nn.Module, prompts: Sequence[Sequence[int]], settings: BeamSettings | None = None
) -> list[list[Hypothesis]]:
    """The best continuations of every prompt, best first; prompts are searched one after another.

    The standard algorithm (Sutskever, Vinyals, Le, 2014, section 3.2) with the length normalisation of Wu et
    al. (2016), section 7, in its simplest form. A hypothesis finishes only when its stop id is among the
    `beams` best candidates of its step.

    Raises:
        UserError: a prompt that is empty, too long or outside the vocabulary; more results than beams.
    """
    settings = settings or BeamSettings()
    if settings.results > settings.beams:
        raise UserError(
            "results: more than there are beams", got=settings.results, expected=f"at most {settings.beams}"
        )
    check_prompts(model, prompts)
    modes = [module for module in model.modules() if module.training]
    model.eval()
    try:
        return [_search(model, list(prompt), settings) for prompt in prompts]
    finally:
        for module in modes:
            module.training = True


@torch.inference_mode()
def _search(model: Any, prompt: list[int], settings: BeamSettings) -> list[Hypothesis]:
    beams, context, device = settings.beams, context_limit(model), device_of(model)
    longest = settings.max_new_tokens
    if context is not None:
        longest = min(longest, context - len(prompt))
    cache = model.new_cache(1, length=len(prompt) + longest)
    logits_KV = next_logits(model, torch.tensor([prompt], device=device), cache)
    sums_K = torch.zeros(1, device=device)
    running: list[list[int]] = [[]]
    finished: list[Hypothesis] = []
    for length in range(1, longest + 1):
        candidates = _candidates(logits_KV.log_softmax(-1) + sums_K[:, None], beams, len(settings.stop_ids))
        kept: list[tuple[int, int, float]] = []
        for rank, (beam, token, total) in enumerate(candidates):
            stops = token in settings.stop_ids
            if not stops and length < longest:
                kept.append((beam, token, total))
            elif rank < beams:
                tokens = running[beam] + ([] if stops else [token])
                score = total / length**settings.length_penalty
                finished.append(Hypothesis(tokens, score, "stop" if stops else "length"))
        finished = sorted(finished, key=lambda hypothesis: -hypothesis.score)[:beams]
        kept = kept[:beams]
        if not kept or _settled(finished, kept[0][2], length, longest, settings):
            break
        running = [[*running[beam], token] for beam, token, _ in kept]
        sums_K = torch.tensor([total for _, _, total in kept], device=device)
        cache.reorder(torch.tensor([beam for beam, _, _ in kept], device=device))
        logits_KV = next_logits(model, torch.tensor([[token] for _, token, _ in kept], device=device), cache)
    return finished[: settings.results]


def _candidates(
    sums: Float[Tensor, "beams vocabulary"], beams: int, stops: int
) -> list[tuple[int, int, float]]:
    """(beam, token, sum of log-probabilities), best first: enough that `beams` of them do not stop."""
    count = min(max(2, 1 + stops) * beams, sums.numel())
    best_N = sums.flatten().topk(count)
    where = zip(best_N.indices.tolist(), best_N.values.tolist(), strict=True)
    return [(index // sums.shape[1], index % sums.shape[1], total) for index, total in where]


def _settled(
    finished: list[Hypothesis], best: float, length: int, longest: int, settings: BeamSettings
) -> bool:
    """Whether no running hypothesis, the best of which has the sum `best`, is worth following."""
    if len(finished) < settings.beams:
        return False
    if settings.early_stopping is True:
        return True
    reach = longest if settings.early_stopping == "never" and settings.length_penalty > 0 else length
    return best / reach**settings.length_penalty <= finished[-1].score
