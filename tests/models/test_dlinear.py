"""DLinear: its average, its maps, and the linear map that both together are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.dlinear import DLinear, DLinearConfig, moving_average

B, T, H, C, OUT = 3, 12, 5, 4, 3


def dlinear(**changes: Any) -> DLinear:
    sizes = {"channels": C, "outputs": OUT, "history": T, "horizon": H, "kernel": 5}
    model = DLinear(DLinearConfig.read({**sizes, **changes}))
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter))
    return model


def test_the_moving_average_repeats_the_ends():
    x = torch.randn(2, 3, T)
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2)), mode="edge")
    expected = np.stack([padded[..., i : i + 5].mean(-1) for i in range(T)], axis=-1)
    assert_close(moving_average(x, 5), torch.from_numpy(expected))


@pytest.mark.parametrize("individual", [False, True])
@pytest.mark.parametrize("quantiles", [0, 3])
def test_each_target_goes_through_two_maps(individual: bool, quantiles: int):
    model = dlinear(individual=individual, quantiles=quantiles, level="none")
    history = torch.randn(B, T, C)
    found = model(history)
    for target in range(OUT):
        own = target if individual else 0
        x = history[..., target]
        trend = moving_average(x[None], 5)[0]
        said = trend @ model.trend[own] + (x - trend) @ model.rest[own] + model.bias[own]
        expected = said.reshape(B, H, 3) if quantiles else said
        assert_close(found[:, :, target], expected)


def test_trend_and_rest_are_together_one_linear_map():
    model = dlinear(level="none")
    average = moving_average(torch.eye(T)[None], 5)[0]  # row t: what an impulse at t gives
    weight = average @ model.trend[0] + (torch.eye(T) - average) @ model.rest[0]
    history = torch.randn(B, T, C)
    expected = history[..., :OUT].transpose(1, 2) @ weight + model.bias[0]
    assert_close(model(history), expected.transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_the_level_is_given_back():
    model, history = dlinear(), torch.randn(B, T, C)
    assert_close(model(history + 5), model(history) + 5, atol=1e-4, rtol=1e-4)


def test_it_starts_as_the_mean():
    model = DLinear(DLinearConfig(channels=C, outputs=OUT, history=T, horizon=H, level="none"))
    history = torch.randn(B, T, C)
    assert_close(
        model(history), history[..., :OUT].mean(1, keepdim=True).expand(-1, H, -1), atol=1e-6, rtol=1e-5
    )


def test_sizes_and_kernel_are_checked():
    with pytest.raises(UserError, match="not complete: channels, outputs, history, horizon"):
        DLinear(DLinearConfig())
    with pytest.raises(UserError, match="odd number"):
        DLinearConfig.read({"kernel": 24})
