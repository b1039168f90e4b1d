"""Random changes of training images, computed for a whole batch from numbers drawn per image.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
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
    swing = draws * 2 - 1
    reach = torch.tensor([SHIFT * width / 28, SHIFT * height / 28])
    move_N2 = swing[:, 4:6] * reach
    if kind == "shift":
        move_N2 = move_N2.round()
        matrix_N22 = torch.eye(2).expand(len(images), 2, 2)
    else:
        angle = swing[:, 0] * ANGLE
        across, down = 1 + swing[:, 1] * SCALE, 1 + swing[:, 2] * SCALE
        shear = swing[:, 3] * SHEAR
        cos, sin = angle.cos(), angle.sin()
        rows = (cos * across, (shear * cos - sin) * down, sin * across, (shear * sin + cos) * down)
        matrix_N22 = torch.stack(rows, dim=1).view(-1, 2, 2)
    # grid_sample measures in half the image's side
    move_N2 = move_N2 * torch.tensor([2 / width, 2 / height])
    theta_N23 = torch.cat([matrix_N22, move_N2[:, :, None]], dim=2)
    grid = F.affine_grid(theta_N23, list(images.shape), align_corners=False)
    mode = "nearest" if kind == "shift" else "bilinear"
    return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
