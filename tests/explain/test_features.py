"""Filters, feature maps, and pictures found by climbing."""

from __future__ import annotations

import pytest
import torch
from explain_toys import Flat, Toy, images, small_vit
from torch import nn
from torch.nn import functional as F

from descent.errors import UserError
from descent.explain import feature_maps, filters, maximise
from descent.models.airbench import Airbench, AirbenchConfig
from descent.models.mlp import MLP, MLPConfig
from descent.models.resnet import ResNet, ResNetConfig


def test_filters_are_the_weights_that_read_the_picture():
    model = Toy()
    found = filters(model)
    assert found.name == "first.weight"
    torch.testing.assert_close(found.kernels, model.first.weight.detach(), rtol=0, atol=0)
    for kernel, scaled in zip(found.kernels, found.scaled, strict=True):
        torch.testing.assert_close(scaled, 0.5 + 0.5 * kernel / kernel.abs().max())
    vit = small_vit()
    assert filters(vit).name == "embedding.weight"
    assert filters(small_vit(stem=(6, 12))).kernels.shape == (6, 3, 3, 3)
    air = Airbench(AirbenchConfig(inputs=(3, 32, 32), outputs=3, widths=(8, 8, 8)))
    torch.testing.assert_close(filters(air).kernels, air.whitening)
    resnet = ResNet(ResNetConfig.published("18", inputs=(3, 64, 64), outputs=3))
    assert filters(resnet).kernels.shape == (64, 3, 7, 7)


def test_a_matrix_that_reads_all_pixels_is_shown_as_pictures():
    mlp = MLP(MLPConfig(inputs=(2, 3, 5), outputs=4, hidden=(7,)))
    found = filters(mlp)
    torch.testing.assert_close(found.kernels, mlp.layers[0].weight.detach().view(7, 2, 3, 5))
    linear = Flat(torch.randn(3, 30), 1)
    assert filters(linear, (2, 3, 5)).kernels.shape == (3, 2, 3, 5)
    with pytest.raises(UserError, match="no weights of this model read pictures"):
        filters(linear, (1, 4, 4))
    with pytest.raises(UserError, match="reads pictures"):
        filters(linear)
    with pytest.raises(UserError, match="no weights of this model read pictures"):
        filters(Toy(), (1, 8, 9))


def test_feature_maps_come_strongest_first():
    model, x = Toy().eval(), images(2)
    with torch.no_grad():
        maps = model.norm(model.first(x))
    found = feature_maps(model, x, "norm", top=3)
    assert found.of == 5
    for image in range(2):
        sizes = maps[image].abs().mean((1, 2))
        order = sorted(range(5), key=lambda channel: -float(sizes[channel]))[:3]
        assert found.channels[image].tolist() == order
        torch.testing.assert_close(found.maps[image], maps[image, order])
    assert feature_maps(model, x).layer == "second"
    assert feature_maps(model, x, "norm", top=99).maps.shape[1] == 5
    with pytest.raises(UserError, match="no maps"):
        feature_maps(model, x, "head")
    with pytest.raises(UserError, match="1 or more"):
        feature_maps(model, x, top=0)


def test_feature_maps_of_tokens_leave_the_class_token_out():
    model, x = small_vit(), images(1, (3, 12, 8))
    with torch.no_grad():
        tokens = model.features(x)[0]
    found = feature_maps(model, x, "norm", top=12)
    place = found.channels[0].tolist().index(5)
    torch.testing.assert_close(found.maps[0, place], tokens[1:, 5].view(3, 2))


def test_climbing_finds_what_a_linear_model_answers_to():
    """Its best picture is known: the top of the range where the weight is positive, else the bottom."""
    torch.manual_seed(3)
    smooth = F.interpolate(torch.randn(3, 1, 3, 3), (8, 8), mode="bicubic").flatten(1)
    low, high = -0.5, 1.5
    found = maximise(
        Flat(smooth, 1), [0, 2], shape=(1, 8, 8), low=low, high=high, jitter=0, l2=0, variation=0, rate=0.2
    )
    assert found.images.min() >= low
    assert found.images.max() <= high
    for image, after, number in zip(found.images, found.after, found.targets, strict=True):
        weights = smooth[number]
        best = float((weights * torch.where(weights > 0, high, low)).sum())
        assert float(after) > 0.95 * best
        strong = weights.abs() > 0.3
        assert (((image.flatten() > 0.5) == (weights > 0)) | ~strong).all()
    torch.testing.assert_close(found.after, (found.images.flatten(1) * smooth[[0, 2]]).sum(1))


def test_climbing_is_repeatable_and_reaches_channels_of_a_layer():
    model = Toy()
    one, same, other = (maximise(model, [1, 3], layer="second", steps=12, seed=s) for s in (4, 4, 5))
    torch.testing.assert_close(one.images, same.images, rtol=0, atol=0)
    assert not torch.allclose(one.images, other.images)
    assert (one.after > one.before).all()
    with torch.no_grad():
        rest = model.eval()
        held = rest.second(F.max_pool2d(torch.tanh(rest.norm(rest.first(one.images))), 2)).mean((2, 3))
    torch.testing.assert_close(one.after, held[[0, 1], [1, 3]])


def test_penalties_smooth_the_picture():
    def roughness(variation: float) -> float:
        picture = maximise(Toy(), 0, steps=40, variation=variation).images
        return float(picture.diff(dim=2).abs().mean() + picture.diff(dim=3).abs().mean())

    assert roughness(50.0) < 0.5 * roughness(0.0)


def test_climbing_refuses_what_is_not_there():
    with pytest.raises(UserError, match="no such class"):
        maximise(Toy(), 3, steps=1)
    with pytest.raises(UserError, match="no such channel") as caught:
        maximise(Toy(), 4, layer="second", steps=1)
    assert "0 to 3" in str(caught.value)
    with pytest.raises(UserError, match="no layer is called"):
        maximise(Toy(), 0, layer="thrid", steps=1)
    with pytest.raises(UserError, match="a shape"):
        maximise(nn.Linear(3, 3), 0)
