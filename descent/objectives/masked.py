"""Masked language modelling: find the tokens that were hidden, from all that stands around them.

J. Devlin et al., BERT, arXiv:1810.04805, section 3.1. The head is computed at the hidden tokens alone: at all
positions of a row it would cost seven times as much, for nothing.
"""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.config import Config, Field
from descent.objectives.causal import IGNORED, summed_loss
from descent.objectives.objective import Batch, Objective, Phase, model_inputs

__all__ = ["Masked", "MaskedConfig", "hidden_tokens", "next_logits"]


class MaskedConfig(Config):
    type: Literal["masked"] = "masked"
    chunk: int = Field(default=0, ge=0, description="tokens per chunk of logits; 0 = by vocabulary")


class Masked(Objective):
    """The mean cross-entropy of the hidden tokens in nats, and, of pairs, that of which ones follow, added.

    The sum of two means over different numbers is no mean over parts, so batches of pairs cannot be split.
    """

    def __init__(self, config: MaskedConfig | None = None):
        self.config = config or MaskedConfig()

    def memory(self, model: nn.Module, lanes: int) -> Batch:
        self.splittable = getattr(getattr(model, "config", None), "head", "masked") != "pretraining"
        return {}

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int((batch["targets"] != IGNORED).sum())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        hidden, features, targets = hidden_tokens(model, batch)
        loss = summed_loss(model, features, targets, self.config.chunk) / max(len(targets), 1)
        if "next_targets" not in batch:
            return loss
        return loss + F.cross_entropy(*next_logits(model, hidden, batch))


def hidden_tokens(
    model: Any, batch: Batch
) -> tuple[Float[Tensor, "batch time dim"], Float[Tensor, "places dim"], Int[Tensor, " places"]]:
    """The model's states, those at the hidden tokens, and these tokens.

    Args:
        model: with `features(tokens, documents=, positions=, segments=)` -> (batch, time, dim).
        batch: `tokens` and `targets` (batch, time), -100 where nothing is hidden; optionally the others.
    """
    known = {name: value for name, value in model_inputs(batch).items() if name != "starts"}
    hidden, targets = model.features(**known), batch["targets"]
    asked = targets != IGNORED
    return hidden, hidden[asked], targets[asked]


def next_logits(
    model: Any, hidden: Float[Tensor, "batch time dim"], batch: Batch
) -> tuple[Float[Tensor, "pairs 2"], Int[Tensor, " pairs"]]:
    """What the model says of whether the second piece of each pair follows the first, and whether it does.

    Args:
        model: with `follows(hidden, starts)` -> (batch, pairs, 2).
        hidden: the states of `hidden_tokens`.
        batch: `starts` and `next_targets` (batch, pairs), -100 where there is no pair.
    """
    targets = batch["next_targets"]
    asked = targets != IGNORED
    return model.follows(hidden, batch["starts"])[asked], targets[asked]
