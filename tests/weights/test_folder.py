"""Folders in the Hugging Face layout: what is read, and what is refused before it can do harm."""

import json
import pickle
import re

import pytest
import torch

from descent.errors import CorruptArtifact, UserError
from descent.models.gpt import GPT, GPTConfig
from descent.weights import safetensors_file
from descent.weights.export import export
from descent.weights.folder import read_folder

TINY = GPTConfig.gpt2(depth=1, dim=12, heads=2, context=9, vocab_size=31)


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    return export(tmp_path / "gpt", GPT(TINY))


def change(folder, name="config.json", **fields):
    path = folder / name
    table = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**table, **fields}))


def split(folder):
    """Puts the weights into two files with an index, as large models have them."""
    tensors = safetensors_file.read(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, where = sorted(tensors), {}
    for number, part in enumerate((names[:5], names[5:]), 1):
        file = f"model-{number:05}-of-00002.safetensors"
        safetensors_file.write(folder / file, {name: tensors[name] for name in part}, {})
        where |= dict.fromkeys(part, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return where


def test_weights_in_several_files_are_the_same_weights(folder):
    whole = read_folder(folder).state
    split(folder)
    parts = read_folder(folder).state
    assert parts.keys() == whole.keys()
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    "name", ["../../x.safetensors", "/etc/x.safetensors", "a\\b.safetensors", "x.bin", "", 3]
)
def test_an_index_names_files_of_its_own_folder_only(folder, name):
    where = split(folder)
    where[sorted(where)[0]] = name
    change(folder, "model.safetensors.index.json", weight_map=where)
    with pytest.raises(CorruptArtifact, match="names a file outside the folder, or no safetensors file"):
        read_folder(folder)


def test_an_index_and_its_files_must_agree(folder):
    where = split(folder)
    first, last = sorted(where)[0], sorted(where)[-1]
    change(folder, "model.safetensors.index.json", weight_map={**where, first: where[last]})
    with pytest.raises(CorruptArtifact, match="does not hold what"):
        read_folder(folder)
    change(folder, "model.safetensors.index.json", weight_map=where)
    (folder / where[last]).unlink()
    with pytest.raises(CorruptArtifact, match="which is not there"):
        read_folder(folder)


def test_code_that_comes_with_weights_is_never_run(folder):
    (folder / "modeling_evil.py").write_text("raise SystemExit('ran')")
    change(folder, auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    with pytest.raises(UserError, match="auto_map asks to run code"):
        read_folder(folder)


@pytest.mark.parametrize(
    "fields",
    [
        {"model_type": "evil"},
        {"architectures": ["os.system"]},
        {"architectures": ["GPT2ForSequenceClassification"]},
        {"architectures": "GPT2LMHeadModel"},
        {"model_type": ["gpt2"]},
    ],
    ids=str,
)
def test_an_unknown_architecture_is_refused(folder, fields):
    change(folder, **fields)
    with pytest.raises(UserError, match="this architecture is not known"):
        read_folder(folder)


def test_a_model_type_of_ours_comes_from_the_list_of_models(folder):
    change(folder, model_type="descent", model={"type": "os.path"})
    with pytest.raises(UserError, match=r"no model is called 'os.path'"):
        read_folder(folder)
    change(folder, model_type="descent", model={"type": "gpt", "widht": 3})
    with pytest.raises(UserError, match=r"config\.json: 1 error"):
        read_folder(folder)


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.ckpt"])
def test_pickles_are_refused_and_do_not_run(folder, tmp_path, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Payload(tmp_path / "ran")))
    with pytest.raises(UserError, match=rf"only as a pickle \({re.escape(name)}\)") as error:
        read_folder(folder)
    assert "save it as safetensors" in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_a_pickle_under_another_name_is_refused_too(folder, tmp_path):
    (folder / "model.safetensors").write_bytes(pickle.dumps(Payload(tmp_path / "ran")) * 9)
    with pytest.raises(CorruptArtifact, match="pickle"):
        read_folder(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": 1, "a": 2}', "stands there twice"),
        ("[" * 100_000, "not valid JSON"),
        ('"\ud800"', "not valid JSON"),
    ],
)
def test_a_broken_config_is_a_corrupt_artifact(folder, text, words):
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CorruptArtifact, match=words) as error:
        read_folder(folder)
    assert str(folder / "config.json") in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"), [("n_head", 5), ("n_layer", "2"), ("vocab_size", -1), ("n_embd", True)]
)
def test_sizes_are_validated(folder, field, value):
    change(folder, **{field: value})
    with pytest.raises(UserError, match=r"config\.json"):
        read_folder(folder)


def test_a_missing_size_is_named(folder):
    table = json.loads((folder / "config.json").read_text())
    del table["n_head"]
    (folder / "config.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match="n_head: is required"):
        read_folder(folder)


def test_a_truncated_file_is_corrupt(folder):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-5])
    with pytest.raises(CorruptArtifact, match=r"model\.safetensors"):
        read_folder(folder)


def test_no_model_at_all(tmp_path, folder):
    with pytest.raises(UserError, match=r"holds no config\.json"):
        read_folder(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="holds no weights"):
        read_folder(folder)


def test_recommended_settings(folder):
    table = {"do_sample": True, "temperature": 1, "top_k": 40, "top_p": "0.9", "eos_token_id": 5, "code": "x"}
    change(folder, "generation_config.json", **table)
    assert read_folder(folder).generation == {"temperature": 1.0, "top_k": 40, "stop_ids": (5,)}
    change(folder, "generation_config.json", do_sample=False, eos_token_id=[5, 6])
    assert read_folder(folder).generation == {"stop_ids": (5, 6)}
