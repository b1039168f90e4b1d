"""Tagging: a class for every token that has a target, such as the first one of each word."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.config import Config
from descent.objectives.objective import Batch, Objective, Phase, model_inputs

__all__ = ["Tagging", "TaggingConfig", "tag_logits"]

IGNORED = -100


class TaggingConfig(Config):
    type: Literal["tagging"] = "tagging"


class Tagging(Objective):
    """Mean cross-entropy in nats over the tokens whose target is not ignored (-100).

    Each tag is said on its own, given the text: no tag knows the one before (J. Devlin et al.,
    arXiv:1810.04805, section 5.3).
    """

    def __init__(self, config: TaggingConfig | None = None):
        self.config = config or TaggingConfig()

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int((batch["targets"] != IGNORED).sum())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        logits, targets = tag_logits(model, batch)
        return F.cross_entropy(logits, targets, reduction="sum") / max(len(targets), 1)


def tag_logits(
    model: nn.Module, batch: Batch
) -> tuple[Float[Tensor, "targets tags"], Int[Tensor, " targets"]]:
    """The logits at the tokens that have a target, row by row, in single precision, and those targets.

    Args:
        model: gives logits (batch, time, tags) of all of the batch but `targets`.
        batch: with `targets` (batch, time).
    """
    asked = batch["targets"] != IGNORED
    return model(**model_inputs(batch))[asked].float(), batch["targets"][asked]
