"""Images brought to the mean and deviation that trained weights know."""

from __future__ import annotations

from collections.abc import Sequence

from descent.data import Dataset
from descent.data.dataset import ImageSplit
from descent.errors import UserError


def renormalise(dataset: Dataset, mean: Sequence[float], std: Sequence[float]) -> None:
    """Lets a set of images be normalised by other numbers than its own training split's.

    Args:
        dataset: changed in place, what prepares new images included; one of other things stays as it is.
        mean: a number a channel, of pixels in 0..1.
        std: likewise.

    Raises:
        UserError: the images have another number of channels.
    """
    if dataset.preparation.get("kind") != "images":
        return
    check_channels(dataset, len(mean))
    for split in dataset.splits.values():
        if isinstance(split, ImageSplit):
            split.mean, split.std = list(mean), list(std)
    dataset.preparation |= {"mean": list(mean), "std": list(std)}


def check_channels(dataset: Dataset, channels: int) -> None:
    """Raises a `UserError` if the images have not the channels that the weights were trained on."""
    found = dataset.sizes["inputs"][0]
    if found != channels:
        raise UserError(
            f"the weights are for images of {channels} channel{'s' if channels > 1 else ''}",
            got=f"{dataset.name}, with {found}",
            hint=f"data.channels={channels} turns the images into such",
        )
