"""Where a Transformer's tokens look: attention maps of asked rows, and attention rollout.

Legend: N images, H heads, R asked rows, T tokens, L layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.attention_text import Call, attention_parts, watching
from descent.explain.attribution import Attribution, Target, chosen, resized
from descent.explain.probes import as_input, at_rest, module_called
from descent.explain.region import token_grid
from descent.nn.attention import Attention

__all__ = ["AttentionMaps", "attention", "attention_layers", "attention_maps", "rollout"]


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights of some tokens.

    Attributes:
        layers: names of the attention layers, first to last.
        weights: what each asked row gives to every token; the weights of a row add up to 1.
        first: tokens before those of the patches: 1 with a class token, else 0.
        grid: rows and columns of patches.
    """

    layers: tuple[str, ...]
    weights: Float[Tensor, "layers batch heads asked tokens"]
    first: int
    grid: tuple[int, int]

    @property
    def pictures(self) -> Float[Tensor, "layers batch heads asked rows columns"]:
        """The weights of the patches, laid out as they lie in the image."""
        return self.weights[..., self.first :].unflatten(-1, self.grid)


def attention_layers(model: nn.Module) -> list[str]:
    """The names of the layers of self-attention, first to last."""
    return [name for name, part in attention_parts(model).items() if not part.is_cross]


def attention_maps(
    model: nn.Module,
    inputs: Float[Tensor, "batch channels height width"],
    *,
    rows: Sequence[int] | None = None,
    layers: Sequence[str] | None = None,
) -> AttentionMaps:
    """The attention weights of some tokens in some layers, by head.

    The forward pass runs as always, through the fused kernel, which never holds them; those of the asked
    rows are computed again from what enters each layer.

    Args:
        model: a Transformer over patches.
        inputs: normalised, as the model takes them.
        rows: numbers of tokens, the class token being 0 where there is one. By default the class token;
            without one, the mean of all rows, which is one row.
        layers: names of attention layers; all by default.

    Raises:
        UserError: the model has no attention, or no such layer or token.
    """
    parts = _self_attention(model, attention_layers(model) if layers is None else layers)
    kept: dict[str, Tensor] = {}

    def keep(name: str, part: Attention, call: Call) -> None:
        tokens = call.x.shape[1]
        first, *_ = token_grid(model, tokens)
        mean = rows is None and not first
        asked = range(tokens) if mean else ([0] if rows is None else rows)
        found_NHRT = part.weights_of(call.x, _checked(asked, tokens), **call.rules)
        kept[name] = found_NHRT.mean(2, keepdim=True) if mean else found_NHRT

    with watching(model, parts, keep), torch.no_grad():
        model(as_input(model, inputs))
    weights = torch.stack([kept[name] for name in parts]).float().cpu()
    first, *grid = token_grid(model, weights.shape[-1])
    return AttentionMaps(tuple(parts), weights, first, (grid[0], grid[1]))


def attention(
    model: nn.Module,
    inputs: Float[Tensor, "batch channels height width"],
    target: Target = None,
    *,
    layer: str | None = None,
) -> Attribution:
    """What the class token, or the mean token, looks at in one layer: the mean over its heads.

    The weights are the same for every class.

    Args:
        model, inputs: as in `attention_maps`.
        target: only noted.
        layer: the name of an attention layer; the last by default.
    """
    name = layer or next(reversed(attention_layers(model)), None)
    pictures = attention_maps(model, inputs, layers=None if name is None else [name]).pictures
    with at_rest(model), torch.no_grad():
        wanted_N = chosen(model(as_input(model, inputs)), target)
    return Attribution("attention", resized(pictures[0].mean(1)[:, 0], inputs), wanted_N.cpu(), layer=name)


def rollout(
    model: nn.Module, inputs: Float[Tensor, "batch channels height width"], target: Target = None
) -> Attribution:
    """Attention followed through all layers down to the patches.

    Abnar, Zuidema (2020), "Quantifying Attention Flow in Transformers", section 3: each layer is
    0.5 A + 0.5 I, A the mean over its heads and I for the residual connection, its rows add up to 1, and
    the layers are multiplied. Shown is the row of the class token, or without one the mean of all rows, and
    of it the patches. It is the same for every class.

    Args:
        model, inputs: as in `attention_maps`.
        target: only noted.
    """
    flow: list[Tensor] = []

    def follow(name: str, part: Attention, call: Call) -> None:
        tokens = call.x.shape[1]
        weights_NTT = part.weights_of(call.x, range(tokens), **call.rules).float().mean(1)
        mixed_NTT = 0.5 * weights_NTT + 0.5 * torch.eye(tokens, device=call.x.device)
        mixed_NTT = mixed_NTT / mixed_NTT.sum(-1, keepdim=True)
        flow[:] = [mixed_NTT @ flow[0] if flow else mixed_NTT]

    with watching(model, _self_attention(model, attention_layers(model)), follow), torch.no_grad():
        wanted_N = chosen(model(as_input(model, inputs)), target)
    first, *grid = token_grid(model, flow[0].shape[-1])
    row_NT = flow[0][:, 0] if first else flow[0].mean(1)
    maps_NHW = row_NT[:, first:].unflatten(1, grid)
    return Attribution("rollout", resized(maps_NHW, inputs).cpu(), wanted_N.cpu())


def _self_attention(model: nn.Module, names: Sequence[str]) -> dict[str, Attention]:
    """The layers of self-attention of these names.

    Raises:
        UserError: one of them is none, or there are none.
    """
    modules = {name: module_called(model, name) for name in names}
    found = {
        name: part for name, part in modules.items() if isinstance(part, Attention) and not part.is_cross
    }
    wrong = [name for name in modules if name not in found]
    if wrong or not found:
        kind, known = type(model).__name__, attention_layers(model)
        raise UserError(
            f"{wrong[0]!r} is no layer of self-attention" if wrong else f"a {kind} has no attention",
            expected="one of " + ", ".join(known) if known else None,
            hint=None if known else "choose gradcam or a method of gradients",
        )
    return found


def _checked(asked: Sequence[int], tokens: int) -> Sequence[int]:
    wrong = [row for row in asked if not 0 <= row < tokens]
    if wrong or not len(asked):
        raise UserError("there is no such token", got=list(asked), expected=f"0 to {tokens - 1}")
    return asked
