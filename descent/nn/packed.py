"""Layers whose weights are kept in oneDNN's own layout: for inference on a CPU, not to be trained or saved.

oneDNN reads a matrix in its blocked layout up to twice as fast as one in rows, but PyTorch converts into that
layout at every call unless it is kept.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_SMALLEST = 2**16  # below this many weights a linear layer gains nothing


def can_pack(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether oneDNN is there for a weight of this device and a layer of this type."""
    return (
        weight.device.type == "cpu"
        and dtype in (torch.float32, torch.bfloat16)
        and torch.backends.mkldnn.is_available()
        and (dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def pays_to_pack(weight: Tensor, dtype: torch.dtype) -> bool:
    """Whether a matrix can be packed, and is large enough to gain by it."""
    return weight.numel() >= _SMALLEST and can_pack(weight, dtype)


class PackedLinear(nn.Module):
    """y = x A^T + b with A in oneDNN's layout.

    Args:
        weight: (out, in), on the CPU; copied, so later changes to it are not seen.
        bias: (out,) or None.
        dtype: float32 or bfloat16, in which y is computed; the weight's when not given.
    """

    def __init__(
        self,
        weight: Float[Tensor, "out in"],
        bias: Float[Tensor, " out"] | None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.shape, self.dtype = tuple(weight.shape), dtype or weight.dtype
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().to(self.dtype), 1)
        self.bias = None if bias is None else bias.detach().to(self.dtype)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        return torch.ops.mkldnn._linear_pointwise(x.to(self.dtype), self.packed, self.bias, "none", [], "")

    def extra_repr(self) -> str:
        return f"{self.shape[1]}, {self.shape[0]}, bias={self.bias is not None}"


class PackedConvolution(nn.Module):
    """A convolution, its norm, a sum and ReLU as one pass over the output; then what else follows.

    In evaluation a batch norm is one map of every pixel of a channel, g (y - mean) + bias with g = gain /
    sqrt(variance + eps), so it becomes part of the convolution: kernel g A, bias - g mean. Maps are kept
    channels last.

    Args:
        convolution: padded with zeros; its weights are copied.
        norm: with running statistics, or None.
        activation: of the sum; None for none.
        pool: applied last, or None.
        dtype: float32 or bfloat16, in which is computed.
    """

    def __init__(
        self,
        convolution: nn.Conv2d,
        norm: nn.BatchNorm2d | None,
        activation: Callable[[Tensor], Tensor] | None,
        pool: nn.Module | None,
        dtype: torch.dtype,
    ):
        super().__init__()
        weight, bias = folded(convolution, norm)
        self.weight = weight.to(dtype, memory_format=torch.channels_last)
        self.bias, self.pool = bias.to(dtype), pool
        self.fused = "relu" if activation is F.relu else "none"
        self.activation = None if activation is F.relu else activation
        form = convolution.padding, convolution.stride, convolution.dilation
        self.form = (*map(list, form), convolution.groups)
        self.packed = False

    def forward(
        self,
        x: Float[Tensor, "batch inputs height width"],
        added: Float[Tensor, "batch outputs rows columns"] | None = None,
    ) -> Float[Tensor, "batch maps rows2 columns2"]:
        """pool(activation(norm(convolution(x)) + added))."""
        x = x.to(self.weight.dtype, memory_format=torch.channels_last)
        if not self.packed:  # the best layout shows with the first images; it is right for all
            self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *self.form, list(x.shape))
            self.packed = True
        run, weights = torch.ops.mkldnn._convolution_pointwise, (self.weight, self.bias, *self.form)
        if added is None:
            y = run(x, *weights, self.fused, [], "")
        else:
            y = run.binary(x, added.to(x.dtype), *weights, "add", 1.0, self.fused, [], "")
        for part in (self.activation, self.pool):
            y = y if part is None else part(y)
        return y


def folded(
    convolution: nn.Conv2d, norm: nn.BatchNorm2d | None
) -> tuple[Float[Tensor, "outputs inputs height width"], Float[Tensor, " outputs"]]:
    """Kernel and bias of the one convolution that does what both layers do in evaluation."""
    weight = convolution.weight.detach()
    bias = weight.new_zeros(len(weight)) if convolution.bias is None else convolution.bias.detach()
    if norm is None:
        return weight, bias
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics cannot become part of a convolution")
    gain = (variance + norm.eps).rsqrt()
    gain = gain if norm.weight is None else gain * norm.weight.detach()
    shift = (bias - mean) * gain
    return weight * gain[:, None, None, None], shift if norm.bias is None else shift + norm.bias.detach()
