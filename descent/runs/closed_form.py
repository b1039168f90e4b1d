"""Linear regression has an exact answer: set the trained weights beside it."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from descent.models.linear import Linear, solve
from descent.objectives.supervised import Supervised
from descent.runs.assemble import Parts
from descent.runs.metrics import MetricsLog


def compare(parts: Parts, log: MetricsLog) -> list[str]:
    """Records and says how far gradient descent is from the closed form of least squares.

    The distance is the largest difference of any weight, relative to the largest weight.
    """
    model, objective = parts.state.model, parts.objective
    if not (
        isinstance(model, Linear) and isinstance(objective, Supervised) and objective.config.loss == "mse"
    ):
        return []
    split = parts.dataset.splits["train"]
    batch = split.gather(np.arange(split.whole))
    weight, bias = solve(batch["inputs"], batch["targets"].float())
    trained = torch.cat([model.linear.weight.detach().cpu(), model.linear.bias.detach().cpu()[:, None]], 1)
    exact = torch.cat([weight, bias[:, None]], 1)
    distance = float((trained - exact).abs().max() / exact.abs().max())
    loss, least = (_mean_squared_error(w, batch) for w in (trained, exact))
    log.append(
        "closed_form",
        parts.state.step,
        distance=distance,
        loss=loss,
        least_loss=least,
        weights=exact.tolist(),
    )
    return [
        f"closed form  training loss {least:.9f}; gradient descent {loss:.9f};"
        f" largest difference of a weight {distance:.1e} of the largest weight"
    ]


def _mean_squared_error(weights: torch.Tensor, batch: dict[str, torch.Tensor]) -> float:
    predicted = nn.functional.linear(
        batch["inputs"].flatten(1).double(), weights[:, :-1].double(), weights[:, -1].double()
    )
    return float((predicted - batch["targets"].reshape(predicted.shape).double()).square().mean())
