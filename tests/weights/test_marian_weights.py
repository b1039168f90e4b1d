"""Marian both ways: transformers' MarianMTModel computes what our Transformer does, in another order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

import descent
from descent.errors import UserError
from descent.generation import BeamSettings, Settings, beam_search, generate
from descent.generation.conditioned import condition
from descent.models.transformer import Transformer, TransformerConfig
from descent.text import train
from descent.weights import marian
from descent.weights.export import export
from descent.weights.folder import read_folder

transformers = pytest.importorskip("transformers")

TINY = {"depth": 2, "dim": 18, "heads": 3, "hidden": 35, "vocab_size": 29, "head_bias": True}
SIDE = {"layers": 2, "attention_heads": 3, "ffn_dim": 35}
CONFIGS = {
    "swish": TransformerConfig.read({**TINY, "activation": "silu"}),
    "relu": TransformerConfig.read({**TINY, "heads": 1, "depth": 1, "activation": "relu"}),
    "gelu": TransformerConfig.read({**TINY, "activation": "gelu", "dropout": 0.1, "attention_dropout": 0.2}),
}
SOURCE = 1 + torch.arange(33).reshape(3, 11) * 7 % 28  # 0 is padding there, whose embedding gets no gradient
LENGTHS = torch.tensor([11, 4, 7])
TOKENS = 1 + torch.arange(27).reshape(3, 9) * 5 % 28
REAL = (torch.arange(11) < LENGTHS[:, None]).long()
each = pytest.mark.parametrize("name", CONFIGS)


def ours_of(config: TransformerConfig, spread: float = 0.1) -> Transformer:
    torch.manual_seed(1)
    ours = Transformer(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * (spread if parameter.dim() > 1 else 0.1))
    return ours


@pytest.fixture
def both(tmp_path):
    """Makes our Transformer and transformers' Marian with the same weights, which it read from our export."""

    def make(config: TransformerConfig, spread: float = 0.1) -> tuple[Transformer, torch.nn.Module]:
        ours = ours_of(config, spread)
        theirs, report = transformers.AutoModelForSeq2SeqLM.from_pretrained(
            export(tmp_path / "out", ours), output_loading_info=True
        )
        assert type(theirs) is transformers.MarianMTModel
        assert not any(report.values()), report
        return ours, theirs.eval()

    return make


def asked(theirs: torch.nn.Module) -> Tensor:
    return theirs(input_ids=SOURCE, attention_mask=REAL, decoder_input_ids=TOKENS).logits


@each
@torch.no_grad()
def test_both_ways_give_the_same_logits(name: str, both, tmp_path):
    ours, theirs = both(CONFIGS[name])
    expected = ours(SOURCE, TOKENS, source_lengths=LENGTHS)
    assert expected.std() > 0.5
    assert_close(asked(theirs), expected, rtol=1e-5, atol=1e-5)
    theirs.save_pretrained(tmp_path / "theirs")
    found = read_folder(tmp_path / "theirs")
    assert found.config == CONFIGS[name]
    model = found.model()
    for key, tensor in ours.state_dict().items():
        assert_close(model.state_dict()[key], tensor, rtol=0, atol=0)


@each
def test_gradients_are_those_of_transformers(name: str, both):
    config = CONFIGS[name]
    ours, theirs = both(config)
    for logits in (ours(SOURCE, TOKENS, source_lengths=LENGTHS), asked(theirs)):
        F.cross_entropy(logits.flatten(0, 1), TOKENS.roll(-1, 1).flatten()).backward()
    gradients = {key: p.grad for key, p in theirs.named_parameters() if p.grad is not None}
    assert ours.head_bias is not None
    gradients[marian.BIAS] = ours.head_bias.grad[None]  # there it is no parameter
    expected = marian.state_from(gradients, config, "gradients")
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert_close(
            parameter.grad, expected[key], rtol=1e-4, atol=1e-6, msg=lambda text, k=key: f"{k}: {text}"
        )


def test_greedy_and_beam_tokens_are_those_of_transformers(both):
    ours, theirs = both(CONFIGS["swish"], spread=0.3)
    twin, options = condition(ours, SOURCE, LENGTHS), {"attention_mask": REAL, "do_sample": False}
    out = theirs.generate(SOURCE, **options, num_beams=1, max_new_tokens=32, eos_token_id=None)
    greedy = generate(twin, [[0]] * 3, Settings(max_new_tokens=32, temperature=0.0))
    assert [one.tokens for one in greedy] == out[:, 1:].tolist()
    out = theirs.generate(
        SOURCE,
        **options,
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=32,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_scores=True,
    )
    settings = BeamSettings(max_new_tokens=32, beams=4, results=4)
    found = [one for row in range(3) for one in beam_search(twin.select([row]), [[0]], settings)[0]]
    assert [one.tokens for one in found] == out.sequences[:, 1:].tolist()
    assert [one.score for one in found] == pytest.approx(out.sequences_scores.tolist(), rel=1e-4)
    assert len({tuple(one.tokens) for one in found}) > 8


