"""The decoder: one prefill, then one token a step through the cache, for rows of any lengths at once.

Shapes: B batch, T time, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from descent.errors import UserError
from descent.generation.processors import process
from descent.generation.protocol import context_limit, device_of, next_logits
from descent.generation.sampling import draw, log_probability, uniforms
from descent.generation.settings import Settings
from descent.generation.stopping import StopStrings

Reason = Literal["stop", "length"]


@runtime_checkable
class Detokeniser(Protocol):
    """Turns one row's tokens into text as they come; `Tokenizer.stream()` makes one."""

    def push(self, index: int, /) -> str: ...

    def finish(self) -> str: ...


Allowed = Callable[[Sequence[int]], Bool[Tensor, " vocabulary"]]
"""Of a row's tokens so far, prompt and all, which tokens may follow them."""


@dataclass(frozen=True)
class Step:
    """One token of one row, or the end of a row that brought no token.

    Attributes:
        row: index of the prompt.
        token: the token; None when the row ends on a stop id, which is no part of a completion.
        logprob: natural logarithm of the token's probability under the model itself, before temperature
            and filters.
        text: what can now be shown; "" while a character or a possible stop string is incomplete.
        reason: why the row ends here, "stop" or "length"; None while it goes on.
    """

    row: int
    token: int | None
    logprob: float
    text: str
    reason: Reason | None


@dataclass(frozen=True)
class Completion:
    """What came after one prompt.

    Attributes:
        tokens: the tokens drawn, without the prompt and without a stop id.
        logprobs: for each token, its natural log-probability under the model itself.
        text: the text, ending before any stop string; "" when no detokeniser was given.
        reason: "stop" for a stop id or stop string, "length" for `max_new_tokens` or the context's end.
    """

    tokens: list[int]
    logprobs: list[float]
    text: str
    reason: Reason


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    settings: Settings | None = None,
    *,
    detokenise: Callable[[], Detokeniser] | None = None,
    seeds: Sequence[int] | None = None,
    allowed: Allowed | None = None,
) -> list[Completion]:
    """Continues every prompt; arguments and errors as for `stream`."""
    parts: list[list[Step]] = [[] for _ in prompts]
    for step in stream(model, prompts, settings, detokenise=detokenise, seeds=seeds, allowed=allowed):
        parts[step.row].append(step)
    return [_completion(steps) for steps in parts]


def stream(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    settings: Settings | None = None,
    *,
    detokenise: Callable[[], Detokeniser] | None = None,
    seeds: Sequence[int] | None = None,
    allowed: Allowed | None = None,
) -> Iterator[Step]:
    """Continues every prompt, giving each token as soon as it is drawn.

    A row's tokens do not depend on the other rows: a batch of n is n batches of one with the same seeds.
    The model is in evaluation mode until the iterator ends; its modes are restored then.

    Args:
        model: any model with the cache protocol (`Decodable`).
        prompts: token ids, at least one a row; rows may differ in length.
        settings: see `Settings`.
        detokenise: makes a `Detokeniser` for one row (`tokenizer.stream`); without it steps carry no text.
        seeds: one for each row, instead of `settings.seed + row`.
        allowed: no other token is drawn, whatever the model says; all when not given.

    Raises:
        UserError: no prompt, an empty one, an id outside the vocabulary, one that leaves no room in the
            model's context (unless sliding), stop strings without a detokeniser, a wrong number of seeds.
    """
    settings = settings or Settings()
    seeds = [settings.seed + row for row in range(len(prompts))] if seeds is None else list(seeds)
    _check(model, prompts, settings, detokenise is not None, seeds)
    rows = [_Row(i, list(prompt), settings, detokenise and detokenise()) for i, prompt in enumerate(prompts)]
    return _steps(model, rows, settings, seeds, allowed)


