"""Prompts searched together give what each gives alone."""

from __future__ import annotations

import pytest
import torch

from descent.generation import BeamSettings, beam, beam_search
from descent.generation.conditioned import condition
from descent.models.gpt import GPT, GPTConfig
from descent.models.transformer import Transformer, TransformerConfig


@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize("at_once", [2, 64])
def test_prompts_of_any_lengths(early, at_once, spread, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(beam, "AT_ONCE", at_once)
    model = spread(GPT(GPTConfig(depth=2, dim=24, heads=3, context=40, vocab_size=29)))
    settings = BeamSettings(
        max_new_tokens=9, beams=3, results=3, early_stopping=early, stop_ids=(3, 7, 11, 19, 2, 5)
    )
    prompts = [[1, 2, 4], [5, 6], [28, 0, 9], [12, 13], [0, 0, 1], [8, 8, 8, 8], [27, 1, 1]]
    together = beam_search(model, prompts, settings)
    assert len({len(one[0].tokens) for one in together}) > 1  # some end before others
    for prompt, found in zip(prompts, together, strict=True):
        (alone,) = beam_search(model, [prompt], settings)
        assert [one.tokens for one in found] == [one.tokens for one in alone]
        assert [one.score for one in found] == pytest.approx([one.score for one in alone], rel=1e-5)


def test_sources_of_any_lengths(spread):
    config = TransformerConfig(depth=1, dim=16, heads=2, hidden=32, vocab_size=17)
    model = spread(Transformer(config)).eval()
    source, lengths = torch.randint(1, 17, (5, 6)), torch.tensor([6, 2, 4, 1, 5])
    settings = BeamSettings(max_new_tokens=8, beams=4, stop_ids=(0, 3, 4))
    twin = condition(model, source, lengths)
    found = beam_search(twin, [[0]] * 5, settings)
    for row in range(5):
        (alone,) = beam_search(twin.select([row]), [[0]], settings)
        assert found[row][0].tokens == alone[0].tokens
        assert found[row][0].score == pytest.approx(alone[0].score, rel=1e-5)


def test_prompts_of_unlike_lengths_keep_their_own_sources(spread):
    config = TransformerConfig(depth=1, dim=16, heads=2, hidden=32, vocab_size=17)
    model = spread(Transformer(config)).eval()
    twin = condition(model, torch.randint(1, 17, (3, 4)), torch.tensor([4, 3, 2]))
    prompts, settings = [[0, 5], [0], [0, 6]], BeamSettings(max_new_tokens=5, beams=2, stop_ids=(1,))
    found = beam_search(twin, prompts, settings)
    for row, prompt in enumerate(prompts):
        assert found[row][0].tokens == beam_search(twin.select([row]), [prompt], settings)[0][0].tokens


def test_fewer_candidates_than_beams():
    """A vocabulary smaller than the number of beams fills it only after some steps."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(depth=1, dim=16, heads=2, context=16, vocab_size=3))
    settings = BeamSettings(max_new_tokens=3, beams=12, results=12)
    (found,) = beam_search(model, [[1]], settings)
    assert len(found) == len({tuple(one.tokens) for one in found}) == 12
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
