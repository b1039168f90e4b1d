"""Llama, Mistral, Qwen2 and Qwen3 both ways: names, both layouts of config.json, and what is refused."""

from __future__ import annotations

import json
import math

import pytest
import torch

from descent.errors import UserError
from descent.generation import Settings, generate, prepare
from descent.models import build
from descent.models.llama import Llama, LlamaConfig
from descent.text import train
from descent.weights import architectures, llama, safetensors_file
from descent.weights.export import export
from descent.weights.folder import read_folder

transformers = pytest.importorskip("transformers")
TINY = {"depth": 2, "dim": 30, "heads": 5, "hidden": 23, "context": 32, "vocab_size": 41}
KINDS: dict[str, dict] = {
    "llama": {"groups": 1, "bias": "attention"},
    "mistral": {"heads": 4, "groups": 2, "head_dim": 6},
    "qwen2": {"bias": "qkv"},
    "qwen3": {"qk_norm": True, "head_dim": 8},
}
each = pytest.mark.parametrize("kind", KINDS)
TOKENS = torch.arange(38).reshape(2, 19)


def drawn(kind, **changes):
    torch.manual_seed(4)
    model = Llama(LlamaConfig.read({**TINY, **KINDS[kind], **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def table_of(kind, **changes):
    """A config.json of that kind; a change to None leaves the field out."""
    config = LlamaConfig.read({**TINY, **KINDS[kind]})
    table = {**llama.config_to(config, kind), **changes}
    return {name: value for name, value in table.items() if name not in changes or value is not None}


def read(kind, **changes):
    return llama.config_from(table_of(kind, **changes), "config.json", kind)


@each
@pytest.mark.parametrize("tied", [False, True])
def test_transformers_loads_what_we_export_and_we_what_it_saves(kind, tied, tmp_path):
    ours = drawn(kind, tied=tied)
    folder = export(tmp_path / "ours", ours, extra={"start": [3]})
    assert json.loads((folder / "config.json").read_text())["model_type"] == kind
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert type(theirs).__name__ == llama.CLASSES[kind][0]
    assert not any(report[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    theirs.eval().save_pretrained(tmp_path / "theirs")
    with torch.no_grad():
        torch.testing.assert_close(theirs(TOKENS).logits, ours(TOKENS))
        for place in ("ours", "theirs"):
            found = read_folder(tmp_path / place)
            torch.testing.assert_close(found.model()(TOKENS), ours(TOKENS), rtol=0, atol=0)
            assert found.config.head_width == ours.config.head_width
    assert read_folder(folder).extra == {"start": [3]}


@each
def test_names_go_there_and_back(kind):
    ours = drawn(kind)
    state = ours.state_dict()
    theirs = llama.state_to(state)
    config = transformers.AutoConfig.for_model(**llama.config_to(ours.config, kind))
    assert theirs.keys() == getattr(transformers, llama.CLASSES[kind][0])(config).state_dict().keys()
    back = llama.state_from(theirs, ours.config, "here")
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=0)


def test_older_files_hold_wavelengths_and_a_copy_of_a_tied_head():
    ours = drawn("llama", tied=True)
    theirs = llama.state_to(ours.state_dict())
    theirs["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(3)
    theirs["lm_head.weight"] = theirs["model.embed_tokens.weight"].clone()
    assert llama.state_from(theirs, ours.config, "here").keys() == ours.state_dict().keys()
    theirs["lm_head.weight"][2, 3] += 1
    with pytest.raises(UserError, match=r"lm_head\.weight differs from the token embedding"):
        llama.state_from(theirs, ours.config, "here")


def test_a_head_of_its_own_must_be_there():
    ours = drawn("qwen3")
    theirs = llama.state_to(ours.state_dict())
    head = theirs.pop("lm_head.weight")
    with pytest.raises(UserError, match=r"lm_head\.weight: missing(.|\n)*as the head is not tied"):
        llama.state_from(theirs, ours.config, "here")
    with pytest.raises(UserError, match=r"lm_head\.weight: its shape is \(30, 41\)"):
        llama.state_from({**theirs, "lm_head.weight": head.T}, ours.config, "here")


def test_every_difference_is_listed_at_once():
    ours = drawn("llama")
    theirs = llama.state_to(ours.state_dict())
    del theirs["model.layers.1.self_attn.k_proj.weight"], theirs["model.norm.weight"]
    theirs["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(6, 30)
    theirs["model.layers.0.self_attn.q_norm.weight"] = torch.zeros(6)
    theirs["model.layers.2.mlp.up_proj.weight"] = torch.zeros(23, 30)
    theirs["score.weight"] = torch.zeros(2, 30)
    with pytest.raises(UserError) as error:
        llama.state_from(theirs, ours.config, "FOLDER")
    lines = str(error.value).splitlines()
    assert lines[0] == "FOLDER does not fit the model: 6 differences"
    assert "  model.layers.0.self_attn.q_proj.weight: 6x30, expected 30x30" in lines
    assert "  model.layers.1.self_attn.k_proj.weight: missing" in lines
    assert "  model.norm.weight: missing" in lines
    assert "  score.weight: not expected" in lines


def test_which_class_computes_what():
    def kind_of(**changes):
        row = architectures.of(LlamaConfig.read({**TINY, **changes}))
        return row and row.classes[0]

    assert kind_of() == kind_of(bias="attention") == "LlamaForCausalLM"
    assert kind_of(bias="qkv") == "Qwen2ForCausalLM"
    assert kind_of(qk_norm=True) == kind_of(qk_norm=True, bias="attention") == "Qwen3ForCausalLM"
    assert kind_of(heads=4, head_dim=6) == "MistralForCausalLM"
    assert kind_of(qk_norm=True, bias="qkv") is None
    assert kind_of(heads=4, head_dim=6, bias="attention") is None


STRETCHED = {
    "linear": ({"rope_type": "linear", "factor": 4}, {"type": "linear", "factor": 4.0}),
    "llama3": (
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 16,
        },
        {"type": "llama3", "factor": 8.0, "low": 1.0, "high": 4.0, "trained": 16},
    ),
    "yarn": (
        {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16},
        {"type": "yarn", "factor": 2.0, "trained": 16},
    ),
    "yarn in full": (
        {
            "rope_type": "yarn",
            "factor": None,
            "original_max_position_embeddings": 8,
            "beta_fast": 16,
            "beta_slow": 2,
            "mscale": 1.0,
            "mscale_all_dim": 0.5,
            "truncate": False,
        },
        {
            "type": "yarn",
            "factor": 4.0,
            "trained": 8,
            "fast": 16.0,
            "slow": 2.0,
            "whole": False,
            "magnitude": (0.1 * math.log(4) + 1) / (0.05 * math.log(4) + 1),
        },
    ),
}


@pytest.mark.parametrize(("theirs", "ours"), STRETCHED.values(), ids=STRETCHED)
def test_both_layouts_of_positions_say_the_same(theirs, ours):
    none = {"rope_parameters": None, "rope_theta": None, "rope_scaling": None}
    old = read("llama", **{**none, "rope_theta": 5000.0, "rope_scaling": theirs})
    new = read("llama", **{**none, "rope_parameters": {**theirs, "rope_theta": 5000.0}})
    both = {"rope_theta": 5000.0, "rope_scaling": theirs, "rope_parameters": {**theirs, "rope_theta": 5000.0}}
    assert old == new == read("llama", **both)
    assert old.rotary_base == 5000.0
    assert old.scaling == LlamaConfig.read({"scaling": ours}).scaling
    assert llama.config_from(llama.config_to(old, "llama"), "config.json", "llama") == old


@pytest.mark.parametrize(("theirs", "ours"), STRETCHED.values(), ids=STRETCHED)
def test_their_configuration_turns_as_ours_does(theirs, ours):
    """The cosines and sines of a class built from the table itself, not from what we write."""
    table = table_of("llama", rope_parameters=None, rope_theta=700.0, rope_scaling=theirs, head_dim=24)
    config = transformers.AutoConfig.for_model(**{**table, "rope_scaling": dict(theirs)})
    positions = torch.arange(32)
    expected = transformers.LlamaModel(config).rotary_emb(torch.zeros(1), positions[None])
    found = build(llama.config_from(table, "config.json", "llama")).rotary(positions)
    for mine, theirs_ in zip(found, expected, strict=True):
        torch.testing.assert_close(torch.cat((mine, mine), -1)[None], theirs_)


def test_fields_that_a_file_leaves_out():
    bare = read("llama", num_key_value_heads=None, head_dim=None, rms_norm_eps=None, tie_word_embeddings=None)
    assert (bare.group_count, bare.head_width, bare.norm_eps, bare.tied) == (5, 6, 1e-6, False)
    plain = read("llama", rope_parameters=None, rope_theta=None, rope_scaling=None)
    assert (plain.rotary_base, plain.scaling) == (10000.0, None)
    assert read("qwen3", head_dim=None).head_width == 128
    with pytest.raises(UserError, match="num_key_value_heads: is required"):
        read("qwen2", num_key_value_heads=None)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("mistral", {"sliding_window": 16}),
        ("mistral", {"sliding_window": None, "max_position_embeddings": 8192}),  # left out, it is 4,096
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True}),
        ("qwen3", {"layer_types": ["full_attention", "sliding_attention"]}),
        ("llama", {"sliding_window": "16"}),
    ],
)
def test_a_sliding_window_is_refused(kind, changes):
    with pytest.raises(UserError, match="attention within a sliding window is not computed here"):
        read(kind, **changes)


def test_a_window_that_is_off_is_none():
    assert read("mistral", sliding_window=32)
    assert read("qwen2", sliding_window=16, use_sliding_window=False, layer_types=["full_attention"] * 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "gelu"}, "hidden_act: got 'gelu', expected 'silu'"),
        ({"mlp_bias": True}, "mlp_bias: got True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_size": None}, "hidden_size: is required"),
        ({"hidden_size": "30"}, "dim"),
        ({"num_hidden_layers": True}, "depth"),
        ({"max_position_embeddings": "x"}, "context"),
        ({"rms_norm_eps": -1.0}, "norm_eps"),
        ({"attention_bias": 1}, "attention_bias: got 1"),
        ({"rope_parameters": [1]}, "rope_parameters"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": "1"}}, "rotary_base"),
        ({"rope_scaling": {"rope_type": "longrope", "factor": 2.0}}, "is not computed here"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "keys already in the cache"),
        ({"rope_scaling": {"rope_type": ["yarn"]}}, "is not computed here"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2.0}}, "numbers for factor, high"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "ramp": 1}}, "for linear: ramp"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "turn positions in different ways"),
        ({"rope_scaling": {"rope_type": "yarn", "original_max_position_embeddings": "8"}}, "numbers for"),
        ({"rope_scaling": {"rope_type": "linear", "partial_rotary_factor": 0.5}}, "partial_rotary"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_another_network_or_no_number_is_refused(changes, words):
    with pytest.raises(UserError, match=r"config\.json") as error:
        read("llama", **changes)
    assert words in str(error.value)


def test_transformers_finds_the_tokenizer_and_the_context(tmp_path):
    tokenizer = train("bpe", ["the cat sat on the mat", "静夜思"] * 20, 300)
    model = Llama(LlamaConfig.read({**TINY, "vocab_size": tokenizer.vocab_size}))
    theirs = transformers.AutoTokenizer.from_pretrained(export(tmp_path / "out", model, tokenizer))
    assert theirs.model_max_length == 32
    assert theirs("the mat", add_special_tokens=False)["input_ids"] == tokenizer.encode("the mat")


@pytest.mark.slow
def test_parity_at_the_shape_of_qwen2_half_a_billion():
    """Logits to 1e-4 in single precision and 32 greedy tokens, on random weights."""
    config = LlamaConfig.published("qwen2.5-0.5b")
    table = llama.config_to(config, "qwen2")
    torch.manual_seed(0)
    theirs = transformers.Qwen2ForCausalLM(transformers.AutoConfig.for_model(**table)).eval()
    ours = Llama(config).eval()
    state = llama.state_from(theirs.state_dict(), config, "transformers")
    safetensors_file.load_into(ours, state, "transformers")
    del state
    prompt = torch.randint(0, config.vocab_size, (1, 48))
    with torch.inference_mode():
        torch.testing.assert_close(ours(prompt), theirs(prompt).logits, rtol=0, atol=1e-4)
    expected = theirs.generate(prompt, max_new_tokens=32, do_sample=False, eos_token_id=None, pad_token_id=0)
    settings = Settings(max_new_tokens=32, temperature=0)
    del theirs
    assert generate(ours, prompt.tolist(), settings)[0].tokens == expected[0, 48:].tolist()
    assert generate(prepare(ours), prompt.tolist(), settings)[0].tokens == expected[0, 48:].tolist()
