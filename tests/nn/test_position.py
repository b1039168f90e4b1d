"""Positions: their formulas, and what they promise."""

from __future__ import annotations

import math

import torch

from descent.nn.position import Learned, RelativeBias, Rotary, rotate, sinusoidal


def test_sinusoidal_is_the_formula():
    found = sinusoidal(5, 6)
    for t in range(5):
        for i in range(3):
            angle = t / 10000 ** (2 * i / 6)
            torch.testing.assert_close(found[t, 2 * i], torch.tensor(math.sin(angle)))
            torch.testing.assert_close(found[t, 2 * i + 1], torch.tensor(math.cos(angle)))


def test_rotary_scores_depend_on_the_distance_alone():
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 6).unbind()
    rotary = Rotary(6)

    def score(query: int, key: int) -> torch.Tensor:
        turned = [rotate(x, rotary(torch.tensor([t]))) for x, t in ((q, query), (k, key))]
        return (turned[0] * turned[1]).sum()

    torch.testing.assert_close(score(9, 4), score(105, 100), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(score(3, 3), (q * k).sum())
    assert (score(9, 4) - score(9, 5)).abs() > 1e-2


def test_rotary_turns_each_pair_by_its_angle():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    turned = rotate(x, Rotary(4, base=100.0)(torch.tensor([3]))).flatten()
    for i, angle in enumerate((3.0, 0.3)):
        pair = complex(x.flatten()[i], x.flatten()[i + 2]) * complex(math.cos(angle), math.sin(angle))
        torch.testing.assert_close(turned[[i, i + 2]], torch.tensor([pair.real, pair.imag]))


def test_rotary_positions_by_row_equal_positions_of_one_row():
    x, rotary = torch.randn(2, 3, 4, 6), Rotary(6)
    positions = torch.tensor([[0, 1, 2, 3], [5, 0, 1, 9]])
    found = rotate(x, rotary(positions))
    for row in range(2):
        torch.testing.assert_close(found[row : row + 1], rotate(x[row : row + 1], rotary(positions[row])))


def test_relative_bias_aligns_queries_to_the_end():
    bias = RelativeBias(3, 8, 20, bidirectional=False)
    torch.testing.assert_close(bias(2, 9), bias(9, 9)[:, :, -2:])
    assert bias(9, 9).shape == (1, 3, 9, 9)


def test_learned_positions_are_a_table():
    table = Learned(5, 3)
    torch.testing.assert_close(table(torch.tensor([4, 0])), table.weight[[4, 0]])
