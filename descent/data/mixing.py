"""Images with a part left out, and images mixed with one another.

Legend: N images, H height, W width, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from descent.data.geometry import pixels

__all__ = ["beta", "cut_out", "mixed", "partners"]


def cut_out(
    images: Float[Tensor, "n channels height width"], draws: Float[Tensor, "n 2"], side: float
) -> Float[Tensor, "n channels height width"]:
    """A square set to 0 in place; its middle is any pixel, so that some of it may lie outside.

    Args:
        images: normalised pixels, whose mean is 0.
        draws: numbers in [0, 1): the middle's column and row.
        side: a length as in `Augment`.
    """
    height, width = images.shape[-2:]
    tall, wide = round(pixels(side, height)), round(pixels(side, width))
    top, left = (draws[:, 1] * height).long() - tall // 2, (draws[:, 0] * width).long() - wide // 2
    return images.masked_fill_(_rectangles(top, left, top + tall, left + wide, height, width), 0.0)


def _rectangles(
    top: Int[Tensor, "n"],
    left: Int[Tensor, "n"],
    bottom: Int[Tensor, "n"],
    right: Int[Tensor, "n"],
    height: int,
    width: int,
) -> Bool[Tensor, "n 1 {height} {width}"]:
    """Where an image's rectangle lies; `bottom` and `right` are the first places after it."""
    rows_H, columns_W = torch.arange(height), torch.arange(width)
    within_NH = (rows_H >= top[:, None]) & (rows_H < bottom[:, None])
    within_NW = (columns_W >= left[:, None]) & (columns_W < right[:, None])
    return (within_NH[:, :, None] & within_NW[:, None, :])[:, None]


def partners(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whom each example is mixed with: its neighbour in the order in which the epoch visits them.

    Neighbours form pairs, so a batch of even size mostly holds both of a pair, and the partner costs
    nothing; the last of an odd number is its own.
    """
    places = np.minimum(np.arange(len(order)) ^ 1, len(order) - 1)
    found = np.empty_like(order)
    found[order] = order[places]
    return found


def beta(draws: Float[Tensor, "n"], alpha: float) -> Float[Tensor, "n"]:
    """Numbers in [0, 1) turned into numbers from Beta(alpha, alpha), by the inverse of its distribution."""
    if alpha == 1:
        return draws
    # here, as it takes long to import, and training on text or tables needs none of it
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, draws.double().numpy())).float()


def mixed(
    images: tuple[Float[Tensor, "n channels height width"], Float[Tensor, "n channels height width"]],
    labels: tuple[Int[Tensor, "n"], Int[Tensor, "n"]],
    draws: Float[Tensor, "n 4"],
    alphas: tuple[float, float],
    classes: int,
) -> tuple[Float[Tensor, "n channels height width"], Float[Tensor, "n {classes}"]]:
    """Images with their partners' parts in them, and rows with each class's share.

    Args:
        images: the images and their partners.
        labels: the class numbers of both.
        draws: numbers in [0, 1): mixup or cutmix, the own share, the rectangle's column and row.
        alphas: of mixup and of cutmix; 0 = never.
        classes: how many there are.
    """
    own, other = images
    height, width = own.shape[-2:]
    cuts_N = draws[:, 0] < (0.5 if all(alphas) else float(alphas[1] > 0))
    share_N = torch.where(cuts_N, beta(draws[:, 1], alphas[1] or 1.0), beta(draws[:, 1], alphas[0] or 1.0))
    side_N = (1 - share_N).clamp(min=0).sqrt()
    tall_N, wide_N = (height * side_N).long(), (width * side_N).long()
    middle_x, middle_y = (draws[:, 2] * width).long(), (draws[:, 3] * height).long()
    top, left = middle_y - tall_N // 2, middle_x - wide_N // 2
    foreign_N1HW = _rectangles(top, left, top + tall_N, left + wide_N, height, width)
    weight_N1HW = torch.where(
        cuts_N[:, None, None, None], (~foreign_N1HW).float(), share_N[:, None, None, None]
    )
    # Of a rectangle at the border only a part is inside, and only that counts.
    kept_N = 1 - foreign_N1HW.sum((1, 2, 3)) / (height * width)
    share_N1 = torch.where(cuts_N, kept_N, share_N)[:, None]
    own_NK, other_NK = (F.one_hot(numbers, classes) for numbers in labels)
    return torch.lerp(other, own, weight_N1HW), share_N1 * own_NK + (1 - share_N1) * other_NK