@pytest.fixture
def forbidding(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    """A folder of transformers' own with a tokenizer, whose most likely token by far must not be written."""
    tokenizer = train("unigram", ["the cat sat on the mat", "the dog"] * 20, 400, marks="t5")
    torch.manual_seed(6)
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in SIDE.items()}
    marks = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0, "forced_eos_token_id": None}
    sizes = {"vocab_size": tokenizer.vocab_size, "d_model": 18, "max_position_embeddings": 40}
    theirs = transformers.MarianMTModel(
        transformers.MarianConfig(**sizes, **sides, **marks, scale_embedding=True)
    )
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "embed_positions" not in name:  # sinusoids
                spread = 2.0 if "final_layer_norm.weight" in name else 0.1
                parameter.add_(torch.randn_like(parameter) * spread)
        theirs.final_logits_bias[0, :2] = torch.tensor([30.0, -5.0])
    theirs.generation_config = transformers.GenerationConfig(**marks, bad_words_ids=[[0], [1], [7, 8]])
    theirs.save_pretrained(tmp_path / "theirs")
    tokenizer.save(tmp_path / "theirs" / "tokenizer.json")
    return tmp_path / "theirs", theirs.eval()


def test_words_that_the_authors_forbid_are_never_written(forbidding):
    """Greedily, by beams and by chance; the end mark is no such word, whatever the file says."""
    folder, theirs = forbidding
    loaded = descent.load(folder)
    assert loaded.defaults == {"stop_ids": (1,), "forbidden": (0,)}
    assert loaded.tokenizer is not None
    text = "the cat sat"
    ids = torch.tensor([[*loaded.tokenizer.encode(text), 1]])
    given = {"attention_mask": torch.ones_like(ids), "max_new_tokens": 16, "do_sample": False}
    found = {}
    for beams in (1, 4):
        out = theirs.generate(ids, **given, num_beams=beams)[0, 1:].tolist()
        expected = out[: out.index(1)] if 1 in out else out
        (one,) = loaded.complete([text], max_new_tokens=16, beams=beams)
        assert one.tokens == expected
        found[beams] = one.tokens
    assert len(set(found[1])) > 2
    assert found[1] != found[4]
    (one,) = loaded.complete([text], max_new_tokens=16, temperature=1.0, top_k=1)
    assert one.tokens == found[1]
    (one,) = loaded.complete([text], max_new_tokens=16, temperature=50.0, seed=3)
    assert 0 not in one.tokens
    (free,) = loaded.complete([text], max_new_tokens=16, forbidden=())
    assert free.tokens == [0] * 16


@pytest.mark.parametrize("words", [None, "0", [0], [["0"]], [[-1]], [[True]], [[]], [[1]], [[10**9]]])
def test_only_ids_are_believed_to_be_forbidden(words: object, forbidding):
    folder, _ = forbidding
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "bad_words_ids": words}))
    loaded = descent.load(folder)
    assert loaded.defaults.get("forbidden", ()) in ((), (10**9,))
    assert loaded.complete(["the cat"], max_new_tokens=3)[0].tokens == [0] * 3


def test_published_files_hold_copies_and_sinusoids():
    config = CONFIGS["swish"]
    theirs = marian.state_to(ours_of(config).state_dict())
    theirs |= {name: theirs[marian.EMBEDDING].clone() for name in marian.COPIES}
    theirs["model.encoder.embed_positions.weight"] = torch.zeros(512, 18)
    assert marian.state_from(theirs, config, "here").keys() == ours_of(config).state_dict().keys()
    theirs["lm_head.weight"] += 1
    with pytest.raises(UserError, match=r"lm_head\.weight differs from model\.shared\.weight"):
        marian.state_from(theirs, config, "here")


def test_names_go_there_and_back_and_others_are_listed():
    state = ours_of(CONFIGS["swish"]).state_dict()
    theirs = marian.state_to(state)
    back = marian.state_from(theirs, CONFIGS["swish"], "here")
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert_close(back[name], tensor, rtol=0, atol=0)
    assert not torch.equal(theirs["model.shared.weight"], state["tokens.weight"])
    del theirs["model.decoder.layers.1.encoder_attn.v_proj.bias"]
    theirs["model.encoder.layernorm_embedding.weight"] = torch.ones(18)
    with pytest.raises(UserError, match="2 differences"):
        marian.state_from(theirs, CONFIGS["swish"], "here")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("decoder_layers", 1),
        ("decoder_attention_heads", 2),
        ("decoder_vocab_size", 30),
        ("scale_embedding", False),
        ("normalize_before", True),
        ("normalize_embedding", True),
        ("share_encoder_decoder_embeddings", False),
        ("activation_function", "quick_gelu"),
    ],
)
def test_another_network_is_refused(field: str, value: object):
    with pytest.raises(UserError, match=rf"not a Marian that can be loaded\n  {field}: got"):
        marian.config_from({**marian.config_to(CONFIGS["swish"]), field: value}, "config.json")


def test_a_published_one_begins_with_its_padding_mark():
    noted = marian.use({"pad_token_id": 58100, "max_position_embeddings": 512})
    assert noted == {"preparation": {"kind": "pairs", "start": [58100], "length": 512}}


def test_only_networks_that_marian_has_count_as_such():
    assert marian.is_published(CONFIGS["gelu"])
    for change in ({"order": "pre"}, {"tied": False}, {"head_bias": False}, {"norm_eps": 1e-6}):
        assert not marian.is_published(CONFIGS["gelu"].replace(**change)), change
