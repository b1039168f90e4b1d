"""Objectives own losses: what the loop asks of them, and the ones there are."""

from __future__ import annotations

from descent.objectives.causal import Causal, CausalConfig
from descent.objectives.objective import Batch, Objective, Phase
from descent.objectives.supervised import Supervised, SupervisedConfig

ObjectiveConfig = SupervisedConfig | CausalConfig

__all__ = [
    "Batch",
    "Causal",
    "CausalConfig",
    "Objective",
    "ObjectiveConfig",
    "Phase",
    "Supervised",
    "SupervisedConfig",
    "build_objective",
]


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective a configuration describes."""
    return Supervised(config) if isinstance(config, SupervisedConfig) else Causal(config)
