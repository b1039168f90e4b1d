"""AlexNet's own parts: response normalisation, its sizes, and images that are too small."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from descent.errors import UserError
from descent.models.alexnet import AlexNet, AlexNetConfig, response_norm


def test_response_norm_is_pytorchs_whose_alpha_is_of_the_mean() -> None:
    x = torch.randn(2, 7, 4, 3, dtype=torch.float32, requires_grad=True)
    found = response_norm(x * 30)
    expected = F.local_response_norm(x * 30, 5, alpha=5e-4, beta=0.75, k=2.0)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    (wanted,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-4)


def test_the_published_networks_have_the_published_number_of_parameters() -> None:
    for size, side, count in (("2012", 227, 60_965_224), ("2014", 224, 61_100_840)):
        with torch.device("meta"):
            model = AlexNet(AlexNetConfig.published(size, inputs=(3, side, side), outputs=1000))
        assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_last_map_of_2012_is_6_by_6_and_a_small_image_is_refused() -> None:
    assert AlexNetConfig.published("2012", inputs=(3, 227, 227)).last_map() == (6, 6)
    with pytest.raises(UserError, match="too small"):
        AlexNet(AlexNetConfig(inputs=(3, 32, 32), outputs=2))
