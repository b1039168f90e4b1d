"""Cached decoding against plain recomputation, alone and in batches of unequal prompts."""

import math

import pytest
import torch
from torch import nn

from descent.errors import UserError
from descent.generation import Settings, generate, stream

PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2], [36, 0, 36]]


def recompute(model, prompt, count, context=None):
    """Greedy by a full forward for every token."""
    tokens = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            tokens.append(int(model(torch.tensor([tokens]))[0, -1].argmax()))
    return tokens[len(prompt) :]


class Letters:
    """Token n is the n-th of the letters a, b, c, ... and #, in two-token steps where asked."""

    def push(self, index):
        return chr(97 + index) if index < 26 else "#"

    def finish(self):
        return ""


def test_greedy_is_the_argmax_of_a_full_forward(model):
    for prompt in PROMPTS:
        (got,) = generate(model, [prompt], Settings(max_new_tokens=15, temperature=0))
        assert got.tokens == recompute(model, prompt, 15)
        assert got.reason == "length"


def test_log_probabilities_are_those_of_the_full_forward(model):
    settings = Settings(max_new_tokens=9, temperature=0.7, top_k=5, repetition_penalty=1.5, seed=3)
    for prompt, got in zip(PROMPTS, generate(model, PROMPTS, settings), strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + got.tokens]))[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[range(9), got.tokens]
        torch.testing.assert_close(torch.tensor(got.logprobs), expected)


def test_the_repetition_penalty_counts_prompt_and_completion(model):
    tokens = [3, 1, 4]
    (got,) = generate(model, [tokens], Settings(max_new_tokens=20, temperature=0, repetition_penalty=3.0))
    with torch.no_grad():
        for _ in range(20):
            logits = model(torch.tensor([tokens]))[0, -1]
            for token in set(tokens):
                logits[token] = logits[token] / 3 if logits[token] > 0 else logits[token] * 3
            tokens = [*tokens, int(logits.argmax())]
    assert got.tokens == tokens[3:]


@pytest.mark.parametrize(
    "settings",
    [
        Settings(max_new_tokens=12, temperature=0),
        Settings(max_new_tokens=12, seed=5),
        Settings(max_new_tokens=12, seed=5, top_k=7, top_p=0.9, temperature=1.4, repetition_penalty=1.2),
        Settings(max_new_tokens=60, seed=2, stop_ids=(3, 4)),
        Settings(max_new_tokens=60, seed=2, sliding=True),
        Settings(max_new_tokens=60, temperature=0, sliding=True),
    ],
    ids=["greedy", "sampled", "filtered", "stops", "sliding", "sliding-greedy"],
)
def test_a_batch_of_n_is_n_batches_of_one(model, settings):
    together = generate(model, PROMPTS, settings)
    for row, (prompt, got) in enumerate(zip(PROMPTS, together, strict=True)):
        (alone,) = generate(model, [prompt], settings, seeds=[settings.seed + row])
        assert (got.tokens, got.reason) == (alone.tokens, alone.reason)
        torch.testing.assert_close(
            torch.tensor(got.logprobs), torch.tensor(alone.logprobs), rtol=1e-3, atol=1e-4
        )


def test_equal_prompts_of_a_batch_are_continued_differently(model):
    a, b = generate(model, [[5, 6], [5, 6]], Settings(max_new_tokens=12, seed=1))
    assert a.tokens != b.tokens
    again = generate(model, [[5, 6]], Settings(max_new_tokens=12, seed=1))
    assert again[0].tokens == a.tokens


def test_it_ends_with_the_context_unless_sliding(model):
    context, prompt = model.config.context, [1, 2, 3]
    (got,) = generate(model, [prompt], Settings(max_new_tokens=500, temperature=0))
    assert len(prompt + got.tokens) == context
    assert got.reason == "length"


def test_sliding_goes_on_from_the_last_half_of_the_context(model):
    context, tokens, first = model.config.context, [1, 2, 3], 0
    (got,) = generate(model, [tokens], Settings(max_new_tokens=90, temperature=0, sliding=True))
    with torch.no_grad():
        for _ in range(90):
            if len(tokens) - first > context:
                first = len(tokens) - context // 2
            tokens = [*tokens, int(model(torch.tensor([tokens[first:]]))[0, -1].argmax())]
    assert got.tokens == tokens[3:]


def test_sliding_takes_a_prompt_longer_than_the_context(model):
    prompt = [n % 37 for n in range(80)]
    (got,) = generate(model, [prompt], Settings(max_new_tokens=5, temperature=0, sliding=True))
    assert got.tokens == recompute(model, prompt[-16:], 5)


def test_a_stop_id_ends_its_row_only_and_is_not_returned(model):
    free = generate(model, PROMPTS, Settings(max_new_tokens=12, seed=4))
    stop = free[1].tokens[6]
    stopped = generate(model, PROMPTS, Settings(max_new_tokens=12, seed=4, stop_ids=[stop]))
    for before, after in zip(free, stopped, strict=True):
        if stop in before.tokens:
            assert after.tokens == before.tokens[: before.tokens.index(stop)]
            assert after.reason == "stop"
            assert len(after.logprobs) == len(after.tokens)
        else:
            assert (after.tokens, after.reason) == (before.tokens, before.reason)
            assert after.logprobs == pytest.approx(before.logprobs, rel=1e-4)


def test_rows_that_have_ended_are_computed_no_more(model):
    free = generate(model, PROMPTS, Settings(max_new_tokens=12, seed=4))
    settings = Settings(
        max_new_tokens=12, seed=4, stop_ids=sorted({token for row in free[:3] for token in row.tokens[4:6]})
    )
    lengths = [len(row.tokens) for row in generate(model, PROMPTS, settings)]
    sizes = []
    handle = model.tokens.register_forward_hook(lambda module, inputs, output: sizes.append(len(inputs[0])))
    generate(model, PROMPTS, settings)
    handle.remove()
    expected = [sum(length >= step for length in lengths) for step in range(1 + min(max(lengths), 11))]
    assert sizes == expected
    assert sizes[0] > sizes[-1] > 0


def test_a_stop_string_ends_the_text_before_it_across_tokens(model):
    settings = Settings(max_new_tokens=12, seed=4)
    (free,) = generate(model, [[1, 2]], settings, detokenise=Letters)
    assert len(free.text) == 12
    stop = free.text[5:8]
    (got,) = generate(model, [[1, 2]], settings.replace(stop=[stop]), detokenise=Letters)
    assert got.text == free.text[: free.text.index(stop)]
    assert got.reason == "stop"
    assert got.tokens == free.tokens[: free.text.index(stop) + 3]


def test_a_stop_string_that_stays_incomplete_is_shown_at_the_end(model):
    settings = Settings(max_new_tokens=12, seed=4)
    (free,) = generate(model, [[1, 2]], settings, detokenise=Letters)
    (got,) = generate(model, [[1, 2]], settings.replace(stop=[free.text[-2:] + "!"]), detokenise=Letters)
    assert (got.text, got.reason) == (free.text, "length")


def test_steps_carry_what_the_completion_holds(model):
    settings = Settings(max_new_tokens=8, seed=6, stop_ids=[0, 1, 2])
    steps = list(stream(model, PROMPTS, settings, detokenise=Letters))
    for row, whole in enumerate(generate(model, PROMPTS, settings, detokenise=Letters)):
        own = [step for step in steps if step.row == row]
        assert [step.token for step in own if step.token is not None] == whole.tokens
        assert "".join(step.text for step in own) == whole.text
        assert [step.reason for step in own] == [None] * (len(own) - 1) + [whole.reason]


def test_tokens_come_as_they_are_drawn_and_modes_are_restored(model):
    model.train()
    model.blocks[0].eval()
    steps = stream(model, [[1]], Settings(max_new_tokens=5))
    next(steps)
    assert not any(module.training for module in model.modules())
    steps.close()
    assert model.training
    assert not model.blocks[0].training
    assert model.blocks[1].training


def test_the_prompt_is_one_forward_and_then_one_token_each(model):
    shapes, heads = [], []
    handles = [
        model.tokens.register_forward_hook(
            lambda module, inputs, output: shapes.append(tuple(inputs[0].shape))
        ),
        model.norm.register_forward_hook(lambda module, inputs, output: heads.append(output.shape[1])),
    ]
    unembed, seen = model.unembed, []
    model.unembed = lambda hidden: seen.append(hidden.numel() // hidden.shape[-1]) or unembed(hidden)
    generate(model, PROMPTS, Settings(max_new_tokens=4, temperature=0))
    for handle in handles:
        handle.remove()
    assert shapes == [(4, 11), (4, 1), (4, 1), (4, 1)]
    assert heads == [11, 1, 1, 1]
    assert seen == [4, 4, 4, 4]


class State:
    def __init__(self, state, start):
        self.state, self.start, self.held = state, start, 0

    def reorder(self, rows):
        self.state = self.state[:, rows]
        self.start = None if self.start is None else self.start[rows]


class Recurrent(nn.Module):
    """A model without a context limit, without `features`, and with a cache of its own kind."""

    def __init__(self):
        super().__init__()
        self.embedding, self.cell, self.head = (
            nn.Embedding(11, 6),
            nn.GRU(6, 6, batch_first=True),
            nn.Linear(6, 11),
        )
        nn.init.normal_(self.head.weight, std=3)

    def new_cache(self, batch, length=None, dtype=None, device=None, start=None):
        return State(torch.zeros(1, batch, 6), start)

    def forward(self, tokens, *, cache):
        outputs = []
        for time in range(tokens.shape[1]):
            out, state = self.cell(self.embedding(tokens[:, time : time + 1]), cache.state)
            if cache.start is not None:
                state = torch.where((cache.start <= cache.held)[None, :, None], state, cache.state)
            cache.state, cache.held = state, cache.held + 1
            outputs.append(out)
        return self.head(torch.cat(outputs, 1))


def test_any_model_with_the_cache_protocol_is_decoded():
    torch.manual_seed(0)
    model = Recurrent()
    prompts, settings = [[1, 2, 3, 4], [10]], Settings(max_new_tokens=50, seed=9)
    together = generate(model, prompts, settings)
    assert [len(got.tokens) for got in together] == [50, 50]
    for row, prompt in enumerate(prompts):
        assert generate(model, [prompt], settings, seeds=[9 + row])[0].tokens == together[row].tokens


@pytest.mark.parametrize(
    ("prompts", "options", "words"),
    [
        ([], {}, "there is no prompt"),
        ([[1], []], {}, "prompt 1 is empty"),
        ([[1, 37]], {}, "got:      37\n  expected: 0 to 36"),
        ([[-1]], {}, "not in the model's vocabulary"),
        ([[1] * 32], {}, "got:      '32 tokens'\n  expected: at most 31"),
        ([[1]], {"seeds": [1, 2]}, "seeds: one for each prompt"),
        ([[1]], {"settings": Settings(stop=["x"])}, "pass detokenise=tokenizer.stream"),
    ],
)
def test_what_cannot_be_continued_is_said_before_anything_runs(model, prompts, options, words):
    with pytest.raises(UserError) as error:
        stream(model, prompts, options.get("settings"), seeds=options.get("seeds"))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("temperature", value) for value in (-0.1, math.nan, math.inf, "1", True)),
        *(("top_p", value) for value in (0.0, 1.1)),
        *(("top_k", value) for value in (-1, 1.5)),
        *(("max_new_tokens", value) for value in (0, 1.0)),
        *(("stop", value) for value in ([""], "###")),
        ("min_p", 2.0),
        ("repetition_penalty", 0.0),
        ("seed", -1),
        ("stop_ids", [-1]),
    ],
)
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=name):
        Settings.read({name: value})
