"""Supervised learning: one target an example, a class or a number."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, cat, nn, tensor, zeros_like

from descent.config import Config, Field, Items
from descent.objectives.objective import Batch, Objective, Phase, outputs_of

IGNORED = -100
LossName = Literal["cross_entropy", "mse", "l1", "huber", "binary"]


class SupervisedConfig(Config):
    type: Literal["supervised"] = "supervised"
    loss: LossName = "cross_entropy"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share spread over all classes")
    class_weights: Items[float] = Field(default=(), description="one weight a class; empty = all 1")
    huber_delta: float = Field(default=1.0, gt=0, description="where Huber turns from square to linear")

    @model_validator(mode="after")
    def _only_for_classes(self) -> SupervisedConfig:
        if self.loss != "cross_entropy" and self.label_smoothing:
            raise ValueError("label_smoothing belongs to the loss cross_entropy")
        if self.loss not in ("cross_entropy", "binary") and self.class_weights:
            raise ValueError("class_weights belong to the losses cross_entropy and binary")
        if any(weight < 0 for weight in self.class_weights):
            raise ValueError("class_weights cannot be negative")
        return self


class Supervised(Objective):
    """The mean loss of `model(inputs)` against `targets`.

    Targets are class numbers, shape (batch,), or of every step of a sequence, (batch, time), or each class's
    share, shape (batch, classes), for
    `cross_entropy` and `binary` (where the model has a single output: the logit of class 1); for the
    others they are numbers of the outputs' shape. With class weights the mean is weighted,
    sum(w l) / sum(w), as in `torch.nn.CrossEntropyLoss`; with shares, each class's part of the loss is
    weighted and the mean is plain, as there.
    """

    def __init__(self, config: SupervisedConfig):
        self.config = config
        # A weighted mean over parts is not the weighted mean over the whole.
        self.splittable = not config.class_weights

    def targets(self, phase: Phase, batch: Batch) -> int:
        targets = batch["targets"]
        return int((targets != IGNORED).sum()) if of_steps(targets) else len(targets)

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        outputs = outputs_of(model, batch)
        return supervised_loss(self.config, *answered(outputs, batch["targets"]))


def of_steps(targets: Tensor) -> bool:
    """Whether these are classes of the steps of sequences, (batch, time), IGNORED where there is none."""
    return targets.dim() == 2 and not targets.is_floating_point()


def answered(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Outputs and targets, of sequences those of the steps that have a target, one after another."""
    if not of_steps(targets):
        return outputs, targets
    asked = targets != IGNORED
    return outputs[asked], targets[asked]


def supervised_loss(
    config: SupervisedConfig, outputs: Float[Tensor, "batch outputs"], targets: Tensor
) -> Float[Tensor, ""]:
    """The configured loss as a mean over the batch (see `Supervised`)."""
    of_classes = config.loss in ("cross_entropy", "binary")
    shares = of_classes and targets.is_floating_point() and targets.dim() == 2 and targets.shape[1] > 1
    if config.loss == "binary" and shares:
        outputs = cat([zeros_like(outputs), outputs], dim=1)  # the same loss, with a logit a class
    if config.loss == "cross_entropy" or shares:
        weights = _weights(config, outputs) if config.class_weights else None
        targets = targets.to(outputs.dtype) if shares else targets
        return F.cross_entropy(outputs, targets, weight=weights, label_smoothing=config.label_smoothing)
    if config.loss == "binary":
        logits, classes = outputs.flatten(), targets.flatten().to(outputs.dtype)
        if not config.class_weights:
            return F.binary_cross_entropy_with_logits(logits, classes)
        weights = _weights(config, outputs)[targets.flatten().long()]
        losses = F.binary_cross_entropy_with_logits(logits, classes, weight=weights, reduction="sum")
        return losses / weights.sum()
    targets = targets.to(outputs.dtype).reshape(outputs.shape)
    if config.loss == "mse":
        return F.mse_loss(outputs, targets)
    if config.loss == "l1":
        return F.l1_loss(outputs, targets)
    return F.huber_loss(outputs, targets, delta=config.huber_delta)


def _weights(config: SupervisedConfig, outputs: Tensor) -> Tensor:
    return tensor(config.class_weights, device=outputs.device, dtype=outputs.dtype)
