"""How good a model is: metrics over a whole split, never over sampled batches."""

from __future__ import annotations

from descent.evaluation.classes import (
    Calibration,
    ClassScores,
    Mistake,
    Predictions,
    calibration,
    class_scores,
    class_shares,
    most_wrong,
)
from descent.evaluation.evaluate import evaluate, metric_names
from descent.evaluation.result import Evaluation
from descent.evaluation.tta import Views, at_home, averaged_logits

__all__ = [
    "Calibration",
    "ClassScores",
    "Evaluation",
    "Mistake",
    "Predictions",
    "Views",
    "at_home",
    "averaged_logits",
    "calibration",
    "class_scores",
    "class_shares",
    "evaluate",
    "metric_names",
    "most_wrong",
]
