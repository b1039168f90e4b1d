"""Random changes of training images, computed for a whole batch from numbers drawn per image.

Legend: N images, C channels, H height, W width, X pixels of an image.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

__all__ = ["DRAWS", "alter"]

DRAWS = 6
"""Random numbers used per image: angle, two scales, shear, two shifts."""

ANGLE = 0.21  # radians, about 12 degrees each way
SCALE = 0.12
SHEAR = 0.15
SHIFT = 2.0  # pixels at 28 pixels a side, in proportion otherwise


def alter(
    images: Float[Tensor, "n channels height width"],
    draws: Float[Tensor, "n six"],
    kind: Literal["shift", "affine"],
) -> Float[Tensor, "n channels height width"]:
    """Images moved by whole pixels (`shift`), or rotated, scaled, sheared and moved (`affine`).

    Args:
        images: pixels of any range.
        draws: numbers in [0, 1), one row per image.
        kind: see above. What comes in from outside repeats the border's pixels.
    """
    height, width = images.shape[-2:]
    swing_N6 = draws * 2 - 1
    move_N2 = swing_N6[:, 4:] * torch.tensor([SHIFT * width / 28, SHIFT * height / 28])
    if kind == "shift":
        return _moved(images, move_N2.round().long())
    angle_N = swing_N6[:, 0] * ANGLE
    across_N, down_N = 1 + swing_N6[:, 1] * SCALE, 1 + swing_N6[:, 2] * SCALE
    shear_N = swing_N6[:, 3] * SHEAR
    cos, sin = angle_N.cos(), angle_N.sin()
    rows = (cos * across_N, (shear_N * cos - sin) * down_N, sin * across_N, (shear_N * sin + cos) * down_N)
    matrix_N22 = torch.stack(rows, dim=1).view(-1, 2, 2)
    # grid_sample measures in half the image's side
    half_N2 = move_N2 * torch.tensor([2 / width, 2 / height])
    theta_N23 = torch.cat([matrix_N22, half_N2[:, :, None]], dim=2)
    grid_NHW2 = F.affine_grid(theta_N23, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid_NHW2, mode="bilinear", padding_mode="border", align_corners=False)


def _moved(
    images: Float[Tensor, "n channels height width"], move: Int[Tensor, "n 2"]
) -> Float[Tensor, "n channels height width"]:
    """Each pixel taken from `move` (columns, rows) further on; beyond the border, from the border."""
    channels, height, width = images.shape[1:]
    columns_NW = (torch.arange(width) + move[:, :1]).clamp(0, width - 1)
    rows_NH = (torch.arange(height) + move[:, 1:]).clamp(0, height - 1)
    places_NX = (rows_NH[:, :, None] * width + columns_NW[:, None, :]).flatten(1)
    taken_NCX = images.flatten(2).gather(2, places_NX[:, None].expand(-1, channels, -1))
    return taken_NCX.view_as(images)
