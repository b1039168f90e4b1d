"""Metrics of the tasks there are so far, each over every example of a split.

Sums are kept in float64, so that the size of the evaluation batches does not show in the result.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from descent.data.batches import sweep
from descent.data.dataset import Split
from descent.errors import UserError
from descent.evaluation.classes import Predictions, calibration, class_shares
from descent.evaluation.tta import Views, averaged_logits
from descent.objectives.causal import Causal, causal_loss
from descent.objectives.objective import Objective
from descent.objectives.supervised import Supervised, supervised_loss


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one split.

    Attributes:
        metrics: name -> value. `loss` in nats; `accuracy`, `top5` and `ece` (the expected calibration
            error, see `calibration`) from 0 to 1; `perplexity` exp(loss); `bits_per_byte` the loss per
            UTF-8 byte of the text in bits; `r2`, `mae` and `rmse` in the units of the targets the model
            sees.
        examples: how many targets were scored.
        confusion: counts, one row a true class and one column a predicted class; None if no classes.
        predictions: what a classifier said of each example, for `class_scores`, `calibration` and
            `most_wrong`; None if no classes.
    """

    metrics: dict[str, float]
    examples: int
    confusion: list[list[int]] | None = field(default=None, repr=False)
    predictions: Predictions | None = field(default=None, repr=False)


def metric_names(objective: Objective, outputs: int) -> tuple[str, ...]:
    """The metrics `evaluate` gives for a model of so many outputs."""
    if isinstance(objective, Causal):
        return ("loss", "perplexity", "bits_per_byte")
    if isinstance(objective, Supervised) and objective.config.loss in ("cross_entropy", "binary"):
        return ("loss", "accuracy", "top5", "ece") if outputs > 5 else ("loss", "accuracy", "ece")
    return ("loss", "r2", "mae", "rmse")


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
    training = model.training
    model.eval()
    try:
        with torch.inference_mode(), cast or nullcontext():
            if isinstance(objective, Causal):
                if tta != "none":
                    raise UserError("test-time augmentation is for images", hint="evaluation.tta=none")
                return _language(model, objective, split, batch_size, device)
            if isinstance(objective, Supervised):
                output, target = _answers(model, split, batch_size, device, tta)
                return _supervised(objective, output, target)
            raise TypeError(f"no metrics are known for {type(objective).__name__}")
    finally:
        model.train(training)


def _language(model: nn.Module, objective: Causal, split: Split, batch_size: int, device: str) -> Evaluation:
    total, count = 0.0, 0
    for batch in sweep(split, batch_size):
        loss, scored = causal_loss(model, _to(batch, device), objective.config.chunk)
        total, count = total + loss.item(), count + int(scored)
    loss = total / max(count, 1)
    # Overflow at exp(709): a model that bad has no perplexity worth printing.
    values = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    if split.bytes:
        values["bits_per_byte"] = total / math.log(2) / split.bytes
    return Evaluation(values, count)


def _answers(
    model: nn.Module, split: Split, batch_size: int, device: str, tta: Views
) -> tuple[Tensor, Tensor]:
    """The model's outputs for all examples, and their targets."""
    outputs, targets = [], []
    for batch in sweep(split, batch_size):
        outputs.append(averaged_logits(model, batch["inputs"].to(device), tta).cpu())
        targets.append(batch["targets"])
    return torch.cat(outputs), torch.cat(targets)


def _supervised(objective: Supervised, output: Tensor, target: Tensor) -> Evaluation:
    values = {"loss": supervised_loss(objective.config, output.double(), target).item()}
    if objective.config.loss in ("cross_entropy", "binary"):
        return _classes(values, class_shares(output, objective.config.loss), output, target.flatten())
    predicted, true = output.flatten(1).double().numpy(), target.reshape(output.shape).double().numpy()
    values["r2"] = float(sk.r2_score(true, predicted)) if len(true) > 1 else math.nan
    values["mae"] = float(sk.mean_absolute_error(true, predicted))
    values["rmse"] = float(np.sqrt(sk.mean_squared_error(true, predicted)))
    return Evaluation(values, len(target))


def _classes(values: dict[str, float], shares: Tensor, output: Tensor, target: Tensor) -> Evaluation:
    found = Predictions(shares.numpy(), target.numpy())
    values["accuracy"] = float(sk.accuracy_score(found.targets, found.predicted))
    if shares.shape[1] > 5:
        values["top5"] = (output.topk(5, dim=1).indices == target[:, None]).any(1).double().mean().item()
    values["ece"] = calibration(found).ece
    confusion = sk.confusion_matrix(found.targets, found.predicted, labels=range(shares.shape[1]))
    return Evaluation(values, len(target), confusion.tolist(), found)


def _to(batch: dict[str, Tensor], device: str) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in batch.items()}
