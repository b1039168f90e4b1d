"""Changes of colour and sharpness for whole batches of bytes, as Pillow computes them for one image.

Sums are over whole numbers, so an image comes out the same in any batch. A factor of 1 changes nothing.

Legend: N images, C channels, H height, W width, V the 256 values of a byte.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

__all__ = [
    "autocontrast",
    "brightness",
    "contrast",
    "equalise",
    "grey",
    "hue",
    "posterise",
    "saturation",
    "sharpness",
    "solarise",
]

Images = UInt8[Tensor, "n channels height width"]
PerImage = Float[Tensor, "n"]


def _chroma_turns() -> Float[Tensor, "3 3 3"]:
    """Three matrices over red, green and blue: a turn of the hue is their sum, the second times the cosine
    of the angle and the third times its sine (NTSC's luma, and the plane of its two colour axes)."""
    red, _, blue = torch.eye(3, dtype=torch.float64)
    luma = torch.tensor([0.30, 0.59, 0.11], dtype=torch.float64)
    axes = (luma, 0.74 * (red - luma) - 0.27 * (blue - luma), 0.48 * (red - luma) + 0.41 * (blue - luma))
    to = torch.stack(axes)
    back = torch.linalg.inv(to)
    parts = (back[:, :1] @ to[:1], back[:, 1:] @ to[1:], back[:, 2:] @ to[1:2] - back[:, 1:2] @ to[2:])
    return torch.stack(parts)


def grey(images: Images) -> Int[Tensor, "n 1 height width"]:
    """Luma after ITU-R 601-2: 0.299 red + 0.587 green + 0.114 blue, rounded."""
    if images.shape[1] == 1:
        return images.int()
    red, green, blue = images.int().split(1, dim=1)
    return (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16


def brightness(images: Images, factor: PerImage) -> Images:
    """Pixels times the factor."""
    return _bytes(images.float() * factor[:, None, None, None])


def contrast(images: Images, factor: PerImage) -> Images:
    """The distance from the image's mean grey times the factor."""
    area = images.shape[-2] * images.shape[-1]
    total = grey(images).sum((1, 2, 3), dtype=torch.int64)
    mean = (2 * total + area) // (2 * area)
    return _away(images, mean.float()[:, None, None, None], factor)


def saturation(images: Images, factor: PerImage) -> Images:
    """The distance from each pixel's grey times the factor."""
    return images if images.shape[1] == 1 else _away(images, grey(images).float(), factor)


def sharpness(images: Images, factor: PerImage) -> Images:
    """The distance from the smoothed image times the factor; the outermost pixels stay.

    It is smoothed by the mean of the 3 x 3 around a pixel, itself counted five times.
    """
    if min(images.shape[-2:]) < 3:
        return images
    exact = images.float()
    tall = exact[..., :-2, :] + exact[..., 1:-1, :] + exact[..., 2:, :]
    around = tall[..., :-2] + tall[..., 1:-1] + tall[..., 2:]
    smooth = exact.clone()
    smooth[..., 1:-1, 1:-1] = ((around + 4 * exact[..., 1:-1, 1:-1]) / 13).round_()
    return _away(images, smooth, factor)


def hue(images: Images, turn: PerImage) -> Images:
    """Colours turned around the axis of greys by `turn` of a full circle; the luma stays (NTSC's YIQ)."""
    if images.shape[1] == 1:
        return images
    angle = (turn.double() * 2 * math.pi)[:, None, None]
    still, cosine, sine = _chroma_turns()
    mixed_N33 = (still + cosine * angle.cos() + sine * angle.sin()).float()[..., None, None]
    exact = images.float()
    rows = [
        exact[:, 0] * mixed_N33[:, row, 0]
        + exact[:, 1] * mixed_N33[:, row, 1]
        + exact[:, 2] * mixed_N33[:, row, 2]
        for row in range(3)
    ]
    return _bytes(torch.stack(rows, dim=1))


def autocontrast(images: Images) -> Images:
    """Each channel stretched until its darkest value is 0 and its lightest 255."""
    exact = images.float()
    low, high = exact.amin((2, 3), keepdim=True), exact.amax((2, 3), keepdim=True)
    stretched = ((exact - low) * 255 / (high - low).clamp(min=1)).floor_()
    return torch.where(high > low, stretched, exact).to(torch.uint8)


def equalise(images: Images) -> Images:
    """Each channel's values spread so that all are about equally frequent."""
    shape, area = images.shape, images.shape[-2] * images.shape[-1]
    values_RX = images.reshape(-1, area).long()
    rows = len(values_RX)
    offsets = 256 * torch.arange(rows)[:, None]
    counts_RV = torch.bincount((values_RX + offsets).flatten(), minlength=256 * rows).view(rows, 256)
    highest_R1 = values_RX.amax(1, keepdim=True)
    step_R1 = (area - counts_RV.gather(1, highest_R1)) // 255
    below_RV = counts_RV.cumsum(1) - counts_RV
    table_RV = ((step_R1 // 2 + below_RV) // step_R1.clamp(min=1)).clamp_(max=255)
    spread = table_RV.gather(1, values_RX)
    return torch.where(step_R1 > 0, spread, values_RX).to(torch.uint8).view(shape)


def solarise(images: Images, threshold: PerImage) -> Images:
    """Values from the threshold on are turned into their negative."""
    return torch.where(images >= threshold[:, None, None, None], 255 - images, images)


def posterise(images: Images, bits: Int[Tensor, "n"]) -> Images:
    """Only so many of the highest bits of each value are kept."""
    masks = 256 - (1 << (8 - bits))
    return images & masks.to(torch.uint8)[:, None, None, None]


def _away(
    images: Images, origin: Float[Tensor, "n channels_or_1 height_or_1 width_or_1"], factor: PerImage
) -> Images:
    return _bytes((images.float() - origin) * factor[:, None, None, None] + origin)


def _bytes(exact: Float[Tensor, "n channels height width"]) -> Images:
    return exact.round_().clamp_(0, 255).to(torch.uint8)
