"""Maps of gradients against what is known of them in closed form."""

from __future__ import annotations

import pytest
import torch
from explain_toys import Flat, Toy, images
from torch import nn
from torch.nn import functional as F

from descent.errors import UserError
from descent.explain import integrated_gradients, saliency, smoothgrad
from descent.models.lenet import LeNet, LeNetConfig


def matrix() -> torch.Tensor:
    torch.manual_seed(2)
    return torch.randn(3, 2 * 8 * 9)


def test_the_gradient_of_a_linear_model_is_its_weights():
    found = saliency(Flat(matrix(), 1), images(), [0, 2, 1])
    weights = matrix()[[0, 2, 1]].view(3, 2, 8, 9)
    torch.testing.assert_close(found.values, weights)
    torch.testing.assert_close(found.maps, weights.abs().amax(1))


def test_smoothgrad_is_the_mean_gradient_over_noise():
    """Of a square the gradient is 2 w x, so that of the noisy copies is 2 w (x + mean noise)."""
    x = images()
    found = smoothgrad(Flat(matrix(), 2), x, 1, samples=3, noise=0.2, seed=8)
    source = torch.Generator().manual_seed(8)
    noise = torch.stack([torch.randn(2, 8, 9, generator=source) for _ in range(3)]).mean(0)
    spread = 0.2 * (x.amax((1, 2, 3)) - x.amin((1, 2, 3))).view(-1, 1, 1, 1)
    expected = 2 * matrix()[1].view(2, 8, 9) * (x + spread * noise)
    torch.testing.assert_close(found.values, expected)
    torch.testing.assert_close(found.maps, expected.abs().amax(1))
    again = smoothgrad(Flat(matrix(), 2), x, 1, samples=3, noise=0.2, seed=9)
    assert not torch.allclose(again.maps, found.maps)
    with pytest.raises(UserError, match="copies and noise"):
        smoothgrad(Toy(), x, samples=0)


@pytest.mark.parametrize("power", [1, 2])
def test_integrated_gradients_of_a_polynomial_are_exact(power):
    """Each pixel has the part w (x^p - b^p) of the difference."""
    x, target = images(), torch.tensor([0, 1, 2])
    baseline = torch.tensor([0.5, -1.0]).view(2, 1, 1)
    found = integrated_gradients(Flat(matrix(), power), x, target, baseline=baseline)
    expected = matrix()[target].view(3, 2, 8, 9) * (x**power - baseline**power)
    torch.testing.assert_close(found.values, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.maps, expected.sum(1), rtol=1e-4, atol=1e-5)
    assert found.points.tolist() == [32, 32, 32]


class Steps(nn.Module):
    """Rectifiers that bend at many places of the path, so that few points do not do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.first, self.head = nn.Linear(144, 40), nn.Linear(40, 3)
        nn.init.uniform_(self.first.bias, -20, 20)
        self.first.weight.data *= 20

    def forward(self, inputs):
        return self.head(F.relu(self.first(inputs.flatten(1))))


def lenet() -> LeNet:
    torch.manual_seed(0)
    return LeNet(LeNetConfig(inputs=(1, 28, 28), outputs=10))


@pytest.mark.parametrize(
    ("model", "shape"),
    [(Toy, (2, 8, 9)), (Steps, (2, 8, 9)), (lenet, (1, 28, 28))],
    ids=["toy", "steps", "lenet"],
)
def test_integrated_gradients_are_complete(model, shape):
    """The values add up to the difference of the scores, which is computed here without the method."""
    net, x = model().eval(), images(3, shape)
    found = integrated_gradients(net, x, 1, baseline=-0.3)
    with torch.no_grad():
        difference = net(x)[:, 1] - net(torch.full_like(x, -0.3))[:, 1]
    error = found.values.sum((1, 2, 3)) - difference
    assert (error.abs() <= 1e-3 * difference.abs().clamp(0.01, 1) + 2e-5).all(), error
    torch.testing.assert_close(found.residual, error, rtol=0, atol=3e-5)


def test_a_cap_on_gradients_ends_the_search_and_the_residual_is_told():
    net, x = Steps().eval(), images(2)
    rough = integrated_gradients(net, x, 1, tolerance=1e-7, most=64)
    assert rough.points.tolist() == [64, 64]
    with torch.no_grad():
        difference = net(x)[:, 1] - net(torch.zeros_like(x))[:, 1]
    torch.testing.assert_close(rough.residual, rough.values.sum((1, 2, 3)) - difference, rtol=1e-3, atol=1e-4)
    fine = integrated_gradients(net, x, 1, tolerance=1e-3)
    assert (fine.points > 64).all()
    assert (fine.residual.abs() < rough.residual.abs()).all()
