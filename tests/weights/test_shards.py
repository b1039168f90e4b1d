"""Weights in several files: written as large models are published, and nothing in the index believed."""

from __future__ import annotations

import json

import pytest
import torch

from descent.errors import CorruptArtifact, UserError
from descent.models import build
from descent.models.llama import Llama, LlamaConfig
from descent.weights import safetensors_file, shards
from descent.weights.export import export
from descent.weights.folder import read_folder

TINY = LlamaConfig(depth=2, dim=12, heads=2, groups=1, context=9, vocab_size=31, tied=True)
LIMIT = 3000


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    return export(tmp_path / "llama", Llama(TINY), shard_bytes=LIMIT)


def index_of(folder):
    return json.loads((folder / shards.INDEX).read_text())


def change(folder, **places):
    table = index_of(folder)
    table["weight_map"] |= places
    table["weight_map"] = {name: file for name, file in table["weight_map"].items() if file is not None}
    (folder / shards.INDEX).write_text(json.dumps(table))


def files_of(folder):
    return sorted(path.name for path in folder.glob("*.safetensors"))


def test_a_model_over_the_limit_is_written_in_files_under_it(folder):
    files, index = files_of(folder), index_of(folder)
    count = len(files)
    assert count > 2
    assert files == [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    held = {name: safetensors_file.read(folder / name) for name in files}
    sizes = [sum(t.numel() * t.element_size() for t in tensors.values()) for tensors in held.values()]
    assert all(size <= LIMIT or len(tensors) == 1 for size, tensors in zip(sizes, held.values(), strict=True))
    assert index["metadata"]["total_size"] == sum(sizes)
    assert index["weight_map"] == {name: file for file, tensors in held.items() for name in tensors}


def test_several_files_are_the_same_weights_as_one(folder, tmp_path):
    torch.manual_seed(0)
    whole = read_folder(export(tmp_path / "one", Llama(TINY)))
    parts = read_folder(folder)
    assert files_of(tmp_path / "one") == ["model.safetensors"]
    assert not (tmp_path / "one" / shards.INDEX).exists()
    assert parts.config == whole.config
    assert parts.state.keys() == whole.state.keys()
    for name, tensor in whole.state.items():
        torch.testing.assert_close(parts.state[name], tensor, rtol=0, atol=0)


def test_a_tensor_over_the_limit_stands_alone(tmp_path):
    tensors = {"a": torch.zeros(3), "b": torch.zeros(50), "c": torch.zeros(4), "d": torch.zeros(4)}
    assert len(shards.write(tmp_path, tensors, 40)) == 3
    places = index_of(tmp_path)["weight_map"]
    assert [places[name][6:11] for name in "abcd"] == ["00001", "00002", "00003", "00003"]
    assert shards.read(tmp_path).keys() == tensors.keys()


@pytest.mark.parametrize("bias", ["none", "qkv"])
def test_transformers_loads_our_files_and_we_load_its(bias, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(1)
    ours = Llama(TINY.replace(bias=bias)).eval()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        export(tmp_path / "ours", ours, shard_bytes=LIMIT)
    ).eval()
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="3KB")
    assert len(files_of(tmp_path / "theirs")) > 2
    tokens = torch.arange(18).reshape(2, 9)
    with torch.no_grad():
        torch.testing.assert_close(theirs(tokens).logits, ours(tokens))
        again = read_folder(tmp_path / "theirs").model()
        torch.testing.assert_close(again(tokens), ours(tokens), rtol=0, atol=0)


def test_a_model_of_our_own_kind_is_written_in_several_files_too(tmp_path):
    model = build(TINY.replace(bias="qkv", qk_norm=True))
    found = read_folder(export(tmp_path / "own", model, shard_bytes=LIMIT))
    assert len(files_of(tmp_path / "own")) > 2
    assert found.config == model.config
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(found.state[name], tensor, rtol=0, atol=0)


