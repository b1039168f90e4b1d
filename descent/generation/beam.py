"""Beam search: the most probable continuation, looked for along several hypotheses at once.

Shapes: P prompts, K running hypotheses (one at first, then as many as beams), R = P * K rows, V vocabulary,
N candidates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.config import Config, Field, Items
from descent.errors import UserError
from descent.generation.conditioned import Conditioned
from descent.generation.decode import Reason, check_prompts
from descent.generation.processors import forbid
from descent.generation.protocol import context_limit, device_of, next_logits
from descent.generation.settings import Settings

AT_ONCE = 64
"""Prompts searched together."""
Candidate = tuple[int, int, float]
"""The hypothesis that goes on, the token, and the sum of log-probabilities."""


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
        forbidden: tokens that no hypothesis holds; the others' probabilities stay as they are.
    """

    max_new_tokens: int = Field(default=128, ge=1)
    beams: int = Field(default=4, ge=1)
    results: int = Field(default=1, ge=1)
    length_penalty: float = 1.0
    early_stopping: Literal[True, False, "never"] = False
    stop_ids: Items[Annotated[int, Field(ge=0)]] = ()
    forbidden: Items[Annotated[int, Field(ge=0)]] = ()

    @classmethod
    def of(cls, settings: Settings, beams: int) -> BeamSettings:
        """A search of that width, with those of the settings that are not about drawing."""
        shared = ("max_new_tokens", "stop_ids", "forbidden")
        return cls(beams=beams, **{name: getattr(settings, name) for name in shared})


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
    """The best continuations of every prompt, best first; those of one length are searched together.

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
    found: dict[int, list[Hypothesis]] = {}
    try:
        for rows in _together(prompts):
            part = model.select(rows) if isinstance(model, Conditioned) else model
            best = _search(part, [list(prompts[row]) for row in rows], settings)
            found.update(zip(rows, best, strict=True))
    finally:
        for module in modes:
            module.training = True
    return [found[row] for row in range(len(prompts))]


def _together(prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    """The numbers of the prompts that are searched at once: so many at most, all of one length."""
    groups: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(number)
    return [rows[at : at + AT_ONCE] for rows in groups.values() for at in range(0, len(rows), AT_ONCE)]


@torch.inference_mode()
def _search(model: Any, prompts: list[list[int]], settings: BeamSettings) -> list[list[Hypothesis]]:
    context, device, size = context_limit(model), device_of(model), len(prompts[0])
    longest = settings.max_new_tokens
    if context is not None:
        longest = min(longest, context - size)
    cache = model.new_cache(len(prompts), length=size + longest)
    logits_RV = next_logits(model, torch.tensor(prompts, device=device), cache)
    searches = [_Search() for _ in prompts]
    live = searches
    for length in range(1, longest + 1):
        sums_PK = torch.tensor([search.sums for search in live], device=device)
        logprobs_RV = forbid(logits_RV.log_softmax(-1), settings.forbidden)
        logprobs_PKV = logprobs_RV.view(*sums_PK.shape, -1)
        candidates = _candidates(logprobs_PKV + sums_PK[..., None], settings.beams, len(settings.stop_ids))
        going = [
            search.step(best, length, longest, settings)
            for search, best in zip(live, candidates, strict=True)
        ]
        rows = [
            number * sums_PK.shape[1] + beam
            for number, (search, goes) in enumerate(zip(live, going, strict=True))
            if goes
            for beam in search.origins
        ]
        live = [search for search, goes in zip(live, going, strict=True) if goes]
        if not live:
            break
        cache.reorder(torch.tensor(rows, device=device))
        tokens_R1 = torch.tensor([[tokens[-1]] for search in live for tokens in search.running])
        logits_RV = next_logits(model, tokens_R1.to(device), cache)
    return [search.finished[: settings.results] for search in searches]


@dataclass
class _Search:
    """The search for one prompt.

    Attributes:
        running: hypotheses that go on; after the first step as many as there are beams, in which one that has
            the sum minus infinity only fills a place.
        sums: their log-probabilities.
        origins: which of the hypotheses before each comes from.
        finished: the best that have ended, best first.
    """

    running: list[list[int]] = field(default_factory=lambda: [[]])
    sums: list[float] = field(default_factory=lambda: [0.0])
    origins: list[int] = field(default_factory=list)
    finished: list[Hypothesis] = field(default_factory=list)

    def step(self, candidates: list[Candidate], length: int, longest: int, settings: BeamSettings) -> bool:
        """Takes the hypotheses of one more token, best first, and says whether the search goes on."""
        beams, kept = settings.beams, []
        for rank, (beam, token, total) in enumerate(candidates):
            stops = token in settings.stop_ids
            if not stops and length < longest:
                kept.append((beam, token, total))
            elif rank < beams:
                tokens = self.running[beam] + ([] if stops else [token])
                score = total / length**settings.length_penalty
                self.finished.append(Hypothesis(tokens, score, "stop" if stops else "length"))
        self.finished = sorted(self.finished, key=lambda hypothesis: -hypothesis.score)[:beams]
        kept = kept[:beams]
        if not kept or _settled(self.finished, kept[0][2], length, longest, settings):
            return False
        kept += [(*kept[0][:2], -math.inf)] * (beams - len(kept))
        self.running = [[*self.running[beam], token] for beam, token, _ in kept]
        self.origins, self.sums = [beam for beam, _, _ in kept], [total for _, _, total in kept]
        return True


def _candidates(
    sums: Float[Tensor, "prompts beams vocabulary"], beams: int, stops: int
) -> list[list[Candidate]]:
    """For each prompt its candidates, best first: enough that `beams` of them do not stop."""
    flat_PN, vocabulary = sums.flatten(1), sums.shape[2]
    best_PN = flat_PN.topk(min(max(2, 1 + stops) * beams, flat_PN.shape[1]))
    return [
        [
            (index // vocabulary, index % vocabulary, total)
            for index, total in zip(indices, totals, strict=True)
            if total > -math.inf
        ]
        for indices, totals in zip(best_PN.indices.tolist(), best_PN.values.tolist(), strict=True)
    ]


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
