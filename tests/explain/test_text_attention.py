"""Attention of texts: the asked rows of what each layer's own forward gives, though the model runs fused."""

from __future__ import annotations

import pytest
import torch
from explain_text_toys import BERTS, CROSSED, SIZES, TEXT, batch_of, full_weights, loaded_of, tokenizer_of
from explain_toys import assert_as_before, condition, small_vit
from torch.testing import assert_close

from descent.errors import UserError
from descent.explain import attention_of, attention_weights, text_rollout
from descent.explain import attention_text as module
from descent.explain.text_reading import read_text, side_of
from descent.explain.text_tokens import apart, label, together, visible
from descent.nn import attention as attention_module
from descent.nn.attention import Attention
from descent.runs.loaded import Loaded

ROWS = [4, 0, 6]


@pytest.mark.parametrize("layout", ["packed", "padded"])
@pytest.mark.parametrize("name", SIZES)
def test_rows_are_those_of_every_layers_own_weights(name: str, layout: str):
    """Masks of packed and padded rows, T5's bias, turned positions, grouped heads: every rule."""
    model, inputs = loaded_of(name).model.eval(), batch_of(name, layout)
    expected = full_weights(model, inputs)
    assert_close(attention_weights(model, inputs), expected)
    rows = {key: [row for row in ROWS if row < full.shape[2]] for key, full in expected.items()}
    found = attention_weights(model, inputs, rows=rows)
    assert list(found) == list(expected)
    for key, full in expected.items():
        assert_close(found[key], full[:, :, rows[key]])


@pytest.mark.parametrize("name", SIZES)
def test_the_pass_is_fused_and_asked_rows_cost_no_whole_matrix(monkeypatch, name: str):
    model, inputs = loaded_of(name).model.eval(), batch_of(name, "packed")
    fused, plain, counts = attention_module._fused, attention_module._plain, {"fused": 0, "rows": []}

    def by_kernel(*given):
        counts["fused"] += 1
        return fused(*given)

    def by_scores(q, *given):
        counts["rows"].append(q.shape[2])
        return plain(q, *given)

    monkeypatch.setattr(attention_module, "_fused", by_kernel)
    monkeypatch.setattr(attention_module, "_plain", by_scores)
    parts = [part for part in model.modules() if isinstance(part, Attention)]
    last = list(module.attention_parts(model))[-1]
    attention_weights(model, inputs, layers=[last], rows={last: [3]})
    assert counts == {"fused": len(parts), "rows": [1]}


@pytest.mark.parametrize("name", SIZES)
def test_a_text_is_read_whole_and_the_model_left_as_it_was(name: str):
    loaded = loaded_of(name)
    before = condition(loaded.model)
    target = "b好" if name in CROSSED else None
    found = attention_of(loaded, TEXT, target)
    assert_as_before(loaded.model, before)
    model, _, reading = read_text(loaded, TEXT, target)
    expected = full_weights(model, reading.inputs)
    assert [layer.name for layer in found.layers] == list(expected)
    for layer in found.layers:
        looks, seen = module.sides_of(reading, layer.kind)
        full = expected[layer.name][0]
        for row, group in enumerate(looks.groups):
            for key, others in enumerate(seen.groups):
                hand = full[:, list(group)][:, :, list(others)].sum(-1).mean(-1)
                assert_close(layer.weights[:, row, key], hand)
        assert_close(layer.weights.sum(-1), torch.ones_like(layer.weights[..., 0]))
        assert "好" in layer.keys
        assert not any("\ufffd" in piece for piece in (*layer.keys, *layer.rows))


def test_the_sides_of_each_kind():
    found = attention_of(loaded_of("transformer"), TEXT, "b好")
    first = {layer.kind: layer for layer in found.layers}
    source, target = ("ab", "␣", "好", "a", "end"), ("b", "好", "end")
    assert (first["encoder"].rows, first["encoder"].keys) == (source, source)
    assert first["decoder"].rows == first["decoder"].keys == ("start", *target[:-1])
    assert (first["cross"].rows, first["cross"].keys) == (target, source)
    assert found.text == "b好"
    bert = attention_of(loaded_of("bert"), "ab [MASK]a [SEP]", second="a").layers[0]
    assert bert.keys[:4] == ("[CLS]", "ab", "[MASK]", "a")
    assert bert.keys[-3:] == ("[SEP]", "a", "[SEP]")
    assert "[SEP]" not in bert.keys[:-3], "the name of another mark is text"
    assert attention_of(loaded_of("gpt"), "ab").layers[0].rows == ("end", "ab")


@pytest.mark.parametrize("name", CROSSED)
def test_without_a_target_it_is_what_the_model_writes(name: str):
    loaded = loaded_of(name)
    loaded.model.eval()
    found = attention_of(loaded, TEXT, layers=["cross"], rows=[0])
    written = loaded.complete([TEXT], max_new_tokens=128)[0]
    assert found.text == written.text
    side = side_of(tokenizer_of(SIZES[name][0]), written.tokens)
    assert found.layers[0].rows == side.pieces[:1]