def refusal(folder, words):
    with pytest.raises(CorruptArtifact) as error:
        read_folder(folder)
    text = str(error.value)
    assert all(word in text for word in words), text
    return text


def test_a_missing_file_is_named(folder):
    (folder / files_of(folder)[1]).unlink()
    refusal(folder, [shards.INDEX, "names model-00002", "which is not there"])


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/x.safetensors", "a/b.safetensors", "..", "x.bin", 7, []]
)
def test_no_file_outside_the_folder_is_opened(folder, name):
    (folder.parent / "x.safetensors").write_bytes((folder / files_of(folder)[0]).read_bytes())
    change(folder, **{"model.norm.weight": name})
    refusal(folder, [shards.INDEX, "names a file outside the folder, or no safetensors file"])


def test_a_tensor_must_stand_where_the_index_says(folder):
    first, last = files_of(folder)[0], files_of(folder)[-1]
    name = next(iter(safetensors_file.read(folder / first)))
    change(folder, **{name: last})
    refusal(folder, [first, f"does not hold what {shards.INDEX} says: with {name}"])


def test_an_index_that_names_a_tensor_no_file_has(folder):
    change(folder, **{"model.ghost.weight": files_of(folder)[0]})
    refusal(folder, [files_of(folder)[0], "says: without model.ghost.weight"])


def test_an_index_that_leaves_a_tensor_out(folder):
    change(folder, **{"model.norm.weight": None})
    refusal(folder, ["with model.norm.weight"])


def test_a_tensor_in_two_files_is_refused(folder):
    first, second = (folder / name for name in files_of(folder)[:2])
    doubled = safetensors_file.read(first) | dict(list(safetensors_file.read(second).items())[:1])
    first.unlink()
    safetensors_file.write(first, doubled)
    refusal(folder, [first.name, "does not hold what"])


def test_a_name_that_stands_twice_in_the_index(folder):
    text = (folder / shards.INDEX).read_text()
    line = next(line for line in text.splitlines() if "model.norm.weight" in line).rstrip(",")
    (folder / shards.INDEX).write_text(text.replace(line, f"{line},\n{line}", 1))
    refusal(folder, [shards.INDEX, "a key stands there twice"])


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"weight_map": {}}', '{"weight_map": ["a"]}', '{"weight_map": NaN}']
)
def test_an_index_that_is_none(folder, text):
    (folder / shards.INDEX).write_text(text)
    refusal(folder, [shards.INDEX])


def test_a_file_cut_off_is_corrupt_and_found_before_any_tensor_is_read(folder, monkeypatch):
    last = folder / files_of(folder)[-1]
    last.write_bytes(last.read_bytes()[:-1])
    monkeypatch.setattr(safetensors_file, "load_file", lambda path: pytest.fail(f"{path} was read"))
    refusal(folder, [last.name, "follow the header"])


def test_a_pickle_in_place_of_a_file_is_refused(folder):
    (folder / files_of(folder)[0]).write_bytes(b"\x80\x04" + b"x" * 100)
    refusal(folder, [files_of(folder)[0], "pickles are never opened"])


def test_weights_that_are_no_numbers_are_refused_in_any_file(folder):
    last = folder / files_of(folder)[-1]
    tensors = safetensors_file.read(last)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    last.unlink()
    safetensors_file.write(last, tensors)
    refusal(folder, [last.name, "hold NaN or infinity"])
    assert read_folder(folder, allow_nonfinite=True).state


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    real, calls = safetensors_file.write, []

    def full(path, *arguments):
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(path, *arguments)

    monkeypatch.setattr(safetensors_file, "write", full)
    with pytest.raises(UserError, match="No space left on device"):
        export(tmp_path / "out", Llama(TINY), shard_bytes=LIMIT)
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_model_is_exported_in_files_of_the_size_that_is_asked_for(folder, tmp_path):
    import descent

    again = descent.load(folder).export(tmp_path / "again", shard_bytes=LIMIT)
    assert files_of(again) == files_of(folder)
    assert index_of(again) == index_of(folder)
