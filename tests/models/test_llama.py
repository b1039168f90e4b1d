"""Llama: every dialect equals its reference, element by element; the sizes and what the dial derives."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from descent.errors import UserError
from descent.generation import BeamSettings, Settings, beam_search, generate, prepare
from descent.models.llama import SIZES, Llama, LlamaConfig
from descent.nn.attention import Attention
from descent.nn.norm import RMSNorm
from descent.nn.position import interpolated, rescaled_llama3, rescaled_yarn, rotate, yarn_magnitude
from descent.weights import architectures, llama

TINY = {"depth": 3, "dim": 42, "heads": 7, "head_dim": 6, "hidden": 29, "context": 64, "vocab_size": 41}
DIALECTS: dict[str, dict] = {
    "llama": {},
    "llama, one group, tied": {"groups": 1, "tied": True},
    "llama with biases": {"bias": "attention", "heads": 6, "groups": 2},
    "llama with narrow heads": {"head_dim": 2, "norm_eps": 1e-3},
    "llama, linear": {"scaling": {"type": "linear", "factor": 3.0}},
    "llama 3": {
        "heads": 6,
        "groups": 3,
        "head_dim": 14,
        "rotary_base": 500.0,
        "scaling": {"type": "llama3", "factor": 8.0, "trained": 16},
    },
    "llama, yarn": {"head_dim": 22, "scaling": {"type": "yarn", "factor": 4.0, "trained": 16}},
    "llama, yarn by hand": {
        "head_dim": 32,
        "scaling": {
            "type": "yarn",
            "factor": 2.5,
            "trained": 40,
            "fast": 20.0,
            "slow": 0.5,
            "magnitude": 1.3,
            "whole": False,
        },
    },
    "mistral": {"dim": 50, "heads": 4, "groups": 2, "head_dim": 10},
    "qwen2": {
        "bias": "qkv",
        "dim": 48,
        "heads": 6,
        "groups": 2,
        "head_dim": 0,
        "rotary_base": 1e6,
        "norm_eps": 1e-6,
    },
    "qwen3": {"qk_norm": True, "heads": 6, "groups": 2, "head_dim": 10, "tied": True},
    "qwen3 with biases": {"qk_norm": True, "bias": "attention"},
}
each = pytest.mark.parametrize("changes", DIALECTS.values(), ids=DIALECTS)
some = pytest.mark.parametrize("name", ["llama 3", "qwen2", "qwen3"])


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(11)


def pair(changes, spread: float = 0.2):
    """A tiny model of ours, every parameter drawn, and transformers' with the same weights."""
    transformers = pytest.importorskip("transformers")
    ours = Llama(LlamaConfig.read({**TINY, **changes})).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    row = architectures.of(ours.config)
    assert row is not None
    table = row.config_to(ours.config)
    config = transformers.AutoConfig.for_model(**table, attn_implementation="eager")
    theirs = getattr(transformers, row.classes[0])(config).eval()
    missing, unexpected = theirs.load_state_dict(row.state_to(ours.state_dict()), strict=False)
    assert not unexpected
    assert missing == (["lm_head.weight"] if ours.config.tied else [])
    return ours, theirs


@each
def test_logits_equal_the_reference(changes):
    ours, theirs = pair(changes)
    tokens = torch.randint(41, (2, 53))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits)


@each
def test_gradients_equal_the_reference(changes):
    ours, theirs = pair(changes)
    tokens = torch.randint(41, (2, 23))
    for logits in (ours(tokens), theirs(tokens).logits):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    mine = llama.state_to({name: p.grad for name, p in ours.named_parameters()})
    reference = dict(theirs.named_parameters())
    assert mine.keys() == reference.keys()
    for name, gradient in mine.items():
        torch.testing.assert_close(gradient, reference[name].grad, msg=lambda text, n=name: f"{n}: {text}")


@some
def test_cached_decoding_equals_the_reference(name):
    ours, theirs = pair(DIALECTS[name])
    tokens, cache, past = torch.randint(41, (2, 31)), ours.new_cache(2), None
    with torch.no_grad():
        for part in tokens.split([11, 1, 1, 13, 5], dim=1):
            out = theirs(part, past_key_values=past, use_cache=True)
            past = out.past_key_values
            torch.testing.assert_close(ours(part, cache=cache), out.logits)


