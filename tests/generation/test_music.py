"""Music that is drawn: frames by their probabilities and within bounds, voices in their ranges."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from descent.data.music_splits import END, REST, pitches_of, tokens_of
from descent.errors import UserError
from descent.generation import Settings, generate
from descent.generation.music import FrameSettings, sample_frames, sample_voices, voice_rule
from descent.models.gpt import GPT, GPTConfig
from descent.models.rnn import RNN, RNNConfig

FRAMES = {"kind": "frames", "grid": "quarter", "keys": [30, 50], "most": 4}
VOICES = {
    "kind": "voices",
    "grid": "16th",
    "voices": ["soprano", "alto", "tenor", "bass"],
    "ranges": [[60, 81], [52, 74], [46, 69], [36, 66]],
    "rests": [False, True, False, True],
    "lowest": 36,
    "highest": 81,
}


def frames_model(dim=12, spread_by=0.5):
    torch.manual_seed(3)
    model = RNN(RNNConfig(cell="gru", depth=2, dim=dim, inputs=(88,), outputs=88)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * spread_by)
    return model


def voices_model(spread):
    torch.manual_seed(3)
    return spread(RNN(RNNConfig(cell="lstm", depth=2, dim=16, vocab_size=48)))


def test_thousands_of_tokens_are_all_in_the_range_of_their_voice(spread):
    model = voices_model(spread)
    assert model.head is not None
    with torch.no_grad():
        model.head.bias[END] -= 50  # this one would end too early to say much
    settings = Settings(max_new_tokens=200, top_p=0.999, temperature=1.5, stop_ids=(END,))
    prompt = [END, 40, 20, 15, 8]
    free = generate(model, [[END], prompt] * 12, settings)
    ruled = generate(model, [[END], prompt] * 12, settings, allowed=voice_rule(VOICES))
    assert sum(len(row.tokens) for row in ruled) == 24 * 200
    assert broken(ruled) == 0
    assert broken(free) > 1000, "without the rule this model leaves the ranges"


def broken(rows):
    """Tokens that are no note of the voice whose turn it is."""
    count = 0
    for row in rows:
        notes = pitches_of(np.array(row.tokens), VOICES["lowest"]).reshape(-1, 4)
        for line, (low, high), rests in zip(notes.T, VOICES["ranges"], VOICES["rests"], strict=True):
            fine = (line >= low) & (line <= high) | (rests & (line == -1))
            count += int((~fine).sum())
    return count


def test_a_piece_ends_only_between_two_steps_and_never_before_the_first():
    rule = voice_rule(VOICES)
    tokens = [END]
    for place in range(12):
        allowed = rule(tokens)
        assert bool(allowed[END]) == (place > 0 and place % 4 == 0)
        low, high = tokens_of(np.array(VOICES["ranges"][place % 4]), 36)
        expected = torch.zeros(48, dtype=torch.bool)
        expected[low : high + 1] = True
        expected[REST] = VOICES["rests"][place % 4]
        expected[END] = allowed[END]
        assert torch.equal(allowed, expected)
        tokens.append(int(low))


class Ending(nn.Module):
    """A language model that ends as soon as it may."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def new_cache(self, batch, length=None, start=None):
        return None

    def forward(self, tokens, *, cache):
        return torch.nn.functional.one_hot(torch.full(tokens.shape, END), 48) * 50.0


def test_an_ended_piece_is_shorter():
    assert sample_voices(Ending(), VOICES, 10).shape == (1, 4)
    assert sample_voices(Ending(), VOICES, 10, np.array([[70, 60, 50, 40]])).shape == (1, 4)


def test_voices_are_a_function_of_the_seed_and_in_their_ranges(spread):
    model = voices_model(spread)
    first = sample_voices(model, VOICES, 20, seed=1)
    assert all((line <= high).all() for line, (_, high) in zip(first.T, VOICES["ranges"], strict=True))
    assert np.array_equal(first, sample_voices(model, VOICES, 20, seed=1))
    assert not np.array_equal(first[:5], sample_voices(model, VOICES, 20, seed=2)[:5])


