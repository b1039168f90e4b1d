"""What answers hang on, hidden words and the logit lens: each against what it is by definition."""

from __future__ import annotations

import pytest
import torch
from explain_text_toys import BERTS, CROSSED, SIZES, loaded_of, tokenizer_of
from explain_toys import assert_as_before, condition
from torch.testing import assert_close

from descent.errors import UserError
from descent.explain import (
    gradient_attention,
    logit_lens,
    masked_words,
    pseudo_likelihood,
    relevance,
    token_attribution,
)
from descent.explain.text_answer import answer_of
from descent.explain.text_reading import read_text
from descent.nn.attention import Attention, attend

TEXT = "ab the cat"
HEADS = {
    "classes": {"head": "classes", "outputs": 3},
    "binary": {"head": "classes", "outputs": 1},
    "names": {"head": "tokens", "outputs": 3},
    "span": {"head": "span"},
    "next": {"head": "next"},
    "both": {"head": "pretraining"},
}
CASES = [*SIZES, *HEADS]


def case(name: str):
    """The model and the texts of a case."""
    if name in HEADS:
        loaded = loaded_of("bert", **HEADS[name])
        loaded.labels = ("O", "B", "I")[: 2 if name == "binary" else 3] if name in list(HEADS)[:3] else None
        return loaded, {"text": TEXT, "second": "a cat sat"}
    masked = {"text": "ab [MASK] cat"} if name in BERTS else {"text": TEXT}
    return loaded_of(name), {**masked, **({"target": "a cat"} if name in CROSSED else {})}


@pytest.mark.parametrize("name", CASES)
def test_the_parts_of_integrated_gradients_add_up(name: str):
    loaded, texts = case(name)
    before = condition(loaded.model)
    found = token_attribution(loaded, method="integrated-gradients", **texts, tolerance=1e-2)
    assert_as_before(loaded.model, before)
    model, tokenizer, reading = read_text(loaded, **texts)
    mask = tokenizer.marks.find("mask") if getattr(model, "masked", None) is not None else None
    table = model.tokens.weight.detach()
    nothing = table.mean(0) if mask is None else table[mask]

    def hidden(module, inputs, output):
        special = torch.isin(inputs[0], torch.tensor(sorted(tokenizer.special)))
        return torch.where(special[..., None], output, nothing)

    with torch.no_grad():
        whole = float(found.answer.score(model.eval(), reading.inputs))
        handle = model.tokens.register_forward_hook(hidden)
        empty = float(found.answer.score(model, reading.inputs))
        handle.remove()
    total = float(sum(values.sum() for values in found.values.values()))
    assert found.residual is not None
    assert abs(total - (whole - empty) - found.residual) < 2e-4
    assert abs(found.residual) <= 1e-2 * min(max(abs(whole - empty), 0.01), 1) + 1e-5
    assert set(found.values) == ({"source", "tokens"} if name in CROSSED else {"tokens"})


@pytest.mark.parametrize("name", ["bert of 2019", "transformer", "llama", "classes", "span"])
def test_gradients_are_those_of_the_embeddings(name: str):
    loaded, texts = case(name)
    found = token_attribution(loaded, method="saliency", **texts)
    joint = token_attribution(loaded, method="gradient-input", **texts)
    model, _, reading = read_text(loaded, **texts)
    table = model.eval().tokens.weight.detach().clone()
    step = 1e-3
    model.double()
    for side, ids in ((side, reading.sides[side].ids) for side in found.values):
        for place in range(0, len(ids), 2):
            slopes = torch.zeros(table.shape[1], dtype=torch.float64)
            for unit in range(table.shape[1]):
                ends = []
                for sign in (1, -1):

                    def moved(module, inputs, output, sign=sign, unit=unit, place=place, ids=ids):
                        if inputs[0].tolist() == [list(ids)]:
                            output = output.clone()
                            output[0, place, unit] += sign * step
                        return output

                    handle = model.tokens.register_forward_hook(moved)
                    with torch.no_grad():
                        ends.append(found.answer.score(model, reading.inputs)[0])
                    handle.remove()
                slopes[unit] = (ends[0] - ends[1]) / (2 * step)
            group = next(n for n, held in enumerate(reading.sides[side].groups) if place in held)
            assert_close(found.values[side][group], slopes.norm().float(), rtol=2e-3, atol=1e-3)
            expected = (slopes.float() @ table[ids[place]]).float()
            assert_close(joint.values[side][group], expected, rtol=2e-3, atol=2e-3)


