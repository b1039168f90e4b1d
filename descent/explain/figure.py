"""Explanations as pictures: sheets of small images, and the curves of the sanity check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from descent.data.dataset import restored
from descent.explain.attribution import Attribution
from descent.explain.features import FeatureMaps, Filters
from descent.explain.maximisation import Maximised
from descent.explain.names import TABLE
from descent.explain.sanity import SANE, Sanity
from descent.explain.tokens import AttentionMaps
from descent.runs.figure import (
    MUTED,
    Cell,
    drawable,
    drawing,
    headline,
    in_rows,
    percent,
    png,
    save,
    sheet,
    short,
)

if TYPE_CHECKING:
    from descent.explain.methods import Explanation

__all__ = ["draw", "draw_sanity", "overlay"]

MAPS_IN_A_ROW, FILTERS_IN_A_ROW, MOST_FILTERS, PICTURES_IN_A_ROW = 6, 10, 100, 5
LONGEST_NAME, LONGEST_CLASS = 24, 18
Pixels = NDArray[np.floating]


def draw(found: Explanation, path: Path) -> Path:
    """Draws an explanation: one row an image for maps, else a sheet of what there is.

    Args:
        found: by one method or several.
        path: the PNG to write.
    """
    path, ((name, first), *_) = png(path), found.found.items()
    if isinstance(first, Filters):
        return _draw_filters(first, path)
    if isinstance(first, Maximised):
        return _draw_maximised(found, first, path)
    if isinstance(first, FeatureMaps):
        title = f"Feature maps of {first.layer}"
        note = f"the {first.maps.shape[1]} strongest of {first.of}, each scaled by itself"
        return sheet(list(_feature_rows(found, first)), title, note, path)
    if isinstance(first, AttentionMaps):
        reader = "what the class token looks at" if first.first else "what all patches look at, in the mean"
        note = f"{reader}; the same for every class"
        return sheet(list(_attention_rows(found, first)), "Attention by layer and head", note, path)
    methods = {method: result for method, result in found.found.items() if isinstance(result, Attribution)}
    title = TABLE[name].title if len(methods) == 1 else "What the network looks at"
    return sheet(list(_map_rows(found, methods)), title, _subtitle(methods), path)


def overlay(picture: Pixels, values: Pixels) -> Pixels:
    """A map over a faint picture: orange where it speaks for the class, blue where it speaks against it.

    The strongest value is the 99th percentile of its sizes, so that a few pixels do not hide the others
    (Smilkov et al., 2017, section 3).

    Args:
        picture: (height, width, channels) in 0..1.
        values: (height, width).
    """
    from matplotlib import colormaps

    size = np.abs(values)
    top = float(np.percentile(size, 99)) or float(size.max()) or 1.0
    strength = np.clip(size / top, 0, 1)[:, :, None]
    grey = 0.35 + 0.5 * np.repeat(picture.mean(2, keepdims=True), 3, axis=2)
    warm = colormaps["inferno"](0.6 + 0.37 * strength[:, :, 0])[:, :, :3]
    cold = colormaps["Blues"](0.45 + 0.5 * strength[:, :, 0])[:, :, :3]
    colour = np.where(values[:, :, None] < 0, cold, warm)
    cover = 0.9 * strength
    return (1 - cover) * grey + cover * colour


def _subtitle(methods: dict[str, Attribution]) -> str:
    if len(methods) > 1:
        return "each map in its own scale; blue speaks against the class"
    (result,) = methods.values()
    facts = [f"layer {result.layer}"] if result.layer else []
    if result.signed:
        facts.append("blue speaks against the class")
    if result.residual is not None and result.points is not None:
        worst = f"{float(result.residual.abs().max()):.1e}"
        facts.append(f"complete to {worst}, {int(result.points.max())} gradients")
    return "; ".join(facts) or "the stronger the colour, the more the score hangs on it"


def _map_rows(found: Explanation, methods: dict[str, Attribution]) -> Iterator[list[Cell]]:
    labels = drawable(found.labels)
    for number, picture in enumerate(found.pictures):
        row = [_picture(found, number)]
        for name, result in methods.items():
            target = int(result.target[number])
            wants = f"for {short(labels[target], LONGEST_CLASS)}" if TABLE[name].takes_target else ""
            title = "\n".join(filter(None, [TABLE[name].title if len(methods) > 1 else "", wants]))
            row.append(Cell(overlay(picture, result.maps[number].numpy()), title))
        yield row


def _picture(found: Explanation, number: int) -> Cell:
    name = short(found.names[number], LONGEST_NAME)
    label = short(drawable(found.labels)[found.predicted[number]], LONGEST_CLASS)
    return Cell(found.pictures[number], f"{name}\n{label} {percent(found.probability[number])}")


def _feature_rows(found: Explanation, result: FeatureMaps) -> Iterator[list[Cell]]:
    from matplotlib import colormaps

    for number, maps in enumerate(result.maps.numpy()):
        cells = [_picture(found, number)]
        for values, channel in zip(maps, result.channels[number].tolist(), strict=True):
            low, high = min(0.0, float(values.min())), float(values.max())
            shade = (values - low) / ((high - low) or 1.0)
            cells.append(Cell(colormaps["magma"](shade)[:, :, :3], f"{channel}"))
        yield from in_rows(cells, MAPS_IN_A_ROW)


def _attention_rows(found: Explanation, result: AttentionMaps) -> Iterator[list[Cell]]:
    import torch

    height, width = found.pictures.shape[1:3]
    for number, picture in enumerate(found.pictures):
        for place, layer in enumerate(result.layers):
            heads = result.pictures[place, number].mean(1)
            full = torch.nn.functional.interpolate(heads[None], (height, width), mode="bilinear")[0].numpy()
            first = _picture(found, number) if place == 0 else Cell(picture)
            named = [f"{layer}\nhead {head}" if not head else f"head {head}" for head in range(len(full))]
            maps = [overlay(picture, values) for values in full]
            yield [first, *(Cell(pixels, title) for pixels, title in zip(maps, named, strict=True))]


def _draw_filters(result: Filters, path: Path) -> Path:
    """The filters, those with the largest weights first where there are too many to show."""
    kernels, count = result.scaled, len(result.kernels)
    if count > MOST_FILTERS:
        sizes = result.kernels.square().sum((1, 2, 3))
        kernels = kernels[sizes.argsort(descending=True, stable=True)[:MOST_FILTERS].sort().values]
    cells = [Cell(kernel.permute(1, 2, 0).numpy()) for kernel in kernels]
    shape = " x ".join(map(str, result.kernels.shape[1:]))
    shown = (
        f"{count} of {shape}" if count <= MOST_FILTERS else f"the {MOST_FILTERS} largest of {count}, {shape}"
    )
    note = f"{result.name}: {shown}; grey is 0"
    return sheet(in_rows(cells, FILTERS_IN_A_ROW), "What the first layer reads", note, path, cell=0.8)


def _draw_maximised(found: Explanation, result: Maximised, path: Path) -> Path:
    pictures = restored(result.images, found.mean, found.std).numpy()
    labels = [short(label, LONGEST_CLASS) for label in drawable(found.labels)]
    names = [f"channel {number}" if result.layer else labels[number] for number in result.targets]
    cells = [
        Cell(pixels, f"{name}\n{before:.3g} \N{RIGHTWARDS ARROW} {after:.3g}")
        for pixels, name, before, after in zip(
            pictures, names, result.before.tolist(), result.after.tolist(), strict=True
        )
    ]
    what = f"channels of {result.layer}" if result.layer else "each class"
    note = "found by gradient ascent; below the name its activation before and after"
    return sheet(in_rows(cells, PICTURES_IN_A_ROW), f"What excites {what}", note, path)


def draw_sanity(results: Sequence[Sanity], path: Path) -> Path:
    """Draws how alike each method's maps stay while the network loses its weights.

    Args:
        results: one a method, of the same model.
        path: the PNG to write.
    """
    path = png(path)
    with drawing(8.0, 4.6) as figure:
        axes = figure.add_subplot()
        for result in results:
            style = "-" if result.passed else "--"
            axes.plot(result.similarity, style, marker="o", markersize=4, label=TABLE[result.method].title)
        axes.axhline(SANE, color=MUTED, linewidth=0.9, linestyle=":")
        layers = results[0].layers
        axes.set_xticks(
            range(len(layers)),
            [short(name, LONGEST_NAME) for name in layers],
            rotation=30,
            ha="right",
            size=8,
        )
        axes.set_xlabel("randomised down to this layer, from the head")
        axes.set_ylabel("rank correlation with the first map")
        axes.set_ylim(min(-0.1, *(min(result.similarity) for result in results)) - 0.02, 1.04)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        headline(figure, "Sanity check", "a map that stays when the weights are lost explains no model")
        return save(figure, path)
