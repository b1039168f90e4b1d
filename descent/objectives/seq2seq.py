"""Sequence to sequence by teacher forcing: the true target is read, and its next token predicted."""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.config import Config, Field
from descent.objectives.causal import IGNORED
from descent.objectives.objective import Batch, Objective, Phase, model_inputs


class Seq2SeqObjectiveConfig(Config):
    type: Literal["seq2seq"] = "seq2seq"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share spread over all tokens")


class Seq2SeqObjective(Objective):
    """Mean cross-entropy in nats over the targets that are not ignored (-100), smoothed as configured.

    Smoothing takes the share `label_smoothing` of a target's probability and spreads it over the whole
    vocabulary, the target's own token included: Szegedy et al. (2016), section 7; Vaswani et al. (2017),
    section 5.4.
    """

    def __init__(self, config: Seq2SeqObjectiveConfig | None = None):
        self.config = config or Seq2SeqObjectiveConfig()

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int((batch["targets"] != IGNORED).sum())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        logits, targets = target_logits(model, batch)
        total = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=self.config.label_smoothing)
        return total / max(len(targets), 1)


def target_logits(model: Any, batch: Batch) -> tuple[Float[Tensor, "targets vocab"], Int[Tensor, " targets"]]:
    """The logits at the targets that are not ignored, in single precision, and those targets; none elsewhere.

    Args:
        model: with `features(source, source_lengths, tokens)` -> (batch, time, dim) and `unembed` -> logits.
        batch: `source`, `source_lengths`, `tokens`, and `targets` (batch, time).
    """
    targets = batch["targets"]
    counted = targets != IGNORED
    features = model.features(**model_inputs(batch))
    return model.unembed(features[counted]).float(), targets[counted]
