"""The closed form: it finds the weights that made the data, and nothing is better."""

from __future__ import annotations

import pytest
import torch

from descent.models.linear import Linear, LinearConfig, solve


@pytest.mark.parametrize("outputs", [1, 3])
def test_the_closed_form_finds_the_weights_that_made_the_data(outputs: int):
    torch.manual_seed(0)
    weight, bias, inputs = torch.randn(outputs, 6), torch.randn(outputs), torch.randn(50, 2, 3) * 40 + 100
    found_weight, found_bias = solve(inputs, inputs.flatten(1) @ weight.T + bias)
    torch.testing.assert_close(found_weight, weight, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found_bias, bias, rtol=1e-3, atol=1e-2)


def test_no_change_of_the_solution_fits_better():
    torch.manual_seed(1)
    inputs, targets = torch.randn(40, 5).double(), torch.randn(40).double()
    weight, bias = solve(inputs, targets)
    assert (weight.shape, bias.shape) == ((1, 5), (1,))

    def error(w, b):
        return (inputs @ w.T + b - targets[:, None]).square().mean()

    for _ in range(20):
        assert error(weight + torch.randn(1, 5) * 1e-3, bias + torch.randn(1) * 1e-3) > error(weight, bias)


def test_the_model_holds_the_solution():
    torch.manual_seed(2)
    inputs = torch.randn(30, 4)
    targets = inputs @ torch.randn(4, 2) + 3
    model = Linear(LinearConfig(inputs=(4,), outputs=2))
    assert not model(inputs).any()
    weight, bias = solve(inputs, targets)
    model.load_state_dict({"linear.weight": weight, "linear.bias": bias})
    torch.testing.assert_close(model(inputs), targets, rtol=1e-4, atol=1e-4)


def test_dependent_columns_give_the_shortest_solution():
    column = torch.linspace(0, 1, 9)[:, None]
    weight, bias = solve(torch.cat((column, column), dim=1), 2 * column + 1)
    torch.testing.assert_close(weight, torch.ones(1, 2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(bias, torch.ones(1), rtol=1e-4, atol=1e-4)
