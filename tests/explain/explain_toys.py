"""Small networks for the tests of explanations, and how a model was before."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descent.models.vit import ViT, ViTConfig


class Toy(nn.Module):
    """Two convolutions with a pool between them, and a head on the mean of the maps."""

    def __init__(self, outputs: int = 3):
        super().__init__()
        torch.manual_seed(5)
        self.config = SimpleNamespace(inputs=(2, 8, 9), outputs=outputs)
        self.first = nn.Conv2d(2, 5, 3, padding=1)
        self.norm = nn.BatchNorm2d(5)
        self.second = nn.Conv2d(5, 4, 3, padding=1)
        self.head = nn.Linear(4, outputs)
        self.norm.running_mean.uniform_(-0.5, 0.5)
        self.norm.running_var.uniform_(0.5, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        x = F.max_pool2d(torch.tanh(self.norm(self.first(inputs))), 2)
        return self.head(F.relu(self.second(x)).mean((2, 3)))


class Flat(nn.Module):
    """A function of all pixels that is known in closed form."""

    def __init__(self, matrix: Tensor, power: int):
        super().__init__()
        self.matrix, self.power = nn.Parameter(matrix), power

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1) ** self.power @ self.matrix.T


def images(count: int = 3, shape: tuple[int, int, int] = (2, 8, 9)) -> Tensor:
    torch.manual_seed(9)
    return torch.randn(count, *shape)


def small_vit(pool: str = "class", **changes) -> ViT:
    torch.manual_seed(4)
    sizes = {"inputs": (3, 12, 8), "outputs": 3, "depth": 3, "dim": 12, "heads": 2, "patch": 4, "pool": pool}
    model = ViT(ViTConfig.read({**sizes, **changes}))
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def condition(model: nn.Module) -> dict[str, object]:
    """All that a method must leave as it found it."""
    return {
        "modes": [module.training for module in model.modules()],
        "flags": [parameter.requires_grad for parameter in model.parameters()],
        "grads": [parameter.grad for parameter in model.parameters()],
        "hooks": [
            (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in model.modules()
        ],
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
    }


def assert_as_before(model: nn.Module, before: dict[str, object]) -> None:
    after = condition(model)
    for key in ("modes", "flags", "grads", "hooks"):
        assert after[key] == before[key], key
    torch.testing.assert_close(after["state"], before["state"], rtol=0, atol=0)
