"""Beam search against transformers' on tiny random GPT-2, and against an exhaustive search."""

import itertools

import pytest
import torch

from descent.errors import UserError
from descent.generation import BeamSettings, beam_search
from descent.models.gpt import GPT, GPTConfig
from descent.weights import gpt2

transformers = pytest.importorskip("transformers")


@pytest.fixture
def pair(spread):
    """Makes our GPT and transformers' with the same weights."""

    def make(**sizes):
        config = GPTConfig.gpt2(
            **{"depth": 2, "dim": 24, "heads": 3, "context": 40, "vocab_size": 29, **sizes}
        )
        ours = spread(GPT(config))
        theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt2.config_to(config))).eval()
        theirs.load_state_dict({**gpt2.state_to(ours.state_dict()), gpt2.HEAD: ours.tokens.weight})
        return ours, theirs

    return make


def continued(theirs, prompt, settings):
    out = theirs.generate(
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        do_sample=False,
        num_beams=settings.beams,
        num_return_sequences=settings.results,
        max_new_tokens=settings.max_new_tokens,
        length_penalty=settings.length_penalty,
        early_stopping=settings.early_stopping,
        eos_token_id=list(settings.stop_ids) or None,
        pad_token_id=0,
        bos_token_id=0,
        return_dict_in_generate=True,
        output_scores=True,
    )
    rows = []
    for row in out.sequences[:, len(prompt) :].tolist():
        ends = [i for i, token in enumerate(row) if token in settings.stop_ids]
        rows.append(row[: ends[0]] if ends else row)
    return rows, out.sequences_scores.tolist()


@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize("penalty", [1.0, 0.0, 2.0, -1.0])
@pytest.mark.parametrize("beams", [2, 5])
def test_tokens_and_scores_are_those_of_transformers(early, penalty, beams, pair):
    ours, theirs = pair()
    stops = (3, 7, 11, 19)
    settings = BeamSettings(
        max_new_tokens=12,
        beams=beams,
        results=2,
        length_penalty=penalty,
        early_stopping=early,
        stop_ids=stops,
    )
    prompts = [[1, 2, 4], [5, 6, 8, 9, 10], [28], [12, 13], [0, 0, 1]]
    lengths = set()
    for prompt, found in zip(prompts, beam_search(ours, prompts, settings), strict=True):
        tokens, scores = continued(theirs, prompt, settings)
        assert [hypothesis.tokens for hypothesis in found] == tokens
        assert [hypothesis.score for hypothesis in found] == pytest.approx(scores, rel=1e-4)
        lengths |= {len(row) for row in tokens}
    assert len(lengths) > 1 or early != "never"


def test_without_stops_as_well(pair):
    ours, theirs = pair()
    settings = BeamSettings(max_new_tokens=9, beams=4, results=4)
    (found,) = beam_search(ours, [[3, 1]], settings)
    assert [hypothesis.tokens for hypothesis in found] == continued(theirs, [3, 1], settings)[0]
    assert {hypothesis.reason for hypothesis in found} == {"length"}


def test_with_enough_beams_it_finds_the_most_probable_continuation(pair):
    ours, _ = pair(vocab_size=6)
    (found,) = beam_search(
        ours, [[2, 3]], BeamSettings(max_new_tokens=3, beams=36, results=1, length_penalty=0.0)
    )
    best = (-float("inf"), ())
    for tokens in itertools.product(range(6), repeat=3):
        with torch.no_grad():
            log = ours(torch.tensor([[2, 3, *tokens]]))[0, 1:-1].log_softmax(-1)
        best = max(best, (float(log[range(3), list(tokens)].sum()), tokens))
    assert tuple(found[0].tokens) == best[1]
    assert found[0].score == pytest.approx(best[0], rel=1e-4)


def test_the_context_ends_it(pair):
    ours, _ = pair(context=8)
    (found,) = beam_search(ours, [[1] * 5], BeamSettings(max_new_tokens=20, beams=3))
    assert len(found[0].tokens) == 3


def test_more_results_than_beams_are_refused(pair):
    ours, _ = pair()
    with pytest.raises(UserError, match="results: more than there are beams"):
        beam_search(ours, [[1]], BeamSettings(beams=2, results=3))
