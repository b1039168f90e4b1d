"""T5 both ways: transformers' T5ForConditionalGeneration computes the same, gradients and texts too."""

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
from descent.models.t5 import T5, T5Config
from descent.text import train
from descent.weights import safetensors_file, t5
from descent.weights.export import export
from descent.weights.folder import read_folder

transformers = pytest.importorskip("transformers")

TINY = {"depth": 2, "dim": 21, "heads": 3, "head_dim": 5, "hidden": 34, "vocab_size": 29}
CONFIGS = {
    "1.0": T5Config.published("small", "1.0", **TINY),
    "1.1": T5Config.published("small", "1.1", **TINY),
    "1.0 with few distances": T5Config.published("small", "1.0", **TINY, buckets=9, max_distance=6),
    "1.1 with a short decoder": T5Config.published("small", "1.1", **TINY, decoder_depth=1, norm_eps=1e-3),
    "gated and tied": T5Config.read({**TINY, "feedforward": "gated_gelu", "tied": True}),
}
SOURCE = torch.arange(33).reshape(3, 11) * 7 % 29
LENGTHS = torch.tensor([11, 4, 7])
TOKENS = torch.arange(27).reshape(3, 9) * 5 % 29
each = pytest.mark.parametrize("name", CONFIGS)


def ours_of(config: T5Config, spread: float = 0.1) -> T5:
    torch.manual_seed(1)
    ours = T5(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    return ours


def theirs_of(folder: Path) -> torch.nn.Module:
    theirs, report = transformers.T5ForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), report
    return theirs.eval()


@pytest.fixture
def both(tmp_path):
    """Makes our T5 and transformers' with the same weights, which it read from our export."""

    def make(config: T5Config, spread: float = 0.1) -> tuple[T5, torch.nn.Module]:
        ours = ours_of(config, spread)
        return ours, theirs_of(export(tmp_path / "out", ours))

    return make


def asked(theirs: torch.nn.Module, source: Tensor = SOURCE, tokens: Tensor = TOKENS) -> Tensor:
    real = (torch.arange(source.shape[1]) < LENGTHS[:, None]).long()
    return theirs(input_ids=source, attention_mask=real, decoder_input_ids=tokens).logits


@each
@torch.no_grad()
def test_transformers_loads_what_we_export_and_gives_the_same_logits(name: str, both):
    ours, theirs = both(CONFIGS[name])
    found = ours(SOURCE, TOKENS, source_lengths=LENGTHS)
    assert found.std() > 0.5
    assert_close(asked(theirs), found, rtol=1e-5, atol=1e-5)


@each
@torch.no_grad()
def test_a_folder_written_by_transformers_gives_the_same_logits(name: str, both, tmp_path):
    config = CONFIGS[name]
    ours, theirs = both(config)
    theirs.save_pretrained(tmp_path / "theirs")
    found = read_folder(tmp_path / "theirs")
    assert found.config == config
    model = found.model()
    for key, tensor in ours.state_dict().items():
        assert_close(model.state_dict()[key], tensor, rtol=0, atol=0)
    assert_close(model(SOURCE, TOKENS, source_lengths=LENGTHS), asked(theirs), rtol=1e-5, atol=1e-5)


@each
def test_gradients_are_those_of_transformers(name: str, both):
    config = CONFIGS[name]
    ours, theirs = both(config)
    for logits in (ours(SOURCE, TOKENS, source_lengths=LENGTHS), asked(theirs)):
        F.cross_entropy(logits.flatten(0, 1), TOKENS.roll(-1, 1).flatten()).backward()
    gradients = {key: parameter.grad for key, parameter in theirs.named_parameters()}
    expected = t5.state_from(gradients, config, "gradients")
    for key, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert parameter.grad.any(), key
        assert_close(
            parameter.grad, expected[key], rtol=1e-4, atol=1e-6, msg=lambda text, k=key: f"{k}: {text}"
        )


@pytest.mark.parametrize("name", ["1.0", "1.1"])
def test_greedy_tokens_are_those_of_transformers(name: str, both):
    ours, theirs = both(CONFIGS[name], spread=0.3)
    real = (torch.arange(11) < LENGTHS[:, None]).long()
    out = theirs.generate(
        SOURCE, attention_mask=real, do_sample=False, num_beams=1, max_new_tokens=32, eos_token_id=None
    )
    twin = condition(ours, SOURCE, LENGTHS)
    found = generate(twin, [[0]] * 3, Settings(max_new_tokens=32, temperature=0.0))
    assert [one.tokens for one in found] == out[:, 1:].tolist()
    assert len({token for one in found for token in one.tokens}) > 8


