"""preprocessor_config.json: how a picture becomes the input of a published classifier, and our own way back.

    theirs: resize -> maybe crop the middle -> * rescale_factor -> (x - image_mean) / image_std
    ours:   {"kind": "images", "shape", "fit", "mean", "std", "labels"} of `descent.data.preparation`

Different here: a picture is always resized, and bilinearly; the middle is cropped without the border that
`crop_pct` leaves around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from descent.errors import UserError
from descent.weights.fields import size_of

FILE = "preprocessor_config.json"
_WARPED = 384
"""ConvNextImageProcessor, which ResNets come with, crops up to this side and stretches from it on."""


def size_and_fit(table: Mapping[str, Any], where: str) -> tuple[tuple[int, int], str]:
    """Height and width a picture is brought to, and how: "crop" the middle, or "stretch".

    Raises:
        UserError: the file describes neither.
    """
    size, edge = table.get("size"), None
    if table.get("do_center_crop", "crop_size" in table) and "crop_size" in table:
        crop = table["crop_size"]
        return _sides(crop, where, "crop_size"), "crop"
    crops = "ConvN" in str(table.get("image_processor_type", table.get("feature_extractor_type", "")))
    if isinstance(size, dict) and size.keys() == {"shortest_edge"}:
        edge, crops = size["shortest_edge"], crops or "crop_pct" in table
        if not crops:
            raise UserError(
                f"{where}: size gives only the shorter side, and nothing says what is cropped", got=size
            )
        size = edge
    elif not isinstance(size, int):
        crops = False
    height, width = _sides(size, where, "size")
    return (height, width), "crop" if crops and height < _WARPED else "stretch"


def _sides(value: Any, where: str, name: str) -> tuple[int, int]:
    pair = [value["height"], value["width"]] if _is_pair(value) else value
    return size_of(pair, where, name)


def _is_pair(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() == {"height", "width"}


def preparation_from(
    table: Mapping[str, Any], inputs: Sequence[int], labels: Sequence[str] | None, where: str
) -> dict[str, Any]:
    """Our preparation for a model with these inputs (channels, height, width).

    Raises:
        UserError: a field that is missing, or has no meaning for this model.
    """
    channels = inputs[0]
    factor = table.get("rescale_factor", 1 / 255) if table.get("do_rescale", True) else 1.0
    if not _positive(factor):
        raise UserError(f"{where}: rescale_factor", got=factor, expected="a number over 0")
    mean, std = [0.0] * channels, [1.0] * channels
    if table.get("do_normalize", True):
        mean = _per_channel(table, "image_mean", channels, where)
        std = _per_channel(table, "image_std", channels, where)
        if not all(_positive(value) for value in std):
            raise UserError(f"{where}: image_std", got=std, expected="numbers over 0")
    unit = 1 if math.isclose(factor, 1 / 255, rel_tol=1e-6) else 255 * factor  # ours are for pixels in 0..1
    return images(
        inputs,
        size_and_fit(table, where)[1],
        [value / unit for value in mean],
        [value / unit for value in std],
        labels,
    )


def images(
    inputs: Sequence[int], fit: str, mean: Sequence[float], std: Sequence[float], labels: Sequence[str] | None
) -> dict[str, Any]:
    """A preparation of images, in the form a run keeps it."""
    named = {} if labels is None else {"labels": list(labels)}
    return {
        "kind": "images",
        "shape": list(inputs),
        "fit": fit,
        "mean": list(mean),
        "std": list(std),
        **named,
    }


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _per_channel(table: Mapping[str, Any], name: str, channels: int, where: str) -> list[float]:
    value = table.get(name)
    values: list[Any] = value if isinstance(value, list) else [value] * channels
    if len(values) != channels or any(type(number) not in (int, float) for number in values):
        raise UserError(f"{where}: {name}", got=value, expected=f"{channels} numbers, one per channel")
    return [float(number) for number in values]


def preprocessor_to(preparation: Mapping[str, Any]) -> dict[str, Any]:
    """The preprocessor_config.json for a preparation of images.

    What is padded here is stretched there, which has no word for it; pictures of the model's own size are
    left alone by both.
    """
    _, height, width = preparation["shape"]
    common = {
        "do_resize": True,
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preparation["mean"]),
        "image_std": list(preparation["std"]),
    }
    size = {"height": height, "width": width}
    if preparation["fit"] != "crop":
        return {"image_processor_type": "ViTImageProcessor", "size": size, **common}
    return {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": max(height, width)},
        "do_center_crop": True,
        "crop_size": size,
        **common,
    }
