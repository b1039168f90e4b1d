"""A picture of a batch: the training images of a step as the network gets them, with their labels."""

from __future__ import annotations

from math import ceil, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

from descent.data import Batches, Dataset, ImageData
from descent.data.dataset import restored
from descent.errors import UserError
from descent.runs.assemble import load_data
from descent.runs.figure import INK, MUTED, drawable, drawing, headline, png, save, short
from descent.runs.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["batch_labels", "show_batch"]

_TILE = 1.15  # inches
_LINE = 0.15
_LONGEST = 16
_SHARE = 0.005


def show_batch(recipe: Recipe, out: Path | str, step: int = 0, images: int = 64) -> Path:
    """Draws the first images of a step's batch, altered and mixed as in training, and writes them as a PNG.

    Colours are what the network gets with the normalisation taken back; a label that is shared between
    classes is written as its two largest shares.

    Args:
        recipe: one that trains on images.
        out: the PNG to write.
        step: whose batch; steps count from 0.
        images: the most that are drawn.

    Returns:
        The file.

    Raises:
        UserError: the recipe trains on something else, or the file's name is not that of a PNG.
    """
    path = png(out)
    if not isinstance(recipe.data, ImageData):
        raise UserError(
            f"{recipe.name} trains on no images",
            got=recipe.data.type,
            expected="a recipe of images",
            hint=f"`descent data batch {recipe.name}` prints its texts" if recipe.tokenizer else None,
        )
    if step < 0 or images < 1:
        raise UserError("no such batch", got=f"step {step}, {images} images", expected="step 0 or more")
    dataset, _ = load_data(recipe, progress=True)
    train = dataset.splits["train"]
    size = recipe.budget.batch_size or len(train)
    batch = Batches(train, size, recipe.seed).batch(step)
    pixels = restored(batch["inputs"][:images], dataset.preparation["mean"], dataset.preparation["std"])
    labels = batch_labels(batch["targets"][:images], drawable(dataset.labels or ()))
    return _draw(pixels, labels, f"{recipe.name} on {dataset.name}", _facts(dataset, step, size), path)


def batch_labels(
    targets: Int[Tensor, "n"] | Float[Tensor, "n classes"], names: list[str]
) -> list[list[tuple[str, float]]]:
    """For each image its class with share 1, or of a mixed one the two largest classes with their shares."""
    if targets.ndim == 1:
        return [[(names[number], 1.0)] for number in targets.tolist()]
    shares, classes = targets.topk(min(2, targets.shape[1]), dim=1)
    return [
        [(names[number], share) for number, share in zip(*row, strict=True) if share >= _SHARE]
        for row in zip(classes.tolist(), shares.tolist(), strict=True)
    ]


def _facts(dataset: Dataset, step: int, size: int) -> str:
    channels, height, width = dataset.preparation["shape"]
    return f"step {step:,}: a batch of {size:,}, inputs of {channels} x {height} x {width}"


def _draw(
    pixels: Float[Tensor, "n height width channels"],
    labels: list[list[tuple[str, float]]],
    title: str,
    facts: str,
    path: Path,
) -> Path:
    count, (height, width) = len(pixels), pixels.shape[1:3]
    columns = ceil(sqrt(count))
    rows = ceil(count / columns)
    lines = max(map(len, labels))
    tall = _TILE * min(3.0, height / width)
    step = tall + _LINE * (lines + 0.7)
    with drawing(max(columns * _TILE * 1.06 + 0.3, 4.0), rows * step + 0.9) as figure:
        axes = figure.add_subplot()
        for place, (image, label) in enumerate(zip(pixels.numpy(), labels, strict=True)):
            left, top = place % columns * _TILE * 1.06, place // columns * step
            grey = image.shape[2] == 1
            axes.imshow(
                image[:, :, 0] if grey else image,
                extent=(left, left + _TILE, top + tall, top),
                cmap="gray" if grey else None,
                vmin=0,
                vmax=1,
                interpolation="nearest" if max(height, width) < 128 else "antialiased",
            )
            _write(axes, label, left + _TILE / 2, top + tall)
        axes.set_xlim(0, columns * _TILE * 1.06)
        axes.set_ylim(rows * step, 0)
        axes.set_aspect("equal")
        axes.axis("off")
        headline(figure, title, f"{count:,} images of {facts}")
        return save(figure, path)


def _write(axes: Axes, label: list[tuple[str, float]], middle: float, below: float) -> None:
    for line, (name, share) in enumerate(label):
        text = short(name, _LONGEST)
        whole = len(label) == 1
        axes.text(
            middle,
            below + _LINE * (line + 0.25),
            text if whole else f"{text} {100 * share:.0f}%",
            ha="center",
            va="top",
            size=7.5,
            color=INK if line == 0 else MUTED,
        )