@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize("penalty", [0.6, 1.0, 2.0])
@pytest.mark.parametrize("name", ["1.0", "1.1"])
def test_beams_are_those_of_transformers(name: str, penalty: float, early: bool | str, both):
    ours, theirs = both(CONFIGS[name], spread=0.6)
    greedy = generate(condition(ours, SOURCE, LENGTHS), [[0]] * 3, Settings(max_new_tokens=9, temperature=0))
    stops, ends = tuple(sorted({one.tokens[4 + 2 * row] for row, one in enumerate(greedy)})), set()
    settings = BeamSettings(
        max_new_tokens=32, beams=4, results=2, length_penalty=penalty, early_stopping=early, stop_ids=stops
    )
    for row, length in enumerate(LENGTHS.tolist()):
        source = SOURCE[row : row + 1, :length]
        out = theirs.generate(
            source,
            attention_mask=torch.ones_like(source),
            do_sample=False,
            num_beams=4,
            num_return_sequences=2,
            max_new_tokens=32,
            length_penalty=penalty,
            early_stopping=early,
            eos_token_id=list(stops),
            return_dict_in_generate=True,
            output_scores=True,
        )
        expected = []
        for tokens in out.sequences[:, 1:].tolist():
            places = [place for place, token in enumerate(tokens) if token in stops]
            expected.append(tokens[: places[0]] if places else tokens)
        # padded, so that what stands behind a source's end must not count
        twin = condition(ours, SOURCE[row : row + 1], LENGTHS[row : row + 1])
        (found,) = beam_search(twin, [[0]], settings)
        assert [one.tokens for one in found] == expected
        assert [one.score for one in found] == pytest.approx(out.sequences_scores.tolist(), rel=1e-4)
        ends |= {len(one.tokens) for one in found}
    assert len(ends) > 1, "searches should end at different steps"


def test_published_files_hold_the_embedding_several_times_and_distances_of_no_use():
    config = CONFIGS["1.0"]
    ours = ours_of(config)
    theirs = t5.state_to(ours.state_dict())
    spare = theirs["shared.weight"]
    theirs |= {name: spare.clone() for name in (*t5.COPIES, "lm_head.weight")}
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    found = t5.state_from({**theirs, unused: torch.ones(32, 3)}, config, "here")
    assert found.keys() == ours.state_dict().keys()
    del theirs["shared.weight"]
    assert t5.state_from(theirs, config, "here").keys() == found.keys()
    with pytest.raises(UserError, match=r"lm_head\.weight differs from shared\.weight"):
        t5.state_from({**theirs, "lm_head.weight": spare + 1}, config, "here")


def test_a_head_that_is_tied_but_not_scaled_becomes_one_of_its_own():
    config = CONFIGS["1.1"]
    theirs = t5.state_to(ours_of(config).state_dict())
    del theirs["lm_head.weight"]
    found = t5.state_from(theirs, config, "here")
    assert_close(found["head.weight"], theirs["shared.weight"], rtol=0, atol=0)


def test_every_difference_is_listed_at_once():
    config = CONFIGS["1.0"]
    theirs = t5.state_to(ours_of(config).state_dict())
    del theirs["decoder.block.1.layer.1.EncDecAttention.k.weight"]
    theirs["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"] = torch.zeros(32, 3)
    theirs["encoder.block.0.layer.1.DenseReluDense.wo.weight"] = torch.zeros(34, 21)
    theirs["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"] = torch.zeros(34, 21)
    with pytest.raises(UserError) as error:
        t5.state_from(theirs, config, "FOLDER")
    assert str(error.value).splitlines() == [
        "FOLDER does not fit the model: 4 differences",
        "  decoder.block.1.layer.1.EncDecAttention.k.weight: missing",
        "  encoder.block.0.layer.1.DenseReluDense.wi_0.weight: not expected",
        "  encoder.block.0.layer.1.DenseReluDense.wo.weight: 34x21, expected 21x34",
        "  encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight: not expected",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [("feed_forward_proj", "gated-silu"), ("is_encoder_decoder", False), ("d_kv", None), ("d_kv", "5")],
)
def test_another_network_is_refused(field: str, value: object):
    table = t5.config_to(CONFIGS["1.0"])
    table |= {field: value}
    if value is None:
        del table[field]
    with pytest.raises(UserError, match=r"config\.json.*(\n.*)*" + ("head_dim" if value == "5" else field)):
        t5.config_from(table, "config.json")