def weighed(loaded, texts, answer, monkeypatch):
    """The weights of each layer and the gradients by them, by a pass that holds them."""
    model, _, reading = read_text(loaded, **texts)
    held = []

    def holding(q, k, v, *, mask=None, bias=None, causal=False, scale=None, **_):
        _, weights = attend(q, k, v, mask=mask, bias=bias, causal=causal, scale=scale, weights=True)
        weights = weights.detach().requires_grad_(True) if not weights.requires_grad else weights
        held.append(weights)
        return weights @ v.repeat_interleave(q.shape[1] // v.shape[1], dim=1)

    monkeypatch.setattr("descent.nn.attention.attend", holding)
    score = answer.score(model.eval(), reading.inputs)[0]
    slopes = torch.autograd.grad(score, held)
    monkeypatch.undo()
    return [(weights.detach()[0], slope[0]) for weights, slope in zip(held, slopes, strict=True)]


@pytest.mark.parametrize("name", CASES)
def test_gradient_times_attention_is_that_of_a_pass_that_holds_the_weights(monkeypatch, name: str):
    loaded, texts = case(name)
    before = condition(loaded.model)
    found, answer = gradient_attention(loaded, **texts)
    assert_as_before(loaded.model, before)
    expected = weighed(loaded, texts, answer, monkeypatch)
    names = [layer.name for layer in found.layers]
    assert len(names) == sum(isinstance(part, Attention) for part in loaded.model.modules())
    for layer, (weights, slope) in zip(found.layers, expected, strict=True):
        assert layer.weights.shape == weights.shape, "no character of several tokens here"
        assert_close(layer.weights, weights * slope, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt", "classes", "t5"])
def test_relevance_by_hand(monkeypatch, name: str):
    loaded, texts = case(name)
    found = relevance(loaded, **texts)
    means = [(w * g).clamp_min(0).mean(0) for w, g in weighed(loaded, texts, found.answer, monkeypatch)]
    place = found.answer.place
    if name != "t5":
        gathered = torch.eye(len(means[0]))
        for mean in means:
            gathered = gathered + mean @ gathered
        assert_close(found.values["tokens"], (gathered - torch.eye(len(gathered)))[place])
        return
    source, target = torch.eye(len(means[0])), torch.eye(len(means[2]))
    for mean in means[:2]:
        source = source + mean @ source

    def normed(gathered):
        other = gathered - torch.eye(len(gathered))
        return torch.eye(len(gathered)) + other / other.sum(1, keepdim=True).clamp_min(1e-12)

    both = torch.zeros(len(target), len(source))
    for own, cross in (means[2:4], means[4:6]):
        both, target = both + own @ both, target + own @ target
        both = both + normed(target).T @ cross @ normed(source)
    assert_close(found.values["source"], both[place])
    assert_close(found.values["tokens"], target[place] - torch.eye(len(target))[place])


def test_which_answer_is_explained():
    loaded, texts = case("transformer")
    tokenizer = tokenizer_of("transformer")
    model, _, reading = read_text(loaded, **texts)
    written = reading.sides["written"]
    assert answer_of(loaded, tokenizer, reading).label == written.pieces[0]
    assert answer_of(loaded, tokenizer, reading, len(written.pieces) - 1).label == "end"
    loaded, texts = case("gpt")
    model, tokenizer, reading = read_text(loaded, **texts)
    with torch.no_grad():
        shares = model.eval()(reading.inputs["tokens"])[0].softmax(-1)
    said = answer_of(loaded, tokenizer, reading)
    assert_close(said.probability, float(shares[-1].max()))
    other = answer_of(loaded, tokenizer, reading, 1, "the")
    (index,) = tokenizer.encode("the") if len(tokenizer.encode("the")) == 1 else tokenizer.encode(" the")
    assert_close(other.probability, float(shares[reading.sides["tokens"].groups[1].stop - 1, index]))
    loaded, texts = case("binary")
    _, tokenizer, reading = read_text(loaded, **texts)
    both = [answer_of(loaded, tokenizer, reading, wanted=name).probability for name in ("O", "B")]
    assert_close(sum(both), 1.0)
    with pytest.raises(UserError, match="no class is called 'X'"):
        answer_of(loaded, tokenizer, reading, wanted="X")
    with pytest.raises(UserError, match="answers once a text"):
        answer_of(loaded, tokenizer, reading, 1)
    loaded, texts = case("gpt")
    with pytest.raises(UserError, match="this is not one token"):
        token_attribution(loaded, **texts, wanted="bcd")
    with pytest.raises(UserError, match="no such row"):
        relevance(loaded, **texts, position=99)
    with pytest.raises(UserError, match="answers nothing"):
        relevance(loaded_of("bert", head="none"), TEXT)
    with pytest.raises(UserError, match="no word of the text is hidden"):
        relevance(loaded_of("bert"), TEXT)


@pytest.mark.parametrize("name", BERTS)
def test_hidden_words_are_the_models_own(name: str):
    loaded = loaded_of(name)
    found = masked_words(loaded, "ab [MASK] 好 [MASK]", top=3)
    model, tokenizer, reading = read_text(loaded, "ab [MASK] 好 [MASK]")
    with torch.no_grad():
        shares = model.eval()(**reading.inputs)[0].softmax(-1)
    places = [n for n, index in enumerate(reading.sides["tokens"].ids) if index == tokenizer.mask]
    assert len(found) == len(places) == 2
    for word, place in zip(found, places, strict=True):
        assert reading.sides["tokens"].pieces[word.place] == "[MASK]"
        best = shares[place].topk(3)
        assert word.ids == tuple(best.indices.tolist())
        assert_close(torch.tensor(word.probabilities), best.values)
    with pytest.raises(UserError, match="no word of the text is hidden"):
        masked_words(loaded, TEXT)
    for other in (loaded_of("gpt"), loaded_of("bert", head="classes", outputs=2)):
        with pytest.raises(UserError, match="no head for hidden words"):
            masked_words(other, "a")


def test_the_pseudo_likelihood_hides_one_token_at_a_time(monkeypatch):
    loaded = loaded_of("bert of 2019")
    found = pseudo_likelihood(loaded, "ab 好a", "cat")
    model, tokenizer, reading = read_text(loaded, "ab 好a", None, "cat")
    side, expected = reading.sides["tokens"], []
    for place, index in enumerate(side.ids):
        if index in tokenizer.special:
            expected.append(0.0)
            continue
        tokens = reading.inputs["tokens"].clone()
        tokens[0, place] = tokenizer.mask
        with torch.no_grad():
            logits = model.eval()(**{**reading.inputs, "tokens": tokens})
        expected.append(float(logits[0, place].log_softmax(-1)[index]))
    sums = [sum(expected[place] for place in group) for group in side.groups]
    assert found.pieces == side.pieces
    assert_close(torch.tensor(found.log_probabilities), torch.tensor(sums))
    assert_close(found.total, sum(sums), rtol=1e-5, atol=1e-5)
    count = sum(index not in tokenizer.special for index in side.ids)
    assert_close(found.perplexity, float(torch.tensor(-sum(sums) / count).exp()), rtol=1e-5, atol=1e-5)
    monkeypatch.setattr("descent.explain.hidden_words.AT_ONCE", 1)
    assert_close(pseudo_likelihood(loaded, "ab 好a", "cat").total, found.total, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SIZES)
def test_the_last_layer_of_the_lens_is_what_the_model_says(name: str):
    loaded = loaded_of(name)
    texts = {"text": "ab 好a", **({"target": "a好"} if name in CROSSED else {})}
    found = logit_lens(loaded, **texts, top=2)
    model, _, reading = read_text(loaded, **texts)
    with torch.no_grad():
        best = model.eval()(**reading.inputs)[0].softmax(-1).topk(2)
    assert_close(found.probabilities[-1], best.values)
    assert_close(found.ids[-1], best.indices)
    stack = "decoder" if name in CROSSED else "blocks"
    assert found.layers == ("embedding", f"{stack}.0", f"{stack}.1")
    assert len(found.pieces) == found.ids.shape[1] == len(found.words[0])
    assert "好 1/3" in found.pieces
    assert ("好 1/3" in found.written) == (name in CROSSED)
    assert not any("\ufffd" in word for layer in found.words for place in layer for word in place)
    shallow = logit_lens(loaded_of(name, depth=1), **texts, top=2)
    assert shallow.probabilities.shape == (2, *found.probabilities.shape[1:])


def test_the_lens_of_a_middle_layer_is_that_of_a_shallower_model():
    loaded = loaded_of("gpt2")
    found = logit_lens(loaded, TEXT)
    model, _, reading = read_text(loaded, TEXT)
    model.blocks = model.blocks[:1]
    with torch.no_grad():
        best = model.eval()(reading.inputs["tokens"])[0].softmax(-1).max(-1)
    assert_close(found.probabilities[1, :, 0], best.values)
    assert_close(found.ids[1, :, 0], best.indices)
    with pytest.raises(UserError, match="no head over its vocabulary"):
        logit_lens(loaded_of("bert", head="span"), TEXT)
