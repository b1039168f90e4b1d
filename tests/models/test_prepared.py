"""The twin that a model is given for inference computes what the model computes."""

from __future__ import annotations

import pytest
import torch
from battery import SPECIMENS

from descent.generation import prepare
from descent.models.resnet import Residual, ResNet, ResNetConfig
from descent.nn.packed import PackedConvolution


@pytest.mark.parametrize("name", SPECIMENS)
def test_the_twin_of_any_model_gives_its_outputs(name):
    specimen = SPECIMENS[name]
    model, inputs = specimen.build(), specimen.inputs()
    for statistic, value in model.named_buffers():
        if statistic.endswith("running_mean"):
            value.normal_()
    with torch.inference_mode():
        expected = model(*inputs)
        torch.testing.assert_close(prepare(model)(*inputs), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_twin_of_a_resnet_has_its_norms_and_sums_in_its_convolutions(block, dtype):
    sizes = {"depths": (2, 1), "widths": (16, 32), "block": block}
    model = ResNet(ResNetConfig(inputs=(3, 32, 32), outputs=5, **sizes))
    model(torch.randn(16, 3, 32, 32))  # running statistics of its own
    twin = prepare(model, dtype)
    kinds = {type(module) for module in twin.modules()}
    assert PackedConvolution in kinds
    assert not kinds & {torch.nn.BatchNorm2d, torch.nn.Conv2d, Residual}
    x = torch.randn(3, 3, 32, 32)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, dtype == torch.bfloat16):
        found = twin(x).float()
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 0.05, "atol": 0.03}
    torch.testing.assert_close(found, model.eval()(x), **tolerance)
