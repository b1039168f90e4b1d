"""Causal language modelling: at every position, predict the token that comes next.

The head of a language model is its largest matrix and its output the largest tensor of a step
(2,048 tokens x 50,304 entries x 4 bytes = 412 MB). So the head and the cross-entropy are computed
for a chunk of positions at a time, and each chunk's gradient is taken at once, while its logits are
still there: no more than one chunk of logits exists, and none is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from descent.config import Config, Field
from descent.errors import UserError
from descent.nn.cache import StateCache
from descent.objectives.objective import Batch, Objective, Phase

IGNORED = -100
LOGITS_AT_ONCE = 2**25


class CausalConfig(Config):
    type: Literal["causal"] = "causal"
    chunk: int = Field(default=0, ge=0, description="positions per chunk of logits; 0 = by vocabulary")


class Causal(Objective):
    """Mean cross-entropy in nats over the targets that are not ignored (-100).

    Where rows go on from batch to batch, so does the model's state, without its gradient (truncated
    back-propagation through time); it is the objective's memory.
    """

    def __init__(self, config: CausalConfig | None = None):
        self.config = config or CausalConfig()
        self._state: Batch = {}

    def memory(self, model: nn.Module, lanes: int) -> Batch:
        if lanes:
            self._state = Carried(model, lanes).state
            self.splittable = False  # a part of a batch is not a part of the lanes
        return self._state

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int((batch["targets"] != IGNORED).sum())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        cache = StateCache(kept(self._state, batch["carried"])) if self._state else None
        total, count = causal_loss(model, batch, self.config.chunk, cache)
        if cache is not None:
            for name, value in cache.state.items():
                self._state[name].copy_(value.detach())
        return total / count.clamp(min=1)


class Carried:
    """The state of a model that reads on in lanes from batch to batch, for scoring.

    Raises:
        UserError: the model has no state to carry.
    """

    def __init__(self, model: Any, lanes: int):
        cache = model.new_cache(lanes)
        if not isinstance(cache, StateCache):
            raise UserError(
                "only a recurrent model carries its state from batch to batch",
                got=f"data.packing=lanes with a {model.config.type}",
                hint="data.packing=stream",
            )
        self.state = {name: torch.zeros_like(value) for name, value in cache.state.items()}

    def loss(self, model: Any, batch: Batch, chunk: int = 0) -> tuple[Tensor, Tensor]:
        """`causal_loss` of the next pieces of all lanes."""
        cache = StateCache(kept(self.state, batch["carried"]))
        found = causal_loss(model, batch, chunk, cache)
        self.state = cache.state
        return found


def kept(state: Batch, carried: Bool[Tensor, " lanes"]) -> Batch:
    """The state of the rows that go on, zeros for those that begin."""
    return {name: value * carried[:, None, None] for name, value in state.items()}


def causal_loss(
    model: Any, batch: Batch, chunk: int = 0, cache: StateCache | None = None
) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """The summed loss of a batch in nats, and the number of targets it is over.

    Args:
        model: with `config.vocab_size`, `features(tokens, documents=, positions=)` -> (batch, time, dim) and
            `unembed(features)` -> logits.
        batch: `tokens` and `targets` (batch, time); optionally `documents` and `positions`.
        chunk: positions whose logits are held at once; 0 chooses by the size of the vocabulary.
        cache: what was read before, of a recurrent model; left as it is after the batch.
    """
    known = {"documents": batch.get("documents"), "positions": batch.get("positions"), "cache": cache}
    features = model.features(batch["tokens"], **{k: v for k, v in known.items() if v is not None})
    features, targets = features.flatten(0, 1), batch["targets"].flatten()
    return summed_loss(model, features, targets, chunk), (targets != IGNORED).sum()


def summed_loss(
    model: Any, features: Float[Tensor, "places dim"], targets: Int[Tensor, " places"], chunk: int = 0
) -> Float[Tensor, ""]:
    """The summed cross-entropy in nats of the targets that are not ignored.

    Args:
        model: with `config.vocab_size` and `unembed(features)` -> logits.
        features: what the head reads.
        targets: a token a place, or -100.
        chunk: places whose logits are held at once; 0 chooses by the size of the vocabulary.
    """
    if not len(targets):
        return features.sum() * 0.0
    chunk = min(chunk or max(1, LOGITS_AT_ONCE // model.config.vocab_size), len(targets))
    # Equal chunks: a small last one would cost as much for the head's gradient as a whole one.
    chunk = ceil(len(targets) / ceil(len(targets) / chunk))
    if chunk >= len(targets):
        return _cross_entropy(model.unembed, features, targets)
    if not torch.is_grad_enabled():
        parts = zip(features.split(chunk), targets.split(chunk), strict=True)
        return torch.stack([_cross_entropy(model.unembed, f, t) for f, t in parts]).sum()
    parameters = [p for p in model.parameters() if p.requires_grad]
    return _ChunkedCrossEntropy.apply(features, targets, model.unembed, chunk, *parameters)


def _cross_entropy(unembed: Callable[[Tensor], Tensor], features: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(unembed(features).float(), targets, ignore_index=IGNORED, reduction="sum")


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradients chunk by chunk in the forward pass; backward only scales the gradients."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        targets: Tensor,
        unembed: Callable[[Tensor], Tensor],
        chunk: int,
        *parameters: Tensor,
    ) -> Tensor:
        total = features.new_zeros((), dtype=torch.float32)
        by_features = torch.empty_like(features)
        by_parameters: list[Tensor | None] = [None] * len(parameters)
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            with torch.enable_grad():
                leaf = features[part].detach().requires_grad_()
                loss = _cross_entropy(unembed, leaf, targets[part])
            found = torch.autograd.grad(loss, (leaf, *parameters), allow_unused=True)
            by_features[part] = found[0]
            _accumulate(by_parameters, found[1:])
            total += loss.detach()
        ctx.used = [gradient is not None for gradient in by_parameters]
        ctx.save_for_backward(by_features, *(g for g in by_parameters if g is not None))
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        by_features, *saved = ctx.saved_tensors
        scale, rest = outputs[0], iter(saved)
        by_parameters = [next(rest).mul_(scale) if used else None for used in ctx.used]
        return by_features * scale, None, None, None, *by_parameters


def _accumulate(totals: list[Tensor | None], found: Sequence[Tensor | None]) -> None:
    for index, gradient in enumerate(found):
        held = totals[index]
        if gradient is not None:
            totals[index] = gradient if held is None else held.add_(gradient)
