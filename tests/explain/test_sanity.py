"""The sanity check lets methods pass that hang on the weights, and catches one that does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from explain_toys import Toy, assert_as_before, condition, images, small_vit
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from descent import explain
from descent.explain.attribution import Attribution
from descent.explain.sanity import randomised, sanity_check, similarity


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, torch.Tensor]:
    """A small convolutional network that reads most digits, and some digits."""
    digits = load_digits()
    x = torch.from_numpy(digits.images[:, None] / 8 - 1).float()
    y = torch.from_numpy(digits.target)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()),
        nn.AvgPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * 4, 10),
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for start in 3 * list(range(0, 1500, 50)):
        optimizer.zero_grad()
        F.cross_entropy(model(x[start : start + 50]), y[start : start + 50]).backward()
        optimizer.step()
    model.zero_grad()
    with torch.no_grad():
        assert (model(x[1500:]).argmax(1) == y[1500:]).float().mean() > 0.8
    return model, x[1500:1506]


def edges(model: nn.Module, inputs: torch.Tensor, target=None) -> Attribution:
    """A method that shows the picture's edges, whatever the network has learned."""
    across, down = inputs.diff(dim=3)[:, :, :-1].abs(), inputs.diff(dim=2)[..., :-1].abs()
    maps = F.pad((across + down).sum(1), (0, 1, 0, 1))
    return Attribution("edges", maps, torch.zeros(len(inputs), dtype=torch.long))


@pytest.mark.parametrize(
    "method", [explain.saliency, explain.smoothgrad, explain.integrated_gradients, explain.gradcam]
)
def test_methods_of_gradients_lose_their_maps_with_the_weights(trained, method):
    model, x = trained
    before = condition(model)
    found = sanity_check(model, x, method)
    assert found.similarity[0] == 1
    assert found.similarity[-1] < 0.5
    assert found.passed
    assert found.layers == ("none", "3", "0.2", "0.0")
    assert_as_before(model, before)


def test_a_method_that_ignores_the_weights_is_caught(trained):
    found = sanity_check(*trained, edges)
    assert found.method == "edges"
    assert found.similarity == pytest.approx([1.0] * 4)
    assert not found.passed


def test_attention_is_lost_with_the_weights():
    """Weights far from those of a start, so that attention is not even everywhere."""
    model = small_vit(inputs=(3, 32, 32), depth=2)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=1.0)
    for method in (explain.attention, explain.rollout):
        assert sanity_check(model, images(6, (3, 32, 32)), method, points=1).passed


def test_the_class_explained_stays_the_same(trained):
    model, x = trained
    seen = []

    def method(changed, inputs, target):
        seen.append(target.tolist())
        return explain.saliency(changed, inputs, target)

    sanity_check(model, x, method)
    with torch.no_grad():
        assert seen == [model(x).argmax(1).tolist()] * 4
    sanity_check(model, x, method, target=3, points=1)
    assert seen[-2:] == [[3] * 6] * 2


def test_weights_go_from_the_head_down_and_keep_their_values():
    model = Toy()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    states = [
        (name, {k: t.clone() for k, t in changed.state_dict().items()})
        for name, changed in randomised(model, 8, seed=1)
    ]
    assert [name for name, _ in states] == ["head", "second", "norm", "first"]
    done: set[str] = set()
    for name, held in states:
        done.add(name)
        for key, tensor in held.items():
            torch.testing.assert_close(tensor.flatten().sort().values, state[key].flatten().sort().values)
            if tensor.is_floating_point() and len(state[key].unique()) > 3:
                assert torch.equal(tensor, state[key]) == (key.split(".")[0] not in done), (name, key)
    assert [name for name, _ in randomised(model, 2, seed=1)] == ["second", "first"]
    assert [name for name, _ in randomised(model, 3, seed=1)] == ["second", "first"]
    again = next(changed.state_dict() for _, changed in randomised(model, 1, seed=1))
    torch.testing.assert_close(again["first.weight"], states[-1][1]["first.weight"], rtol=0, atol=0)


def test_similarity_is_of_ranks_and_knows_flat_maps():
    torch.manual_seed(0)
    a = torch.randn(5, 7)
    assert similarity(a, a.exp()) == pytest.approx(1)
    assert similarity(a, -a) == pytest.approx(-1)
    b = torch.randn(5, 7)
    ranks = [np.argsort(np.argsort(x.flatten().numpy())) for x in (a, b)]
    assert similarity(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    flat = torch.full((5, 7), 0.25)
    assert similarity(flat, a) == similarity(a, flat) == 0
    assert similarity(flat, torch.zeros(5, 7)) == 1
