"""Probes: the activations of a model's modules by name, and the model left as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError, nearest
from descent.evaluation import at_home

__all__ = ["Layer", "as_input", "at_rest", "layers", "module_called", "probe"]


@dataclass(frozen=True)
class Layer:
    """A module that can be probed.

    Attributes:
        name: as `model.named_modules()` has it, for example "stages.2.0.layers.1".
        kind: its class.
        shape: of its output, without the batch.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


@contextmanager
def probe(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """While it lasts, every forward pass leaves the outputs of the named modules in the dict it gives.

    Of a module that a pass calls several times the last output is kept, of several outputs the first. The
    tensors are part of the graph of the pass. The hooks go with the block, also when it raises.

    Args:
        model: any module.
        names: names of modules inside it.

    Raises:
        UserError: no module is called so; the nearest name is given.
    """
    modules = {name: module_called(model, name) for name in names}
    seen: dict[str, Tensor] = {}
    handles: list[Any] = []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor):
                seen[name] = first

        return hook

    try:
        for name, module in modules.items():
            handles.append(module.register_forward_hook(keep(name)))
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def module_called(model: nn.Module, name: str) -> nn.Module:
    """The module inside `model` of that name; a `UserError` with the nearest name if there is none."""
    modules = {key: module for key, module in model.named_modules() if key}
    if name not in modules:
        near = nearest(name, modules)
        raise UserError(
            f"no layer is called {name!r}",
            expected="one such as " + (near or ", ".join(list(modules)[:5])),
            hint="`descent explain RUN --list` and descent.explain.layers(model, inputs) list them",
        )
    return modules[name]


@torch.no_grad()
def layers(model: nn.Module, inputs: Float[Tensor, "batch channels height width"]) -> list[Layer]:
    """The modules that a forward pass goes through, in the order in which they end.

    Args:
        model: any module.
        inputs: as the model takes them; one image is enough.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    with at_rest(model), probe(model, modules) as seen:
        model(as_input(model, inputs[:1]))
    return [Layer(name, type(modules[name]).__name__, tuple(out.shape[1:])) for name, out in seen.items()]


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients for the parameters, no autocast; afterwards all is as it was before."""
    modes = {module: module.training for module in model.modules()}
    flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
    kind = next((parameter.device.type for parameter in flags), "cpu")
    try:
        model.eval()
        for parameter in flags:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.autocast(kind, enabled=False):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter, wanted in flags.items():
            parameter.requires_grad_(wanted)


def as_input(model: nn.Module, inputs: Tensor) -> Tensor:
    """A copy of the inputs, outside any graph, where the model is and in its type."""
    return at_home(model, inputs.detach().clone())
