"""Connectionist temporal classification: learning a string of labels without knowing where each one is.

At every frame the model gives a label or a blank, its last output. A path, one output a frame, stands for
the labels left when repeats are merged and then blanks taken out: a a _ a b b -> a a b. The loss is

    -log p(y | x) = -log sum over the paths of y of prod_t p(path_t | x)

A. Graves, S. Fernández, F. Gomez, J. Schmidhuber, Connectionist temporal classification: labelling
unsegmented sequence data with recurrent neural networks, 2006, sections 3 and 4.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.config import Config
from descent.errors import UserError
from descent.objectives.objective import Batch, Objective, Phase, model_inputs

__all__ = [
    "CTC",
    "CTCConfig",
    "check_strings",
    "ctc_losses",
    "frame_counts",
    "frames_needed",
    "string_lengths",
]

IGNORED = -100


class CTCConfig(Config):
    type: Literal["ctc"] = "ctc"


class CTC(Objective):
    """The summed loss of a batch's strings, in nats, over the number of their labels.

    A string of no labels (silence) counts as one, so that the sum over parts stays the sum over the batch.
    """

    def __init__(self, config: CTCConfig | None = None):
        self.config = config or CTCConfig()

    def targets(self, phase: Phase, batch: Batch) -> int:
        return _count(batch["targets"])

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        return ctc_losses(model, batch)[1].sum() / _count(batch["targets"])


def ctc_losses(
    model: nn.Module, batch: Batch
) -> tuple[Float[Tensor, "batch time outputs"], Float[Tensor, " batch"]]:
    """The model's outputs, and each string's -log p(y | x) in nats.

    Args:
        model: called with all of the batch but `targets`; gives logits of every class and, last, the blank.
        batch: `inputs` (batch, time, ...); `targets` (batch, labels) of class numbers, filled up with -100;
            `lengths` (batch,) in frames, all of them where not given.

    Raises:
        UserError: the model has no output for each frame, or too few outputs for the classes; or the strings
            are such that `check_strings` refuses them.
    """
    check_strings(batch)
    outputs: Tensor = model(**model_inputs(batch))
    inputs, targets = batch["inputs"], batch["targets"]
    if outputs.ndim != 3 or outputs.shape[:2] != inputs.shape[:2]:
        raise UserError(
            "ctc needs the model's outputs at every frame",
            got=f"outputs of shape {tuple(outputs.shape)} for inputs of shape {tuple(inputs.shape)}",
            hint='set model.pool="none"',
        )
    blank = outputs.shape[2] - 1
    if targets.numel() and int(targets.max()) >= blank:  # torch would read past the row, without a word
        raise UserError(
            "ctc needs one output more than there are classes: the last is the blank",
            got=f"class {int(targets.max())} and {outputs.shape[2]} outputs",
            expected=f"{int(targets.max()) + 2} outputs or more",
        )
    # The logarithms of hundreds of probabilities are summed: in bfloat16 that has two digits.
    with torch.autocast(outputs.device.type, enabled=False):
        logs_TBK = outputs.float().log_softmax(-1).transpose(0, 1)
        losses = F.ctc_loss(
            logs_TBK,
            targets.clamp(min=0),
            frame_counts(batch),
            string_lengths(targets),
            blank=blank,
            reduction="none",
        )
    return outputs, losses


def frame_counts(batch: Batch) -> Int[Tensor, " batch"]:
    """The frames of each row: its `lengths`, or all there are."""
    rows, time = batch["inputs"].shape[:2]
    lengths = batch.get("lengths")
    return torch.full((rows,), time, device=batch["inputs"].device) if lengths is None else lengths


def string_lengths(targets: Int[Tensor, "batch labels"]) -> Int[Tensor, " batch"]:
    """How many labels each row has."""
    return (targets != IGNORED).sum(1)


def frames_needed(targets: Int[Tensor, "batch labels"]) -> Int[Tensor, " batch"]:
    """The fewest frames a row's labels fit in: one each, one for a blank between two that are the same."""
    repeated = (targets[:, 1:] == targets[:, :-1]) & (targets[:, 1:] != IGNORED)
    return string_lengths(targets) + repeated.sum(1)


def check_strings(batch: Batch) -> None:
    """Refuses targets that are no strings of class numbers, or that have no path of finite probability.

    Raises:
        UserError: naming the first such row.
    """
    targets, frames = batch["targets"], frame_counts(batch)
    if targets.ndim != 2 or targets.is_floating_point():
        raise UserError(
            "ctc learns strings of class numbers",
            got=f"targets of shape {tuple(targets.shape)} and type {targets.dtype}",
            expected="(batch, labels), filled up with -100",
        )
    lengths, needed = string_lengths(targets), frames_needed(targets)
    within = torch.arange(targets.shape[1], device=targets.device) < lengths[:, None]
    for row in _first((within != (targets >= 0)).any(1)):
        raise UserError(
            f"row {row} of a batch: its targets are no string of class numbers",
            got=targets[row].tolist(),
            expected="numbers from 0, then -100 to the end",
        )
    for row in _first(needed.clamp(min=1) > frames):
        labels, has = int(lengths[row]), int(frames[row])
        raise UserError(
            f"row {row} of a batch: its string is longer than its sound, so that nothing aligns the two",
            got=f"{labels} label{'s' * (labels != 1)} in {has} frame{'s' * (has != 1)}",
            expected=f"{max(1, int(needed[row]))} frames or more: one a label, one between two equal ones",
            hint="leave that example out, or lower data.hop, which gives more frames a second",
        )


def _first(found: Tensor) -> list[int]:
    """The first place where `found` holds, or none."""
    return found.nonzero().flatten()[:1].tolist()


def _count(targets: Int[Tensor, "batch labels"]) -> int:
    return int(string_lengths(targets).clamp(min=1).sum())
