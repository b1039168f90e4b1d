"""The state of optimizers as a flat table of named tensors: what a safetensors file can hold.

A key is `phase/number/parameter/slot`, for example `train/0/head.weight/exp_avg`. Parameters go by
their names, so the order in which a model happens to register them does not matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from descent.errors import UserError

Optimizers = Mapping[str, list[Optimizer]]


def state_tensors(model: nn.Module, optimizers: Optimizers) -> dict[str, Tensor]:
    """Every tensor the optimizers remember. The tensors are the live ones, not copies."""
    tensors: dict[str, Tensor] = {}
    for prefix, optimizer, name, parameter in _slots(model, optimizers):
        for slot, value in optimizer.state.get(parameter, {}).items():
            if value is None:
                continue
            if not isinstance(value, Tensor):
                raise TypeError(f"{type(optimizer).__name__} keeps {slot!r} as {type(value).__name__}")
            tensors[f"{prefix}/{name}/{slot}"] = value
    return tensors


def load_state_tensors(
    model: nn.Module, optimizers: Optimizers, tensors: Mapping[str, Tensor], where: str
) -> None:
    """Puts back what `state_tensors` gave, bit for bit, or raises and changes nothing.

    Args:
        model: whose parameters the optimizers step.
        optimizers: as they were when the state was taken.
        tensors: the flat table.
        where: what the table was read from, for the error.

    Raises:
        UserError: all keys and shapes that do not fit these optimizers, listed.
    """
    left: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        owner, _, slot = key.rpartition("/")
        left.setdefault(owner, {})[slot] = value
    found: list[tuple[Optimizer, Tensor, dict[str, Tensor]]] = []
    problems: list[str] = []
    for prefix, optimizer, name, parameter in _slots(model, optimizers):
        owner = f"{prefix}/{name}"
        slots = left.pop(owner, {})
        for slot, value in slots.items():
            if value.ndim and value.shape != parameter.shape:
                problems.append(
                    f"{owner}/{slot}: shape {_size(value)}, the parameter's is {_size(parameter)}"
                )
        expected = _expected_slots(optimizer)
        if slots and set(slots) != expected:
            problems.append(f"{owner}: has {_names(slots)}; expected {_names(expected)}")
        if slots:
            found.append((optimizer, parameter, slots))
    problems += [
        f"{owner}/{slot}: no optimizer here has such a state"
        for owner, slots in left.items()
        for slot in slots
    ]
    if problems:
        raise UserError(_listed(f"{where} does not fit this run's optimizers", problems))
    for group in optimizers.values():
        for optimizer in group:
            optimizer.state.clear()
    for optimizer, parameter, slots in found:
        optimizer.state[parameter] = {
            slot: _placed(value, parameter, _home(optimizer, parameter, slot))
            for slot, value in slots.items()
        }


def _placed(value: Tensor, parameter: Tensor, device: torch.device) -> Tensor:
    """A copy on the device, laid out in memory as the parameter: fused steps go through both side by side."""
    if value.ndim == 0:
        return value.clone().to(device)
    return torch.empty_like(parameter, dtype=value.dtype, device=device).copy_(value)


def _slots(model: nn.Module, optimizers: Optimizers) -> Iterator[tuple[str, Optimizer, str, Tensor]]:
    names = {parameter: name for name, parameter in model.named_parameters()}
    for phase, listed in optimizers.items():
        for number, optimizer in enumerate(listed):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    yield f"{phase}/{number}", optimizer, names[parameter], parameter


def _home(optimizer: Optimizer, parameter: Tensor, slot: str) -> torch.device:
    """Adam counts its steps on the host, unless its kernel is fused and needs them at hand."""
    on_host = slot == "step" and not optimizer.defaults.get("fused")
    return torch.device("cpu") if on_host else parameter.device


def _expected_slots(optimizer: Optimizer) -> set[str]:
    """What an optimizer remembers of a parameter that it has stepped."""
    if isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)):
        return {"step", "exp_avg", "exp_avg_sq"}
    return {"momentum_buffer"}


def _names(slots: Iterable[str]) -> str:
    return ", ".join(sorted(slots))


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _listed(what: str, problems: list[str], most: int = 20) -> str:
    shown = [f"  {problem}" for problem in problems[:most]]
    if len(problems) > most:
        shown.append(f"  ... and {len(problems) - most} more")
    return "\n".join([f"{what}: {len(problems)} differences", *shown])
