"""The one entrance to scoring: which metrics belong to an objective is known by the module of its name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from types import ModuleType
from typing import Any

import torch
from torch import nn

from descent.data.dataset import Split
from descent.errors import UserError
from descent.evaluation.result import Evaluation
from descent.evaluation.tta import Views
from descent.objectives.objective import Objective

_MODULES = {
    "supervised": "supervised",
    "causal": "language",
    "frames": "frames",
    "forecast": "forecast",
    "ctc": "ctc",
    "seq2seq": "seq2seq",
    "masked": "masked",
    "tagging": "tagging",
    "span": "span",
    "ranking": "ranking",
    "tasks": "tasks",
    "contrastive": "contrastive",
}
"""The type of an objective (or what a split names) -> the module here with its `score`, and `NAMES` or
`names`."""


def metric_names(objective: Objective, outputs: int) -> tuple[str, ...]:
    """The metrics `evaluate` may give for a model of so many outputs."""
    module = _module(objective)
    return module.names(objective, outputs) if hasattr(module, "names") else module.NAMES


def evaluate(
    model: nn.Module,
    objective: Objective,
    split: Split,
    *,
    batch_size: int = 256,
    device: str = "cpu",
    cast: AbstractContextManager[Any] | None = None,
    tta: Views = "none",
) -> Evaluation:
    """Scores a model on a whole split and leaves it in the mode it was in.

    Args:
        model: on `device` already.
        objective: what the model was trained for; chooses the metrics.
        split: every example of it is scored once, in order.
        batch_size: examples (rows) at a time; the result does not depend on it.
        cast: an autocast context to compute in.
        tta: the views that a classifier of images is asked about, its logits averaged.

    Raises:
        UserError: `tta` is asked for, and the split holds no images.
    """
    module = _module(objective, split.scorer)
    views: dict[str, Any] = {}
    if tta != "none":
        if module.__name__.rpartition(".")[2] != "supervised":
            raise UserError("test-time augmentation is for images", hint="evaluation.tta=none")
        views = {"tta": tta}
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), cast or nullcontext():
            return module.score(model, objective, split, batch_size=batch_size, device=device, **views)
    finally:
        model.train(training)


def _module(objective: Any, scorer: str = "") -> ModuleType:
    kind = scorer or getattr(getattr(objective, "config", None), "type", None)
    if kind not in _MODULES:
        raise TypeError(f"no metrics are known for {type(objective).__name__}")
    return import_module(f"descent.evaluation.{_MODULES[kind]}")
