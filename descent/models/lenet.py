"""LeNet-5, the convolutional network of 1998."""

from __future__ import annotations

from typing import Annotated, Literal

from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from descent.config import Config, Field, Items
from descent.models import require_sizes
from descent.nn.convolution import Convolution, fit
from descent.nn.dropout import dropout
from descent.nn.feedforward import named_activation


class LeNetConfig(Config):
    """Configuration of `LeNet`.

    Args:
        inputs: shape (channels, height, width) of an image; empty = taken from the data.
        outputs: classes; 0 = taken from the data.
        channels: feature maps of the three convolutions (6, 16 and 120 in the paper).
        hidden: units of the fully connected layer before the output (84 in the paper).
        activation: "relu", or "tanh" as in the paper.
        pool: "max", or "average" as in the paper.
        dropout: probability of dropping an input of the two fully connected layers (0 in the paper).
    """

    type: Literal["lenet"] = "lenet"
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)
    channels: Items[Annotated[int, Field(gt=0)]] = (6, 16, 120)
    hidden: int = Field(default=84, gt=0)
    activation: Literal["relu", "relu2", "gelu", "gelu_tanh", "quick_gelu", "silu", "tanh"] = "relu"
    pool: Literal["max", "average"] = "max"
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _shapes(self) -> LeNetConfig:
        if len(self.inputs) not in (0, 3):
            raise ValueError("inputs must be the channels, height and width of an image")
        if len(self.channels) != 3:
            raise ValueError("channels must name the feature maps of three convolutions")
        return self


class LeNet(nn.Module):
    """LeNet-5: five layers of convolution and pooling, two of full connection.

        image 32x32 -> C1 5x5 -> 6@28x28 -> S2 pool -> 6@14x14
                    -> C3 5x5 -> 16@10x10 -> S4 pool -> 16@5x5
                    -> C5 5x5 -> 120 -> F6 84 -> outputs

    LeCun, Bottou, Bengio, Haffner (1998), "Gradient-based learning applied to document recognition", II.B.
    The layers and their sizes are those of 1998. Modernised, each to what took its place:

    - C3 sees all six maps of S2, where the paper's table I gives each of its maps three to six of them.
    - Pooling takes the greatest of four values (or their mean, `pool = "average"`); the paper's took the sum
      times a learned coefficient plus a learned bias, and squashed it.
    - ReLU in place of the scaled tanh 1.7159 tanh(2x/3).
    - A linear output layer for a softmax loss; the paper's output units measured the distance to bitmaps of
      7x12 pixels (radial basis functions), trained with a margin loss.
    - Weights start with variance 2 / fan-in (He et al., 2015).
    - Dropout before F6 and before the output, off by default.

    A 28x28 image gets a border of two pixels, as in the paper; another size is resized to 32x32.
    """

    def __init__(self, config: LeNetConfig):
        super().__init__()
        require_sizes(config, "inputs", "outputs")
        self.config = config
        c1, c3, c5 = config.channels
        pool = {"max": nn.MaxPool2d(2), "average": nn.AvgPool2d(2)}[config.pool]
        self.c1 = Convolution(config.inputs[0], c1, 5, activation=config.activation, pool=pool)
        self.c3 = Convolution(c1, c3, 5, activation=config.activation, pool=pool)
        self.c5 = Convolution(c3, c5, 5, activation=config.activation)
        self.f6 = nn.Linear(c5, config.hidden)
        self.output = nn.Linear(config.hidden, config.outputs)
        self.activation = named_activation(config.activation)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.constant_(layer.get_parameter("bias"), 0.0)

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs"]:
        features = self.c5(self.c3(self.c1(fit(inputs, 32)))).flatten(1)
        hidden = self.activation(self.f6(dropout(features, self.config.dropout, self.training)))
        return self.output(dropout(hidden, self.config.dropout, self.training))
