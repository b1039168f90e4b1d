"""The filters against plain slow references, on logits with ties and with infinities."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descent.generation.processors import min_p, process, repetition_penalty, top_k, top_p
from descent.generation.settings import Settings

# A coarse grid makes ties frequent, and keeps sums of probabilities away from the thresholds' rounding.
rows = st.lists(st.integers(-8, 8).map(lambda n: n / 2), min_size=1, max_size=24)


def probabilities(logits):
    top = max(logits)
    weights = [math.exp(x - top) for x in logits]
    return [w / sum(weights) for w in weights]


def kept(logits):
    return [i for i, x in enumerate(logits[0].tolist()) if x > -math.inf]


@given(rows, st.integers(0, 30))
def test_top_k_keeps_those_at_least_as_great_as_the_kth(row, k):
    result = top_k(torch.tensor([row]), k)
    least = sorted(row, reverse=True)[k - 1] if 0 < k < len(row) else -math.inf
    assert kept(result) == [i for i, x in enumerate(row) if x >= least]
    assert all(result[0, i] == row[i] for i in kept(result))


@given(rows, st.floats(0.01, 1.0))
def test_top_p_keeps_a_token_when_the_more_probable_ones_hold_less_than_p(row, p):
    chances = probabilities(row)
    above = [sum(c for c, y in zip(chances, row, strict=True) if y > x) for x in row]
    if any(abs(mass - p) < 1e-6 for mass in above):
        return
    assert kept(top_p(torch.tensor([row]), p)) == [i for i, mass in enumerate(above) if mass < p]


@given(rows, st.floats(0.0, 1.0))
def test_min_p_keeps_a_share_of_the_greatest_probability(row, p):
    chances = probabilities(row)
    if any(abs(c / max(chances) - p) < 1e-6 for c in chances if c < max(chances)):
        return
    assert kept(min_p(torch.tensor([row]), p)) == [
        i for i, c in enumerate(chances) if c >= p * max(chances) or c == max(chances)
    ]


@given(rows, st.sets(st.integers(0, 23)), st.floats(0.5, 3.0))
def test_repetition_penalty_moves_seen_tokens_towards_less_probable(row, seen, penalty):
    mask = torch.tensor([[i in seen for i in range(len(row))]])
    result = repetition_penalty(torch.tensor([row], dtype=torch.float64), mask, penalty)
    expected = [(x / penalty if x > 0 else x * penalty) if i in seen else x for i, x in enumerate(row)]
    torch.testing.assert_close(result, torch.tensor([expected], dtype=torch.float64))


@pytest.mark.parametrize("width", [50, 5000])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9, 0.99, 0.999999])
def test_top_p_is_the_same_whether_the_head_of_the_distribution_suffices_or_not(width, p):
    """Flat logits need a full sort, steep ones do not."""
    generator = torch.Generator().manual_seed(3)
    for scale in (0.01, 1.0, 6.0):
        logits = torch.randn(3, width, generator=generator) * scale
        result = top_p(logits, p)
        for row, got in zip(logits, result, strict=True):
            chance = torch.softmax(row.double(), -1)
            order = chance.argsort(descending=True)
            count = int((chance[order].cumsum(-1) < p).sum()) + 1
            assert int((got > -torch.inf).sum()) == min(count, width)
            assert (got[order[: count - 1]] > -torch.inf).all()


def test_rows_are_independent_and_arguments_unchanged():
    logits = torch.randn(4, 40, generator=torch.Generator().manual_seed(1))
    before = logits.clone()
    settings = Settings(temperature=0.7, top_k=9, top_p=0.8, min_p=0.05, repetition_penalty=1.3)
    seen = torch.rand(4, 40, generator=torch.Generator().manual_seed(2)) < 0.3
    together = process(logits, settings, seen)
    alone = torch.cat([process(logits[i : i + 1], settings, seen[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone, rtol=0, atol=0)
    torch.testing.assert_close(logits, before, rtol=0, atol=0)


def test_order_of_the_processors():
    """Top-p sees the tempered distribution: at temperature 0.5 fewer tokens hold 0.9."""
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.2]]))
    assert kept(process(logits, Settings(top_p=0.85))) == [0, 1, 2]
    assert kept(process(logits, Settings(top_p=0.85, temperature=0.5))) == [0, 1]
    assert kept(process(logits, Settings(top_p=0.7, top_k=2))) == [0, 1]


def test_a_tiny_temperature_is_greedy_not_nan():
    result = process(torch.tensor([[3.0, 80.0, -5.0]]), Settings(temperature=1e-40))
    assert torch.softmax(result.double(), -1).tolist() == [[0.0, 1.0, 0.0]]
