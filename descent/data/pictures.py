"""Image files through Pillow, under a list of formats and a cap on pixels.

Every image becomes 8-bit grey or colour: 16 bits are scaled down, CMYK and palettes converted,
transparency laid on white, the first frame of an animation taken, a camera's rotation applied.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from descent.data.textfiles import missing
from descent.errors import UserError

__all__ = ["FORMATS", "MAX_PIXELS", "SUFFIXES", "look", "open_image", "to_array"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".ppm", ".pgm", ".pbm")
MAX_PIXELS = 50_000_000
_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")

Fit = Literal["crop", "pad", "stretch"]


def open_image(path: Path) -> Image.Image:
    """A decoded image; the header's size is checked before any pixel is read.

    Raises:
        UserError: not there, no accepted format, broken, cut short, or more than 50 million pixels.
    """
    with _opened(path) as image:
        image.load()
        return image.copy() if getattr(image, "n_frames", 1) > 1 else _upright(image)


def look(path: Path) -> tuple[int, int, bool]:
    """Height, width and whether it has no colour (a palette counts as colour), from the header alone.

    Raises:
        UserError: as `open_image`.
    """
    with _opened(path) as image:
        return image.height, image.width, image.mode in ("1", "L", "LA", "La", *_DEEP)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file with its header read and its size checked; what the block raises is put in plain words."""
    if not path.is_file():
        raise missing(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    size = f"{image.width:,} x {image.height:,}"
                    raise UserError(f"{path} is too large", got=size, expected=f"up to {MAX_PIXELS:,} pixels")
                yield image
    except Image.DecompressionBombError:
        raise UserError(f"{path} is too large", expected=f"up to {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is no image of an accepted format", expected=", ".join(FORMATS)) from None
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        OverflowError,
        MemoryError,
        IndexError,
        KeyError,
    ) as error:
        raise UserError(f"{path} is a broken image: {error}") from None


def _upright(image: Image.Image) -> Image.Image:
    return ImageOps.exif_transpose(image) or image


def to_array(image: Image.Image, channels: int, size: tuple[int, int], fit: Fit) -> NDArray[np.uint8]:
    """An image of any mode and size as bytes of (channels, height, width).

    Args:
        image: decoded.
        channels: 1 or 3.
        size: height, width.
        fit: `crop` the middle after scaling, `pad` with the corner's colour, or `stretch`.
    """
    picture = _eight_bits(image)
    if picture.mode in ("RGBA", "LA", "La", "RGBa", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(ground, picture)
    picture = picture.convert("L" if channels == 1 else "RGB")
    height, width = size
    if picture.size != (width, height):
        how = Image.Resampling.BILINEAR
        if fit == "stretch":
            picture = picture.resize((width, height), how)
        elif fit == "crop":
            picture = ImageOps.fit(picture, (width, height), how)
        else:
            picture = ImageOps.pad(picture, (width, height), how, color=picture.getpixel((0, 0)))  # type: ignore[arg-type]
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None].copy() if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deep grey scaled to 8 bits: by 257 where 16 bits are used, as it is where 8 suffice."""
    if image.mode not in _DEEP:
        return image
    values = np.asarray(image, dtype=np.float64)
    top = float(values.max(initial=0))
    scale = (
        1 / 257
        if image.mode.startswith("I;16") or top > 255
        else 255
        if image.mode == "F" and top <= 1
        else 1
    )
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))
