"""Muon: momentum whose update is made orthogonal, for weights that are matrices.

    m <- mu m + (1 - mu) g          u = g + mu (m - g)  (Nesterov), or m
    w <- w - lr (sqrt(max(1, rows / columns)) orthogonal(u) + weight_decay w)

`orthogonal(u)` is U V^T of u = U S V^T, approximately: five steps of the Newton-Schulz iteration
X <- a X + (b A + c A A) X with A = X X^T take every singular value into about 0.7 to 1.2.
Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".

What is different here: matrices of one shape are stacked and iterated together, and a convolution's
kernel is taken as the matrix (outputs, inputs x height x width) that multiplies its patches. Query, key
and value, kept as one matrix for speed, are made orthogonal one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import (
    Tensor,
    _foreach_add_,  # pyright: ignore[reportPrivateImportUsage]
    _foreach_lerp,  # pyright: ignore[reportPrivateImportUsage]
    _foreach_lerp_,  # pyright: ignore[reportPrivateImportUsage]
    _foreach_mul_,  # pyright: ignore[reportPrivateImportUsage]
)
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPS = 1e-7


def orthogonal(
    matrices: Float[Tensor, "count rows columns"], steps: int = 5, dtype: torch.dtype = torch.bfloat16
) -> Float[Tensor, "count rows columns"]:
    """The nearest matrices with orthonormal rows (or columns), roughly, by Newton-Schulz.

    Args:
        matrices: a stack; each is normalised on its own, so their scale does not matter.
        steps: iterations; five suffice for training.
        dtype: of the products. bfloat16 is enough, as the result is only near orthogonal anyway.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=EPS)
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


class Muon(Optimizer):
    """Steps parameters of two dimensions or more (those of more are flattened to matrices).

    Args:
        parameters: parameters, or groups of them, as for every optimizer of torch.
        lr: size of the update's rows' root mean square, in effect.
        momentum: share of the old momentum that is kept.
        nesterov: look ahead by one step of momentum.
        weight_decay: decoupled, times lr.
        steps: of the Newton-Schulz iteration.
        dtype: of its matrix products.
        rows: how many rows each of the matrices has that a parameter is a stack of; None = it is one.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float = 0.02,
        momentum: float = 0.95,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        steps: int = 5,
        dtype: torch.dtype = torch.bfloat16,
        rows: tuple[int, ...] | None = None,
    ):
        super().__init__(
            parameters,
            {
                "lr": lr,
                "momentum": momentum,
                "nesterov": nesterov,
                "weight_decay": weight_decay,
                "steps": steps,
                "dtype": dtype,
                "rows": rows,
            },
        )
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim < 2:
                    raise ValueError(
                        f"Muon steps matrices, not a parameter of shape {tuple(parameter.shape)}"
                    )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        for group in self.param_groups:
            alike: dict[tuple[torch.Size, torch.device], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike.setdefault((parameter.shape, parameter.device), []).append(parameter)
            for parameters in alike.values():
                self._step_alike(parameters, group)

    def _step_alike(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """One update of parameters that all have the same shape."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        momenta = [self._momentum(parameter) for parameter in parameters]
        _foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        if group["nesterov"]:
            momenta = _foreach_lerp(gradients, momenta, group["momentum"])
        stack = torch.stack([momentum.flatten(1) for momentum in momenta])
        if group["weight_decay"]:
            _foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        parts = stack.split(group["rows"] or stack.shape[1], dim=1)
        updates = torch.cat([self._update(part, group) for part in parts], dim=1)
        _foreach_add_(parameters, list(updates.view(-1, *parameters[0].shape)), alpha=-group["lr"])

    def _update(self, matrices: Tensor, group: dict[str, Any]) -> Tensor:
        rows, columns = matrices.shape[1:]
        found = orthogonal(matrices, group["steps"], group["dtype"])
        return found.to(matrices.dtype) * max(1.0, rows / columns) ** 0.5

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]