@torch.inference_mode()
def _steps(
    model: nn.Module, rows: list[_Row], settings: Settings, seeds: list[int], allowed: Allowed | None
) -> Iterator[Step]:
    context = context_limit(model)
    modes = [module for module in model.modules() if module.training]
    model.eval()
    try:
        device = device_of(model)
        drawn_on = torch.device("cpu") if device.type == "mps" else device  # no float64 on Apple's GPUs
        random_BN = uniforms(seeds, settings.max_new_tokens).to(drawn_on)
        window = _Window(model, context, settings.max_new_tokens)
        logits_BV = window.fill(rows).to(drawn_on)
        seen_BV = _seen(rows, logits_BV) if settings.repetition_penalty != 1 else None
        for count in range(settings.max_new_tokens):
            numbers = [row.index for row in window.rows]
            choice_BV = _limited(logits_BV, window.rows, allowed)
            tokens_B = _pick(choice_BV, settings, seen_BV, random_BN[numbers, count])
            if seen_BV is not None:
                seen_BV.scatter_(1, tokens_B[:, None], True)
            logprobs = log_probability(logits_BV, tokens_B).tolist()
            for row, token, logprob in zip(window.rows, tokens_B.tolist(), logprobs, strict=True):
                yield row.take(token, logprob, context)
            live = [i for i, row in enumerate(window.rows) if row.reason is None]
            if not live:
                return
            if len(live) < len(window.rows):
                window.keep(live)
                tokens_B, seen_BV = tokens_B[live], None if seen_BV is None else seen_BV[live]
            fed = window.fill(window.rows) if window.full else window.feed(tokens_B.to(device))
            logits_BV = fed.to(drawn_on)
    finally:
        for module in modes:
            module.training = True


def _limited(
    logits: Float[Tensor, "batch vocabulary"], rows: list[_Row], allowed: Allowed | None
) -> Float[Tensor, "batch vocabulary"]:
    """The logits with those of tokens that may not come removed."""
    if allowed is None:
        return logits
    may_BV = torch.stack([allowed(row.tokens) for row in rows]).to(logits.device)
    return logits.masked_fill(~may_BV, -torch.inf)


def _pick(
    logits: Float[Tensor, "batch vocabulary"],
    settings: Settings,
    seen: Bool[Tensor, "batch vocabulary"] | None,
    uniform: Float[Tensor, " batch"],
) -> Int[Tensor, " batch"]:
    logits = process(logits, settings, seen)
    return logits.argmax(-1) if settings.temperature == 0 else draw(logits, uniform)


def _seen(rows: list[_Row], logits: Float[Tensor, "batch vocabulary"]) -> Bool[Tensor, "batch vocabulary"]:
    seen = torch.zeros_like(logits, dtype=torch.bool)
    for mark, row in zip(seen, rows, strict=True):
        mark[torch.tensor(row.tokens, device=logits.device)] = True
    return seen


@dataclass
class _Row:
    """One prompt and what has come after it."""

    index: int
    tokens: list[int]
    settings: Settings
    detokeniser: Detokeniser | None
    prompt: int = field(init=False)
    first: int = 0
    reason: Reason | None = None

    def __post_init__(self) -> None:
        self.prompt = len(self.tokens)
        self.stops = StopStrings(self.settings.stop)

    def take(self, token: int, logprob: float, context: int | None) -> Step:
        """Appends a drawn token and says whether the row goes on."""
        if token in self.settings.stop_ids:
            self.reason = "stop"
            return Step(self.index, None, logprob, self._rest(), self.reason)
        self.tokens.append(token)
        text = self.stops.push(self.detokeniser.push(token)) if self.detokeniser else ""
        if self.stops.found:
            self.reason = "stop"
        elif len(self.tokens) - self.prompt == self.settings.max_new_tokens or (
            not self.settings.sliding and len(self.tokens) == context
        ):
            text += self._rest()
            self.reason = "stop" if self.stops.found else "length"
        return Step(self.index, token, logprob, text, self.reason)

    def _rest(self) -> str:
        if self.detokeniser is None:
            return ""
        return self.stops.push(self.detokeniser.finish()) + self.stops.finish()


