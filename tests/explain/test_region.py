"""Grad-CAM by hand, occlusion by a loop, and the layers chosen where none is named."""

from __future__ import annotations

import pytest
import torch
from explain_toys import Flat, Toy, images, small_vit
from torch import nn
from torch.nn import functional as F

from descent.errors import UserError
from descent.explain import gradcam, occlusion
from descent.explain.region import default_layer
from descent.models.airbench import Airbench, AirbenchConfig
from descent.models.alexnet import AlexNet, AlexNetConfig
from descent.models.lenet import LeNet, LeNetConfig
from descent.models.resnet import ResNet, ResNetConfig


def test_gradcam_by_hand():
    """The head sees the mean of rectified maps, so a map's weight is its column, where the map is not cut."""
    model, x = Toy().eval(), images(2)
    with torch.no_grad():
        maps = model.second(F.max_pool2d(torch.tanh(model.norm(model.first(x))), 2))
        open_share = (maps > 0).float().mean((2, 3)) / 16  # of the 16 places, each counts 1 / 16
        weights = model.head.weight[2] * open_share
        small = (weights[:, :, None, None] * maps).sum(1).relu()
        expected = F.interpolate(small[:, None], (8, 9), mode="bilinear")[:, 0]
    found = gradcam(model, x, 2, layer="second")
    torch.testing.assert_close(found.maps, expected)
    assert found.maps.max() > 0
    assert found.layer == "second"


def test_gradcam_of_tokens_lays_them_out_as_the_image_has_them():
    model, x = small_vit(), images(2, (3, 12, 8))
    name = "blocks.2.attention_norm"
    held = {}
    handle = model.get_submodule(name).register_forward_hook(
        lambda module, inputs, output: (
            held.update(tokens=output.detach().requires_grad_(True)) or held["tokens"]
        )
    )
    model(x)[:, 1].sum().backward()
    handle.remove()
    tokens, slope = held["tokens"].detach()[:, 1:], held["tokens"].grad[:, 1:]
    small = (slope.mean(1, keepdim=True) * tokens).sum(2).relu().view(2, 3, 2)
    expected = F.interpolate(small[:, None], (12, 8), mode="bilinear")[:, 0]
    found = gradcam(model, x, 1)
    assert found.layer == name
    torch.testing.assert_close(found.maps, expected)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (LeNet(LeNetConfig(inputs=(1, 28, 28), outputs=3)), "c3"),
        (ResNet(ResNetConfig.published("20", inputs=(3, 32, 32), outputs=3)), "stages.2"),
        (Airbench(AirbenchConfig(inputs=(3, 32, 32), outputs=3, widths=(8, 8, 8))), "groups.2"),
        (AlexNet(AlexNetConfig.published("32", inputs=(3, 32, 32), outputs=3)), "c5"),
        (small_vit(), "blocks.2.attention_norm"),
        (small_vit("mean", stem=(6, 12)), "blocks.2.attention_norm"),
    ],
    ids=["lenet", "resnet", "airbench", "alexnet", "vit", "compact vit"],
)
def test_the_default_layer_is_the_deepest_with_maps(model, expected):
    assert default_layer(model, torch.zeros(1, *model.config.inputs)) == expected


def test_what_has_no_maps_is_refused():
    model, x = Flat(torch.randn(3, 144), 1), images(1)
    with pytest.raises(UserError, match="keeps no maps") as caught:
        gradcam(model, x)
    assert "integrated-gradients" in str(caught.value)
    with pytest.raises(UserError, match="'head' has no maps"):
        gradcam(Toy(), x, layer="head")
    unused = Toy()
    unused.extra = nn.Conv2d(2, 2, 1)
    with pytest.raises(UserError, match="'extra' gives no tensor"):
        gradcam(unused, x, layer="extra")


def test_a_layer_after_the_class_token_was_taken_says_nothing():
    class Cut(Toy):
        def forward(self, inputs):
            self.second(torch.tanh(self.norm(self.first(inputs))))
            return self.head(inputs[:, :, :2, 0].flatten(1))

    with pytest.raises(UserError, match="does not depend on the layer 'second'"):
        gradcam(Cut(), images(1), layer="second")


def test_occlusion_by_a_loop():
    model, x = Toy().eval(), images(2)
    found = occlusion(model, x, [0, 2], window=3, stride=2, fill=0.5)
    total, times = torch.zeros(2, 8, 9), torch.zeros(8, 9)
    with torch.no_grad():
        for top in (0, 2, 4, 5):
            for left in (0, 2, 4, 6):
                hidden = x.clone()
                hidden[:, :, top : top + 3, left : left + 3] = 0.5
                fall = (model(x) - model(hidden))[torch.arange(2), torch.tensor([0, 2])]
                total[:, top : top + 3, left : left + 3] += fall[:, None, None]
                times[top : top + 3, left : left + 3] += 1
    torch.testing.assert_close(found.maps, total / times)


def test_occlusion_fills_each_channel_with_its_own_value_and_refuses_a_window_that_does_not_fit():
    model, x = Toy(), images(1)
    fill = torch.tensor([2.0, -1.0]).view(2, 1, 1)
    with torch.no_grad():
        rest = model.eval()
        expected = rest(x)[0, 1] - rest(fill.expand(1, 2, 8, 9).contiguous())[0, 1]
    found = occlusion(model, x[..., :8], 1, window=8, stride=1, fill=fill)
    with torch.no_grad():
        square = rest(x[..., :8])[0, 1] - rest(fill.expand(1, 2, 8, 8).contiguous())[0, 1]
    torch.testing.assert_close(found.maps[0], square.expand(8, 8))
    assert not torch.allclose(expected, square)
    with pytest.raises(UserError, match="does not fit"):
        occlusion(model, x, window=9)
