"""The whitening layer, and how the fast network starts."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from descent.models.airbench import EPS, Airbench, AirbenchConfig


def network(**changes: object) -> Airbench:
    return Airbench(
        AirbenchConfig.read({"inputs": [3, 16, 16], "outputs": 4, "widths": [32, 32, 40], **changes})
    )


def test_the_first_layer_whitens_the_patches_of_the_images_it_was_shown() -> None:
    torch.manual_seed(1)
    mixing = torch.randn(3, 3)
    smooth = F.avg_pool2d(torch.randn(400, 3, 18, 18), 3, stride=1)
    images = torch.einsum("dc,nchw->ndhw", mixing, smooth)
    model = network()
    model.initialise(images)
    half = model.whitening[: len(model.whitening) // 2]
    torch.testing.assert_close(model.whitening[len(half) :], -half, rtol=0, atol=0)
    out = F.conv2d(images.double(), half.double()).transpose(0, 1).flatten(1)
    covariance = out @ out.T / out.shape[1]
    values = torch.linalg.eigvalsh(_patch_covariance(images)).flip(0)
    torch.testing.assert_close(covariance, torch.diag(values / (values + EPS)), rtol=0, atol=1e-4)


def _patch_covariance(images: torch.Tensor) -> torch.Tensor:
    rows = [images[:, :, i : i + 2, j : j + 2].flatten(1).double() for i in range(15) for j in range(15)]
    values = torch.cat(rows)
    return values.T @ values / len(values)


def test_the_whitening_kernels_are_saved_and_never_stepped() -> None:
    model = network()
    assert "whitening" in model.state_dict()
    assert "whitening" not in dict(model.named_parameters())


def test_a_convolution_starts_as_the_identity_on_its_first_channels() -> None:
    group = network().groups[1]
    x = torch.randn(2, 32, 8, 8)
    torch.testing.assert_close(group.convolutions[0](x)[:, :32], x)


def test_a_norm_has_a_bias_and_no_gain() -> None:
    names = [name for name, _ in network().named_parameters() if "norm" in name]
    assert names
    assert all(name.endswith("bias") for name in names)
