"""Adapters saved alone: small, put on their base again, and refused by any other."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from run_tools import tiny
from standins import STAND_INS
from torch.testing import assert_close

from descent import api
from descent.errors import CorruptArtifact, UserError
from descent.nn.lora import adapted_layers
from descent.recipes import resolve
from descent.runs.run import Run
from descent.runs.train import fork, train
from descent.weights import safetensors_file
from descent.weights.adapter import ABOUT, WEIGHTS, read_adapter

TOKENS = torch.arange(20)[None]


@pytest.fixture(scope="module", autouse=True)
def _without_plots():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "plot", lambda run: [])
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("base")
    return train(tiny("gpt", folder, "model.zero_init=false"), out=folder / "run", quiet=True)


@pytest.fixture(scope="module")
def run(base: Run, tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("adapted")
    changes = (f"model.weights={base.folder}", "adapter.rank=2", "optimizer.learning_rate=0.01")
    return train(tiny("gpt", folder, *changes), out=folder / "run", quiet=True)


@pytest.fixture
def saved(run: Run, tmp_path: Path) -> Path:
    return api.export_adapter(run, tmp_path / "adapter")


def test_it_holds_what_was_trained_and_nothing_else(run: Run, saved: Path) -> None:
    state, about = read_adapter(saved)
    layers = list(adapted_layers(run.weighted()))
    assert sorted(state) == sorted(f"{name}.lora_{part}" for name in layers for part in ("down", "up"))
    assert list(about.targets) == layers
    assert (about.rank, about.alpha, about.trained, about.drawn) == (2, 16.0, (), ())
    assert {path.name for path in saved.iterdir()} == {ABOUT, WEIGHTS}
    whole = run.checkpoint() / "model.safetensors"
    assert (saved / WEIGHTS).stat().st_size < 0.3 * whole.stat().st_size


def test_put_on_its_base_it_is_the_run(base: Run, run: Run, saved: Path) -> None:
    before = base.load().model(TOKENS)
    loaded = api.load(base.folder, adapter=saved)
    assert not adapted_layers(loaded.model)
    wanted = run.load().model(TOKENS)
    assert_close(loaded.model(TOKENS), wanted, rtol=0, atol=0)
    assert not torch.allclose(before, wanted)
    said = [one.generate("a", max_new_tokens=8, seed=3) for one in (loaded, run.load())]
    assert said[0] == said[1]


def test_a_base_that_was_exported_will_do(base: Run, run: Run, saved: Path, tmp_path: Path) -> None:
    folder = api.export(base, tmp_path / "exported")
    assert_close(api.load(folder, adapter=saved).model(TOKENS), run.load().model(TOKENS))


def test_a_fork_has_the_adapter_of_the_same_base(base: Run, run: Run, tmp_path: Path) -> None:
    later = fork(run.folder, ["budget.steps=9"], out=tmp_path / "fork", quiet=True)
    saved = api.export_adapter(later, tmp_path / "adapter")
    loaded = api.load(base, adapter=saved)
    assert_close(loaded.model(TOKENS), later.load().model(TOKENS), rtol=0, atol=0)


def test_another_base_is_refused(run: Run, saved: Path, tmp_path: Path) -> None:
    options = ("model.zero_init=false", "budget.steps=1")
    same = train(tiny("gpt", tmp_path, *options, "seed=2"), out=tmp_path / "same", quiet=True)
    with pytest.raises(UserError, match="its weights are others"):
        api.load(same, adapter=saved)
    with pytest.raises(UserError, match="its weights are others"):
        api.load(run, adapter=saved)  # its adapter is merged already
    wide = train(tiny("gpt", tmp_path, *options, "model.dim=32"), out=tmp_path / "wide", quiet=True)
    with pytest.raises(UserError, match=r"not the base(.|\n)*16x16|48x16|missing"):
        api.load(wide, adapter=saved)
    digits = train(tiny("mlp", tmp_path), out=tmp_path / "digits", quiet=True)
    with pytest.raises(UserError, match="its tokenizer is another"):
        api.load(digits, adapter=saved)


def rewritten(folder: Path, state: dict[str, torch.Tensor]) -> None:
    """Other weights beside the same adapter.json, with a hash that is right."""
    (folder / WEIGHTS).unlink()
    safetensors_file.write(folder / WEIGHTS, state)
    table = json.loads((folder / ABOUT).read_text())
    table["sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / ABOUT).write_text(json.dumps(table))


@pytest.mark.parametrize("change", ["lacking", "extra", "shape"])
def test_other_tensors_than_it_says_are_refused(base: Run, saved: Path, change: str) -> None:
    state, _ = read_adapter(saved)
    name = next(iter(state))
    if change == "lacking":
        del state[name]
    elif change == "extra":
        state["more"] = torch.zeros(2)
    else:
        state[name] = torch.zeros(3, 3)
    rewritten(saved, state)
    named = {"lacking": f"{name}: missing", "extra": "more: not expected", "shape": f"{name}: 3x3, expected"}
    with pytest.raises(CorruptArtifact, match=named[change]):
        api.load(base, adapter=saved)


def test_damaged_files_are_found(base: Run, saved: Path) -> None:
    whole = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptArtifact, match="is damaged"):
        api.load(base, adapter=saved)
    (saved / WEIGHTS).write_bytes(whole[:-8])
    with pytest.raises(CorruptArtifact, match="not a sound safetensors"):
        api.load(base, adapter=saved)
    (saved / WEIGHTS).write_bytes(whole)
    text = (saved / ABOUT).read_text()
    for wrong in ({"rank": 0}, {"model": {"type": "house"}}, {"model": {"type": "gpt", "x": 1}}, {"more": 1}):
        (saved / ABOUT).write_text(json.dumps({**json.loads(text), **wrong}))
        with pytest.raises(CorruptArtifact, match=next(iter(wrong))):
            api.load(base, adapter=saved)
    (saved / ABOUT).write_text(text[:-20])
    with pytest.raises(CorruptArtifact, match="not valid JSON"):
        api.load(base, adapter=saved)
    (saved / ABOUT).write_text(text)
    (saved / WEIGHTS).unlink()
    with pytest.raises(CorruptArtifact, match=f"holds no {WEIGHTS}"):
        api.load(base, adapter=saved)
    (saved / ABOUT).unlink()
    with pytest.raises(UserError, match="holds no adapter"):
        api.load(base, adapter=saved)


def test_a_run_without_an_adapter_has_none_to_save(base: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="trained no adapter"):
        api.export_adapter(base, tmp_path / "adapter")


def test_a_full_folder_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        api.export_adapter(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_new_head_and_what_was_drawn_come_along(tmp_path: Path) -> None:
    """A BERT that read, and was then taught classes through adapters: its head is not the base's."""
    small = ["model.depth=1", "model.dim=16", "model.heads=2", "tokenizer.vocab_size=600"]
    reading = [*STAND_INS["masked"](tmp_path), *small, "budget.steps=2", "budget.batch_size=4"]
    base = train(resolve("bert", reading), out=tmp_path / "base", quiet=True)
    changes = [*STAND_INS["sentences"](tmp_path), f"transfer.weights={base.folder}", "adapter.rank=2"]
    plan = ["budget.epochs=0", "budget.steps=4", "optimizer.learning_rate=0.01"]
    run = train(resolve("bert-sick", [*changes, *plan]), out=tmp_path / "run", quiet=True)
    saved = api.export_adapter(run, tmp_path / "adapter")
    _, about = read_adapter(saved)
    assert about.trained
    assert all(name.startswith("head.") for name in about.trained)
    loaded = api.load(base, adapter=saved)
    asked = [("a river", "a stone"), ("wind", "no wind")]
    assert loaded.predict(asked) == run.load().predict(asked)
    assert loaded.labels == ("n", "y")
