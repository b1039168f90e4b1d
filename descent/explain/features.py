"""What layers hold: the kernels that read the picture, and the maps of any layer.

Legend: N images, F filters, M maps shown, C channels, H height, W width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.probes import as_input, at_rest, probe
from descent.explain.region import as_maps, default_layer

__all__ = ["FeatureMaps", "Filters", "feature_maps", "filters"]


@dataclass(frozen=True)
class Filters:
    """The weights that read the picture.

    Attributes:
        name: of the tensor in the model's state.
        kernels: one small picture a filter, the weights as they are.
    """

    name: str
    kernels: Float[Tensor, "filters channels rows columns"]

    @property
    def scaled(self) -> Float[Tensor, "filters channels rows columns"]:
        """Each kernel in 0..1, its weight 0 at 0.5 and its greatest weight at one of the ends."""
        greatest = self.kernels.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)
        return 0.5 + 0.5 * self.kernels / greatest


@dataclass(frozen=True)
class FeatureMaps:
    """The strongest maps of a layer.

    Attributes:
        layer: its name.
        maps: as the layer gave them, the strongest first.
        channels: their numbers in the layer.
        of: how many the layer has.
    """

    layer: str
    maps: Float[Tensor, "batch shown rows columns"]
    channels: Int[Tensor, "batch shown"]
    of: int


def filters(model: nn.Module, shape: tuple[int, int, int] | None = None) -> Filters:
    """The first layer's weights as pictures.

    They are the kernels of the first convolution or of a ViT's patches, the whitening kernels of
    `Airbench`, or the rows of a matrix that reads the whole picture.

    Args:
        model: reads pictures.
        shape: channels, height and width of a picture; that of `model.config.inputs` by default.

    Raises:
        UserError: no weights of the model read a picture of this shape.
    """
    inputs = tuple(shape or getattr(getattr(model, "config", None), "inputs", ()))
    if len(inputs) != 3:
        raise UserError(
            "filters are those of a model that reads pictures", got=inputs, expected="channels, height, width"
        )
    for name, held in model.state_dict().items():
        if held.dim() == 4 and held.shape[1] == inputs[0]:
            return Filters(name, held.detach().float().cpu().clone())
        if held.dim() == 2 and held.shape[1] == math.prod(inputs):
            return Filters(name, held.detach().float().cpu().clone().view(-1, *inputs))
    raise UserError("no weights of this model read pictures of that shape", got=" x ".join(map(str, inputs)))


def feature_maps(
    model: nn.Module,
    inputs: Float[Tensor, "batch channels height width"],
    layer: str | None = None,
    top: int = 16,
) -> FeatureMaps:
    """A layer's maps for each image, those with the greatest mean size first.

    Args:
        model: any network that keeps maps, or tokens of patches.
        inputs: normalised, as the model takes them.
        layer: its name (see `descent.explain.layers`); that of Grad-CAM by default.
        top: how many to give.

    Raises:
        UserError: no layer is called so, or it has no maps.
    """
    if top < 1:
        raise UserError("feature maps to give", got=top, expected="1 or more")
    name = layer or default_layer(model, inputs)
    with at_rest(model), torch.no_grad(), probe(model, [name]) as seen:
        model(as_input(model, inputs))
    if name not in seen:
        raise UserError(f"the layer {name!r} gives no tensor")
    maps_NFHW = as_maps(model, seen[name], name).float().cpu()
    order_NM = maps_NFHW.abs().mean((2, 3)).argsort(dim=1, descending=True, stable=True)[:, :top]
    kept = torch.stack([maps[order] for maps, order in zip(maps_NFHW, order_NM, strict=True)])
    return FeatureMaps(name, kept, order_NM, maps_NFHW.shape[1])
