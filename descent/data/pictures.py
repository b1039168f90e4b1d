"""Image files through Pillow, under a list of formats and a cap on pixels.

Every image becomes 8-bit grey or colour: 16 bits are scaled down, CMYK and palettes converted,
transparency laid on white, the first frame of an animation taken, a camera's rotation applied.
"""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from descent.data.textfiles import missing
from descent.errors import UserError

__all__ = ["FORMATS", "MAX_PIXELS", "Fit", "look", "open_image", "read_image", "room", "to_array"]

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "PPM")
MAX_PIXELS = 50_000_000
_DEEP = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
# What Pillow's readers raise on bytes that lie.
_BROKEN = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    OverflowError,
    MemoryError,
    LookupError,
    TypeError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ASIDE = tuple(_TURNS[number] for number in (5, 6, 7, 8))
# Pillow warns of sizes that are refused here, and of notes that are then not heeded. Silenced for good, as
# threads that decode may not change filters for a while.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", message="Corrupt EXIF data")

Fit = Literal["crop", "pad", "stretch"]


def open_image(path: Path, for_size: tuple[int, int] | None = None) -> Image.Image:
    """A decoded image; the header's size is checked before any pixel is read.

    Args:
        path: the file.
        for_size: height and width it will be scaled to; a JPEG more than twice as large is decoded at a half,
            a quarter or an eighth, which costs that much less. Leave it out for every pixel.

    Raises:
        UserError: not there, no accepted format, broken, cut short, or more than 50 million pixels.
    """
    with _opened(path) as image:
        if for_size:
            longest = 2 * max(for_size)  # a rotation may still swap the sides
            image.draft(None, (longest, longest))  # type: ignore[arg-type]  # None keeps the mode
        image.load()
        # 16 bits in 32: said here, as nothing in the values tells a dark picture of 16 from one of 8
        return _upright(image.convert("I;16") if image.mode == "I" else image, _turn(image))


def look(path: Path) -> tuple[int, int, bool]:
    """Height, width and whether it has no colour (a palette counts as colour), from the header alone.

    The sides of a JPEG are those after a camera's rotation is applied.

    Raises:
        UserError: as `open_image`.
    """
    with _opened(path) as image:
        # a PNG may say it behind its pixels only
        aside = image.format in ("JPEG", "MPO") and _turn(image) in _ASIDE
        height, width = (image.width, image.height) if aside else (image.height, image.width)
        return height, width, image.mode in ("1", "L", "LA", "La", *_DEEP)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file with its header read and its size checked; what the block raises is put in plain words."""
    if not path.is_file():
        raise missing(path)
    with _plainly(path), Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            size = f"{image.width:,} x {image.height:,}"
            raise UserError(f"{path} is too large", got=size, expected=f"up to {MAX_PIXELS:,} pixels")
        yield image


@contextmanager
def _plainly(name: Path | str) -> Iterator[None]:
    """What Pillow raises on the image of that name, in plain words."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{name} is too large", expected=f"up to {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is no image of an accepted format", expected=", ".join(FORMATS)) from None
    except _BROKEN as error:
        raise UserError(f"{name} is a broken image: {error}") from None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """How a camera says that its picture must be turned; a note that cannot be read says nothing."""
    try:
        return _TURNS.get(image.getexif().get(_ORIENTATION, 1))
    except _BROKEN:
        return None


def _upright(image: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    """A copy without the file, turned as the camera was held."""
    return image.copy() if turn is None else image.transpose(turn)


def read_image(
    image: Image.Image | Path, channels: int, size: tuple[int, int], fit: Fit
) -> NDArray[np.uint8]:
    """An image, or the one in a file, as `to_array` gives it.

    Raises:
        UserError: as `open_image`; or its pixels cannot be converted.
    """
    picture = image if isinstance(image, Image.Image) else open_image(image, size)
    with _plainly(image if isinstance(image, Path) else "this"):
        return to_array(picture, channels, size, fit)


def room(count: int, channels: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Memory for so many images, not yet filled.

    Raises:
        UserError: there is not so much.
    """
    shape = (count, channels, *size)
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError:
        raise UserError(
            f"{count:,} images of {channels} x {size[0]} x {size[1]} do not fit into memory",
            got=f"{math.prod(shape) / 1e9:,.1f} GB",
            hint="use a smaller data.size",
        ) from None


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
    if picture.size != (size[1], size[0]):
        picture = _fitted(picture, size, fit)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels[None].copy() if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _fitted(picture: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    height, width = size
    how = Image.Resampling.BILINEAR
    if fit == "stretch":
        return picture.resize((width, height), how)
    if fit == "crop":
        return ImageOps.fit(picture, (width, height), how)
    scale = min(width / picture.width, height / picture.height)
    sides = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    ground = Image.new(picture.mode, (width, height), picture.getpixel((0, 0)))  # type: ignore[arg-type]
    ground.paste(picture.resize(sides, how), ((width - sides[0]) // 2, (height - sides[1]) // 2))
    return ground


def _eight_bits(image: Image.Image) -> Image.Image:
    """Deep grey scaled to 8 bits: by 257 where 16 bits are used, as it is where 8 suffice.

    Raises:
        ValueError: a pixel is infinite or no number.
    """
    if image.mode not in _DEEP:
        return image
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has pixels that are infinite or no numbers")
    top = float(values.max(initial=0))
    scale = (
        1 / 257
        if image.mode.startswith("I;16") or top > 255
        else 255
        if image.mode == "F" and top <= 1
        else 1
    )
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))
