"""Objectives own losses: what the loop asks of them, and the ones there are."""

from __future__ import annotations

from typing import Any

from descent.objectives.causal import Causal, CausalConfig
from descent.objectives.ctc import CTC, CTCConfig
from descent.objectives.forecast import Forecast, ForecastConfig
from descent.objectives.frames import Frames, FramesConfig
from descent.objectives.objective import Batch, Objective, Phase, model_inputs
from descent.objectives.seq2seq import Seq2SeqObjective, Seq2SeqObjectiveConfig
from descent.objectives.supervised import Supervised, SupervisedConfig

ObjectiveConfig = (
    SupervisedConfig | CausalConfig | FramesConfig | ForecastConfig | CTCConfig | Seq2SeqObjectiveConfig
)

_OBJECTIVES: dict[str, Any] = {
    "supervised": Supervised,
    "causal": Causal,
    "frames": Frames,
    "forecast": Forecast,
    "ctc": CTC,
    "seq2seq": Seq2SeqObjective,
}

__all__ = [
    "CTC",
    "Batch",
    "CTCConfig",
    "Causal",
    "CausalConfig",
    "Forecast",
    "ForecastConfig",
    "Frames",
    "FramesConfig",
    "Objective",
    "ObjectiveConfig",
    "Phase",
    "Seq2SeqObjective",
    "Seq2SeqObjectiveConfig",
    "Supervised",
    "SupervisedConfig",
    "build_objective",
    "model_inputs",
]


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective a configuration describes."""
    return _OBJECTIVES[config.type](config)
