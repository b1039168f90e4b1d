"""Explanations as pictures: sheets of small images, and the curves of the sanity check."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from descent.explain.attribution import Attribution
from descent.explain.features import FeatureMaps, Filters
from descent.explain.maximisation import Maximised
from descent.explain.sanity import SANE, Sanity
from descent.explain.tokens import AttentionMaps
from descent.runs.figure import GRID, MUTED, drawable, drawing, headline, save

if TYPE_CHECKING:
    from descent.explain.methods import Explanation

__all__ = ["draw", "draw_sanity", "overlay"]

CELL = 1.75
MAPS_IN_A_ROW, FILTERS_IN_A_ROW, MOST_FILTERS, PICTURES_IN_A_ROW = 6, 10, 100, 5
LONGEST_NAME = 24
# Beyond this size a picture has pixels enough to be smoothed.
SHARP = 64
FOR, AGAINST = "#d9622b", "#2f6fb5"
TITLES = {
    "saliency": "Saliency",
    "smoothgrad": "SmoothGrad",
    "integrated-gradients": "Integrated gradients",
    "gradcam": "Grad-CAM",
    "occlusion": "Occlusion",
    "attention": "Attention",
    "rollout": "Attention rollout",
}
Pixels = NDArray[np.floating]


@dataclass(frozen=True)
class Cell:
    """A small picture in 0..1, grey (height, width) or colour (height, width, 3), and its title."""

    pixels: Pixels
    title: str = ""


def draw(found: Explanation, path: Path) -> Path:
    """Draws an explanation: one row an image for maps, else a sheet of what there is.

    Args:
        found: by one method or several.
        path: the PNG to write.
    """
    (name, first), *_ = found.found.items()
    if isinstance(first, Filters):
        return _draw_filters(first, path)
    if isinstance(first, Maximised):
        return _draw_maximised(found, first, path)
    if isinstance(first, FeatureMaps):
        title = f"Feature maps of {first.layer}"
        note = f"the {first.maps.shape[1]} strongest of {first.of}, each scaled by itself"
        return _sheet(list(_feature_rows(found, first)), title, note, path)
    if isinstance(first, AttentionMaps):
        note = "what the class token looks at" if first.first else "what all patches look at, in the mean"
        return _sheet(list(_attention_rows(found, first)), "Attention by layer and head", note, path)
    methods = {method: result for method, result in found.found.items() if isinstance(result, Attribution)}
    title = TITLES[name] if len(methods) == 1 else "What the network looks at"
    return _sheet(list(_map_rows(found, methods)), title, _subtitle(methods), path)


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
            wants = f"for {_short(labels[target])}" if name not in ("attention", "rollout") else ""
            title = "\n".join(filter(None, [TITLES[name] if len(methods) > 1 else "", wants]))
            row.append(Cell(overlay(picture, result.maps[number].numpy()), title))
        yield row


def _picture(found: Explanation, number: int) -> Cell:
    label = drawable(found.labels)[found.predicted[number]]
    share = f"{100 * found.probability[number]:.1f}%"
    return Cell(_pixels(found.pictures[number]), f"{_short(found.names[number])}\n{_short(label)} {share}")


def _feature_rows(found: Explanation, result: FeatureMaps) -> Iterator[list[Cell]]:
    from matplotlib import colormaps

    for number, maps in enumerate(result.maps.numpy()):
        cells = [_picture(found, number)]
        for values, channel in zip(maps, result.channels[number].tolist(), strict=True):
            low, high = min(0.0, float(values.min())), float(values.max())
            shade = (values - low) / ((high - low) or 1.0)
            cells.append(Cell(colormaps["magma"](shade)[:, :, :3], f"{channel}"))
        yield from _in_rows(cells, MAPS_IN_A_ROW)


def _attention_rows(found: Explanation, result: AttentionMaps) -> Iterator[list[Cell]]:
    import torch

    height, width = found.pictures.shape[1:3]
    for number, picture in enumerate(found.pictures):
        for place, layer in enumerate(result.layers):
            heads = result.pictures[place, number].mean(1)
            full = torch.nn.functional.interpolate(heads[None], (height, width), mode="bilinear")[0].numpy()
            first = _picture(found, number) if place == 0 else Cell(_pixels(picture))
            named = [f"{layer}\nhead {head}" if not head else f"head {head}" for head in range(len(full))]
            maps = [overlay(picture, values) for values in full]
            yield [first, *(Cell(pixels, title) for pixels, title in zip(maps, named, strict=True))]


def _draw_filters(result: Filters, path: Path) -> Path:
    """The filters, those with the largest weights first where there are too many to show."""
    kernels, count = result.scaled, len(result.kernels)
    if count > MOST_FILTERS:
        sizes = result.kernels.square().sum((1, 2, 3))
        kernels = kernels[sizes.argsort(descending=True, stable=True)[:MOST_FILTERS].sort().values]
    cells = [Cell(_pixels(kernel.permute(1, 2, 0).numpy())) for kernel in kernels]
    shape = " x ".join(map(str, result.kernels.shape[1:]))
    shown = (
        f"{count} of {shape}" if count <= MOST_FILTERS else f"the {MOST_FILTERS} largest of {count}, {shape}"
    )
    note = f"{result.name}: {shown}; grey is 0"
    return _sheet(_in_rows(cells, FILTERS_IN_A_ROW), "What the first layer reads", note, path, cell=0.8)


def _draw_maximised(found: Explanation, result: Maximised, path: Path) -> Path:
    mean, std = (np.array(values)[:, None, None] for values in (found.mean, found.std))
    pictures = np.clip(result.images.numpy() * std + mean, 0, 1).transpose(0, 2, 3, 1)
    labels = drawable(found.labels)
    names = [f"channel {number}" if result.layer else _short(labels[number]) for number in result.targets]
    cells = [
        Cell(_pixels(pixels), f"{name}\n{before:.3g} \N{RIGHTWARDS ARROW} {after:.3g}")
        for pixels, name, before, after in zip(
            pictures, names, result.before.tolist(), result.after.tolist(), strict=True
        )
    ]
    what = f"channels of {result.layer}" if result.layer else "each class"
    note = "found by gradient ascent; below the name its activation before and after"
    return _sheet(_in_rows(cells, PICTURES_IN_A_ROW), f"What excites {what}", note, path)


def draw_sanity(results: Sequence[Sanity], path: Path) -> Path:
    """Draws how alike each method's maps stay while the network loses its weights.

    Args:
        results: one a method, of the same model.
        path: the PNG to write.
    """
    with drawing(8.0, 4.6) as figure:
        axes = figure.add_subplot()
        for result in results:
            style = "-" if result.passed else "--"
            axes.plot(result.similarity, style, marker="o", markersize=4, label=TITLES.get(result.method))
        axes.axhline(SANE, color=MUTED, linewidth=0.9, linestyle=":")
        layers = results[0].layers
        axes.set_xticks(
            range(len(layers)), [_short(name) for name in layers], rotation=30, ha="right", size=8
        )
        axes.set_xlabel("randomised down to this layer, from the head")
        axes.set_ylabel("rank correlation with the first map")
        axes.set_ylim(min(-0.1, *(min(result.similarity) for result in results)) - 0.02, 1.04)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        headline(figure, "Sanity check", "a map that stays when the weights are lost explains no model")
        return save(figure, path)


def _sheet(
    rows: Sequence[Sequence[Cell]], title: str, subtitle: str, path: Path, *, cell: float = CELL
) -> Path:
    columns, first = max(map(len, rows)), rows[0][0].pixels
    tall = float(np.clip(first.shape[0] / first.shape[1], 0.4, 2.5))
    lines = max((small.title.count("\n") + 1 if small.title else 0) for row in rows for small in row)
    width = max(cell * columns + 0.1, 4.6)
    with drawing(width, len(rows) * (cell * tall + 0.16 * lines + 0.06) + 0.8) as figure:
        grid = figure.subplots(len(rows), columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for row, places in zip(rows, grid, strict=True):
            for small, axes in zip(row, places, strict=False):
                smooth = "antialiased" if small.pixels.shape[0] > SHARP else "nearest"
                axes.imshow(small.pixels, cmap="gray", vmin=0, vmax=1, interpolation=smooth)
                axes.set_title(small.title, size=8, pad=3)
                axes.add_patch(_frame(small.pixels.shape))
        headline(figure, title, subtitle)
        return save(figure, path)


def _frame(shape: tuple[int, ...]):
    """A hairline round an image, so that a white one has an edge."""
    from matplotlib.patches import Rectangle

    return Rectangle((-0.5, -0.5), shape[1], shape[0], fill=False, edgecolor=GRID, linewidth=1.0)


def _pixels(picture: Pixels) -> Pixels:
    return picture[:, :, 0] if picture.shape[2] == 1 else picture


def _in_rows(cells: Iterable[Cell], columns: int) -> list[list[Cell]]:
    listed = list(cells)
    return [listed[start : start + columns] for start in range(0, len(listed), columns)]


def _short(name: str) -> str:
    name = " ".join(name.split())
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
