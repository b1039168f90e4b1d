"""Images moved, mirrored, cut out, turned: where each pixel of a batch is taken from.

Legend: N images, C channels, H height, W width, X pixels of an image, A attempts.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ATTEMPTS", "Border", "affine_matrices", "crop_boxes", "pixels", "placed", "resized", "warped"]

Border = Literal["reflect", "edge", "zero"]
_PADDING: dict[Border, Literal["reflection", "border", "zeros"]] = {
    "reflect": "reflection",
    "edge": "border",
    "zero": "zeros",
}
ATTEMPTS = 10
"""Sizes that a random resized crop may try before it takes the middle of the image."""
_RATIO = (3 / 4, 4 / 3)


def pixels(length: float, side: int) -> float:
    """A length of `Augment` in pixels: from 1 on it is one already, below it is a share of the side."""
    return length if length >= 1 else length * side


def placed(
    images: UInt8[Tensor, "n channels height width"],
    moves: Int[Tensor, "n 2"],
    flipped: Bool[Tensor, "n"],
    border: Border,
) -> UInt8[Tensor, "n channels height width"]:
    """Windows of the images, some of them mirrored.

    Args:
        images: pixels.
        moves: whole pixels (columns, rows) by which the window lies to the right and down.
        flipped: which windows have left and right exchanged.
        border: what a window shows outside of the image; `reflect` does not repeat the border's pixels.
    """
    channels, height, width = images.shape[1:]
    columns_NW = torch.arange(width) + moves[:, :1]
    columns_NW = torch.where(flipped[:, None], columns_NW.flip(1), columns_NW)
    rows_NH = torch.arange(height) + moves[:, 1:]
    from_columns_NW, from_rows_NH = _inside(columns_NW, width, border), _inside(rows_NH, height, border)
    places_NX = (from_rows_NH[:, :, None] * width + from_columns_NW[:, None, :]).flatten(1)
    taken_NCX = images.flatten(2).gather(2, places_NX[:, None].expand(-1, channels, -1))
    if border == "zero":
        seen_NHW = (rows_NH == from_rows_NH)[:, :, None] & (columns_NW == from_columns_NW)[:, None, :]
        taken_NCX *= seen_NHW.flatten(1)[:, None]
    return taken_NCX.view_as(images)


def _inside(places: Int[Tensor, "n side"], side: int, border: Border) -> Int[Tensor, "n side"]:
    """The place within 0..side-1 whose pixel stands for each place."""
    if border != "reflect":
        return places.clamp(0, side - 1)
    period = max(1, 2 * (side - 1))
    places = places.remainder(period)
    return torch.minimum(places, period - places).clamp_(max=side - 1)


def crop_boxes(
    draws: Float[Tensor, "n numbers"], shares: tuple[float, float], height: int, width: int
) -> Int[Tensor, "n 4"]:
    """Random parts of an image: top, left, height and width.

    As torchvision's RandomResizedCrop finds them: the share of the area is uniform, the logarithm of the
    ratio of width to height too, up to the first of ten attempts that fits; else the largest part in the
    middle whose ratio is allowed.

    Args:
        draws: numbers in [0, 1): ten for the area, ten for the ratio, two for the place.
        shares: smallest and largest share of the area.
        height: of the images.
        width: of the images.
    """
    draws = draws.double()
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    area_NA = height * width * (shares[0] + (shares[1] - shares[0]) * draws[:, :ATTEMPTS])
    ratio_NA = (low + (high - low) * draws[:, ATTEMPTS : 2 * ATTEMPTS]).exp()
    wide_NA, tall_NA = (area_NA * ratio_NA).sqrt().round(), (area_NA / ratio_NA).sqrt().round()
    fits_NA = (wide_NA >= 1) & (wide_NA <= width) & (tall_NA >= 1) & (tall_NA <= height)
    first_N1 = fits_NA.int().argmax(1, keepdim=True)  # of equals the first
    size_N2 = torch.cat([tall_NA.gather(1, first_N1), wide_NA.gather(1, first_N1)], dim=1)
    space = torch.tensor([height, width], dtype=torch.float64)
    middle = [min(height, round(width / _RATIO[0])), min(width, round(height * _RATIO[1]))]
    found_N1 = fits_NA.any(1, keepdim=True)
    size_N2 = torch.where(found_N1, size_N2, torch.tensor(middle, dtype=torch.float64))
    corner_N2 = (draws[:, 2 * ATTEMPTS :] * (space - size_N2 + 1)).floor()
    corner_N2 = torch.where(found_N1, corner_N2, ((space - size_N2) / 2).round())
    return torch.cat([corner_N2, size_N2], dim=1).long()


def resized(
    images: Float[Tensor, "n channels height width"], boxes: Int[Tensor, "n 4"]
) -> Float[Tensor, "n channels height width"]:
    """Each image's box (top, left, height, width) brought to the size of the images, bilinear."""
    height, width = images.shape[-2:]
    top_N1, left_N1, tall_N1, wide_N1 = boxes.float().split(1, dim=1)
    rows_NH = _spread(tall_N1, height) + top_N1
    columns_NW = _spread(wide_N1, width) + left_N1
    return _sampled(images, columns_NW[:, None, :], rows_NH[:, :, None], "edge")


