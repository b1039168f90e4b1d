"""Objectives own losses: what the loop asks of them, and the ones there are."""

from __future__ import annotations

from typing import Any

from descent.objectives.causal import Causal, CausalConfig
from descent.objectives.contrastive import Contrastive, ContrastiveConfig
from descent.objectives.ctc import CTC, CTCConfig
from descent.objectives.forecast import Forecast, ForecastConfig
from descent.objectives.frames import Frames, FramesConfig
from descent.objectives.masked import Masked, MaskedConfig
from descent.objectives.objective import Batch, Objective, Phase, model_inputs
from descent.objectives.ranking import RankingConfig, RankingObjective
from descent.objectives.seq2seq import Seq2SeqObjective, Seq2SeqObjectiveConfig
from descent.objectives.span import SpanConfig, SpanObjective
from descent.objectives.supervised import Supervised, SupervisedConfig
from descent.objectives.tagging import Tagging, TaggingConfig

ObjectiveConfig = (
    SupervisedConfig
    | CausalConfig
    | FramesConfig
    | ForecastConfig
    | CTCConfig
    | Seq2SeqObjectiveConfig
    | MaskedConfig
    | TaggingConfig
    | SpanConfig
    | RankingConfig
    | ContrastiveConfig
)

_OBJECTIVES: dict[str, Any] = {
    "supervised": Supervised,
    "causal": Causal,
    "frames": Frames,
    "forecast": Forecast,
    "ctc": CTC,
    "seq2seq": Seq2SeqObjective,
    "masked": Masked,
    "tagging": Tagging,
    "span": SpanObjective,
    "ranking": RankingObjective,
    "contrastive": Contrastive,
}

__all__ = [
    "CTC",
    "Batch",
    "CTCConfig",
    "Causal",
    "CausalConfig",
    "Contrastive",
    "ContrastiveConfig",
    "Forecast",
    "ForecastConfig",
    "Frames",
    "FramesConfig",
    "Masked",
    "MaskedConfig",
    "Objective",
    "ObjectiveConfig",
    "Phase",
    "RankingConfig",
    "RankingObjective",
    "Seq2SeqObjective",
    "Seq2SeqObjectiveConfig",
    "SpanConfig",
    "SpanObjective",
    "Supervised",
    "SupervisedConfig",
    "Tagging",
    "TaggingConfig",
    "build_objective",
    "model_inputs",
]


def build_objective(config: ObjectiveConfig) -> Objective:
    """The objective a configuration describes."""
    return _OBJECTIVES[config.type](config)
