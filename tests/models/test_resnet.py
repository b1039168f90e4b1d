"""ResNet's sizes, its shortcuts, and what a block is made of."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional as F

from descent.models.resnet import SIZES, PreActivated, Residual, ResNet, ResNetConfig, Shortcut

# Torchvision's documentation for 18 to 152; He et al. (2016), table 6, in millions, for 20 to 56.
PARAMETERS = {"18": 11_689_512, "34": 21_797_672, "50": 25_557_032, "101": 44_549_160, "152": 60_192_808}
MILLIONS = {"20": 0.27, "32": 0.46, "44": 0.66, "56": 0.85}


@pytest.mark.parametrize("size", SIZES)
def test_the_published_networks_have_the_published_number_of_parameters(size: str) -> None:
    side, outputs = (32, 10) if size in MILLIONS else (224, 1000)
    with torch.device("meta"):
        model = ResNet(ResNetConfig.published(size, inputs=(3, side, side), outputs=outputs))
    count = sum(parameter.numel() for parameter in model.parameters())
    if size in MILLIONS:
        assert round(count / 1e6, 2) == MILLIONS[size]
    else:
        assert count == PARAMETERS[size]


def test_a_padded_shortcut_takes_every_second_pixel_and_puts_zeros_around_the_channels() -> None:
    x = torch.randn(2, 4, 5, 6)
    found = Shortcut(4, 8, 2, padded=True, norm=True)(x)
    assert found.shape == (2, 8, 3, 3)
    torch.testing.assert_close(found[:, 2:6], x[:, :, ::2, ::2], rtol=0, atol=0)
    assert not found[:, :2].any()
    assert not found[:, 6:].any()


def test_a_residual_block_is_its_formula() -> None:
    config = ResNetConfig(widths=(8, 8), depths=(1, 1), block="bottleneck")
    block = Residual(4, 8, 2, config).eval()
    x = torch.randn(2, 4, 6, 6)
    h = x
    for layer, last in zip(block.layers, (False, False, True), strict=True):
        h = layer.norm(F.conv2d(h, layer.convolution.weight, None, layer.convolution.stride,
                                layer.convolution.padding))  # fmt: skip
        h = h if last else h.relu()
    expected = (h + block.shortcut(x)).relu()
    torch.testing.assert_close(block(x), expected)
    assert [layer.convolution.stride for layer in block.layers] == [(1, 1), (2, 2), (1, 1)]


def test_a_preactivated_block_projects_its_activated_input() -> None:
    config = ResNetConfig(widths=(4, 8), depths=(1, 1), preactivation=True)
    block = PreActivated(4, 8, 2, config).eval()
    x = torch.randn(2, 4, 6, 6)
    activated = block.norms[0](x).relu()
    h = block.convolutions[0](activated)
    h = block.convolutions[1](block.norms[1](h).relu())
    torch.testing.assert_close(block(x), h + block.shortcut(activated))


@pytest.mark.parametrize("preactivation", [False, True])
def test_with_zero_init_a_block_starts_as_its_shortcut_and_learns(preactivation: bool) -> None:
    config = ResNetConfig(inputs=(3, 8, 8), outputs=2, widths=(8, 8), depths=(2, 1), stem="small",
                          zero_init=True, preactivation=preactivation)  # fmt: skip
    model = ResNet(config).eval()
    x = torch.randn(2, 8, 8, 8).relu()
    torch.testing.assert_close(model.stages[0](x), x, rtol=0, atol=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model.zero_grad()
        model.train()(torch.randn(4, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    assert all(parameter.grad.any() for parameter in model.stages.parameters())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"depths": [2], "widths": [8, 16]}, "same stages"),
        ({"widths": [6, 8], "depths": [1, 1], "block": "bottleneck"}, "multiples of 4"),
        ({"widths": [16, 8], "depths": [1, 1], "shortcut": "padded"}, "widths must not fall"),
        ({"inputs": [3, 8]}, "channels, height and width"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ResNetConfig.model_validate(options)