class _Window:
    """What the model sees of every row: a batch padded on the left, and its cache.

    Args:
        model: the model.
        context: the greatest number of tokens it can see; None when there is no limit.
        room: number of tokens a row may still gain.
    """

    def __init__(self, model: Any, context: int | None, room: int):
        self.model, self.context, self.room = model, context, room
        self.device = device_of(model)
        self.rows: list[_Row] = []
        self.held = 0

    @property
    def full(self) -> bool:
        """Whether one more token would be beyond the context of the longest row."""
        return self.held == self.context

    def fill(self, rows: list[_Row]) -> Float[Tensor, "batch vocabulary"]:
        """Starts over with these rows in one forward; a row beyond the context keeps its last half of it."""
        self.rows = rows
        for row in rows:
            if self.context is not None and len(row.tokens) - row.first > self.context:
                row.first = len(row.tokens) - max(1, self.context // 2)
        shown = [row.tokens[row.first :] for row in rows]
        self.held = max(map(len, shown))
        padding = [self.held - len(tokens) for tokens in shown]
        tokens_BT = torch.tensor([[0] * pad + tokens for pad, tokens in zip(padding, shown, strict=True)])
        gained = min(len(row.tokens) - row.prompt for row in rows)
        length = self.held + self.room - gained
        start = torch.tensor(padding, device=self.device) if any(padding) else None
        length = length if self.context is None else min(length, self.context)
        self.cache = self.model.new_cache(len(rows), length=length, start=start)
        return next_logits(self.model, tokens_BT.to(self.device), self.cache)

    def keep(self, rows: list[int]) -> None:
        """Goes on with some of the rows only: the others have ended."""
        self.rows = [self.rows[row] for row in rows]
        self.cache.reorder(torch.tensor(rows, device=self.device))

    def feed(self, tokens: Int[Tensor, " batch"]) -> Float[Tensor, "batch vocabulary"]:
        """One token for each row."""
        self.held += 1
        return next_logits(self.model, tokens[:, None], self.cache)


def _completion(steps: list[Step]) -> Completion:
    drawn = [step for step in steps if step.token is not None]
    reason = steps[-1].reason
    if reason is None:
        raise RuntimeError("a row ended without a reason")
    return Completion(
        tokens=[step.token for step in drawn if step.token is not None],
        logprobs=[step.logprob for step in drawn],
        text="".join(step.text for step in steps),
        reason=reason,
    )


def _check(
    model: nn.Module, prompts: Sequence[Sequence[int]], settings: Settings, has_text: bool, seeds: list[int]
) -> None:
    if not prompts:
        raise UserError("there is no prompt", expected="at least one list of token ids")
    if len(seeds) != len(prompts):
        raise UserError("seeds: one for each prompt is needed", got=len(seeds), expected=str(len(prompts)))
    if settings.stop and not has_text:
        raise UserError(
            "stop: stop strings need text",
            expected="a detokeniser beside the model",
            hint="pass detokenise=tokenizer.stream, or use stop_ids",
        )
    check_prompts(model, prompts, sliding=settings.sliding)


def check_prompts(model: nn.Module, prompts: Sequence[Sequence[int]], sliding: bool = False) -> None:
    """Raises a `UserError` for a prompt the model cannot continue."""
    context, vocabulary = context_limit(model), getattr(getattr(model, "config", None), "vocab_size", None)
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise UserError(
                f"prompt {number} is empty",
                expected="at least one token",
                hint="begin with the end-of-document token to continue from nothing",
            )
        outside = [token for token in prompt if token < 0 or (vocabulary and token >= vocabulary)]
        if outside:
            raise UserError(
                f"prompt {number} holds a token id that is not in the model's vocabulary",
                got=outside[0],
                expected=f"0 to {vocabulary - 1}" if vocabulary else "no negative id",
                hint="was the text encoded with this model's own tokenizer?",
            )
        if not sliding and context is not None and len(prompt) >= context:
            raise UserError(
                f"prompt {number} leaves no room in the model's context",
                got=f"{len(prompt)} tokens",
                expected=f"at most {context - 1}",
                hint="shorten the prompt, or pass sliding=True to go on from its end",
            )
