"""The sanity check of explanations: a map that stays when the weights are lost explains no model."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.explain.attribution import Attribution, Target, chosen
from descent.explain.probes import as_input, at_rest

__all__ = ["SANE", "Sanity", "randomised", "sanity_check", "similarity"]

SANE = 0.5
"""A method passes when its maps are less alike than this once all weights are lost."""


@dataclass(frozen=True)
class Sanity:
    """How alike a method's maps stay as a network is randomised from its head down.

    Attributes:
        method: its name.
        layers: the module randomised last at each point, all those above it being random too; the first
            point is the model as it is.
        similarity: at each point the mean over the images of the rank correlation with the first maps.
    """

    method: str
    layers: tuple[str, ...]
    similarity: tuple[float, ...]

    @property
    def passed(self) -> bool:
        """Whether the maps depend on what the network has learned."""
        return self.similarity[-1] < SANE


def sanity_check(
    model: nn.Module,
    inputs: Float[Tensor, "batch channels height width"],
    method: Callable[..., Attribution],
    target: Target = None,
    *,
    points: int = 8,
    seed: int = 0,
) -> Sanity:
    """Randomises a copy of the model from the head down and compares a method's maps with the first ones.

    Adebayo et al. (2018), "Sanity Checks for Saliency Maps", section 3: the cascading randomisation. Maps
    are compared with their signs by Spearman's rank correlation. Different: a layer's weights are put in
    another order instead of being drawn anew, so that their sizes stay and a start at zero or at the
    identity is none either; the paper compares by HOG and SSIM too.

    Args:
        model: images to logits; it is not touched.
        inputs: normalised, as the model takes them.
        method: `saliency`, `gradcam` or another function of model, inputs and target to an `Attribution`.
        target: the class explained throughout; the one the model predicts by default.
        points: maps to compare; where the model has more layers, several are randomised at a time.
        seed: of the new order.
    """
    with at_rest(model), torch.no_grad():
        wanted = chosen(model(as_input(model, inputs)), target).cpu()
    first = method(model, inputs, wanted)
    names, values = ["none"], [1.0]
    for name, changed in randomised(model, points, seed):
        maps = method(changed, inputs, wanted).maps
        pairs = zip(first.maps, maps, strict=True)
        names.append(name)
        values.append(float(np.mean([similarity(a, b) for a, b in pairs])))
    return Sanity(first.method, tuple(names), tuple(values))


def similarity(a: Float[Tensor, "height width"], b: Float[Tensor, "height width"]) -> float:
    """Spearman's rank correlation of two maps.

    One that is the same everywhere has no ranks: it is like another such map (1) and unlike any other (0).
    """
    from scipy.stats import spearmanr

    flat = [bool(x.max() == x.min()) for x in (a, b)]
    if any(flat):
        return float(all(flat))
    ranked: Any = spearmanr(a.flatten().numpy(), b.flatten().numpy())
    return float(ranked.statistic)


def randomised(model: nn.Module, points: int, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """One copy of the model, its modules randomised one after the other from the head down.

    Args:
        model: not touched.
        points: how often it is given at most, each time with more of it randomised, at last with all.
        seed: of the order that the values of each tensor are put in.
    """
    with torch.inference_mode(False):
        changed = copy.deepcopy(model)
    source = torch.Generator().manual_seed(seed)
    held = [(name, tensors) for name, module in changed.named_modules() if (tensors := _tensors(module))]
    together = math.ceil(len(held) / max(1, points))
    for number, (name, tensors) in enumerate(reversed(held), start=1):
        for tensor in tensors:
            order = torch.randperm(tensor.numel(), generator=source).to(tensor.device)
            with torch.no_grad():
                tensor.copy_(tensor.flatten()[order].view_as(tensor))
        if number % together == 0 or number == len(held):
            yield name or "input", changed


def _tensors(module: nn.Module) -> list[Tensor]:
    """A module's own weights and buffers; whole numbers, such as counts of batches, are none."""
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [tensor for tensor in own if tensor.is_floating_point()]
