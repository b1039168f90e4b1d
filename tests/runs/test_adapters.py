"""Runs that train adapters: the base stays, resuming is exact, and what is loaded is one plain model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_tools import final_hash, tiny
from torch import nn
from torch.testing import assert_close

from descent import api
from descent.errors import UserError
from descent.nn.lora import adapted_layers
from descent.runs.run import Run
from descent.runs.train import resume, train
from descent.weights import safetensors_file


@pytest.fixture(scope="module", autouse=True)
def _without_plots():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "plot", lambda run: [])
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("base")
    return train(tiny("gpt", folder, "model.zero_init=false"), out=folder / "run", quiet=True)


def adapting(base: Run, folder: Path, *changes: str) -> Run:
    folder.mkdir(parents=True, exist_ok=True)
    recipe = tiny("gpt", folder, f"model.weights={base.folder}", "adapter.rank=2", *changes)
    return train(recipe, out=folder / "run", quiet=True)


def test_the_base_is_left_as_it_was_and_the_adapters_learn(base: Run, tmp_path: Path) -> None:
    run = adapting(base, tmp_path)
    held = base.load("best").model.state_dict()
    saved = safetensors_file.read(run.checkpoint("last") / "model.safetensors")
    matrices = [name for name in held if name.startswith("blocks")]
    assert matrices
    assert all(torch.equal(saved[name], held[name]) for name in matrices)
    assert saved["blocks.0.attention.qkv.lora_up"].abs().max() > 0
    assert run.metrics[-1]["event"] == "end"


def test_what_is_loaded_is_one_plain_model_that_computes_the_same(base: Run, tmp_path: Path) -> None:
    run = adapting(base, tmp_path)
    loaded = run.load("last")
    assert not adapted_layers(loaded.model)
    assert type(loaded.model.get_submodule("blocks.0.attention.qkv")) is nn.Linear
    parts = run.parts()
    state = safetensors_file.read(run.checkpoint("last") / "model.safetensors")
    safetensors_file.load_into(parts.state.model, state, "test")
    tokens = torch.arange(20)[None]
    parts.state.model.eval()
    assert_close(loaded.model(tokens), parts.state.model(tokens), rtol=1e-4, atol=1e-5)
    again = api.load(loaded.export(tmp_path / "export"))
    assert_close(again.model(tokens), loaded.model(tokens))


def test_resumed_it_ends_where_the_uninterrupted_ends(base: Run, tmp_path: Path) -> None:
    whole = adapting(base, tmp_path / "a", "schedule.type=constant")
    part = adapting(base, tmp_path / "b", "budget.steps=4", "schedule.type=constant")
    resumed = resume(part.folder, ["budget.steps=7"], quiet=True)
    assert final_hash(resumed) == final_hash(whole)


def test_adapters_need_weights_to_adapt(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="name them in transfer"):
        tiny("gpt", tmp_path, "adapter.rank=2")
