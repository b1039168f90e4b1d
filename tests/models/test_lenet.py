"""LeNet-5 has the layers of 1998."""

from __future__ import annotations

import pytest
import torch

from descent.errors import UserError
from descent.models.lenet import LeNet, LeNetConfig


def test_the_layers_are_those_of_the_paper():
    model = LeNet(LeNetConfig(inputs=(1, 28, 28), outputs=10)).eval()
    shapes = {}
    for name in ("c1.convolution", "c1", "c3.convolution", "c3", "c5", "f6", "output"):
        model.get_submodule(name).register_forward_hook(
            lambda _, args, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    model(torch.rand(2, 1, 28, 28))
    assert shapes == {
        "c1.convolution": (6, 28, 28),
        "c1": (6, 14, 14),
        "c3.convolution": (16, 10, 10),
        "c3": (16, 5, 5),
        "c5": (120, 1, 1),
        "f6": (84,),
        "output": (10,),
    }
    counts = {name: sum(p.numel() for p in module.parameters()) for name, module in model.named_children()}
    # C1, C5 and F6 as in section II.B; C3 has 1,516 there, with its table of connections
    assert counts == {"c1": 156, "c3": 2416, "c5": 48120, "f6": 10164, "output": 850}


def test_shapes_that_are_no_images_are_refused():
    with pytest.raises(UserError, match="channels, height and width"):
        LeNetConfig.read({"inputs": [28, 28], "outputs": 10})
    with pytest.raises(UserError, match="three convolutions"):
        LeNetConfig.read({"channels": [6, 16], "outputs": 10})