def _spread(length: Float[Tensor, "n 1"], count: int) -> Float[Tensor, "n count"]:
    """Where the middles of `count` equal parts of a line of pixels lie, kept between its outer pixels."""
    middles = (torch.arange(count) + 0.5) * (length / count) - 0.5
    return torch.minimum(middles.clamp_(min=0), length - 1)


def affine_matrices(
    angle: Float[Tensor, "n"],
    across: Float[Tensor, "n"],
    down: Float[Tensor, "n"],
    shear: Float[Tensor, "n"],
) -> Float[Tensor, "n 2 2"]:
    """Matrices from a pixel's place to the place it is taken from, both measured from the middle.

    Args:
        angle: radians, counterclockwise as seen.
        across: how many times as far a step to the right goes in the source.
        down: the same for a step down.
        shear: columns to the right for each row down.
    """
    # A batch's last numbers may be computed otherwise than its first; from double both round to the same.
    cos, sin = angle.double().cos().float(), angle.double().sin().float()
    rows = (cos * across, (shear * cos - sin) * down, sin * across, (shear * sin + cos) * down)
    return torch.stack(rows, dim=1).view(-1, 2, 2)


def warped(
    images: Float[Tensor, "n channels height width"],
    matrices: Float[Tensor, "n 2 2"],
    moves: Float[Tensor, "n 2"],
    border: Border,
) -> Float[Tensor, "n channels height width"]:
    """Each pixel taken, bilinear, from `matrix @ place + move` in its image.

    Args:
        images: pixels of any range.
        matrices: see `affine_matrices`.
        moves: pixels (columns, rows).
        border: what lies outside of the image; `reflect` repeats the border's pixels.
    """
    height, width = images.shape[-2:]
    x_W, y_H1 = torch.arange(width) - (width - 1) / 2, (torch.arange(height) - (height - 1) / 2)[:, None]
    matrices_N2211, moves_N211 = matrices[..., None, None], moves[..., None, None]
    columns_NHW = matrices_N2211[:, 0, 0] * x_W + matrices_N2211[:, 0, 1] * y_H1 + moves_N211[:, 0]
    rows_NHW = matrices_N2211[:, 1, 0] * x_W + matrices_N2211[:, 1, 1] * y_H1 + moves_N211[:, 1]
    return _sampled(images, columns_NHW + (width - 1) / 2, rows_NHW + (height - 1) / 2, border)


def _sampled(
    images: Float[Tensor, "n channels height width"],
    columns: Float[Tensor, "n h_or_1 width"],
    rows: Float[Tensor, "n height w_or_1"],
    border: Border,
) -> Float[Tensor, "n channels height width"]:
    """The images at places between pixels, counted from the middle of the first pixel."""
    height, width = images.shape[-2:]
    # grid_sample counts from -1 to 1 between the outer edges
    columns, rows = (2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1
    grid_NHW2 = torch.stack(torch.broadcast_tensors(columns, rows), dim=-1)
    return F.grid_sample(
        images, grid_NHW2, mode="bilinear", padding_mode=_PADDING[border], align_corners=False
    )
