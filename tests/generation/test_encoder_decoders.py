"""The Transformer and T5 through the one decoder, and pairs that share a row against pairs alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from descent.data.pair_rows import PairSplit
from descent.generation import BeamSettings, Decodable, Settings, beam_search, generate, prepare
from descent.generation.conditioned import EncoderDecoder, condition
from descent.models import build, config_class
from descent.objectives.objective import Batch, Phase
from descent.objectives.seq2seq import Seq2SeqObjective

VOCAB = 9
SOURCE = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [2, 2, 4, 8, 0, 0]])
LENGTHS = torch.tensor([6, 2, 4])
KINDS = {
    "transformer": {"type": "transformer", "dim": 12, "heads": 3},
    "transformer, norms first": {"type": "transformer", "dim": 12, "heads": 2, "order": "pre", "tied": False},
    "t5 1.0": {"type": "t5", "dim": 10, "heads": 2, "head_dim": 7, "feedforward": "relu"},
    "t5 1.1": {"type": "t5", "dim": 12, "heads": 3, "tied": False, "buckets": 6, "max_distance": 5},
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def model_of(kind: dict[str, object], **changes: object) -> nn.Module:
    torch.manual_seed(5)
    config = config_class(str(kind["type"])).read({"vocab_size": VOCAB, "depth": 2, **kind, **changes})
    model = build(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.eval()


def full(model: nn.Module, row: int, tokens: list[int]) -> Tensor:
    """Logits after each token of one row, by one forward over its source without the padding."""
    return model(SOURCE[row : row + 1, : LENGTHS[row]], torch.tensor([tokens]))[0]


def test_the_twin_is_decodable_and_the_model_an_encoder_decoder(kind):
    model = model_of(kind)
    assert isinstance(model, EncoderDecoder)
    assert isinstance(condition(model, SOURCE, LENGTHS), Decodable)


@pytest.mark.parametrize("steps", [[3, 1, 1, 2], [1] * 7, [7]])
def test_cached_equals_full(kind, steps: list[int]):
    model, tokens = model_of(kind), torch.randint(VOCAB, (3, 7))
    for decoder in (model, prepare(model)):
        twin = condition(decoder, SOURCE, LENGTHS)
        cache = twin.new_cache(3)
        parts = [twin(part, cache=cache) for part in tokens.split(steps, dim=1)]
        assert_close(torch.cat(parts, dim=1), model(SOURCE, tokens, source_lengths=LENGTHS))
        assert cache.length == 7


def test_what_pads_a_source_changes_nothing(kind):
    model, tokens = model_of(kind), torch.randint(VOCAB, (3, 7))
    found = model(SOURCE, tokens, source_lengths=LENGTHS)
    for row in range(3):
        assert_close(found[row], full(model, row, tokens[row].tolist()))
    assert (model(SOURCE, tokens)[1] - found[1]).abs().max() > 1e-3, "taken for real, padding must tell"


def test_left_padded_rows_equal_rows_alone(kind):
    model, tokens = model_of(kind), torch.randint(VOCAB, (3, 7))
    twin, start = condition(model, SOURCE, LENGTHS), torch.tensor([0, 3, 5])
    cache = twin.new_cache(3, start=start)
    found = torch.cat([twin(part, cache=cache) for part in tokens.split([4, 1, 2], dim=1)], dim=1)
    for row in range(3):
        assert_close(found[row, start[row] :], full(model, row, tokens[row, start[row] :].tolist()))


def test_a_cache_can_be_reordered_and_lose_rows_before_and_after_it_is_filled(kind):
    model, tokens = model_of(kind), torch.randint(VOCAB, (3, 4))
    twin, rows = condition(model, SOURCE, LENGTHS), torch.tensor([2, 0, 2, 2])
    expected = model(SOURCE[rows], tokens[rows], source_lengths=LENGTHS[rows])
    cache = twin.new_cache(3)
    twin(tokens[:, :2], cache=cache)
    cache.reorder(rows)
    assert_close(twin(tokens[rows, 2:], cache=cache), expected[:, 2:])
    cache = twin.new_cache(3)
    cache.reorder(rows)
    assert_close(twin(tokens[rows], cache=cache), expected)


def test_a_batch_is_written_as_its_rows_alone(kind):
    model = model_of(kind)
    settings = Settings(max_new_tokens=12, temperature=1.2, stop_ids=(2, 3, 7))
    twin = condition(model, SOURCE, LENGTHS)
    prompts = [[0], [0, 4], [0]]
    together = generate(twin, prompts, settings, seeds=[7, 8, 9])
    for row, one in enumerate(together):
        (alone,) = generate(twin.select([row]), [prompts[row]], settings, seeds=[7 + row])
        assert (one.tokens, one.reason) == (alone.tokens, alone.reason)
        logs = full(model, row, prompts[row] + one.tokens).log_softmax(-1)[len(prompts[row]) - 1 : -1]
        expected = logs.gather(1, torch.tensor(one.tokens, dtype=torch.long)[:, None])[:, 0]
        assert_close(torch.tensor(one.logprobs[: len(expected)]), expected, rtol=1e-4, atol=1e-5)


def test_greedy_takes_the_most_probable_token_of_the_full_forward(kind):
    model = model_of(kind)
    twin = condition(model, SOURCE, LENGTHS)
    found = generate(twin, [[0]] * 3, Settings(max_new_tokens=6, temperature=0))
    for row, one in enumerate(found):
        tokens = [0]
        for _ in range(6):
            tokens.append(int(full(model, row, tokens)[-1].argmax()))
        assert one.tokens == tokens[1:]


def test_with_enough_beams_it_finds_the_most_probable_of_all_sequences(kind):
    model, longest, stop = model_of(kind, vocab_size=6), 3, 4
    source, lengths = SOURCE[2:] % 6, LENGTHS[2:]
    settings = BeamSettings(max_new_tokens=longest, beams=36, length_penalty=0.0, stop_ids=(stop,))
    (found,) = beam_search(condition(model, source, lengths), [[0]], settings)
    best = (-float("inf"), ())
    for tokens in itertools.product(range(6), repeat=longest):
        end = tokens.index(stop) + 1 if stop in tokens else longest
        with torch.no_grad():
            logits = model(source, torch.tensor([[0, *tokens]]), source_lengths=lengths)[0]
        total = float(logits.log_softmax(-1)[range(end), list(tokens[:end])].sum())
        best = max(best, (total, tuple(token for token in tokens[:end] if token != stop)))
    assert tuple(found[0].tokens) == best[1]
    assert found[0].score == pytest.approx(best[0], rel=1e-4)


ROWS = [
    ([1, 2, 3, 4, 5], [6, 7, 8]),
    ([2, 3], [1, 1, 2, 3, 4, 5]),
    ([8, 8, 7, 1], [2, 8]),
    ([5], [4]),
    ([3, 1, 2, 4, 4, 6, 7], [7, 6, 5, 4, 3, 2, 1]),
]


def batches() -> tuple[Batch, Batch]:
    """The same pairs, one a row and several a row."""
    packed = PairSplit(ROWS, 0, VOCAB, room=11).gather(np.arange(5), seed=1)
    padded = PairSplit(ROWS, 0, VOCAB).gather(np.arange(5), seed=1)
    assert len(packed["tokens"]) < 5
    return packed, padded


def test_packed_pairs_give_the_loss_and_the_gradient_of_padded_ones(kind):
    model, objective, found = model_of(kind), Seq2SeqObjective(), []
    for batch in batches():
        model.zero_grad()
        loss = objective.loss(model, Phase(), batch)
        loss.backward()
        found.append((loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (packed, of_packed), (padded, of_padded) = found
    assert_close(packed, padded)
    for name, gradient in of_padded.items():
        assert_close(of_packed[name], gradient, rtol=1e-4, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


def test_no_pair_of_a_row_sees_another(kind):
    """The gradient of one pair's outputs, at the embeddings of all tokens, is zero outside the pair."""
    model, (batch, _) = model_of(kind), batches()
    embedded: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        output.retain_grad()
        embedded.append(output)
        return output

    model.tokens.register_forward_hook(keep)
    inputs = {name: tensor for name, tensor in batch.items() if name != "targets"}
    sides = (batch["source_documents"], batch["documents"])
    shared = (batch["documents"] != batch["documents"][:, :1]).any(1)
    row = int(shared.nonzero()[0])
    for document in sides[1][row].unique().tolist():
        embedded.clear()
        logits = model(**inputs)
        logits[row][sides[1][row] == document].square().sum().backward()
        for tensor, documents in zip(embedded, sides, strict=True):
            assert tensor.grad is not None
            touched = tensor.grad.abs().sum(-1) > 0
            own = torch.zeros_like(touched)
            own[row] = documents[row] == document
            assert torch.equal(touched, own)