@pytest.mark.parametrize("name", ["bert", "transformer"])
def test_layers_heads_and_rows_are_chosen(name: str):
    loaded = loaded_of(name)
    whole = attention_of(loaded, TEXT)
    names = [layer.name for layer in whole.layers]
    some = attention_of(loaded, TEXT, layers=[names[-1]], heads=[2, 0], rows=[1]).layers
    assert [layer.name for layer in some] == names[-1:]
    assert some[0].heads == (2, 0)
    assert some[0].rows == whole.layers[-1].rows[1:2]
    assert_close(some[0].weights, whole.layers[-1].weights[[2, 0], 1:2])
    for number in (1, -1, "1"):
        chosen = attention_of(loaded, TEXT, layers=[number]).layers
        assert [layer.name for layer in chosen] == [n for n in names if ".1." in n]
    kinds = {layer.kind for layer in whole.layers}
    assert kinds == ({"self"} if name == "bert" else {"encoder", "decoder", "cross"})


def test_rollout_by_hand():
    for name in ("gpt", *BERTS):
        loaded = loaded_of(name)
        model, _, reading = read_text(loaded, "ab the")
        flow = torch.eye(reading.inputs["tokens"].shape[1])
        for full in full_weights(model, reading.inputs).values():
            flow = (0.5 * full[0].mean(0) + 0.5 * torch.eye(len(flow))) @ flow
        found = text_rollout(loaded, "ab the").layers
        assert [layer.name for layer in found] == ["rollout"]
        assert_close(found[0].weights[0], flow)


def test_rollout_follows_cross_attention_into_the_encoder():
    loaded = loaded_of("transformer")
    model, _, reading = read_text(loaded, "ab the", "a cat")
    full = {name: weights[0].mean(0) for name, weights in full_weights(model, reading.inputs).items()}
    size, wide = len(full["decoder.0.attention"]), len(full["encoder.0.attention"])
    encoder = torch.eye(wide)
    states = torch.eye(size, size + wide)  # of each written token: shares of the target's and source's tokens
    for layer in range(2):
        encoder = 0.5 * (full[f"encoder.{layer}.attention"] + torch.eye(wide)) @ encoder
    for layer in range(2):
        states = 0.5 * (states + full[f"decoder.{layer}.attention"] @ states)
        brought = torch.cat((torch.zeros(size, size), full[f"decoder.{layer}.cross"] @ encoder), dim=1)
        states = 0.5 * (states + brought)
    found = {layer.kind: layer.weights[0] for layer in text_rollout(loaded, "ab the", "a cat").layers}
    assert_close(found["encoder"], encoder)
    assert_close(torch.cat((found["decoder"], found["cross"]), dim=1), states)
    assert_close(states.sum(1), torch.ones(size))


@pytest.mark.parametrize("kind", ["gpt", "bert", "t5"])
@pytest.mark.parametrize("text", ["a好b", "你好，世界 ab", "🙂a👩‍🚀", "é ab ñ", "好", "a\nb\tc"])
def test_tokens_of_one_character_are_together(kind: str, text: str):
    """As `Tokenizer.pieces` has their places in the text."""
    tokenizer = tokenizer_of(kind)
    ids, spans = tokenizer.pieces(text)
    groups = together(tokenizer, ids)
    assert [place for group in groups for place in group] == list(range(len(ids)))
    starts = [0] + [
        n for n in range(1, len(ids)) if spans[n] != spans[n - 1] and spans[n][0] >= spans[n - 1][1]
    ]
    assert [group.start for group in groups] == starts
    labels = [label(tokenizer, [ids[place] for place in group]) for group in groups]
    assert "".join(labels) == visible(text)
    assert len(apart(tokenizer, ids)) == len(ids)
    assert not any("\ufffd" in name for name in (*labels, *apart(tokenizer, ids)))


def test_bytes_that_are_no_text_show_their_codes():
    tokenizer = tokenizer_of("gpt")
    first, second, third = tokenizer.encode("好")
    (letter,) = tokenizer.encode("a")
    ids = [second, letter, first, second, letter, first, second, third, first]
    names = list(side_of(tokenizer, ids).pieces)
    assert names == ["<A5>", "a", "<E5 A5>", "a", "好", "<E5>"]
    assert side_of(tokenizer, tokenizer.encode("\ufffd")).pieces == ("<EF BF BD>",)
    assert visible("a\u202eb\x1b[0m\u3000") == "a<202E>b<001B>[0m␣"


def test_what_cannot_be_shown_is_refused(monkeypatch):
    loaded = loaded_of("bert")
    with pytest.raises(UserError, match="there is no attention layer 'bloks'") as caught:
        attention_of(loaded, TEXT, layers=["bloks"])
    assert "blocks.1.attention" in str(caught.value) or "a block from 0 to 1" in str(caught.value)
    with pytest.raises(UserError, match="no such head"):
        attention_of(loaded, TEXT, heads=[3])
    with pytest.raises(UserError, match=r"no such row in blocks\.0\.attention"):
        attention_of(loaded, TEXT, rows=[-1])
    with pytest.raises(UserError, match="no text to explain"):
        attention_of(loaded, "")
    with pytest.raises(UserError, match="a target is for models"):
        attention_of(loaded, TEXT, "b")
    with pytest.raises(UserError, match="a second text is for a BERT"):
        attention_of(loaded_of("gpt"), TEXT, second="b")
    vit = small_vit()
    with pytest.raises(UserError, match="is no Transformer that reads text"):
        attention_of(Loaded(vit, vit.config), TEXT)
    monkeypatch.setattr(module, "MOST", 2 * 3 * 6 * 8 - 1)
    with pytest.raises(UserError, match="too many attention weights"):
        attention_of(loaded, TEXT)
    attention_of(loaded, TEXT, rows=[0])
