"""What convolutional networks share: one convolution with what follows it, and images brought to a size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from descent.nn.feedforward import named_activation
from descent.nn.packed import PackedConvolution, can_pack


class Convolution(nn.Module):
    """pool(activation(norm(convolution(x)))), of which every part but the first may be left out.

    Args:
        inputs: channels that come in.
        outputs: channels that go out.
        kernel: side of the square kernel.
        stride: step of the kernel.
        padding: zeros put around the image on each side.
        norm: a built norm over `outputs` channels, whose bias takes the place of the convolution's.
        activation: a name of `descent.nn.feedforward.ACTIVATIONS`; none when not given.
        pool: a built pooling layer.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        norm: nn.Module | None = None,
        activation: str | None = None,
        pool: nn.Module | None = None,
    ):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=norm is None)
        self.norm, self.pool = norm, pool
        self.activation = None if activation is None else named_activation(activation)

    def forward(
        self, x: Float[Tensor, "batch inputs height width"]
    ) -> Float[Tensor, "batch outputs rows columns"]:
        x = self.convolution(x)
        for part in (self.norm, self.activation, self.pool):
            x = x if part is None else part(x)
        return x

    def for_inference(
        self, dtype: torch.dtype | None, activation: Callable[[Tensor], Tensor] | None = None
    ) -> PackedConvolution | None:
        """What takes this layer's place in inference (see `descent.generation.prepare`), if anything can.

        Args:
            dtype: in which to compute; the weight's when not given.
            activation: of the sum with what is added to the maps, for a layer that has none of its own.
        """
        weight, norm = self.convolution.weight, self.norm
        dtype = dtype or weight.dtype
        if not (norm is None or isinstance(norm, nn.BatchNorm2d)) or not can_pack(weight, dtype):
            return None
        if norm is not None and norm.running_mean is None:
            return None
        return PackedConvolution(self.convolution, norm, self.activation or activation, self.pool, dtype)


def fit(
    images: Float[Tensor, "batch channels height width"], size: int
) -> Float[Tensor, "batch channels size size"]:
    """Images as squares of `size` pixels: a border of zeros if an eighth or less is missing, else resized."""
    height, width = images.shape[-2:]
    if height == width == size:
        return images
    if max(height, width) <= size and min(height, width) >= size - size // 8:
        left, top = (size - width) // 2, (size - height) // 2
        return F.pad(images, (left, size - width - left, top, size - height - top))
    smooth = max(height, width) > size
    return F.interpolate(images.float(), (size, size), mode="bilinear", antialias=smooth).to(images.dtype)
