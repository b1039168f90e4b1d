"""Checkpoints: exact, whole or not there, and nothing in them believed unchecked."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_toys import Regression, mlp, regression_batch

from descent.errors import CorruptArtifact, UserError
from descent.training import checkpoint
from descent.training.average import EMA
from descent.training.checkpoint import Best, load, mark_best, newest, prune, read_best, save, verify
from descent.training.loop import NonFiniteLoss, Settings, train
from descent.training.optimizers import AdamWConfig, MuonConfig, OptimizerConfig, build_optimizers
from descent.training.state import State, state_hash
from descent.weights import safetensors_file


def fresh(config: OptimizerConfig | None = None, average: bool = True) -> State:
    model = mlp()
    optimizers = {"train": build_optimizers(config or MuonConfig(), model)}
    return State(model, optimizers, EMA(model, 0.9) if average else None)


def trained(steps: int, state: State | None = None) -> State:
    state = state or fresh()
    train(state, Regression(), regression_batch, settings=Settings(steps=steps))
    return state


def other_state() -> State:
    state = fresh()
    with torch.no_grad():
        for parameter in state.model.parameters():
            parameter.add_(1)
    return state


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def test_a_state_comes_back_bit_for_bit_and_goes_on_the_same(folder: Path):
    path = save(folder, trained(5))
    assert path == folder / "step-000005"
    assert {file.name for file in path.iterdir()} == {
        "model.safetensors",
        "optimizer.safetensors",
        "average.safetensors",
        "manifest.json",
    }
    resumed = other_state()
    load(path, resumed)
    assert resumed.step == 5
    assert state_hash(resumed) == state_hash(trained(5))
    assert state_hash(trained(9, resumed)) == state_hash(trained(9))


def test_the_hash_sees_every_part_of_a_state():
    def changed(change: Callable[[State], Any]) -> str:
        state = trained(3)
        change(state)
        return state_hash(state)

    def flip(tensor: torch.Tensor) -> None:
        tensor.detach().view(torch.uint8).view(-1)[0] ^= 1

    def moment(state: State) -> torch.Tensor:
        optimizer = state.optimizers["train"][1]
        return optimizer.state[optimizer.param_groups[0]["params"][0]]["exp_avg"]

    hashes = {
        changed(lambda state: None),
        changed(lambda state: setattr(state, "step", 4)),
        changed(lambda state: flip(state.model.get_parameter("0.weight"))),
        changed(lambda state: flip(moment(state))),
        changed(lambda state: flip(state.average.tensors["0.weight"]) if state.average else None),
        changed(lambda state: state.memory.update(history=torch.zeros(2))),
    }
    assert len(hashes) == 6
    assert state_hash(trained(3)) in hashes


def test_memories_of_an_objective_are_kept(folder: Path):
    state = trained(2)
    state.memory["history"] = torch.arange(4)
    resumed = fresh()
    held = resumed.memory["history"] = torch.zeros(4, dtype=torch.long)
    load(save(folder, state), resumed)
    # In place: the objective that declared the tensor goes on holding it.
    assert torch.equal(held, torch.arange(4))
    with pytest.raises(UserError, match="history"):
        load(folder / "step-000002", fresh())


def test_tied_weights_stay_tied(folder: Path):
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3, bias=False)
            self.second = nn.Linear(3, 3, bias=False)
            self.second.weight = self.first.weight

    one, other = Tied(), Tied()
    path = save(folder, State(one, {"train": build_optimizers(AdamWConfig(), one)}, step=1))
    assert set(safetensors_file.read(path / "model.safetensors")) == {"first.weight"}
    load(path, State(other, {"train": build_optimizers(AdamWConfig(), other)}))
    assert torch.equal(other.second.weight, one.first.weight)
    assert other.second.weight is other.first.weight


def test_one_flipped_bit_anywhere_is_found(folder: Path):
    path = save(folder, trained(2, fresh(AdamWConfig(), average=False)))
    for file in path.iterdir():
        whole = file.read_bytes()
        bits = range(0, 8 * len(whole), 7 if file.name == "manifest.json" else 331)
        for bit in bits:
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(bytes(damaged))
            with pytest.raises(CorruptArtifact) as caught:
                verify(path)
            assert caught.value.exit_code == 3
        file.write_bytes(whole)
    verify(path)


def test_the_newest_whole_one_is_resumed_and_the_others_are_named(folder: Path):
    for step in (2, 4, 6):
        save(folder, trained(step))
    model = folder / "step-000006" / "model.safetensors"
    whole = model.read_bytes()
    for length in range(0, len(whole), 97):
        model.write_bytes(whole[:length])
        assert newest(folder).path == folder / "step-000004"
    (folder / "step-000004" / "optimizer.safetensors").unlink()
    found = newest(folder)
    assert found.path == folder / "step-000002"
    assert [line.split(":")[0] for line in found.skipped] == ["skipped step-000006", "skipped step-000004"]
    assert "its manifest says" in found.skipped[0]
    assert "optimizer.safetensors cannot be read: No such file" in found.skipped[1]
    assert newest(folder / "none").path is None


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """A manifest by an attacker, who can compute hashes too."""
    manifest = checkpoint.read_manifest(path)
    files = dict(manifest.files)
    change(files)
    forged = checkpoint.Manifest(manifest.step, files)
    (path / "manifest.json").write_text(checkpoint._manifest_text(forged))


@pytest.mark.parametrize(
    "name", ["../../x.safetensors", "/etc/passwd", "model.safetensors/..", "config.json", ""]
)
def test_a_manifest_names_nothing_outside(folder: Path, name: str):
    path = save(folder, trained(1))
    rewritten(path, lambda files: files.update({name: files["model.safetensors"]}))
    with pytest.raises(CorruptArtifact, match="names a file that is no part of a checkpoint"):
        verify(path)


def test_links_are_refused(folder: Path, tmp_path: Path):
    path = save(folder, trained(1))
    for name in ("model.safetensors", "manifest.json"):
        outside = tmp_path / name
        shutil.move(path / name, outside)
        (path / name).symlink_to(outside)
        with pytest.raises(CorruptArtifact, match="is not a regular file"):
            verify(path)
        (path / name).unlink()
        shutil.move(outside, path / name)
    verify(path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptArtifact, match="is a link"):
        verify(path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "[" * 50_000,
        '{"step": "x", "files": {}}',
        '{"step": 1, "files": 3}',
        "\0",
        "x" * 200_000,
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, text: str):
    path = save(folder, trained(1))
    (path / "manifest.json").write_text(text)
    with pytest.raises(CorruptArtifact):
        verify(path)


def test_a_checkpoint_of_another_step_or_without_parts_is_refused(folder: Path):
    path = save(folder, trained(1))
    moved = path.rename(folder / "step-000009")
    with pytest.raises(CorruptArtifact, match="is of step 1, the folder of another"):
        verify(moved)
    path = moved.rename(path)
    rewritten(path, lambda files: files.pop("optimizer.safetensors"))
    with pytest.raises(CorruptArtifact, match="names no model or no optimizer"):
        verify(path)


def test_a_whole_checkpoint_of_another_recipe_changes_nothing(folder: Path):
    adam = save(folder / "adam", trained(2, fresh(AdamWConfig())))
    plain = save(folder / "plain", trained(2, fresh(average=False)))
    state = trained(3)
    before = state_hash(state)
    with pytest.raises(UserError, match=r"optimizer.safetensors does not fit(.|\n)*no optimizer here has"):
        load(adam, state)
    with pytest.raises(UserError, match="has no average of the weights"):
        load(plain, state)
    wider = nn.Sequential(nn.Linear(5, 17), nn.Tanh(), nn.Linear(17, 16), nn.ReLU(), nn.Linear(16, 2))
    wide = State(wider, {"train": build_optimizers(MuonConfig(), wider)}, EMA(wider, 0.9))
    with pytest.raises(UserError, match=r"0\.bias: 16 float32, expected 17 float32"):
        load(save(folder, trained(2)), wide)
    assert state_hash(state) == before


def test_a_state_that_is_not_finite_is_never_saved(folder: Path):
    state = trained(2)
    save(folder, state)
    with torch.no_grad():
        state.model.get_parameter("0.weight")[0, 0] = torch.nan
    with pytest.raises(NonFiniteLoss):
        trained(4, state)
    state.step = 4
    with pytest.raises(UserError, match=r"step 4 is not saved: NaN or infinity in the model's 0\.weight"):
        save(folder, state)
    assert newest(folder).path == folder / "step-000002"


def test_saving_twice_changes_nothing_and_a_damaged_one_is_replaced(folder: Path):
    path = save(folder, trained(3))
    before = [(file.name, file.stat().st_ino) for file in sorted(path.iterdir())]
    save(folder, trained(3))
    assert [(file.name, file.stat().st_ino) for file in sorted(path.iterdir())] == before
    (path / "model.safetensors").write_bytes(b"broken")
    save(folder, trained(3))
    verify(path)
    assert [entry.name for entry in folder.iterdir()] == ["step-000003"]


def test_the_latest_and_the_best_are_kept(folder: Path):
    for step in range(1, 6):
        save(folder, trained(step))
    mark_best(folder, Best(2, "loss", 0.5))
    assert [path.name for path in prune(folder, keep=2)] == ["step-000001", "step-000003"]
    assert checkpoint.steps(folder) == [2, 4, 5]
    assert read_best(folder) == Best(2, "loss", 0.5)
    assert prune(folder, keep=0) == []


def test_nothing_old_is_deleted_before_the_new_one_verifies(folder: Path):
    for step in (1, 2, 3):
        save(folder, trained(step))
    (folder / "step-000003" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(CorruptArtifact):
        prune(folder, keep=1)
    with pytest.raises(CorruptArtifact):
        prune(folder, keep=1, verified=folder / "step-000002")
    assert checkpoint.steps(folder) == [1, 2, 3]
    prune(folder, keep=1, verified=save(folder, trained(3)))
    assert checkpoint.steps(folder) == [3]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"step": 1e999, "metric": "", "value": 0}', '{"step": 7, "metric": "", "value": 0}'],
)
def test_a_best_that_says_nothing_is_none(folder: Path, text: str):
    save(folder, trained(1))
    (folder / "best.json").write_text(text)
    assert read_best(folder) is None


def test_a_best_is_finite(folder: Path):
    save(folder, trained(1))
    with pytest.raises(ValueError, match="JSON"):
        mark_best(folder, Best(1, "loss", float("nan")))
    assert read_best(folder) is None


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "mkdir"])
def test_a_full_disk_is_said_and_the_old_checkpoint_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
):
    save(folder, trained(2))
    state = trained(4)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        target = {
            "write": (safetensors_file, "write"),
            "fsync": (os, "fsync"),
            "rename": (Path, "rename"),
            "mkdir": (os, "mkdir"),
        }[call]
        patch.setattr(*target, full)
        with pytest.raises(UserError) as caught:
            save(folder, state)
    assert caught.value.exit_code == 2
    assert "step 4 cannot be saved" in caught.value.what
    assert "No space left on device" in caught.value.what
    assert caught.value.hint == (
        f"free some space and resume; the last good checkpoint is {folder / 'step-000002'}"
    )
    assert [entry.name for entry in folder.iterdir()] == ["step-000002"]
    assert json.loads((save(folder, state) / "manifest.json").read_text())["step"] == 4


def test_all_is_synced_before_the_rename_and_the_parent_after(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """What a cut of the power would need; a killed process does not show it."""
    done: list[str] = []
    sync, rename = os.fsync, os.rename

    def synced(descriptor: int) -> None:
        done.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        sync(descriptor)

    def renamed(source: Path, target: Path) -> None:
        done.append(f"{Path(source).name} -> {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed)
    save(folder, trained(1))
    temporary = ".saving-step-000001"
    assert done == [
        "model.safetensors",
        "optimizer.safetensors",
        "average.safetensors",
        "manifest.json",
        temporary,
        f"{temporary} -> step-000001",
        "checkpoints",
    ]


def test_files_are_readable_as_any_other(folder: Path):
    before = os.umask(0o022)
    try:
        path = save(folder, trained(1))
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}
    assert path.stat().st_mode & 0o777 == 0o755
