"""Maps of regions: Grad-CAM, and occlusion by a window.

Legend: N images, K channels of a layer, C channels, H height, W width, T tokens, D width of a token.
"""

from __future__ import annotations

from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.attribution import BATCH, Attribution, Target, chosen, resized, score, scores_of
from descent.explain.probes import as_input, at_rest, layers, probe
from descent.nn.attention import Attention

__all__ = ["as_maps", "default_layer", "gradcam", "occlusion", "token_grid"]

LEAST_SIDE = 3


def gradcam(
    model: nn.Module,
    inputs: Float[Tensor, "batch channels height width"],
    target: Target = None,
    *,
    layer: str | None = None,
) -> Attribution:
    """ReLU of a layer's maps, summed with the mean gradients of the score by each map as weights.

    Selvaraju et al. (2017), "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", equations 1 and 2. A Transformer's tokens are read as maps, without its class token.

    Args:
        model, inputs, target: as in `saliency`.
        layer: whose maps; see `default_layer`.
    """
    with at_rest(model), torch.enable_grad():
        name = layer or default_layer(model, inputs)
        x_NCHW = as_input(model, inputs).requires_grad_(True)
        with probe(model, [name]) as seen:
            outputs_NK = model(x_NCHW)
        if name not in seen:
            raise UserError(f"the layer {name!r} gives no tensor")
        wanted_N, held = chosen(outputs_NK, target), seen[name]
        maps_NKHW = as_maps(model, held, name)
        (slope,) = torch.autograd.grad(score(outputs_NK, wanted_N).sum(), held, allow_unused=True)
    if slope is None:
        raise UserError(f"the score does not depend on the layer {name!r}", hint="choose an earlier layer")
    weights_NK11 = as_maps(model, slope, name).mean((2, 3), keepdim=True)
    found_NHW = (weights_NK11 * maps_NKHW).sum(1).relu().detach()
    return Attribution("gradcam", resized(found_NHW, inputs).cpu(), wanted_N.cpu(), layer=name)


def default_layer(model: nn.Module, inputs: Float[Tensor, "batch channels height width"]) -> str:
    """The deepest layer with maps worth looking at: the last one of at least 3 x 3 places.

    A part made of layers is preferred to a single one, for it ends behind its activation. Of a Transformer
    it is what enters the last attention, since the class token alone leaves that block.

    Raises:
        UserError: the model keeps no map.
    """
    found = layers(model, inputs)
    attentions = [name for name, module in model.named_modules() if isinstance(module, Attention)]
    names = [layer.name for layer in found]
    if attentions and f"{attentions[-1]}_norm" in names:
        return f"{attentions[-1]}_norm"
    maps = [layer.name for layer in found if len(layer.shape) == 3 and min(layer.shape[1:]) >= LEAST_SIDE]
    if not maps:
        raise UserError(
            f"a {type(model).__name__} keeps no maps: none of its layers knows places in the image",
            hint="choose saliency, smoothgrad, integrated-gradients or occlusion",
        )
    parts = [name for name in maps if next(model.get_submodule(name).children(), None) is not None]
    return (parts or maps)[-1]


def as_maps(model: nn.Module, held: Tensor, name: str) -> Float[Tensor, "batch maps rows columns"]:
    """A layer's output as maps: it is so already, or a row of tokens is laid out as their grid.

    Raises:
        UserError: it has neither maps nor tokens.
    """
    if held.dim() == 4:
        return held
    if held.dim() == 3:
        first, rows, columns = token_grid(model, held.shape[1])
        return held[:, first:].transpose(1, 2).unflatten(2, (rows, columns))
    shape = " x ".join(map(str, held.shape[1:]))
    raise UserError(
        f"the layer {name!r} has no maps", got=f"{shape} numbers an image", hint="choose a layer before it"
    )


def token_grid(model: nn.Module, tokens: int) -> tuple[int, int, int]:
    """How many tokens come before those of the patches, and the rows and columns of patches.

    Raises:
        UserError: the tokens are not those of a grid of patches.
    """
    rows, columns = getattr(getattr(model, "config", None), "grid", (0, 0))
    first = tokens - rows * columns
    if not rows or first not in (0, 1):
        raise UserError(f"the {tokens} tokens of this {type(model).__name__} are no patches of an image")
    return first, rows, columns


def occlusion(
    model: nn.Module,
    inputs: Float[Tensor, "batch channels height width"],
    target: Target = None,
    *,
    window: int = 0,
    stride: int = 0,
    fill: float | Tensor = 0.0,
) -> Attribution:
    """How far the score falls where a window hides the image: the mean over the windows on a pixel.

    Zeiler, Fergus (2014), "Visualizing and Understanding Convolutional Networks", section 4.2. Different:
    the logit, not the probability, which says little where it is near 1.

    Args:
        model, inputs, target: as in `saliency`.
        window: side of the square in pixels; 0 = a quarter of the image's shorter side.
        stride: pixels from one place to the next; 0 = a quarter of the window. The last window of a row
            ends with the image.
        fill: what the window holds, in normalised units: a number or what broadcasts to an image.
    """
    height, width = inputs.shape[-2:]
    side = window or max(1, min(height, width) // 4)
    step = stride or max(1, side // 4)
    if not 0 < side <= min(height, width) or step < 1:
        raise UserError("the window does not fit the image", got=(side, step), expected=f"{height} x {width}")
    corners = list(product(_starts(height, side, step), _starts(width, side, step)))
    with at_rest(model), torch.no_grad():
        x_NCHW = as_input(model, inputs)
        outputs_NK = model(x_NCHW)
        wanted_N = chosen(outputs_NK, target)
        whole_N = score(outputs_NK, wanted_N)
        value = torch.as_tensor(fill, dtype=x_NCHW.dtype, device=x_NCHW.device).expand_as(x_NCHW[0])
        total_NHW, times_HW = torch.zeros_like(x_NCHW[:, 0]), torch.zeros_like(x_NCHW[0, 0])
        per_pass = max(1, BATCH // len(x_NCHW))
        for begin in range(0, len(corners), per_pass):
            some = corners[begin : begin + per_pass]
            hidden = x_NCHW.repeat(len(some), 1, 1, 1).unflatten(0, (len(some), -1))
            for images_NCHW, (top, left) in zip(hidden, some, strict=True):
                here = (..., slice(top, top + side), slice(left, left + side))
                images_NCHW[here] = value[here]
            falls = whole_N - scores_of(model, hidden.flatten(0, 1), wanted_N.repeat(len(some))).view(
                len(some), -1
            )
            for fall_N, (top, left) in zip(falls, some, strict=True):
                here = (..., slice(top, top + side), slice(left, left + side))
                total_NHW[here] += fall_N[:, None, None]
                times_HW[here] += 1
    return Attribution("occlusion", (total_NHW / times_HW.clamp(min=1)).cpu(), wanted_N.cpu())


def _starts(length: int, side: int, step: int) -> list[int]:
    last = length - side
    return sorted({*range(0, last + 1, step), last})
