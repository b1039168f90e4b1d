"""What a recipe's `[data.augment]` table may say: the random changes of training images.

The module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import model_validator

from descent.config import Config, Field, Items
from descent.errors import nearest

__all__ = ["PRESETS", "Augment"]

Length = Annotated[float, Field(ge=0, le=4096)]
Share = Annotated[float, Field(ge=0, le=1)]


class Augment(Config):
    """Random changes of training images, drawn anew for each image in each epoch.

    They are made in the order of this list. A length (`crop`, `shift`, `cutout`) is in pixels from 1 on,
    and a share of the image's side below that. 0, empty or `none` leaves a change out. In place of the
    table stands the name of a preset; a table that changes one begins with `preset = "standard"`.

    Attributes:
        crop: the image is padded by so much on every side and cut back to its size at a random place.
        resized_crop: smallest and largest share of the area that is cut out, at a ratio of width to height
            of 3/4 to 4/3 times, and brought back to size (C. Szegedy et al., Going deeper with
            convolutions, 2015, section 6).
        flip: left and right exchanged: `random` for half of the images, `alternating` for one half in even
            epochs and for the other in odd ones, so that two epochs show both (K. Jordan, 94% on CIFAR-10
            in 3.29 seconds on a single GPU, 2024, section 3.6).
        rotate: degrees, up to so many each way.
        scale: up to this share larger or smaller, in width and height apart.
        shear: how far a row leans sideways, in shares of its distance from the middle, each way.
        shift: the way moved across and down, each way; by whole pixels where this group does nothing else.
        border: what comes in from outside in a crop or in a group from `rotate` to `shift`: the image
            mirrored at its border, its border's pixels repeated, or black.
        brightness: pixels times 1 plus or minus up to this.
        contrast: likewise, of the distance from the mean grey.
        saturation: likewise, of the distance from grey; nothing to a grey image, as is `hue`.
        hue: the colours turned by up to this share of the full circle, each way.
        randaugment: how many of the 14 operations of RandAugment are applied one after the other
            (E. Cubuk et al., RandAugment, 2020).
        magnitude: how strong they are, from 0 to 10.
        cutout: the side of a square blotted out with the mean colour; its middle may lie anywhere in the
            image (T. DeVries and G. Taylor, Improved regularization with cutout, 2017).
        mixup: alpha of Beta(alpha, alpha), from which the share of an image is drawn; another image fills
            the rest, of targets too (H. Zhang et al., mixup, 2018).
        cutmix: likewise, where the rest is a rectangle of the other image (S. Yun et al., CutMix, 2019);
            with `mixup` each image draws which of the two.
    """

    crop: Length = 0.0
    resized_crop: Items[Annotated[float, Field(gt=0, le=1)]] = ()
    flip: Literal["none", "random", "alternating"] = "none"
    rotate: float = Field(default=0.0, ge=0, le=180)
    scale: float = Field(default=0.0, ge=0, lt=1)
    shear: float = Field(default=0.0, ge=0, le=2)
    shift: Length = 0.0
    border: Literal["reflect", "edge", "zero"] = "reflect"
    brightness: Share = 0.0
    contrast: Share = 0.0
    saturation: Share = 0.0
    hue: float = Field(default=0.0, ge=0, le=0.5)
    randaugment: int = Field(default=0, ge=0, le=14)
    magnitude: float = Field(default=5.0, ge=0, le=10)
    cutout: Length = 0.0
    mixup: float = Field(default=0.0, ge=0, le=100)
    cutmix: float = Field(default=0.0, ge=0, le=100)

    @property
    def mixes(self) -> bool:
        """Whether targets become shares of classes."""
        return bool(self.mixup or self.cutmix)

    @model_validator(mode="before")
    @classmethod
    def _from_preset(cls, values: Any) -> Any:
        if isinstance(values, str):
            values = {"preset": values}
        if not isinstance(values, Mapping) or "preset" not in values:
            return values
        name = values["preset"]
        if not isinstance(name, str) or name not in PRESETS:
            near = nearest(str(name), PRESETS)
            did_you_mean = f"; did you mean {near!r}?" if near else ""
            raise ValueError(f"no such preset, expected one of {', '.join(PRESETS)}{did_you_mean}")
        return {**PRESETS[name].model_dump(), **{key: values[key] for key in values if key != "preset"}}

    @model_validator(mode="after")
    def _one_crop(self) -> Self:
        if len(self.resized_crop) not in (0, 2) or list(self.resized_crop) != sorted(self.resized_crop):
            raise ValueError("resized_crop takes two shares of the area in order, for example [0.2, 1.0]")
        if self.resized_crop and self.crop:
            raise ValueError("give crop or resized_crop, and leave the other out")
        return self


PRESETS: dict[str, Augment] = {
    "none": Augment(),
    "shift": Augment(shift=1 / 14, border="edge"),
    # 0.21 radians
    "affine": Augment(rotate=12.0, scale=0.12, shear=0.15, shift=1 / 14, border="edge"),
    "standard": Augment(crop=0.125, flip="random"),
}
"""Named tables: `shift` and `affine` for digits and letters (2 pixels of 28), `standard` for natural
pictures (4 pixels of 32 and a flip)."""
