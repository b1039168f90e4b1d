"""AlexNet, the network that won ImageNet in 2012, and its form for small images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field, Items
from descent.errors import UserError, unknown
from descent.models import require_sizes
from descent.nn.dropout import dropout

SIZES: dict[str, dict[str, Any]] = {
    "2012": {},  # Krizhevsky et al. (2012), section 3.5
    "2014": {  # Krizhevsky (2014), "One weird trick", footnote 1: one tower, the one torchvision publishes
        "channels": (64, 192, 384, 256, 256),
        "padding": 2,
        "towers": 1,
        "response_norm": False,
    },
    "32": {  # half of 2012's maps, as one of its towers has, for images of 32 x 32
        "channels": (48, 128, 192, 192, 128),
        "kernel": 5,
        "stride": 1,
        "padding": 2,
        "hidden": 512,
    },
}


class AlexNetConfig(Config):
    """Configuration of `AlexNet`; the defaults are those of 2012, for images of 227 x 227.

    Args:
        inputs: shape (channels, height, width) of an image; empty = taken from the data.
        outputs: classes; 0 = taken from the data.
        channels: maps of the five convolutions.
        kernel, stride, padding: of the first convolution (11, 4 and 0 in the paper).
        towers: parts that the second, fourth and fifth convolution are divided into; the paper's two GPUs.
        response_norm: whether the maps of the first two are normalised by their neighbours'.
        hidden: units of the two fully connected layers.
        dropout: probability of dropping one of those units.
    """

    type: Literal["alexnet"] = "alexnet"
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)
    channels: Items[Annotated[int, Field(gt=0)]] = (96, 256, 384, 384, 256)
    kernel: int = Field(default=11, gt=0)
    stride: int = Field(default=4, gt=0)
    padding: int = Field(default=0, ge=0)
    towers: int = Field(default=2, gt=0)
    response_norm: bool = True
    hidden: int = Field(default=4096, gt=0)
    dropout: float = Field(default=0.5, ge=0, lt=1)

    @model_validator(mode="after")
    def _shapes(self) -> AlexNetConfig:
        if len(self.inputs) not in (0, 3):
            raise ValueError("inputs must be the channels, height and width of an image")
        if len(self.channels) != 5:
            raise ValueError("channels must name the maps of five convolutions")
        if any(channels % self.towers for channels in self.channels):
            raise ValueError(f"channels must be multiples of towers ({self.towers})")
        return self

    @classmethod
    def published(cls, size: str = "2012", **changes: Any) -> AlexNetConfig:
        """The AlexNet called `size`, a key of `SIZES`, with any field changed."""
        if size not in SIZES:
            raise unknown("AlexNet", size, SIZES)
        return cls.read({**SIZES[size], **changes})

    def last_map(self) -> tuple[int, int]:
        """Rows and columns of the maps that the fully connected layers see.

        Raises:
            UserError: the image is too small for the three pools.
        """
        sides = []
        for side in self.inputs[1:]:
            left = (side + 2 * self.padding - self.kernel) // self.stride + 1
            for _ in range(3):
                left = (left - 3) // 2 + 1
            sides.append(left)
        if min(sides) < 1:
            raise UserError(
                "the image is too small for this AlexNet",
                got=f"{self.inputs[1]} x {self.inputs[2]}",
                hint='use a larger data.size, or the form for small images, AlexNetConfig.published("32")',
            )
        return sides[0], sides[1]


class AlexNet(nn.Module):
    """Five convolutions and three fully connected layers.

        image 3x227x227 -> c1 11x11/4 -> 96@55x55 - norm - pool -> c2 5x5 -> 256@27x27 - norm - pool
                        -> c3 3x3 -> 384@13x13 -> c4 3x3 -> 384 -> c5 3x3 -> 256 - pool -> 256@6x6
                        -> f6 4096 -> f7 4096 -> head

    Krizhevsky, Sutskever, Hinton (2012), "ImageNet Classification with Deep Convolutional Neural Networks":
    ReLU (3.1), two towers that meet in c3 and in f6 (3.2), response normalisation across 5 maps (3.3), pools
    of 3x3 with stride 2, which overlap (3.4), dropout of half of the units of f6 and f7 (4.2). Weights start
    as in section 5: normal with 0.01, biases of c2, c4, c5, f6 and f7 at 1.

    The paper writes 224 x 224 and counts 55 x 55 places, which takes 227. Different: with `response_norm`
    off, and with kernels for small images, weights start with variance 2 / fan-in and biases at 0, for
    without the norm, or with another first kernel, 0.01 leaves the signal too small to learn from.
    """

    def __init__(self, config: AlexNetConfig):
        super().__init__()
        require_sizes(config, "inputs", "outputs")
        self.config = config
        c1, c2, c3, c4, c5 = config.channels
        towers, hidden = config.towers, config.hidden
        self.c1 = nn.Conv2d(config.inputs[0], c1, config.kernel, config.stride, config.padding)
        self.c2 = nn.Conv2d(c1, c2, 5, padding=2, groups=towers)
        self.c3 = nn.Conv2d(c2, c3, 3, padding=1)
        self.c4 = nn.Conv2d(c3, c4, 3, padding=1, groups=towers)
        self.c5 = nn.Conv2d(c4, c5, 3, padding=1, groups=towers)
        rows, columns = config.last_map()
        self.f6 = nn.Linear(c5 * rows * columns, hidden)
        self.f7 = nn.Linear(hidden, hidden)
        self.head = nn.Linear(hidden, config.outputs)
        self._initialise()

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs"]:
        x_NCHW = self._pool(self._norm(F.relu(self.c1(inputs))))
        x_NCHW = self._pool(self._norm(F.relu(self.c2(x_NCHW))))
        x_NCHW = F.relu(self.c4(F.relu(self.c3(x_NCHW))))
        x_NCHW = self._pool(F.relu(self.c5(x_NCHW)))
        hidden_ND = self._drop(F.relu(self.f6(x_NCHW.flatten(1))))
        return self.head(self._drop(F.relu(self.f7(hidden_ND))))

    def _norm(self, x: Tensor) -> Tensor:
        return response_norm(x) if self.config.response_norm else x

    def _pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)

    def _initialise(self) -> None:
        as_published = self.config.response_norm and self.config.kernel == 11
        for layer in (self.c1, self.c2, self.c3, self.c4, self.c5, self.f6, self.f7, self.head):
            high = as_published and layer in (self.c2, self.c4, self.c5, self.f6, self.f7)
            nn.init.constant_(layer.get_parameter("bias"), 1.0 if high else 0.0)
            if as_published:
                nn.init.normal_(layer.weight, std=0.01)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")


def response_norm(
    x: Float[Tensor, "batch channels height width"], size: int = 5
) -> Float[Tensor, "batch channels height width"]:
    """x / (2 + 1e-4 * sum of the squares of `size` neighbouring maps)^0.75: section 3.3."""
    channels = x.shape[1]
    near_CC = torch.ones(channels, channels, dtype=x.dtype, device=x.device)
    near_CC = near_CC.tril(size // 2).triu(-(size // 2))  # the sum over neighbours as a 1x1 convolution
    scale_NCHW = 2.0 + 1e-4 * F.conv2d(x.square(), near_CC[:, :, None, None])
    root_NCHW = scale_NCHW.rsqrt()
    return x * (root_NCHW * root_NCHW.sqrt()).to(x.dtype)  # y^-0.75 = y^-0.5 y^-0.25
