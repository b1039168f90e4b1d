"""DS-CNN, the small convolutional network for spoken words."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field, Items
from descent.models import require_sizes
from descent.nn.dropout import dropout


class DSCNNConfig(Config):
    """Configuration of `DSCNN`.

    Args:
        inputs: features of a frame; empty = taken from the data.
        outputs: classes; 0 = taken from the data.
        channels: maps of every layer (64, 172 and 276 in the paper's S, M and L).
        depth: depthwise separable convolutions (4, 4 and 5).
        kernel: frames and features that the first convolution sees (10 and 4).
        stride: its steps over frames and features (2 and 2, 2 and 1, 2 and 1).
        dropout: probability of dropping a pooled feature.
    """

    type: Literal["dscnn"] = "dscnn"
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)
    channels: int = Field(default=64, gt=0)
    depth: int = Field(default=4, ge=0)
    kernel: Items[Annotated[int, Field(gt=0)]] = (10, 4)
    stride: Items[Annotated[int, Field(gt=0)]] = (2, 2)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _shapes(self) -> DSCNNConfig:
        if len(self.inputs) > 1:
            raise ValueError("inputs must be the features of one frame")
        if len(self.kernel) != 2 or len(self.stride) != 2:
            raise ValueError("kernel and stride take two numbers, of frames and of features")
        return self


class DSCNN(nn.Module):
    """Convolutions over time and frequency, most of them in two parts, then the mean over all places.

        features TxM -> conv 10x4, stride 2 -> norm -> ReLU
                     -> [depthwise 3x3 -> norm -> ReLU -> pointwise 1x1 -> norm -> ReLU] x depth
                     -> mean over the real frames and all bands -> dropout -> outputs

    Zhang, Suda, Lai, Chandra (2017), "Hello Edge: Keyword spotting on microcontrollers".

    - Rows may be of any length. What lies behind the end of a row never matters: it is set to 0 after every
      layer, counts in no mean, and is no part of a batch's statistics either, in training too.
    - The paper pools over one second whatever was said in it, and takes 10 cepstral coefficients a frame; any
      number of features is taken here.
    """

    def __init__(self, config: DSCNNConfig):
        super().__init__()
        require_sizes(config, "inputs", "outputs")
        self.config = config
        channels = config.channels
        self.first = nn.Conv2d(1, channels, config.kernel, config.stride, bias=False)  # type: ignore[arg-type]
        self.norm = FrameNorm(channels)
        self.blocks = nn.ModuleList(SeparableConvolution(channels) for _ in range(config.depth))
        self.head = nn.Linear(channels, config.outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(
        self, inputs: Float[Tensor, "batch time features"], *, lengths: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch outputs"]:
        """Scores of the classes.

        Args:
            inputs: features of each frame.
            lengths: real frames of each row; all, when not given.
        """
        steps = inputs.shape[1]
        if lengths is None:
            lengths = torch.full((len(inputs),), steps, device=inputs.device)
        inputs = inputs * _real(lengths, steps)[:, :, None]
        # a frame of the output stands for the same frames of the input whatever the row's length
        padding = [
            side for kernel in reversed(self.config.kernel) for side in ((kernel - 1) // 2, kernel // 2)
        ]
        x_BCTM = self.first(F.pad(inputs[:, None], padding))
        lengths = (lengths - 1) // self.config.stride[0] + 1
        real = _real(lengths, x_BCTM.shape[2])
        x_BCTM = self.norm(x_BCTM, real)
        for block in self.blocks:
            x_BCTM = block(x_BCTM, real)
        pooled_BC = x_BCTM.mean(3).sum(2) / lengths[:, None].clamp(min=1)
        return self.head(dropout(pooled_BC.to(x_BCTM.dtype), self.config.dropout, self.training))


class SeparableConvolution(nn.Module):
    """A convolution of each map by itself, then one of all maps at each place."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.depthwise_norm = FrameNorm(channels)
        self.pointwise = nn.Conv2d(channels, channels, 1, bias=False)
        self.pointwise_norm = FrameNorm(channels)

    def forward(
        self, x: Float[Tensor, "batch channels time bands"], real: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch channels time bands"]:
        x = self.depthwise_norm(self.depthwise(x), real)
        return self.pointwise_norm(self.pointwise(x), real)


class FrameNorm(nn.Module):
    """ReLU after batch norm of the real frames alone; the others come out as 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)

    def forward(
        self, x: Float[Tensor, "batch channels time bands"], real: Bool[Tensor, "batch time"]
    ) -> Float[Tensor, "batch channels time bands"]:
        x_BTMC = x.permute(0, 2, 3, 1)
        real_NMC = x_BTMC[real]
        normed_NMC = F.relu(self.norm(real_NMC.flatten(0, 1))).view_as(real_NMC)
        found_BTMC = normed_NMC.new_zeros(x_BTMC.shape)
        found_BTMC[real] = normed_NMC
        return found_BTMC.permute(0, 3, 1, 2)


def _real(lengths: Int[Tensor, "batch"], steps: int) -> Bool[Tensor, "batch {steps}"]:
    """Which frames are within their row."""
    return torch.arange(steps, device=lengths.device) < lengths[:, None]
