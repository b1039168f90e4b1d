"""Encoder-decoders through the one decoder: cached = full, rows alone, beams against every sequence."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from descent.errors import UserError
from descent.generation import BeamSettings, Decodable, Settings, beam_search, generate, stream
from descent.generation.conditioned import Conditioned, EncoderDecoder, condition
from descent.generation.translate import begin, translate
from descent.models.seq2seq import Seq2Seq, Seq2SeqConfig
from descent.text import train

VOCAB = 9
SOURCE = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 8, 0, 0, 0, 0], [2, 2, 4, 8, 0, 0]])
LENGTHS = torch.tensor([6, 2, 4])


@pytest.fixture(params=["bahdanau", "luong", "none"])
def attention(request):
    return request.param


def model_of(attention: str, **changes: object) -> Seq2Seq:
    torch.manual_seed(5)
    sizes = {"vocab_size": VOCAB, "dim": 8, "depth": 2, "attention": attention}
    model = Seq2Seq(Seq2SeqConfig.read({**sizes, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    return model.eval()


def full(model: Seq2Seq, row: int, tokens: list[int]) -> Tensor:
    """Logits after each token of one row, by one teacher-forced forward."""
    return model(SOURCE[row : row + 1], LENGTHS[row : row + 1], torch.tensor([tokens]))[0]


def test_the_twin_is_decodable_and_the_model_an_encoder_decoder(attention: str):
    model = model_of(attention)
    assert isinstance(model, EncoderDecoder)
    assert isinstance(condition(model, SOURCE, LENGTHS), Decodable)


@pytest.mark.parametrize("steps", [[3, 1, 1, 2], [1] * 7, [7]])
def test_cached_equals_full(attention: str, steps: list[int]):
    model, tokens = model_of(attention), torch.randint(VOCAB, (3, 7))
    twin = condition(model, SOURCE, LENGTHS)
    cache = twin.new_cache(3)
    parts = [twin(part, cache=cache) for part in tokens.split(steps, dim=1)]
    assert_close(torch.cat(parts, dim=1), model(SOURCE, LENGTHS, tokens))
    assert cache.length == 7


def test_left_padded_rows_equal_rows_alone(attention: str):
    model, tokens = model_of(attention), torch.randint(VOCAB, (3, 7))
    twin, start = condition(model, SOURCE, LENGTHS), torch.tensor([0, 3, 5])
    cache = twin.new_cache(3, start=start)
    found = torch.cat([twin(part, cache=cache) for part in tokens.split([4, 1, 2], dim=1)], dim=1)
    for row in range(3):
        assert_close(found[row, start[row] :], full(model, row, tokens[row, start[row] :].tolist()))


def test_a_cache_can_be_reordered_and_lose_rows(attention: str):
    model, tokens = model_of(attention), torch.randint(VOCAB, (3, 4))
    twin = condition(model, SOURCE, LENGTHS)
    cache = twin.new_cache(3)
    twin(tokens[:, :2], cache=cache)
    rows = torch.tensor([2, 0, 2, 2])
    cache.reorder(rows)
    found = twin(tokens[rows, 2:], cache=cache)
    assert_close(found, model(SOURCE[rows], LENGTHS[rows], tokens[rows])[:, 2:])


def test_a_batch_is_written_as_its_rows_alone(attention: str):
    model = model_of(attention)
    settings = Settings(max_new_tokens=12, temperature=1.2, stop_ids=(2, 3, 7))
    twin = condition(model, SOURCE, LENGTHS)
    prompts = [[0], [0, 4], [0]]
    together = generate(twin, prompts, settings, seeds=[7, 8, 9])
    assert len({len(one.tokens) for one in together}) > 1, "rows should end at different steps"
    for row, one in enumerate(together):
        (alone,) = generate(twin.select([row]), [prompts[row]], settings, seeds=[7 + row])
        assert (one.tokens, one.reason) == (alone.tokens, alone.reason)
        logs = full(model, row, prompts[row] + one.tokens).log_softmax(-1)[len(prompts[row]) - 1 : -1]
        expected = logs.gather(1, torch.tensor(one.tokens)[:, None])[:, 0]
        assert_close(torch.tensor(one.logprobs), expected, rtol=1e-4, atol=1e-5)


def test_greedy_takes_the_most_probable_token_of_the_full_forward(attention: str):
    model = model_of(attention)
    (found,) = generate(
        condition(model, SOURCE[:1], LENGTHS[:1]), [[0]], Settings(max_new_tokens=6, temperature=0)
    )
    tokens = [0]
    for _ in range(6):
        tokens.append(int(full(model, 0, tokens)[-1].argmax()))
    assert found.tokens == tokens[1:]


@pytest.mark.parametrize("stop", [1, 4])
def test_with_enough_beams_it_finds_the_most_probable_of_all_sequences(attention: str, stop: int):
    model, longest = model_of(attention, vocab_size=6, dim=6), 3
    source, lengths = SOURCE[2:, :4] % 6, LENGTHS[2:]
    settings = BeamSettings(max_new_tokens=longest, beams=36, length_penalty=0.0, stop_ids=(stop,))
    (found,) = beam_search(condition(model, source, lengths), [[0]], settings)
    best = (-float("inf"), ())
    for tokens in itertools.product(range(6), repeat=longest):
        end = tokens.index(stop) + 1 if stop in tokens else longest
        with torch.no_grad():
            logs = model(source, lengths, torch.tensor([[0, *tokens]]))[0].log_softmax(-1)
        total = float(logs[range(end), list(tokens[:end])].sum())
        best = max(best, (total, tuple(token for token in tokens[:end] if token != stop)))
    assert tuple(found[0].tokens) == best[1]
    assert found[0].score == pytest.approx(best[0], rel=1e-4)


def test_the_twin_leaves_the_models_modes_as_they_were():
    model = model_of("luong", dropout=0.5).train()
    model.encoder.eval()
    twin = condition(model, SOURCE, LENGTHS)
    list(stream(twin, [[0]] * 3, Settings(max_new_tokens=2)))
    assert (model.training, model.encoder.training, model.decoder.training) == (True, False, True)
    for name, tensor in condition(model.eval(), SOURCE, LENGTHS).encoded.items():
        assert torch.equal(tensor, twin.encoded[name])  # no dropout


def test_other_prompts_than_sources_are_refused():
    twin = condition(model_of("bahdanau"), SOURCE, LENGTHS)
    with pytest.raises(UserError, match="one prompt for each"):
        generate(twin, [[0]], Settings(max_new_tokens=2))


@pytest.fixture(scope="module")
def tokenizer():
    return train("char", ["abcd 年月", "0123"])


@pytest.mark.parametrize("beams", [1, 3])
def test_texts_in_texts_out(tokenizer, beams: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("descent.generation.translate.AT_ONCE", 2)
    model = model_of("bahdanau", vocab_size=tokenizer.vocab_size)
    texts = ["ab", "年月年月", "", "dcba"]
    found = translate(model, texts, tokenizer, Settings(max_new_tokens=7, temperature=0), beams=beams)
    for text, one in zip(texts, found, strict=True):
        alone = translate(model, [text], tokenizer, Settings(max_new_tokens=7, temperature=0), beams=beams)
        assert [one.tokens] == [other.tokens for other in alone]
        assert one.text == tokenizer.decode(one.tokens)
    assert len({one.text for one in found}) > 1


def test_beams_take_no_stop_strings(tokenizer):
    model = model_of("none", vocab_size=tokenizer.vocab_size)
    with pytest.raises(UserError, match="ends at token ids"):
        translate(model, ["ab"], tokenizer, Settings(stop=("a",)), beams=2)


def test_a_text_is_read_with_its_end_mark(tokenizer):
    model = model_of("luong", vocab_size=tokenizer.vocab_size)
    twin, prompts = begin(model, ["ab", "cab"], tokenizer)
    a, b, c = tokenizer.encode("abc")
    end = tokenizer.end
    expected = model.encode(torch.tensor([[a, b, end, 0], [c, a, b, end]]), torch.tensor([3, 4]))
    assert prompts == [[end], [end]]
    marked = train("char", ["abc"], marks="t5")
    large = model_of("luong", vocab_size=marked.vocab_size)
    assert begin(large, ["ab"], marked)[1] == [[marked.marks.special["<pad>"]]]
    assert isinstance(twin, Conditioned)
    assert_close(twin.encoded["hidden"], expected["hidden"])
    assert_close(twin.encoded["annotations"], expected["annotations"])