def test_a_model_of_a_limited_context_writes_the_whole_steps_it_has_room_for():
    torch.manual_seed(0)
    model = GPT(GPTConfig(depth=1, dim=16, heads=2, context=30, vocab_size=48)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.1)
    drawn = sample_voices(model, VOICES, 100, seed=1)
    assert drawn.shape == (7, 4), "1 token begins the piece, 28 are steps, and the 30th would be half of one"
    whole = sample_voices(model, VOICES, 5, seed=1)
    assert np.array_equal(drawn[:5], whole)


@pytest.mark.parametrize("prompt", [[[70, 60, 50]], [[90, 60, 50, 40]], [[70, 60, 50, 30]]])
def test_a_prompt_that_no_training_piece_could_be_is_refused(spread, prompt):
    with pytest.raises(UserError, match="the prompt has"):
        sample_voices(voices_model(spread), VOICES, 4, np.array(prompt))


def test_probabilities_are_the_models_own_where_a_rule_removes_tokens(spread):
    model = voices_model(spread)
    found = generate(model, [[END]], Settings(max_new_tokens=12), allowed=voice_rule(VOICES))[0]
    logits = model(torch.tensor([[END, *found.tokens[:-1]]]))[0]
    expected = logits.log_softmax(-1)[torch.arange(12), found.tokens]
    assert_close(torch.tensor(found.logprobs), expected.detach(), rtol=1e-4, atol=1e-5)


def test_rows_under_a_rule_do_not_depend_on_each_other(spread):
    model, rule = voices_model(spread), voice_rule(VOICES)
    prompts = [[END], [END, 30, 20, 15, 8], [END, 30]]
    together = generate(model, prompts, Settings(max_new_tokens=30, stop_ids=(END,)), allowed=rule)
    for number, prompt in enumerate(prompts):
        settings = Settings(max_new_tokens=30, stop_ids=(END,), seed=number)
        assert generate(model, [prompt], settings, allowed=rule)[0].tokens == together[number].tokens


def test_frames_are_drawn_step_by_step_as_the_whole_forward_says():
    model, prompt = frames_model(), np.random.default_rng(1).random((6, 88)) < 0.1
    drawn = sample_frames(model, FRAMES, FrameSettings(steps=20, temperature=0, most=88), prompt)
    heard = np.concatenate([np.zeros((1, 88)), prompt, drawn])
    with torch.inference_mode():
        logits = model(torch.from_numpy(heard).float()[None])[0, 6:-1]
    expected = logits > 0
    expected[:, :30] = expected[:, 51:] = False
    assert expected.any()
    assert np.array_equal(drawn, expected.numpy())


def test_frames_stay_in_bounds_and_hold_the_most_probable_keys():
    model = frames_model()
    assert model.head is not None
    with torch.no_grad():
        model.head.bias.add_(3.0)
    drawn = sample_frames(model, FRAMES, FrameSettings(steps=200))
    assert not drawn[:, :30].any()
    assert not drawn[:, 51:].any()
    assert drawn.sum(axis=1).max() == 4
    assert sample_frames(model, FRAMES, FrameSettings(steps=50, most=2)).sum(axis=1).max() == 2
    greedy = sample_frames(model, FRAMES, FrameSettings(steps=1, temperature=0, most=3))
    with torch.inference_mode():
        logits = model(torch.zeros(1, 1, 88))[0, 0, 30:51]
    assert set(np.flatnonzero(greedy[0]) - 30) == set(logits.topk(3).indices.tolist())


def test_each_key_sounds_as_often_as_its_probability_says():
    model = frames_model(spread_by=0.0)
    odds = torch.linspace(-3, 3, 88)
    assert model.head is not None
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(odds)
    for temperature in (1.0, 0.5):
        settings = FrameSettings(steps=600, temperature=temperature, most=88)
        shares = sample_frames(model, {**FRAMES, "keys": [0, 87]}, settings).mean(axis=0)
        expected = torch.sigmoid(odds / temperature)
        assert_close(torch.from_numpy(shares).float(), expected, rtol=0, atol=0.085)


def test_frames_are_a_function_of_the_seed_and_leave_the_model_as_it_was():
    model = frames_model().train()
    first = sample_frames(model, FRAMES, FrameSettings(steps=30, seed=5))
    assert model.training
    assert np.array_equal(first[:9], sample_frames(model, FRAMES, FrameSettings(steps=9, seed=5)))
    assert not np.array_equal(first, sample_frames(model, FRAMES, FrameSettings(steps=30, seed=6)))
