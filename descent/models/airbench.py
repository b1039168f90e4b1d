"""A small fast convolutional network: eight layers, the first one whitening patches of the image."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field, Items
from descent.models import require_sizes
from descent.nn.feedforward import named_activation

PATCH = 2
EPS = 5e-4
DIVISIONS = 8
CHUNK = 256


class AirbenchConfig(Config):
    """Configuration of `Airbench`.

    Args:
        inputs: shape (channels, height, width) of an image, at least 16 x 16; empty = taken from the data.
        outputs: classes; 0 = taken from the data.
        widths: channels of the three groups (64, 256 and 256 in airbench94).
        depth: convolutions of a group (2 in airbench94, 3 in airbench96).
        scale: factor of the logits (1/9 in airbench94).
    """

    type: Literal["airbench"] = "airbench"
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)
    widths: Items[Annotated[int, Field(gt=0)]] = (64, 256, 256)
    depth: int = Field(default=2, ge=1)
    scale: float = Field(default=1 / 9, gt=0)

    @model_validator(mode="after")
    def _shapes(self) -> AirbenchConfig:
        if len(self.inputs) not in (0, 3):
            raise ValueError("inputs must be the channels, height and width of an image")
        if len(self.widths) != 3:
            raise ValueError("widths must name the channels of three groups")
        if self.inputs and min(self.inputs[1:]) < 2 * DIVISIONS:
            raise ValueError(f"images must be at least {2 * DIVISIONS} x {2 * DIVISIONS}")
        return self


class Airbench(nn.Module):
    """The network of cifar10-airbench.

        image 3x32x32 -> whiten 2x2 -> 24@31x31 -> GELU -> group 64@15x15 -> group 256@7x7 -> group 256@3x3
                      -> greatest value of each map -> head -> logits / 9
        group:  conv 3x3 -> max pool 2 -> norm -> GELU, then [conv 3x3 -> norm -> GELU] x (depth - 1)

    K. Jordan (2024), "94% on CIFAR-10 in 3.29 seconds on a single GPU", sections 3 and A.

    - The first convolution is no parameter: its kernels are the eigenvectors of the 2x2 patches of training
      images, each divided by the root of its eigenvalue, and their negatives (section 3.2). Only its bias is
      trained. A run computes them from its data (`initialise`); until then they are orthonormal, at random.
    - A batch norm has a bias and no gain, and follows its batches fast (momentum 0.4 in PyTorch's sense).
    - A 3x3 convolution starts as the identity on its first channels (section 3.1).
    - airbench96's skip connection in its three-layer groups is left out, and the largest map is pooled whole,
      whatever its size, so that images other than 32x32 can be taken.
    """

    whitening: Tensor

    def __init__(self, config: AirbenchConfig):
        super().__init__()
        require_sizes(config, "inputs", "outputs")
        self.config = config
        patch = config.inputs[0] * PATCH * PATCH
        half = nn.init.orthogonal_(torch.empty(patch, patch)).view(patch, -1, PATCH, PATCH)
        self.register_buffer("whitening", torch.cat([half, -half]))
        self.whitening_bias = nn.Parameter(torch.zeros(2 * patch))
        self.activation = named_activation("gelu")
        widths = (2 * patch, *config.widths)
        self.groups = nn.ModuleList(Group(before, after, config.depth) for before, after in pairwise(widths))
        self.head = nn.Linear(widths[-1], config.outputs, bias=False)

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs"]:
        x_NCHW = self.activation(F.conv2d(inputs, self.whitening, self.whitening_bias))
        for group in self.groups:
            x_NCHW = group(x_NCHW)
        return self.head(x_NCHW.amax((2, 3))) * self.config.scale

    @torch.no_grad()
    def initialise(self, inputs: Float[Tensor, "batch channels height width"]) -> None:
        """Sets the whitening kernels from training images as the model gets them.

        Args:
            inputs: a few thousand images.
        """
        patch = inputs.shape[1] * PATCH * PATCH
        total_PP, count = torch.zeros(patch, patch, dtype=torch.float64, device=inputs.device), 0
        for part in inputs.split(CHUNK):
            patches_NPL = F.unfold(part.float(), PATCH)  # P values of a patch, L places
            values_XP = patches_NPL.transpose(1, 2).flatten(0, 1)
            total_PP += values_XP.T @ values_XP
            count += len(values_XP)
        eigenvalues_P, vectors_PP = torch.linalg.eigh(total_PP / count)
        scaled_PP = (vectors_PP / (eigenvalues_P + EPS).sqrt()).T.flip(0)
        half = scaled_PP.to(self.whitening.dtype).view(len(scaled_PP), -1, PATCH, PATCH)
        self.whitening.copy_(torch.cat([half, -half]))


class Group(nn.Module):
    """Convolutions on one size of map, the first of which is followed by pooling."""

    def __init__(self, before: int, after: int, depth: int):
        super().__init__()
        widths = (before, *[after] * depth)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(after, eps=1e-12, momentum=0.4) for _ in range(depth))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            nn.init.dirac_(convolution.get_parameter("weight").data[: convolution.in_channels])
            norm.register_parameter("weight", None)
        self.pool = nn.MaxPool2d(2)
        self.activation = named_activation("gelu")

    def forward(
        self, x: Float[Tensor, "batch before height width"]
    ) -> Float[Tensor, "batch after rows columns"]:
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = convolution(x)
            x = self.activation(norm(x if number else self.pool(x)))
        return x
