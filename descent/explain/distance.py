"""How far back a loss reaches: the length of its gradient by an input, against the distance to that input.

    norm(k) = mean over rows and positions t of || d loss_t / d x_{t-k} ||

where x is what the first layer reads: embedded tokens, or features. In a recurrent network the gradient goes
back through a product of k Jacobians of its cell, and so vanishes or explodes as their k-th power does:
Hochreiter (1991), section 3; Bengio, Simard, Frasconi (1994); Pascanu, Mikolov, Bengio (2013), section 2.
An LSTM's cell (Hochreiter, Schmidhuber, 1997) is carried along by its forget gate alone, and in a
Transformer every position is one step away.

Legend: B rows, T steps, D numbers that a step is embedded in, V outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from descent.data.dataset import IGNORED
from descent.errors import UserError
from descent.explain.sequences import embedding

__all__ = ["GradientDistance", "gradient_distance"]

POSITIONS = 8


@dataclass(frozen=True)
class GradientDistance:
    """The gradient of a loss by inputs before it.

    Attributes:
        norms: (K+1,), the mean length at distance 0, 1, ..., K.
        positions: the steps whose losses were followed back; one that is less than 0 is a row's last.
        rows: how many were averaged over.
    """

    norms: NDArray[np.float64]
    positions: tuple[int, ...]
    rows: int

    @property
    def relative(self) -> NDArray[np.float64]:
        """The lengths as shares of that at distance 0; zeros where that is 0."""
        return self.norms / self.norms[0] if self.norms[0] else np.zeros_like(self.norms)

    def reach(self, share: float = 1e-3) -> int:
        """The furthest distance at which at least this share of the nearest input's gradient is left."""
        return int(np.flatnonzero(self.relative >= share).max(initial=0))


def gradient_distance(
    model: nn.Module,
    batch: Mapping[str, Tensor],
    *,
    positions: int | Sequence[int] = POSITIONS,
    furthest: int | None = None,
) -> GradientDistance:
    """Measures || d loss_t / d x_{t-k} || for k = 0 ... furthest, and leaves the model as it was.

    The loss of a step is cross-entropy for a target that is a class, the mean squared error for numbers, and
    for targets of 0 and 1 the cross-entropy of each. Where targets do not belong to steps (CTC), or there are
    none, it is the cross-entropy of the most probable class. A model that answers once a row is followed
    back from the row's last step, and of a forecast all horizons count alike.

    Args:
        model: any over tokens or over features: RNN, LSTM, GRU, GPT.
        batch: as in training; `targets`, `lengths` and padding are respected.
        positions: the steps t, or how many of those with a target and `furthest` steps before them.
        furthest: the greatest distance; by default three quarters of the row, or as far as the first target
            is from the start where that is more.

    Raises:
        UserError: the model reads no sequence, or the row is too short for what is asked.
    """
    with embedding(model, batch, "tokens", "inputs", "history", "source") as run:
        steps = run.leaf.shape[1]
        losses, valid = _losses(run.outputs, batch, steps if run.name != "history" else 0)
        single = losses.shape[1] == 1 and steps > 1
        last_B = (_lengths(batch, run.leaf) - 1).cpu()
        if single:
            reach_of = int(last_B.min()) if furthest is None else furthest
            chosen = (-1,)
        else:
            scored_T = valid.any(0).nonzero().flatten().cpu()
            first = int(scored_T.min()) if len(scored_T) else 0
            reach_of = max((3 * (steps - 1)) // 4, first) if furthest is None else furthest
            chosen = _spread(positions, scored_T[scored_T >= reach_of].tolist())
        _check(reach_of, chosen, steps)
        total, rows = torch.zeros(reach_of + 1, dtype=torch.float64), 0
        for t in chosen:
            (slope_BTD,) = torch.autograd.grad(losses[:, t].sum(), run.leaf, retain_graph=True)
            norm_BT = slope_BTD.detach().double().norm(dim=2).cpu()
            start_B = last_B if single else torch.full_like(last_B, t)
            counted = valid[:, t].cpu() & (start_B >= reach_of) & (start_B <= last_B)
            places_BK = start_B[counted, None] - torch.arange(reach_of + 1)
            total += norm_BT[counted].gather(1, places_BK).sum(0)
            rows += int(counted.sum())
    if not rows:
        raise UserError(
            "no row is long enough", got=f"distance {reach_of}", expected=f"at most {int(last_B.max())}"
        )
    return GradientDistance((total / rows).numpy(), chosen, rows)


def _losses(
    outputs: Tensor, batch: Mapping[str, Tensor], steps: int
) -> tuple[Float[Tensor, "batch answers"], Bool[Tensor, "batch answers"]]:
    """The loss of each answer, one a step or one a row, and which of them count."""
    each = outputs.dim() == 3 and outputs.shape[1] == steps
    targets = batch.get("targets")
    targets = None if targets is None else targets.to(outputs.device)
    flat = outputs if each else outputs.flatten(1)[:, None]  # (B, answers, V)
    if targets is not None and targets.is_floating_point() and targets.numel() == flat.numel():
        wanted = targets.reshape(flat.shape)
        binary = bool(((wanted == 0) | (wanted == 1)).all())
        error = F.binary_cross_entropy_with_logits if binary else F.mse_loss
        return error(flat, wanted, reduction="none").mean(2), torch.ones_like(flat[:, :, 0], dtype=torch.bool)
    if targets is None or targets.is_floating_point() or targets.numel() != flat[:, :, 0].numel():
        wanted = flat.detach().argmax(2)
    else:
        wanted = targets.reshape(flat.shape[:2])
    if flat.shape[2] == 1:  # one output for two classes, or one number
        signs = (2 * wanted - 1).clamp(-1, 1).to(flat)
        return -F.logsigmoid(signs * flat[:, :, 0]), wanted != IGNORED
    found = F.cross_entropy(flat.transpose(1, 2), wanted, ignore_index=IGNORED, reduction="none")
    return found, wanted != IGNORED


def _lengths(batch: Mapping[str, Tensor], leaf: Tensor) -> Tensor:
    held = batch.get("lengths")
    return torch.full((len(leaf),), leaf.shape[1]) if held is None else held


def _spread(positions: int | Sequence[int], places: Sequence[int]) -> tuple[int, ...]:
    """The positions that are asked for, or so many of those there are."""
    if not isinstance(positions, int):
        return tuple(positions)
    chosen = np.linspace(0, len(places) - 1, min(max(1, positions), len(places))).round().astype(int)
    return tuple(places[place] for place in chosen)


def _check(furthest: int, positions: Sequence[int], steps: int) -> None:
    if not 0 <= furthest < steps:
        raise UserError("no input is so far away", got=furthest, expected=f"0 to {steps - 1}")
    if any(t >= steps or -1 < t < furthest for t in positions):
        raise UserError(
            f"positions must have {furthest} steps before them",
            got=list(positions),
            expected=f"to {steps - 1}",
        )
