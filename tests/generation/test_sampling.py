"""Drawn tokens follow the distribution, and each row has a stream of its own."""

import numpy as np
import pytest
import torch

from descent.generation.processors import process
from descent.generation.sampling import draw, log_probability, uniforms
from descent.generation.settings import Settings


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(temperature=0.6),
        Settings(temperature=1.7),
        Settings(top_k=4),
        Settings(top_p=0.8),
        Settings(min_p=0.1),
    ],
    ids=lambda s: f"t{s.temperature} k{s.top_k} p{s.top_p} m{s.min_p}",
)
def test_the_distribution_is_that_of_a_plain_reference(settings):
    """Pearson's chi-squared over 40,000 draws, against probabilities computed by hand."""
    raw = np.array([2.0, 1.5, 1.0, 0.5, 0.0, -0.5, -1.0, -3.0])
    chance = np.exp(raw / settings.temperature)
    order = np.argsort(-chance)
    keep = np.ones(8, dtype=bool)
    if settings.top_k:
        keep[order[settings.top_k :]] = False
    if settings.top_p < 1:
        share = chance[order] / chance.sum()
        keep[order[int((share.cumsum() < settings.top_p).sum()) + 1 :]] = False
    keep &= chance >= settings.min_p * chance.max()
    chance = np.where(keep, chance, 0)
    chance /= chance.sum()

    count = 40_000
    logits = process(torch.tensor(raw, dtype=torch.float32).expand(count, -1), settings)
    tokens = draw(logits, uniforms([7], count)[0])
    found = np.bincount(tokens.numpy(), minlength=8)
    assert (found[~keep] == 0).all()
    expected = count * chance[keep]
    statistic = float(((found[keep] - expected) ** 2 / expected).sum())
    degrees = int(keep.sum()) - 1
    # Beyond mean + 5 standard deviations of the chi-squared distribution: about one in a million.
    assert statistic < degrees + 5 * (2 * degrees) ** 0.5 + 5


def test_ends_of_the_unit_interval():
    """No uniform number reaches a token of probability 0, not even at the edges."""
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 1.0, -torch.inf]])
    for uniform, token in ((0.0, 1), (1 - 2**-53, 3)):
        assert draw(logits, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]
    wide = torch.randn(64, 50_257, generator=torch.Generator().manual_seed(0))
    assert int(draw(wide, torch.full((64,), 1 - 2**-53, dtype=torch.float64)).max()) < 50_257


def test_streams_depend_on_the_seed_alone():
    together = uniforms([3, 4, 2**63 - 1], 10)
    assert together.dtype == torch.float64
    torch.testing.assert_close(together[1:2], uniforms([4], 10), rtol=0, atol=0)
    torch.testing.assert_close(together[:, :4], uniforms([3, 4, 2**63 - 1], 4), rtol=0, atol=0)
    assert len(set(together.flatten().tolist())) == 30


def test_log_probability_is_the_log_softmax():
    logits = torch.randn(3, 17, generator=torch.Generator().manual_seed(5)) * 9
    tokens = torch.tensor([0, 16, 5])
    torch.testing.assert_close(log_probability(logits, tokens), logits.log_softmax(-1)[range(3), tokens])
