"""Optimizers by configuration: SGD, Adam and AdamW from torch, Muon for matrices beside AdamW.

Every parameter has a role, and the role decides how it is stepped:

    matrix     the weight of a linear layer            weight decay; Muon's
    kernel     the weight of a convolution             weight decay; Muon's, flattened to a matrix
    head       the matrix that gives the logits        weight decay; AdamW's
    embedding  a table that rows are looked up in      AdamW's (each row has its own, rare, gradients)
    vector     biases, gains of norms, single numbers  AdamW's
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BeforeValidator, model_validator
from torch import nn
from torch.optim import Optimizer

from descent.config import Config, Field
from descent.objectives.objective import Phase
from descent.training.layers import HEADS, Layers
from descent.training.muon import Muon

Role = Literal["matrix", "kernel", "head", "embedding", "vector"]
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[
    tuple[Beta, Beta], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
]


class SGDConfig(Config):
    """Stochastic gradient descent, with momentum if it is over 0 (Sutskever et al. 2013)."""

    type: Literal["sgd"] = "sgd"
    learning_rate: float = Field(default=0.1, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(default=0.0, ge=0, description="of matrices, kernels and heads only")
    bias_factor: float = Field(
        default=1.0, gt=0, description="rate of biases and gains over learning_rate (Jordan 2024: 64)"
    )

    @model_validator(mode="after")
    def _nesterov_looks_along_the_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum over 0")
        return self


class AdamConfig(Config):
    """Adam; its weight decay is added to the gradient (Kingma and Ba 2015)."""

    type: Literal["adam"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    betas: Betas = (0.9, 0.999)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0, description="of matrices, kernels and heads only")


class AdamWConfig(Config):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    type: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    betas: Betas = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0, description="of matrices, kernels and heads only")
    decay_embeddings: bool = Field(default=False, description="weight decay of embeddings too")


class MuonConfig(Config):
    """Muon for matrices and kernels (Jordan et al. 2024), AdamW for all other parameters."""

    type: Literal["muon"] = "muon"
    learning_rate: float = Field(default=0.02, gt=0, description="of matrices and kernels")
    momentum: float = Field(default=0.95, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=0.0, ge=0, description="of matrices, kernels and the head")
    iterations: int = Field(default=5, ge=1, le=20, description="of Newton-Schulz")
    adam_learning_rate: float = Field(default=3e-3, gt=0, description="of all that Muon does not step")
    embedding_learning_rate: float = Field(default=0.0, ge=0, description="0 = adam_learning_rate")
    head_learning_rate: float = Field(default=0.0, ge=0, description="0 = adam_learning_rate")
    betas: Betas = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)


OptimizerConfig = SGDConfig | AdamConfig | AdamWConfig | MuonConfig


def roles(model: nn.Module) -> dict[str, Role]:
    """The role of every parameter, by its name.

    A weight that is tied to an embedding is an embedding. A head is known by its name: `head`,
    `lm_head`, `unembedding` or `classifier`.
    """
    found: dict[int, Role] = {}
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            role: Role = "vector" if parameter.ndim < 2 else "matrix"
            if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
                role = "embedding"
            elif parameter.ndim >= 2 and isinstance(module, CONVOLUTIONS):
                role = "kernel"
            elif parameter.ndim >= 2 and path.rpartition(".")[2] in HEADS:
                role = "head"
            elif parameter.ndim > 2:
                role = "vector"
            if found.get(id(parameter)) != "embedding":
                found[id(parameter)] = role
    return {name: found[id(parameter)] for name, parameter in model.named_parameters()}


@dataclass(frozen=True)
class Kind:
    """What parameters that are stepped alike have in common.

    Attributes:
        role: see the top of this file.
        rate: what their learning rate is multiplied by.
        layer: the layers that begin to be trained at another step than others, else 0. They are kept apart,
            as a fused step takes its parameters' momenta all as there or all as not there yet.
    """

    role: Role
    rate: float = 1.0
    layer: int = 0


Kinds = dict[Kind, list[nn.Parameter]]


def build_optimizers(
    config: OptimizerConfig, model: nn.Module, modules: Sequence[str] = (), layers: Layers | None = None
) -> list[Optimizer]:
    """The optimizers of one phase.

    Args:
        config: which optimizer, and its numbers.
        model: whose parameters are stepped; on its device already.
        modules: prefixes of the parameter names that the phase trains; empty = all.
        layers: rates by layer, for a model that starts from others' weights.

    Returns:
        One optimizer, or two for Muon. Each of their groups carries `initial_lr`, which the loop
        multiplies by the schedule's factor; the first one's is the configured rate, if any group's is.
    """
    kinds: Kinds = {}
    held, stacked = roles(model), stacked_rows(model)
    for name, parameter in model.named_parameters():
        if Phase(modules=tuple(modules)).owns(name):
            kind = Kind(held[name])
            if layers is not None:
                kind = Kind(held[name], layers.rate(name), layers.group(name) if layers.thaw else 0)
            kinds.setdefault(kind, []).append(parameter)
    built = list(_build(config, kinds, stacked))
    for optimizer in built:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return built


def stacked_rows(model: nn.Module) -> dict[nn.Parameter, tuple[int, ...]]:
    """Of each parameter that is several matrices on top of each other, the rows of each.

    A module says so in `stacked`: the name of a linear layer of its own -> rows.
    """
    found: dict[nn.Parameter, tuple[int, ...]] = {}
    for module in model.modules():
        for name, rows in getattr(module, "stacked", {}).items():
            if hasattr(module, name):
                found[module.get_parameter(f"{name}.weight")] = rows
    return found


def _build(
    config: OptimizerConfig, kinds: Kinds, stacked: dict[nn.Parameter, tuple[int, ...]]
) -> Iterable[Optimizer]:
    decayed: set[Role] = {"matrix", "kernel", "head"}
    if isinstance(config, MuonConfig):
        yield from _muon(config, kinds, stacked)
        return
    if isinstance(config, AdamWConfig) and config.decay_embeddings:
        decayed.add("embedding")
    rate = config.learning_rate
    biases = config.bias_factor if isinstance(config, SGDConfig) else 1.0
    groups = [
        {
            "params": parameters,
            "lr": rate * kind.rate * (biases if kind.role == "vector" else 1.0),
            "weight_decay": config.weight_decay if kind.role in decayed else 0.0,
            "layer": kind.layer,
        }
        for kind, parameters in kinds.items()
    ]
    if isinstance(config, SGDConfig):
        yield torch.optim.SGD(
            _merged(groups, rate), lr=rate, momentum=config.momentum, nesterov=config.nesterov, fused=True
        )
    else:
        adam = torch.optim.Adam if isinstance(config, AdamConfig) else torch.optim.AdamW
        yield adam(_merged(groups, rate), lr=rate, betas=config.betas, eps=config.eps, fused=True)


def _muon(
    config: MuonConfig, kinds: Kinds, stacked: dict[nn.Parameter, tuple[int, ...]]
) -> Iterable[Optimizer]:
    by_rows: dict[tuple[float, tuple[int, ...] | None], list[nn.Parameter]] = {}
    for role in ("matrix", "kernel"):
        for kind, parameters in kinds.items():
            for matrix in parameters if kind.role == role else ():
                by_rows.setdefault((kind.rate, stacked.get(matrix)), []).append(matrix)
    if by_rows:
        matrices = [
            {"params": alike, "rows": rows, "lr": config.learning_rate * rate}
            for (rate, rows), alike in by_rows.items()
        ]
        yield Muon(
            sorted(matrices, key=lambda group: -group["lr"]),
            lr=config.learning_rate,
            momentum=config.momentum,
            nesterov=config.nesterov,
            weight_decay=config.weight_decay,
            steps=config.iterations,
            dtype=product_dtype(matrices[0]["params"][0].device),
        )
    own_rates = {"embedding": config.embedding_learning_rate, "head": config.head_learning_rate}
    groups = [
        {
            "params": parameters,
            "lr": (own_rates.get(role) or config.adam_learning_rate) * kind.rate,
            "weight_decay": config.weight_decay if role == "head" else 0.0,
            "layer": kind.layer,
        }
        for role in ("embedding", "head", "vector")
        for kind, parameters in kinds.items()
        if kind.role == role
    ]
    if groups:
        rate = config.adam_learning_rate
        yield torch.optim.AdamW(
            _merged(groups, rate), lr=rate, betas=config.betas, eps=config.eps, fused=True
        )


def product_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it in hardware. A fact of the machine, not a measurement,
    so that a resumed run cannot decide otherwise."""
    native = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def _merged(groups: list[dict[str, Any]], rate: float) -> list[dict[str, Any]]:
    """Groups with equal numbers made one: fewer, longer kernel calls; those with the plain rate first."""
    merged: dict[tuple[float, float, int], dict[str, Any]] = {}
    for group in groups:
        key = (group["lr"], group["weight_decay"], group["layer"])
        merged.setdefault(key, {**group, "params": []})["params"].extend(group["params"])
    return sorted(merged.values(), key=lambda group: group["lr"] != rate)
