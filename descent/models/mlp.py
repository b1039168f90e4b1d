"""The multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from jaxtyping import Float
from torch import Tensor, nn

from descent.config import Config, Field, Items
from descent.models import require_sizes
from descent.nn.dropout import dropout
from descent.nn.feedforward import named_activation


class MLPConfig(Config):
    """Configuration of `MLP`.

    Args:
        inputs: shape of one input; empty = taken from the data.
        outputs: numbers predicted, or classes; 0 = taken from the data.
        hidden: sizes of the hidden layers, first to last.
        activation: a name of `descent.nn.feedforward.ACTIVATIONS`.
        dropout: probability of dropping a hidden unit.
        input_dropout: probability of dropping an input.
    """

    type: Literal["mlp"] = "mlp"
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)
    hidden: Items[Annotated[int, Field(gt=0)]] = (512, 512)
    activation: Literal["relu", "relu2", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh"] = "relu"
    dropout: float = Field(default=0.0, ge=0, lt=1)
    input_dropout: float = Field(default=0.0, ge=0, lt=1)


class MLP(nn.Module):
    """h_0 = x;  h_i = activation(W_i h_{i-1} + b_i);  y = W h_n + b.

    Rumelhart, Hinton, Williams (1986), "Learning representations by back-propagating errors". An input of
    any shape is read as one long vector.

    Differs from the paper: any activation in place of the logistic function; dropout (Srivastava et al.,
    2014); weights start with variance 2 / fan-in (He et al., 2015), which keeps the size of the signal
    through layers of rectifiers, and biases at zero.
    """

    def __init__(self, config: MLPConfig):
        super().__init__()
        require_sizes(config, "inputs", "outputs")
        self.config = config
        sizes = (math.prod(config.inputs), *config.hidden, config.outputs)
        layers = [nn.Linear(fan_in, fan_out) for fan_in, fan_out in pairwise(sizes)]
        self.activation = named_activation(config.activation)
        for layer in layers:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.layers = nn.ModuleList(layers)

    def forward(self, inputs: Float[Tensor, " batch *shape"]) -> Float[Tensor, "batch outputs"]:
        hidden = dropout(inputs.flatten(1), self.config.input_dropout, self.training)
        for layer in self.layers[:-1]:
            hidden = dropout(self.activation(layer(hidden)), self.config.dropout, self.training)
        return self.layers[-1](hidden)
