"""Packed layers compute what the layers they come from compute."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descent.nn.convolution import Convolution
from descent.nn.packed import PackedConvolution, PackedLinear, folded

TOLERANCE = {torch.float32: {"rtol": 1e-4, "atol": 1e-4}, torch.bfloat16: {"rtol": 0.03, "atol": 0.05}}


def trained_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(norm.get_buffer("running_mean"))
    nn.init.uniform_(norm.get_buffer("running_var"), 0.5, 2.0)
    return norm.eval()


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_linear_layer_is_the_layer(dtype: torch.dtype, bias: bool) -> None:
    layer, x = nn.Linear(24, 40, bias=bias), torch.randn(2, 7, 24)
    with torch.inference_mode():
        found = PackedLinear(layer.weight, layer.bias, dtype)(x)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), layer(x), **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "activation", "pool"),
    [
        (3, 1, 1, "relu", None),
        (1, 2, 0, None, None),
        (3, 1, 0, "tanh", None),
        (7, 2, 3, "relu", nn.MaxPool2d(3, 2, 1)),
    ],
)
@pytest.mark.parametrize("normed", [True, False])
def test_a_packed_convolution_is_the_layer_on_images_of_any_number_and_size(
    kernel, stride, padding, activation, pool, normed, dtype
) -> None:
    norm = trained_norm(16) if normed else None
    layer = Convolution(
        5, 16, kernel, stride=stride, padding=padding, norm=norm, activation=activation, pool=pool
    ).eval()
    packed = layer.for_inference(dtype)
    assert isinstance(packed, PackedConvolution)
    with torch.inference_mode():
        for shape in ((2, 5, 11, 14), (1, 5, 20, 9), (4, 5, 11, 14)):
            x = torch.randn(shape)
            torch.testing.assert_close(packed(x).float(), layer(x), **TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_sum_comes_before_the_activation_and_leaves_its_summands_alone(dtype: torch.dtype) -> None:
    layer = Convolution(6, 16, 3, padding=1, norm=trained_norm(16)).eval()
    packed = layer.for_inference(dtype, F.relu)
    assert packed is not None
    x, added = torch.randn(2, 6, 9, 8), torch.randn(2, 16, 9, 8).to(dtype)
    before: list[Tensor] = [x.clone(), added.clone()]
    with torch.inference_mode():
        torch.testing.assert_close(
            packed(x, added).float(), F.relu(layer(x) + added.float()), **TOLERANCE[dtype]
        )
    torch.testing.assert_close([x, added], before, rtol=0, atol=0)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_norm_is_part_of_kernel_and_bias(affine: bool, bias: bool) -> None:
    convolution, norm = nn.Conv2d(3, 7, 3, bias=bias).double(), trained_norm(7).double()
    if not affine:
        norm.register_parameter("weight", None)
        norm.register_parameter("bias", None)
    x = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    torch.testing.assert_close(F.conv2d(x, *folded(convolution, norm)), norm(convolution(x)))


def test_what_cannot_be_folded_is_refused_or_left_as_it_is() -> None:
    loose = nn.BatchNorm2d(8, track_running_stats=False)
    with pytest.raises(ValueError, match="without running statistics"):
        folded(nn.Conv2d(3, 8, 3), loose)
    for norm in (loose, nn.GroupNorm(2, 8)):
        assert Convolution(3, 8, 3, norm=norm).for_inference(torch.float32) is None
    assert Convolution(3, 8, 3).double().for_inference(None) is None