def test_packed_rows_need_their_numbers_on_both_sides(kind):
    model, (batch, _) = model_of(kind), batches()
    source, tokens = batch["source"], batch["tokens"]
    with pytest.raises(ValueError, match="both source_documents and documents"):
        model(source, tokens, documents=batch["documents"])
    with pytest.raises(ValueError, match="both source_documents and documents"):
        model(source, tokens, source_documents=batch["source_documents"])
    lengths = torch.full((len(source),), 2)
    with pytest.raises(ValueError, match="one source a row"):
        model.encode(source, lengths, source_documents=batch["source_documents"])
    encoded = model.encode(source, source_documents=batch["source_documents"])
    with pytest.raises(ValueError, match="one source a row"):
        model.new_cache(len(source), encoded=encoded)


def test_a_decoder_takes_what_was_encoded_or_a_cache_that_holds_it(kind):
    model = model_of(kind)
    encoded = model.encode(SOURCE, LENGTHS)
    cache = model.new_cache(3, encoded=encoded)
    for given in ({}, {"encoded": encoded, "cache": cache}):
        with pytest.raises(ValueError, match="or a cache that holds it"):
            model.decode(SOURCE[:, :2], **given)
    with pytest.raises(ValueError, match="one source for each row"):
        model.new_cache(2, encoded=encoded)
