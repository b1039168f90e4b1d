"""What the methods share: the score that is explained, its gradient, and the form of an answer.

Legend: N images, K classes, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from descent.errors import UserError

__all__ = ["Attribution", "Target", "chosen", "gradients", "resized", "score", "scores_of"]

Target = int | Sequence[int] | Tensor | None
BATCH = 32
"""Images that go through a model at once, where a method makes many of one."""


@dataclass(frozen=True)
class Attribution:
    """What part of each image a score comes from.

    Attributes:
        method: its name.
        maps: one number a pixel; signed where a pixel can speak against the class.
        target: the class explained, one an image.
        values: one number for each value of the input, for methods that give them.
        residual: of integrated gradients: sum of the values minus the difference of the scores.
        points: of integrated gradients: gradients taken for each image.
        layer: whose activations were used, for methods that use a layer's.
    """

    method: str
    maps: Float[Tensor, "batch height width"]
    target: Int[Tensor, "batch"]
    values: Float[Tensor, "batch channels height width"] | None = None
    residual: Float[Tensor, "batch"] | None = None
    points: Int[Tensor, "batch"] | None = None
    layer: str | None = None

    @property
    def signed(self) -> bool:
        """Whether some pixel speaks against the class."""
        return bool((self.maps < 0).any())


def score(outputs: Float[Tensor, "batch outputs"], target: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """The logit of each image's target class; of a single output for two classes, it or its negative."""
    if outputs.shape[1] == 1:
        return outputs[:, 0] * (2 * target - 1)
    return outputs.gather(1, target[:, None])[:, 0]


def chosen(outputs: Float[Tensor, "batch outputs"], target: Target) -> Int[Tensor, "batch"]:
    """The class to explain for each image: the given one, or the one the model predicts.

    Raises:
        UserError: there is no such class, or not one class an image.
    """
    count = outputs.shape[1]
    if target is None:
        return (outputs[:, 0] > 0).long() if count == 1 else outputs.argmax(1)
    wanted = torch.as_tensor(target, dtype=torch.long, device=outputs.device)
    if wanted.dim() and wanted.shape != outputs.shape[:1]:
        raise UserError("targets do not fit the images", got=list(wanted.shape), expected=f"{len(outputs)}")
    wanted, classes = wanted.expand(len(outputs)), max(count, 2)
    if bool(((wanted < 0) | (wanted >= classes)).any()):
        raise UserError("there is no such class", got=wanted.tolist(), expected=f"0 to {classes - 1}")
    return wanted


@torch.no_grad()
def scores_of(
    model: nn.Module, inputs: Float[Tensor, "batch channels height width"], target: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """The scores of any number of images."""
    pairs = zip(inputs.split(BATCH), target.split(BATCH), strict=True)
    return torch.cat([score(model(part), wanted) for part, wanted in pairs])


@torch.enable_grad()
def gradients(
    model: nn.Module, inputs: Float[Tensor, "batch channels height width"], target: Int[Tensor, "batch"]
) -> Float[Tensor, "batch channels height width"]:
    """The gradient of each image's score by its pixels, for any number of images."""
    found = []
    for part, wanted in zip(inputs.split(BATCH), target.split(BATCH), strict=True):
        leaf = part.detach().clone().requires_grad_(True)
        # In evaluation mode no image sees another, so the gradient of the sum holds that of each.
        found += torch.autograd.grad(score(model(leaf), wanted).sum(), leaf)
    return torch.cat(found)


def resized(
    maps: Float[Tensor, "batch rows columns"], inputs: Float[Tensor, "batch channels height width"]
) -> Float[Tensor, "batch height width"]:
    """Maps brought to the size of the images, bilinearly."""
    return F.interpolate(maps[:, None].float(), inputs.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
