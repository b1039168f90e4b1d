"""From a new row or image to a model's input, by what the training split taught.

A `preparation` holds JSON values only. It stands in the dataset, is saved with a run, and is
applied here both when a dataset is loaded and when `predict` meets something new.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from descent.data.dataset import normalise
from descent.data.pictures import read_image
from descent.errors import UserError, nearest

__all__ = ["BLANKS", "encode_rows", "prepare_image", "prepare_row", "restore_target"]

BLANKS = {"", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"}
"""Cells of a table that say nothing."""
Preparation = Mapping[str, Any]
Values = TypeVar("Values", Tensor, float)


def encode_rows(preparation: Preparation, columns: Mapping[str, Any], where: str) -> NDArray[np.float64]:
    """Features of rows, not yet standardised: numbers with blanks filled, words one-hot, in order.

    Args:
        preparation: its `features` and `drop_first`.
        columns: a column of numbers (NaN = blank) or of words for every feature.
        where: for messages.
    """
    parts: list[NDArray[np.float64]] = []
    for feature in preparation["features"]:
        name, column = feature["name"], columns[feature["name"]]
        if "categories" not in feature:
            numbers = np.asarray(column, dtype=np.float64)
            parts.append(np.where(np.isnan(numbers), feature["fill"], numbers)[:, None])
            continue
        categories: list[str] = feature["categories"]
        places = {word: place for place, word in enumerate(categories)}
        for row, word in enumerate(column):
            if word not in places:
                near = nearest(str(word), categories)
                raise UserError(
                    f"{where}: {name} is {word!r} in row {row + 1:,}, which the data had nowhere",
                    expected="one of " + ", ".join(map(repr, categories)),
                    hint=f"did you mean {near!r}?" if near else None,
                )
        hot = np.eye(len(categories))[[places[word] for word in column]]
        parts.append(hot[:, 1:] if preparation["drop_first"] else hot)
    return np.concatenate(parts, axis=1)


def prepare_row(preparation: Preparation, row: Mapping[str, Any]) -> Float[Tensor, "features"]:
    """The model's input for one new row.

    Args:
        preparation: of the table the model was trained on.
        row: a value for every feature, by name; a number may be text, None or "" is a blank.

    Raises:
        UserError: a feature is missing, is not a number, or is a word no training row had.
    """
    _expect(preparation, "table")
    names = [feature["name"] for feature in preparation["features"]]
    absent = [name for name in names if name not in row]
    if absent:
        near = nearest(absent[0], row)
        raise UserError(
            f"the row lacks {', '.join(map(repr, absent))}",
            got=sorted(map(str, row)),
            hint=f"did you mean {absent[0]!r} by {near!r}?" if near else None,
        )
    columns: dict[str, Any] = {}
    for feature in preparation["features"]:
        name = feature["name"]
        value = row[name]
        if "categories" in feature:
            word = "" if value is None else str(value).strip()
            columns[name] = ["" if word in BLANKS else word]
        else:
            columns[name] = np.array([_number(name, value)])
    encoded = encode_rows(preparation, columns, "the row")[0]
    scaled = (encoded - np.array(preparation["mean"])) / np.array(preparation["std"])
    return torch.from_numpy(scaled.astype(np.float32))


def _number(name: str, value: Any) -> float:
    if value is None or (isinstance(value, str) and value.strip() in BLANKS):
        return float("nan")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise UserError(f"{name} is not a number", got=value) from None
    if np.isinf(number):
        raise UserError(f"{name} is infinite", got=value)
    return number


def restore_target(preparation: Preparation, outputs: Values) -> Values:
    """A regression's outputs, a tensor or one number, in the units of the target; others as they are."""
    if "target_std" not in preparation:
        return outputs
    return outputs * preparation["target_std"] + preparation["target_mean"]


def prepare_image(
    preparation: Preparation, image: Image.Image | str | Path
) -> Float[Tensor, "channels height width"]:
    """The model's input for one new image, of any size and mode.

    Raises:
        UserError: the file is no image of an accepted format, is broken, or is too large.
    """
    _expect(preparation, "images")
    channels, height, width = preparation["shape"]
    picture = Path(image) if isinstance(image, str) else image
    pixels = read_image(picture, channels, (height, width), preparation["fit"])
    return normalise(torch.from_numpy(pixels).float(), preparation["mean"], preparation["std"])


def _expect(preparation: Preparation, kind: str) -> None:
    if preparation.get("kind") != kind:
        noun = "rows of a table" if kind == "table" else kind
        raise UserError(f"this model was not trained on {noun}", got=preparation.get("kind"))
