"""How good a model is: metrics over a whole split, never over sampled batches."""

from __future__ import annotations

from descent.evaluation.evaluate import Evaluation, evaluate, metric_names

__all__ = ["Evaluation", "evaluate", "metric_names"]
