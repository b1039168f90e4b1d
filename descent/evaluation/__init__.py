"""How good a model is: metrics over a whole split, never over sampled batches."""

from __future__ import annotations

from descent.evaluation.evaluate import HIGHER_IS_BETTER, Evaluation, evaluate, metric_names

__all__ = ["HIGHER_IS_BETTER", "Evaluation", "evaluate", "metric_names"]
