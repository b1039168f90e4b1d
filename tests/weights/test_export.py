"""Exports of every model kind come back the same; language models with their tokenizer."""

import json

import pytest
import torch

from descent.errors import UserError
from descent.models import MODELS, build, config_class
from descent.models.gpt import GPT, GPTConfig
from descent.text import train
from descent.weights import architectures, safetensors_file
from descent.weights.export import export
from descent.weights.folder import read_folder

SIZES = {
    "linear": {"inputs": (5,), "outputs": 2},
    "mlp": {"inputs": (2, 7), "outputs": 3},
    "lenet": {"inputs": (1, 28, 28), "outputs": 10},
    "alexnet": {"inputs": (1, 67, 67), "outputs": 3, "channels": (4, 6, 4, 4, 2), "hidden": 9},
    "resnet": {"inputs": (1, 8, 8), "outputs": 3, "depths": (1, 1), "widths": (4, 8), "stem": "small"},
    "airbench": {"inputs": (3, 16, 16), "outputs": 3, "widths": (24, 25, 26)},
    "vit": {"inputs": (1, 8, 8), "outputs": 3, "depth": 1, "dim": 6, "patch": 4, "pool": "mean"},
    "rnn": {"vocab_size": 23, "depth": 2, "dim": 8},
    "forecaster": {"channels": 4, "outputs": 3, "known": 2, "horizon": 10, "dim": 12, "patch": 4},
    "dlinear": {"channels": 3, "outputs": 3, "history": 30, "horizon": 10},
    "dscnn": {"inputs": (16,), "outputs": 3},
    "seq2seq": {"vocab_size": 23, "dim": 8, "embedding": 4},
    "transformer": {"vocab_size": 23, "depth": 1, "dim": 8, "heads": 2, "order": "pre"},
    "t5": {"vocab_size": 23, "depth": 1, "dim": 8, "heads": 2, "head_dim": 5, "hidden": 9},
    "bert": {"vocab_size": 23, "depth": 2, "dim": 12, "heads": 2, "head": "classes", "outputs": 2},
    "gpt": {"vocab_size": 23, "depth": 2, "dim": 32, "heads": 2, "context": 16, "bigram": True},
    "llama": {
        "vocab_size": 23,
        "depth": 2,
        "dim": 16,
        "heads": 4,
        "groups": 2,
        "bias": "qkv",
        "qk_norm": True,
    },
}
TEXT = ["the cat sat on the mat", "静夜思 床前明月光", "🙂 and the rest"] * 20


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_kind_of_model_comes_back_the_same(name, tmp_path):
    config = config_class(name).read({"type": name, **SIZES[name]})
    torch.manual_seed(3)
    model = build(config)
    extra = {"labels": ["a", "b"], "preparation": {"kind": "images", "mean": 0.5}}
    found = read_folder(export(tmp_path / "out", model, extra=extra))
    assert found.config == config
    assert found.extra == extra
    row = architectures.of(config)
    kind = "descent" if row is None else row.config_to(config)["model_type"]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == kind
    again = found.model()
    assert not again.training
    for key, tensor in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpt2_keeps_its_dtype_and_extra_table(dtype, tmp_path):
    model = GPT(GPTConfig.gpt2(depth=1, dim=8, heads=2, context=8, vocab_size=9)).to(dtype)
    found = read_folder(export(tmp_path / "out", model, extra={"start": [3]}))
    assert found.extra == {"start": [3]}
    assert {tensor.dtype for tensor in found.model().state_dict().values()} == {dtype}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == str(dtype).removeprefix(
        "torch."
    )


@pytest.mark.parametrize("kind", ["char", "byte", "bpe", "wordpiece", "unigram"])
def test_transformers_reads_the_tokenizer_beside_a_gpt2(kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = train(kind, TEXT, {"byte": 257, "wordpiece": 600}.get(kind, 300))
    model = GPT(GPTConfig.gpt2(depth=1, dim=8, heads=2, context=8, vocab_size=tokenizer.vocab_size))
    folder = export(tmp_path / "out", model, tokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXT[:3]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    ids = tokenizer.encode(TEXT[1])
    assert kind == "char" or theirs.decode(ids) == TEXT[1]
    assert theirs.eos_token_id == tokenizer.end
    assert (
        transformers.AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id
        == tokenizer.end
    )
    assert read_folder(folder).generation == {"stop_ids": (tokenizer.end,)}
    assert read_folder(folder).tokenizer == folder / "tokenizer.json"


def test_what_stands_there_is_not_overwritten_unasked(tmp_path):
    model = GPT(GPTConfig.gpt2(depth=1, dim=8, heads=2, context=8, vocab_size=9))
    folder = export(tmp_path / "out", model)
    with pytest.raises(UserError, match="is not empty"):
        export(folder, model)
    (folder / "old.txt").write_text("x")
    export(folder, model, overwrite=True)
    assert not (folder / "old.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    own = tmp_path / "own"
    own.mkdir()
    (own / "thesis.txt").write_text("x")
    with pytest.raises(UserError, match="something that is no export"):
        export(own, model, overwrite=True)
    assert (own / "thesis.txt").read_text() == "x"
    with pytest.raises(UserError, match="is not a folder"):
        export(own / "thesis.txt", model, overwrite=True)


def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_file, "write", full)
    model = GPT(GPTConfig.gpt2(depth=1, dim=8, heads=2, context=8, vocab_size=9))
    with pytest.raises(UserError, match="cannot be written: No space left on device"):
        export(tmp_path / "out", model)
    assert list(tmp_path.iterdir()) == []
