"""An exponential moving average of the weights, often better than the weights themselves.

    a <- a + (1 - d_t) (w - a),      d_t = min(decay, (1 + t) / (10 + t))

The warm-up of the decay keeps the random first weights from weighing for 1 / (1 - decay) steps; it
is a function of the step, so the average's tensors are all there is to save.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import (
    Tensor,
    _foreach_lerp_,  # pyright: ignore[reportPrivateImportUsage]
    nn,
)


class EMA:
    """The moving average of a model's parameters.

    Buffers (a batch norm's statistics) are not averaged: they are averages already.

    Attributes:
        decay: the share kept at each step, once warmed up.
        tensors: parameter name -> its average, float32 on the parameter's device.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.tensors: dict[str, Tensor] = {
            name: parameter.detach().float().clone() for name, parameter in model.named_parameters()
        }

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Takes in the weights as they are after step number `step` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        weights = [parameter.detach().float() for parameter in model.parameters()]
        _foreach_lerp_(list(self.tensors.values()), weights, 1 - decay)

    @contextmanager
    def swapped(self, model: nn.Module) -> Iterator[None]:
        """Lets the model compute with the averages, and gives it its own weights back at the end."""
        own = {name: parameter.data for name, parameter in model.named_parameters()}
        try:
            for name, parameter in model.named_parameters():
                parameter.data = self.tensors[name].to(parameter.dtype)
            yield
        finally:
            for name, parameter in model.named_parameters():
                parameter.data = own[name]