@some
def test_padded_rows_equal_the_reference(name):
    ours, theirs = pair(DIALECTS[name])
    tokens, start = torch.randint(41, (3, 17)), torch.tensor([0, 4, 9])
    real = torch.arange(17) >= start[:, None]
    positions = (torch.arange(17) - start[:, None]).clamp_min(0)
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=real.long(), position_ids=positions).logits
        found = ours(tokens, cache=ours.new_cache(3, start=start))
    torch.testing.assert_close(found[real], expected[real])


@some
def test_greedy_and_beam_search_write_what_the_reference_writes(name):
    ours, theirs = pair(DIALECTS[name], spread=0.5)
    prompts = [[3, 1, 4, 1, 5], [9, 2], [6, 5, 3, 5, 8, 9, 7]]
    options = {"max_new_tokens": 32, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    greedy, beams = (
        [theirs.generate(torch.tensor([p]), num_beams=n, **options)[0, len(p) :].tolist() for p in prompts]
        for n in (1, 4)
    )
    written = generate(prepare(ours), prompts, Settings(max_new_tokens=32, temperature=0))
    assert [row.tokens for row in written] == greedy
    found = beam_search(ours, prompts, BeamSettings(max_new_tokens=32, beams=4))
    assert [best[0].tokens for best in found] == beams
    assert len({tuple(row) for row in greedy}) == 3


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_have_the_published_number_of_parameters(size: str):
    with torch.device("meta"):
        count = sum(p.numel() for p in Llama(LlamaConfig.published(size)).parameters())
    assert (
        count
        == {
            "llama-2-7b": 6_738_415_616,
            "llama-3.1-8b": 8_030_261_248,
            "llama-3.2-1b": 1_235_814_400,
            "llama-3.2-3b": 3_212_749_824,
            "mistral-7b-v0.3": 7_248_023_552,
            "qwen2.5-0.5b": 494_032_768,
            "qwen2.5-1.5b": 1_543_714_304,
            "qwen2.5-3b": 3_085_938_688,
            "qwen2.5-7b": 7_615_616_512,
            "qwen3-0.6b": 596_049_920,
            "qwen3-1.7b": 1_720_574_976,
            "qwen3-4b": 4_022_468_096,
            "qwen3-8b": 8_190_735_360,
            "smollm2-135m": 134_515_008,
            "smollm2-360m": 361_821_120,
            "smollm2-1.7b": 1_711_376_384,
        }[size]
    )


def test_a_published_size_is_a_configuration_with_any_field_changed():
    config = LlamaConfig.published("llama-3.2-1b", context=4096)
    assert (config.context, config.scaling.factor, config.scaling.trained) == (4096, 32.0, 8192)
    assert LlamaConfig.read(config.table()) == config
    with pytest.raises(UserError, match=r"did you mean 'qwen3-0\.6b'"):
        LlamaConfig.published("qwen3-0.6")


def test_one_dial_derives_the_rest():
    config = LlamaConfig(depth=6)
    assert (config.width, config.head_count, config.head_width, config.hidden_width) == (384, 6, 64, 1024)
    assert config.replace(dim=100, heads=5).hidden_width == 288
    assert config.group_count == 6
    assert LlamaConfig(depth=1, dim=40).head_count == 1


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"dim": 10, "heads": 4}, r"dim \(10\) must be a multiple of heads \(4\), or head_dim be given"),
        ({"dim": 12, "heads": 4}, r"a head's size \(3\) must be even"),
        ({"dim": 12, "heads": 6, "groups": 4}, r"heads \(6\) must be a multiple of groups \(4\)"),
        ({"scaling": {"type": "llama3", "factor": 2.0, "low": 4.0}}, r"low \(4.0\) must be less than high"),
        ({"scaling": {"type": "yarn", "factor": 0.5, "trained": 9}}, r"scaling.*factor"),
        ({"scaling": {"type": "dynamic", "factor": 2.0}}, "scaling"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(sizes, words):
    with pytest.raises(UserError, match=words):
        LlamaConfig.read(sizes)


def test_it_starts_near_no_opinion():
    torch.manual_seed(3)
    model = Llama(LlamaConfig(depth=4, dim=128, heads=2, vocab_size=500, bias="qkv")).eval()
    state = model.state_dict()
    for name, std in {"tokens.weight": 0.02, "blocks.1.attention.qkv.weight": 0.02, "head.weight": 0.02,
                      "blocks.3.feedforward.down.weight": 0.02 / math.sqrt(8)}.items():  # fmt: skip
        assert float(state[name].std()) == pytest.approx(std, rel=0.1), name
    assert not state["blocks.0.attention.qkv.bias"].any()
    logits = model(torch.randint(500, (2, 9)))
    torch.testing.assert_close(
        logits.log_softmax(-1), torch.full_like(logits, -math.log(500)), rtol=0, atol=1.5
    )


def test_documents_do_not_reach_each_other_by_gradient():
    ours, _ = pair(DIALECTS["qwen3"])
    documents, embedded = torch.tensor([[4, 4, 4, 2, 2, 2, 9]]), []
    ours.tokens.register_forward_hook(lambda _, args, out: embedded.append(out) or out.retain_grad())
    logits = ours(torch.randint(41, (1, 7)), documents=documents)
    for t in range(7):
        embedded[0].grad = None
        logits[0, t].sum().backward(retain_graph=True)
        reached = embedded[0].grad[0].abs().sum(-1) > 0
        assert reached.tolist() == ((documents[0] == documents[0, t]) & (torch.arange(7) <= t)).tolist()
    with pytest.raises(ValueError, match="documents or a cache"):
        ours(torch.zeros(1, 1, dtype=torch.int64), documents=documents[:, :1], cache=ours.new_cache(1))


RATE = 100.0 ** (-torch.arange(0, 16, 2) / 16)


def test_the_rules_of_stretching():
    """Fast pairs keep their rate, slow ones turn `factor` times slower, none leaves that range."""
    torch.testing.assert_close(interpolated(RATE, 4.0), RATE / 4)
    for stretched in (
        rescaled_llama3(RATE, 4.0, low=1.0, high=4.0, trained=64),
        rescaled_yarn(RATE, 100.0, 4.0, fast=5.0, slow=1.0, trained=64),
    ):
        share = stretched / RATE
        assert share[0] == 1
        assert share[-1] == pytest.approx(0.25)
        assert (share.diff() <= 0).all()
        assert ((share > 0.26) & (share < 0.99)).any()
    turns = 64 * RATE / (2 * math.pi)
    middle = int(((turns > 1) & (turns < 4)).nonzero()[0])
    kept = (turns[middle] - 1) / 3
    found = rescaled_llama3(RATE, 4.0, low=1.0, high=4.0, trained=64)[middle]
    torch.testing.assert_close(found, RATE[middle] * (kept + (1 - kept) / 4))
    assert yarn_magnitude(4.0) == pytest.approx(1 + 0.1 * math.log(4))
    assert yarn_magnitude(1.0) == 1


def test_a_norm_given_to_attention_comes_before_the_turn():
    x, rotation = torch.randn(2, 5, 12), (torch.randn(5, 2).cos(), torch.randn(5, 2).sin())
    layer = Attention(12, 3, groups=1, qk_norm=(RMSNorm(4), RMSNorm(4)), causal=True)
    for norm in (layer.query_norm, layer.key_norm):
        norm.weight.data.uniform_(0.5, 2)
    q, k, v = layer.qkv(x).split([12, 4, 4], dim=-1)
    q = rotate(layer.query_norm(q.view(2, 5, 3, 4)).transpose(1, 2), rotation)
    k = rotate(layer.key_norm(k.view(2, 5, 1, 4)).transpose(1, 2), rotation)
    v = v.view(2, 5, 1, 4).transpose(1, 2)
    scores = (q @ k.transpose(2, 3) / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
    expected = layer.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x, rotation=rotation), expected)
    across = Attention(12, 3, context_dim=7, qk_norm=(RMSNorm(4), RMSNorm(4)))
    across.query_norm.weight.data.zero_()  # all scores are 0, so that every key counts alike
    memory = torch.randn(2, 6, 7)
    values = across.key_value(memory)[..., 12:].mean(1, keepdim=True).expand(2, 5, 12)
    torch.testing.assert_close(across(x, memory), across.output(values))


def test_a_recipe_takes_it_for_text_and_refuses_lanes():
    from descent.recipes import resolve

    recipe = resolve("llama", ["model.depth=2", "model.scaling.type=linear", "model.scaling.factor=2.0"])
    assert (recipe.model.depth, recipe.model.scaling.factor) == (2, 2.0)
    with pytest.raises(UserError, match=r"data\.packing=lanes is for a recurrent model"):
        resolve("llama", ["data.packing=lanes"])
    with pytest.raises(UserError, match="do not go together"):
        resolve("llama", ["objective.type=seq2seq"])