def test_more_layers_than_tensors_are_refused_before_a_model_is_made():
    config = CONFIGS["1.0"].replace(decoder_depth=10**9)
    with pytest.raises(UserError, match="do not belong together"):
        t5.state_from(t5.state_to(ours_of(CONFIGS["1.0"]).state_dict()), config, "here")


@pytest.fixture(scope="module")
def tokenizer():
    return train("bpe", ["the cat sat on the mat", "静夜思 床前明月光"] * 20, 300)


def test_an_exported_folder_writes_what_the_model_and_transformers_write(tokenizer, tmp_path):
    """With our marks the decoder begins with the end mark, and the folder says so."""
    ours = ours_of(T5Config.read({**TINY, "vocab_size": tokenizer.vocab_size}), spread=0.4)
    preparation = {"kind": "pairs", "start": [tokenizer.end], "length": 64}
    folder = export(tmp_path / "out", ours, tokenizer, extra={"preparation": preparation})
    table = json.loads((folder / "config.json").read_text())
    assert table["decoder_start_token_id"] == table["eos_token_id"] == tokenizer.end
    loaded = descent.load(folder)
    assert loaded.translates
    (found,) = loaded.complete(["the mat 月"], max_new_tokens=12)
    ids = torch.tensor([[*tokenizer.encode("the mat 月"), tokenizer.end]])
    out = (
        theirs_of(folder)
        .generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12)[0, 1:]
        .tolist()
    )
    assert found.tokens == [token for token in out if token != tokenizer.end]
    assert (
        found.text
        == loaded.generate("the mat 月", max_new_tokens=12)
        == "".join(loaded.stream("the mat 月"))[: len(found.text)]
    )


def test_a_published_folder_begins_with_its_padding_mark(tmp_path):
    """As T5's own folders: no word of ours in config.json, tokens by T5's marks."""
    tokenizer = train("unigram", ["the cat sat on the mat", "the dog"] * 20, 400, marks="t5")
    ours = ours_of(
        T5Config.published("small", "1.0", **{**TINY, "vocab_size": tokenizer.vocab_size}), spread=0.4
    )
    folder = tmp_path / "t5"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(t5.config_to(ours.config)))
    safetensors_file.write(folder / "model.safetensors", t5.state_to(ours.state_dict()), {"format": "pt"})
    tokenizer.save(folder / "tokenizer.json")
    loaded = descent.load(folder)
    assert loaded.preparation == {"kind": "pairs", "start": [0], "length": 512}
    text = "the cat"
    (found,) = loaded.complete([text], max_new_tokens=12)
    ids = torch.tensor([[*tokenizer.encode(text), 1]])
    out = (
        theirs_of(folder)
        .generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=12)[0, 1:]
        .tolist()
    )
    assert found.tokens == (out[: out.index(1)] if 1 in out else out)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0", "1.1"])
@torch.no_grad()
def test_at_the_size_of_t5_small(version: str, both):
    ours, theirs = both(T5Config.published("small", version), spread=0.02)
    generator = torch.Generator().manual_seed(2)
    source, tokens = (torch.randint(32128, (3, size), generator=generator) for size in (150, 40))
    lengths = torch.tensor([150, 31, 90])
    real = (torch.arange(150) < lengths[:, None]).long()
    expected = theirs(input_ids=source, attention_mask=real, decoder_input_ids=tokens).logits
    found = ours(source, tokens, source_lengths=lengths)
    assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    out = theirs.generate(source, attention_mask=real, do_sample=False, max_new_tokens=32, eos_token_id=None)
    twin = condition(ours, source, lengths)
    greedy = generate(twin, [[0]] * 3, Settings(max_new_tokens=32, temperature=0.0))
    assert [one.tokens for one in greedy] == out[:, 1:].tolist()
    beams = theirs.generate(
        source, attention_mask=real, do_sample=False, num_beams=4, max_new_tokens=32, eos_token_id=None
    )
    settings = BeamSettings(max_new_tokens=32, beams=4)
    searched = [beam_search(twin.select([row]), [[0]], settings)[0][0].tokens for row in range(3)]
    assert searched == beams[:, 1:].tolist()
