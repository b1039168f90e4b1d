"""Recurrent models through the one decoder: the hidden state is the cache, and nothing else changes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from descent.errors import UserError
from descent.generation import BeamSettings, Settings, beam_search, generate, prepare, stream
from descent.generation.protocol import Decodable, context_limit
from descent.models.rnn import RNN, RNNConfig

VOCABULARY = 23
PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2], [22, 0, 22]]
KINDS: dict[str, dict[str, Any]] = {
    "lstm": {"cell": "lstm", "depth": 2},
    "gru": {"cell": "gru", "tied": True},
    "tanh": {"cell": "tanh", "embedding": 7},
    "peephole": {"cell": "lstm", "peephole": True, "depth": 1},
}


@pytest.fixture(params=KINDS)
def rnn(request: pytest.FixtureRequest, spread: Any) -> RNN:
    config = {"dim": 24, "vocab_size": VOCABULARY, "dropout": 0.2, **KINDS[request.param]}
    return spread(RNN(RNNConfig.read(config)))


def recomputed(model: nn.Module, prompt: list[int], count: int) -> list[int]:
    """Greedy by a full forward for every token."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


def test_it_speaks_the_decoders_protocol_and_has_no_greatest_context(rnn: RNN) -> None:
    assert isinstance(rnn, Decodable)
    assert context_limit(rnn) is None
    cache = rnn.new_cache(2, length=10**9)  # no memory is taken for what is to come
    assert sum(value.numel() for value in cache.state.values()) < 1000


def test_greedy_is_the_argmax_of_a_full_forward(rnn: RNN) -> None:
    found = generate(rnn, PROMPTS, Settings(max_new_tokens=15, temperature=0))
    for prompt, got in zip(PROMPTS, found, strict=True):
        assert got.tokens == recomputed(rnn, prompt, 15)
        assert got.reason == "length"


def test_log_probabilities_are_those_of_the_full_forward(rnn: RNN) -> None:
    settings = Settings(max_new_tokens=9, temperature=0.7, top_k=5, repetition_penalty=1.5, seed=3)
    for prompt, got in zip(PROMPTS, generate(rnn, PROMPTS, settings), strict=True):
        with torch.no_grad():
            logits = rnn(torch.tensor([prompt + got.tokens]))[0, len(prompt) - 1 : -1]
        torch.testing.assert_close(
            torch.tensor(got.logprobs), logits.log_softmax(-1)[range(9), got.tokens], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    "settings",
    [
        Settings(max_new_tokens=12, temperature=0),
        Settings(max_new_tokens=12, seed=5, top_k=7, top_p=0.9, temperature=1.4, repetition_penalty=1.2),
        Settings(max_new_tokens=60, seed=2, stop_ids=(3, 4)),
    ],
    ids=["greedy", "filtered", "stops"],
)
def test_a_batch_of_unequal_prompts_is_each_alone(rnn: RNN, settings: Settings) -> None:
    together = generate(rnn, PROMPTS, settings)
    for row, (prompt, got) in enumerate(zip(PROMPTS, together, strict=True)):
        (alone,) = generate(rnn, [prompt], settings, seeds=[settings.seed + row])
        assert (got.tokens, got.reason) == (alone.tokens, alone.reason)
        expected = torch.tensor(alone.logprobs)
        torch.testing.assert_close(torch.tensor(got.logprobs), expected, rtol=1e-3, atol=1e-4)


def test_the_prepared_twin_writes_the_same(rnn: RNN) -> None:
    settings = Settings(max_new_tokens=20, seed=1)
    found = generate(prepare(rnn), PROMPTS, settings)
    assert [one.tokens for one in found] == [one.tokens for one in generate(rnn, PROMPTS, settings)]


def test_a_wide_head_is_packed_tied_or_not(spread: Any) -> None:
    for tied in (False, True):
        model = spread(RNN(RNNConfig(vocab_size=1100, dim=64, tied=tied)))
        twin = prepare(model)
        assert type(twin.head).__name__ == "PackedLinear" or not torch.backends.mkldnn.is_available()
        ids = torch.randint(1100, (2, 9))
        with torch.inference_mode():
            torch.testing.assert_close(twin(ids), model(ids), rtol=1e-4, atol=1e-4)


def test_far_more_is_written_than_was_ever_a_row(rnn: RNN) -> None:
    (got,) = generate(rnn, [[1]], Settings(max_new_tokens=300, seed=3))
    assert len(got.tokens) == 300
    steps = list(itertools.islice(stream(rnn, [[1]], Settings(max_new_tokens=300, seed=3)), 20))
    assert [step.token for step in steps] == got.tokens[:20]


def exhaustive(model: nn.Module, prompt: list[int], count: int) -> tuple[list[int], float]:
    """The most probable continuation of so many tokens, among all there are."""
    tails: Tensor = torch.cartesian_prod(*[torch.arange(VOCABULARY)] * count)
    rows = torch.cat([torch.tensor(prompt).expand(len(tails), -1), tails], dim=1)
    with torch.no_grad():
        logs = model(rows[:, :-1]).log_softmax(-1)[:, len(prompt) - 1 :]
    sums = logs.gather(2, tails[:, :, None])[..., 0].sum(1)
    place = int(sums.argmax())
    return tails[place].tolist(), float(sums[place])


def test_a_beam_as_wide_as_the_vocabulary_finds_the_best(rnn: RNN) -> None:
    for prompt in PROMPTS[:2]:
        expected, score = exhaustive(rnn, prompt, 2)
        settings = BeamSettings(max_new_tokens=2, beams=VOCABULARY, length_penalty=0.0)
        ((found, *_),) = beam_search(rnn, [prompt], settings)
        assert found.tokens == expected
        assert found.score == pytest.approx(score, rel=1e-4)


def test_every_hypothesis_is_scored_as_the_full_forward_does(rnn: RNN) -> None:
    settings = BeamSettings(max_new_tokens=8, beams=5, results=5)
    for prompt, found in zip(PROMPTS, beam_search(rnn, PROMPTS, settings), strict=True):
        for one in found:
            with torch.no_grad():
                logs = rnn(torch.tensor([prompt + one.tokens]))[0, len(prompt) - 1 : -1].log_softmax(-1)
            total = float(logs[range(len(one.tokens)), one.tokens].sum())
            assert one.score == pytest.approx(total / len(one.tokens), rel=1e-4)


def test_a_model_that_reads_both_ways_cannot_be_decoded() -> None:
    for changes in ({"bidirectional": True}, {"pool": "last"}):
        model = RNN(RNNConfig.read({"vocab_size": 9, "dim": 8, **changes}))
        with pytest.raises(UserError, match="only a model that reads forwards and answers every step"):
            generate(model, [[1]], Settings(max_new_tokens=2))
