"""Polyphonic music as frames: at every step, which keys sound, each a yes or no of its own.

    -log p(x_t | x_<t) = -sum_k [ x_tk log s(o_tk) + (1 - x_tk) log(1 - s(o_tk)) ]

with the outputs o_t of step t - 1 and the sigmoid s. N. Boulanger-Lewandowski et al., Modeling temporal
dependencies in high-dimensional sequences, 2012: the keys of its plain RNN are as independent, and those of
J. Chung et al., 2014, and of S. Bai et al., 2018.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config
from descent.objectives.objective import Batch, Objective, Phase, model_inputs

__all__ = ["Frames", "FramesConfig", "frame_losses", "real_frames"]


class FramesConfig(Config):
    type: Literal["frames"] = "frames"


class Frames(Objective):
    """The mean over real frames of the cross-entropy of all keys, in nats."""

    def __init__(self, config: FramesConfig | None = None):
        self.config = config or FramesConfig()

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int(batch["lengths"].sum())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        losses = frame_losses(model(**model_inputs(batch)), batch["targets"], batch["lengths"])
        return losses.sum() / batch["lengths"].sum().clamp(min=1)


def frame_losses(
    outputs: Float[Tensor, "batch time keys"],
    targets: Float[Tensor, "batch time keys"],
    lengths: Int[Tensor, " batch"],
) -> Float[Tensor, "batch time"]:
    """The loss of each frame in nats, summed over its keys; 0 after a row's length."""
    losses = F.binary_cross_entropy_with_logits(outputs.float(), targets, reduction="none").sum(-1)
    return losses.masked_fill(~real_frames(lengths, targets.shape[1]), 0.0)


def real_frames(lengths: Int[Tensor, " batch"], time: int) -> Bool[Tensor, "batch time"]:
    """True for the frames before each row's length."""
    return torch.arange(time, device=lengths.device) < lengths[:, None]
