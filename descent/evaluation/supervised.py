"""How well classes or numbers are predicted: every example of a split, once.

Sums are kept in float64, so that the size of the evaluation batches does not show in the result.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from descent.data.batches import sweep
from descent.data.dataset import Split
from descent.evaluation.classes import Predictions, calibration, class_shares
from descent.evaluation.result import Evaluation, moved
from descent.evaluation.tta import Views, averaged_logits
from descent.objectives.objective import outputs_of
from descent.objectives.supervised import Supervised, answered, supervised_loss


def names(objective: Supervised, outputs: int) -> tuple[str, ...]:
    """The metrics of a model of so many outputs."""
    if objective.config.loss in ("cross_entropy", "binary"):
        return ("loss", "accuracy", "top5", "ece") if outputs > 5 else ("loss", "accuracy", "ece")
    return ("loss", "r2", "mae", "rmse")


def score(
    model: nn.Module,
    objective: Supervised,
    split: Split,
    batch_size: int,
    device: str,
    tta: Views = "none",
) -> Evaluation:
    """Classes: loss, accuracy, top-5 accuracy, calibration, confusion; numbers: loss, R2, MAE, RMSE."""
    outputs, targets = [], []
    for batch in sweep(split, batch_size):
        held = moved(batch, device)
        # views are of images, which are a batch's only input
        found = outputs_of(model, held) if tta == "none" else averaged_logits(model, held["inputs"], tta)
        output, target = answered(found.cpu(), batch["targets"])
        outputs.append(output)
        targets.append(target)
    return _scored(objective, torch.cat(outputs), torch.cat(targets))


def _scored(objective: Supervised, output: Tensor, target: Tensor) -> Evaluation:
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
