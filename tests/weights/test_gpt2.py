"""GPT-2 both ways: the key map covers every name, and transformers computes the same logits."""

import json

import pytest
import torch

from descent.errors import UserError
from descent.generation import Settings, generate, prepare
from descent.models.gpt import GPT, GPTConfig
from descent.weights import gpt2, safetensors_file
from descent.weights.export import export
from descent.weights.folder import read_folder

transformers = pytest.importorskip("transformers")
TINY = {"depth": 2, "dim": 21, "heads": 3, "context": 19, "vocab_size": 41}


def reference(config):
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**gpt2.config_to(config))).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return theirs


def loaded(folder):
    return read_folder(folder).model()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden": 50},
        {"tied": False},
        {"dropout": 0.2},
        {"depth": 1, "heads": 7},
        {"feedforward": "gelu_exact"},
    ],
    ids=str,
)
def test_a_folder_written_by_transformers_gives_the_same_logits(changes, tmp_path):
    config = GPTConfig.gpt2(**{**TINY, **changes})
    theirs = reference(config)
    theirs.save_pretrained(tmp_path)
    ours = loaded(tmp_path)
    assert ours.config.replace(hidden=0) == config.replace(hidden=0)
    assert ours.config.hidden_width == config.hidden_width
    tokens = torch.arange(38).reshape(2, 19)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), theirs(tokens).logits)


@pytest.mark.parametrize(
    "changes",
    [{}, {"hidden": 50}, {"tied": False}, {"heads": 7, "groups": 7}, {"feedforward": "gelu_exact"}],
    ids=str,
)
def test_transformers_loads_what_we_export_and_gives_the_same_logits(changes, tmp_path):
    torch.manual_seed(1)
    ours = GPT(GPTConfig.gpt2(**{**TINY, **changes})).eval()
    export(tmp_path / "out", ours)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert type(theirs) is transformers.GPT2LMHeadModel
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = torch.arange(38).reshape(2, 19)
    with torch.no_grad():
        torch.testing.assert_close(theirs.eval()(tokens).logits, ours(tokens))
        torch.testing.assert_close(loaded(tmp_path / "out")(tokens), ours(tokens), rtol=0, atol=0)


def test_names_go_there_and_back():
    state = GPT(GPTConfig.gpt2(**TINY)).state_dict()
    theirs = gpt2.state_to(state)
    published = {name for name in reference(GPTConfig.gpt2(**TINY)).state_dict() if name != gpt2.HEAD}
    assert set(theirs) == published
    back = gpt2.state_from(theirs, GPTConfig.gpt2(**TINY), "here")
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=0)


def test_published_files_have_no_prefix_and_hold_masks():
    config = GPTConfig.gpt2(**TINY)
    theirs = gpt2.state_to(GPT(config).state_dict())
    bare = {name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}
    bare |= {"h.0.attn.bias": torch.ones(1, 1, 19, 19), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    bare["lm_head.weight"] = bare["wte.weight"].clone()
    assert gpt2.state_from(bare, config, "here").keys() == GPT(config).state_dict().keys()


def test_every_difference_is_listed_at_once():
    config = GPTConfig.gpt2(**TINY)
    theirs = gpt2.state_to(GPT(config).state_dict())
    del theirs["transformer.h.1.ln_2.bias"], theirs["transformer.wpe.weight"]
    theirs["transformer.h.2.ln_1.bias"] = torch.zeros(21)
    theirs["transformer.h.00.ln_1.bias"] = torch.zeros(21)
    theirs["score.weight"] = torch.zeros(2, 21)
    theirs["transformer.h.0.mlp.c_fc.weight"] = torch.zeros(84, 21)
    theirs["ln_f.weight"] = torch.ones(21)
    with pytest.raises(UserError) as error:
        gpt2.state_from(theirs, config, "FOLDER")
    assert str(error.value).splitlines() == [
        "FOLDER does not fit the model: 7 differences",
        "  ln_f.weight: stands there twice, also as transformer.ln_f.weight",
        "  score.weight: not expected",
        "  transformer.h.0.mlp.c_fc.weight: 84x21, expected 21x84",
        "  transformer.h.00.ln_1.bias: not expected",
        "  transformer.h.1.ln_2.bias: missing",
        "  transformer.h.2.ln_1.bias: not expected (the model has no blocks.2.attention_norm.bias)",
        "  transformer.wpe.weight: missing",
    ]


def test_a_head_that_is_not_the_embedding_is_refused_when_tied():
    config = GPTConfig.gpt2(**TINY)
    theirs = {**gpt2.state_to(GPT(config).state_dict()), gpt2.HEAD: torch.zeros(41, 21)}
    with pytest.raises(UserError, match=r"lm_head\.weight differs from the token embedding"):
        gpt2.state_from(theirs, config, "here")


def test_only_networks_that_compute_what_gpt2_computes_count_as_gpt2():
    assert gpt2.is_gpt2(GPTConfig.gpt2(**TINY))
    assert gpt2.is_gpt2(GPTConfig.gpt2("1558M", tied=False, dropout=0.1))
    other = [
        {"position": "rotary", "dim": 24},
        {"norm": "rms"},
        {"bias": False},
        {"softcap": 1.0},
        {"qk_norm": True},
    ]
    other += [{"groups": 1}, {"bigram": True}, {"value_embedding": True}, {"feedforward": "swiglu"}]
    for change in other:
        assert not gpt2.is_gpt2(GPTConfig.gpt2(**{**TINY, **change})), change
    assert not gpt2.is_gpt2(GPTConfig(vocab_size=5))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_function", "relu"),
        ("layer_norm_epsilon", 1e-6),
        ("scale_attn_by_inverse_layer_idx", True),
    ],
)
def test_a_variant_that_computes_something_else_is_refused(field, value, tmp_path):
    reference(GPTConfig.gpt2(**TINY)).save_pretrained(tmp_path)
    table = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps({**table, field: value, "n_layer": None} | {"n_layer": 2})
    )
    with pytest.raises(UserError, match=rf"{field}: got {value!r}, expected"):
        read_folder(tmp_path)


@pytest.mark.slow
def test_parity_at_124m():
    """Logits to 1e-4 in single precision, and 64 greedy tokens, on random weights."""
    config = GPTConfig.gpt2("124M")
    torch.manual_seed(0)
    theirs = reference(config)
    ours = GPT(config).eval()
    safetensors_file.load_into(
        ours, gpt2.state_from(theirs.state_dict(), config, "transformers"), "transformers"
    )
    prompt = torch.randint(0, 50257, (1, 64))
    with torch.inference_mode():
        torch.testing.assert_close(ours(prompt), theirs(prompt).logits, rtol=0, atol=1e-4)
    expected = theirs.generate(prompt, max_new_tokens=64, do_sample=False, eos_token_id=None, pad_token_id=0)
    settings = Settings(max_new_tokens=64, temperature=0)
    assert generate(ours, prompt.tolist(), settings)[0].tokens == expected[0, 64:].tolist()
    assert generate(prepare(ours), prompt.tolist(), settings)[0].tokens == expected[0, 64:].tolist()
