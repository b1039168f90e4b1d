"""Low-rank adapters: a trained matrix stays as it is, and a product of two thin ones is learned beside it.

    y = W x + b + (alpha / rank) U D x        W (out, in) frozen; D (rank, in), U (out, rank) trained

Hu et al. (2021), "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1: D starts at random, U at
zero, so that an adapted model starts as the one it adapts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from descent.errors import UserError, nearest
from descent.nn.dropout import dropout

__all__ = ["LoRALinear", "adapted_layers", "adapter_state", "add_lora", "load_adapter", "merge_lora"]


class LoRALinear(nn.Module):
    """A linear layer with an adapter; its own matrix and bias keep their names, so that states fit.

    Args:
        linear: taken over, its parameters frozen.
        rank: of the product.
        alpha: the product is multiplied by alpha / rank.
        dropout: probability of dropping an input of the adapter.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float = 0.0):
        super().__init__()
        weight = linear.weight
        outputs, inputs = weight.shape
        self.weight, self.bias = weight.requires_grad_(False), linear.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)
        like = {"dtype": weight.dtype, "device": weight.device}
        self.lora_down = nn.Parameter(torch.empty(rank, inputs, **like).uniform_(-1, 1) * inputs**-0.5)
        self.lora_up = nn.Parameter(torch.zeros(outputs, rank, **like))
        self.scale, self.dropout = alpha / rank, dropout

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        thin = F.linear(dropout(x, self.dropout, self.training), self.lora_down)
        return F.linear(x, self.weight, self.bias) + F.linear(thin, self.lora_up) * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One plain layer that computes the same; this one is left as it is."""
        plain = nn.Linear(
            self.weight.shape[1],
            self.weight.shape[0],
            bias=self.bias is not None,
            dtype=self.weight.dtype,
            device=self.weight.device,
        )
        plain.weight.copy_(self.weight + self.scale * (self.lora_up @ self.lora_down))
        if self.bias is not None:
            plain.bias.copy_(self.bias)
        return plain

    def plain(self) -> nn.Linear:
        """The layer as it was before it was adapted."""
        linear = nn.Linear(1, 1, bias=self.bias is not None, device="meta")
        linear.weight = self.weight
        linear.bias = self.bias
        linear.out_features, linear.in_features = self.weight.shape
        return linear

    def extra_repr(self) -> str:
        outputs, inputs = self.weight.shape
        return f"{inputs}, {outputs}, rank={len(self.lora_down)}, scale={self.scale:g}"


def add_lora(
    model: nn.Module,
    rank: int,
    alpha: float,
    *,
    dropout: float = 0.0,
    targets: Sequence[str] = (),
    trained: Sequence[str] = (),
) -> list[str]:
    """Gives linear layers of a model adapters, in place, and freezes everything else.

    Args:
        model: any; its weights are not changed.
        rank, alpha, dropout: see `LoRALinear`.
        targets: names of layers, or last parts of them (`qkv`, `output`, `up`); empty = every linear layer
            outside `trained`.
        trained: prefixes of what is trained as it is, such as a new head.

    Returns:
        The names of the adapted layers.

    Raises:
        UserError: a target names no linear layer.
    """
    linear = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    for target in targets:
        if not any(_fits(name, target) for name in linear):
            known = sorted({name.rpartition(".")[2] for name in linear})
            near = nearest(target, known)
            raise UserError(
                f"adapter.targets: no linear layer is called {target!r}",
                expected="one of " + ", ".join(known),
                hint=f"did you mean {near}?" if near else None,
            )
    free = [name for name in linear if not any(_inside(name, prefix) for prefix in trained)]
    chosen = [name for name in free if not targets or any(_fits(name, target) for target in targets)]
    if not chosen:
        raise UserError(
            "adapter: the model has no linear layer to adapt outside its head",
            got=type(model).__name__,
            expected="a model of linear layers; recurrent and convolutional ones are of other matrices",
            hint="leave out adapter; transfer.decay or transfer.frozen spare what is below the head",
        )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(_inside(name, prefix) for prefix in trained))
    for name in chosen:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        _put(model, name, LoRALinear(layer, rank, alpha, dropout))
    return chosen


def adapted_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers that have adapters, by name."""
    return {name: module for name, module in model.named_modules() if isinstance(module, LoRALinear)}


def merge_lora(model: nn.Module, keep: bool = True) -> nn.Module:
    """Makes adapted layers plain again, in place: with what was learned added, or without it.

    Args:
        model: see `add_lora`.
        keep: whether the products are added to the matrices; otherwise they are dropped (unmerged).
    """
    for name, layer in adapted_layers(model).items():
        _put(model, name, layer.merged() if keep else layer.plain())
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return model


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """What was trained: the thin matrices, and parameters that were not frozen."""
    return {name: tensor.detach() for name, tensor in model.named_parameters() if tensor.requires_grad}


def load_adapter(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Fills an adapted model with what `adapter_state` gave.

    Raises:
        UserError: the state is of another model or another adapter; the differences are listed.
    """
    own = {name: tensor for name, tensor in model.named_parameters() if tensor.requires_grad}
    wrong = list(own.keys() ^ state.keys())
    wrong += [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if wrong:
        raise UserError("this adapter does not fit the model", got=", ".join(sorted(wrong)[:6]))
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(state[name])


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    model.get_submodule(parent)._modules[last] = layer


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _inside(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")
