"""Names and paths: a folder on this machine needs no network, a name on the hub gives clear errors."""

import sys
from pathlib import Path

import pytest

from descent.errors import UserError
from descent.models.gpt import GPT, GPTConfig
from descent.weights import hub
from descent.weights.export import export
from descent.weights.folder import read_folder


@pytest.fixture
def folder(tmp_path):
    return export(tmp_path / "gpt", GPT(GPTConfig.gpt2(depth=1, dim=8, heads=2, context=8, vocab_size=9)))


def test_a_folder_needs_no_network(folder, network_attempts, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it would fail
    assert hub.locate(folder) == folder
    assert hub.load_pretrained(str(folder)).config == read_folder(folder).config
    monkeypatch.chdir(folder.parent)
    assert hub.locate("gpt") == Path("gpt")
    assert network_attempts == []


def test_a_folder_wins_over_a_name_on_the_hub(tmp_path, monkeypatch, network_attempts):
    (tmp_path / "openai-community" / "gpt2").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert hub.locate("openai-community/gpt2") == Path("openai-community/gpt2")
    assert network_attempts == []


@pytest.mark.parametrize(
    "name",
    [
        "./gpt",
        "/nowhere/at/all",
        "gpt2",
        "a/b/c",
        "",
        "a/../b",
        "-x/y",
        "名/字",
        "~no-such-user/x",
        "a\0b",
        Path("a/b"),
    ],
)
def test_what_is_neither_folder_nor_name_makes_no_call(name, network_attempts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"is no folder here\n  expected: an existing folder, or a hub name"):
        hub.locate(name)
    assert network_attempts == []


def test_without_a_network_the_error_says_so(network_attempts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="the hub cannot be reached") as error:
        hub.locate("openai-community/gpt2")
    assert "not in the hub's cache" in str(error.value)
    assert "check the connection" in str(error.value)
    network_attempts.clear()


def test_only_tables_and_tensors_are_fetched(monkeypatch, folder):
    import huggingface_hub

    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert hub.locate("someone/model", revision="v1") == folder
    assert asked == {
        "name": "someone/model",
        "revision": "v1",
        "allow_patterns": ["*.json", "*.safetensors", "*.txt", "chat_template.jinja"],
        "ignore_patterns": ["*/*"],
    }


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("GatedRepoError", "is gated on the hub"),
        ("RepositoryNotFoundError", "neither a folder here nor a model on the hub"),
        ("RevisionNotFoundError", "has no revision 'main2'"),
    ],
)
def test_what_the_hub_answers_is_said_plainly(error, words, monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import errors

    kind = getattr(errors, error)

    def snapshot_download(name, **options):
        raise kind.__new__(kind)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(UserError, match=words):
        hub.locate("someone/model", revision="main2")
