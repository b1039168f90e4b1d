"""Linear regression, by gradient descent or in closed form."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.config import Config, Field, Items
from descent.models import require_sizes


class LinearConfig(Config):
    """Configuration of `Linear`.

    Args:
        inputs: shape of one input; empty = taken from the data.
        outputs: numbers predicted, or classes; 0 = taken from the data.
    """

    type: Literal["linear"] = "linear"
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)


class Linear(nn.Module):
    """y = W x + b, the model of least squares (Legendre, 1805) and, under a softmax, of logistic regression.

    An input of any shape is read as one long vector. The weights start at zero: the loss is convex,
    so nothing is gained by breaking a symmetry.
    """

    def __init__(self, config: LinearConfig):
        super().__init__()
        self.config = config
        require_sizes(config, "inputs", "outputs")
        self.linear = nn.Linear(math.prod(config.inputs), config.outputs)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, inputs: Float[Tensor, " batch *shape"]) -> Float[Tensor, "batch outputs"]:
        return self.linear(inputs.flatten(1))


def solve(
    inputs: Float[Tensor, " rows *shape"], targets: Float[Tensor, " rows *outputs"]
) -> tuple[Float[Tensor, "outputs dim"], Float[Tensor, " outputs"]]:
    """The weight and bias with the least mean squared error, in closed form.

    Solved in double precision by an orthogonal factorisation of the centred inputs (not by inverting
    X^T X, which squares the condition number); where columns depend on each other, the shortest of
    the solutions.

    Args:
        inputs: one row for each example.
        targets: the numbers to predict, (rows,) or (rows, outputs).

    Returns:
        weight and bias, as `Linear` holds them, in the dtype of `inputs`.
    """
    x, y = inputs.flatten(1).double(), targets.reshape(len(targets), -1).double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    weight = torch.linalg.lstsq(x - mean_x, y - mean_y, driver="gelsd").solution.T
    bias = mean_y - weight @ mean_x
    return weight.to(inputs.dtype), bias.to(inputs.dtype)
