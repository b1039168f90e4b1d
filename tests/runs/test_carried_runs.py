"""Runs that carry a state from step to step: what is kept, and that stopping anywhere changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from run_tools import PLAN, final_hash, text_file
from safetensors.torch import load_file

from descent.errors import UserError
from descent.recipes import resolve
from descent.runs.assemble import assemble
from descent.runs.course import Course
from descent.runs.finder import find_rate
from descent.runs.load import load
from descent.runs.recipe import Recipe
from descent.runs.run import Run
from descent.runs.train import resume, train
from descent.training.loop import StepReport, train_step
from descent.training.state import state_hash


class Killed(BaseException):
    """What a test raises where a process would be killed."""


def tiny(folder: Path, *changes: str) -> Recipe:
    """An LSTM in 20 lanes of 5 tokens: an epoch is some 20 steps."""
    base = [
        f"data.path={text_file(folder)}", "data.length=5", "tokenizer.kind=char", "model.depth=2",
        "model.dim=8", "model.embedding=0", "model.dropout=0.1", "budget.batch_size=20",
        "samples.max_new_tokens=4", "samples.every=0",
    ]  # fmt: skip
    return resolve("lstm", [*base, *PLAN, *changes])


def killed_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    own_step = Course.after_step

    def after_step(course: Course, report: StepReport) -> bool:
        if report.step == step:
            monkeypatch.undo()
            raise Killed
        return own_step(course, report)

    monkeypatch.setattr(Course, "after_step", after_step)


def pieces_of(recipe: Recipe) -> int:
    return len(assemble(recipe).dataset.splits["train"]) // recipe.budget.batch_size


def test_a_checkpoint_holds_the_state_of_its_step(tmp_path: Path) -> None:
    recipe = tiny(tmp_path)
    run = train(recipe, out=tmp_path / "run", quiet=True)
    step, path = run.checkpoints[-1]
    assert step == 7
    kept = load_file(path / "memory.safetensors")
    assert {name: tuple(value.shape) for name, value in kept.items()} == {
        "hidden": (20, 2, 8), "cell": (20, 2, 8)
    }  # fmt: skip
    parts = assemble(recipe, tokenizer=run.tokenizer)
    for number in range(7):
        train_step(parts.state, parts.objective, parts.batches.batch(number), parts.settings)
    for name, value in kept.items():
        assert torch.equal(value, parts.state.memory[name])
        assert value.any()


@pytest.mark.parametrize("changes", [[], ["average=0.9", "optimizer.type=sgd"], ["precision=bf16"]])
def test_resumed_in_the_middle_of_an_epoch_ends_with_the_same_bits(
    changes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(tmp_path, *changes)
    whole = train(recipe, out=tmp_path / "whole", quiet=True)
    killed_after(monkeypatch, 5)
    with pytest.raises(Killed):
        train(recipe, out=tmp_path / "parts", quiet=True)
    resume(tmp_path / "parts", quiet=True)
    assert final_hash(Run(tmp_path / "parts")) == final_hash(whole)
    assert Run(tmp_path / "parts").summary()["scores"] == whole.summary()["scores"]


@pytest.mark.parametrize("step", [2, 3, 4, 6])
def test_resumed_about_the_end_of_an_epoch_ends_with_the_same_bits(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(tmp_path, "data.length=50", "checkpoints.every=1")
    assert pieces_of(recipe) == 2
    whole = train(recipe, out=tmp_path / "whole", quiet=True)
    killed_after(monkeypatch, step)
    with pytest.raises(Killed):
        train(recipe, out=tmp_path / "parts", quiet=True)
    resume(tmp_path / "parts", quiet=True)
    assert final_hash(Run(tmp_path / "parts")) == final_hash(whole)


def test_the_state_is_needed_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its memory a run would end elsewhere: the tests above see it."""
    recipe = tiny(tmp_path)
    parts, other = assemble(recipe), assemble(recipe)
    for number in range(4):
        for some in (parts, other):
            if number == 3 and some is other:
                for value in some.state.memory.values():
                    value.zero_()
            train_step(some.state, some.objective, some.batches.batch(number), some.settings)
    assert state_hash(parts.state) != state_hash(other.state)


def test_evaluation_and_samples_between_steps_change_nothing(tmp_path: Path) -> None:
    often = train(tiny(tmp_path, "evaluation.every=1", "samples.every=1"), out=tmp_path / "often", quiet=True)
    once = train(tiny(tmp_path, "evaluation.every=0"), out=tmp_path / "once", quiet=True)
    assert final_hash(often) == final_hash(once)


def test_looking_for_a_rate_leaves_the_state_alone(tmp_path: Path) -> None:
    parts = assemble(tiny(tmp_path))
    for number in range(2):
        train_step(parts.state, parts.objective, parts.batches.batch(number), parts.settings)
    before = state_hash(parts.state)
    find_rate(parts, steps=20)
    assert state_hash(parts.state) == before


def test_the_size_of_evaluation_batches_changes_no_score(tmp_path: Path) -> None:
    parts = assemble(tiny(tmp_path))
    found = parts.evaluate("validation").metrics
    parts.recipe = parts.recipe.replace(evaluation=parts.recipe.evaluation.replace(batch_size=3).table())
    assert parts.evaluate("validation").metrics == found


def test_a_run_is_loaded_and_exported_as_it_was(tmp_path: Path) -> None:
    run = train(tiny(tmp_path), out=tmp_path / "run", quiet=True)
    loaded = run.load()
    again = load(loaded.export(tmp_path / "export"))
    assert type(again.model).__name__ == "RNN"
    assert again.config == loaded.config
    own, read = loaded.model.state_dict(), again.model.state_dict()
    assert own.keys() == read.keys()
    assert all(torch.equal(value, read[name]) for name, value in own.items())
    settings: dict[str, Any] = {"max_new_tokens": 12, "temperature": 0.9, "seed": 4}
    for prompt in ("", "ab river", "山"):
        assert again.generate(prompt, **settings) == loaded.generate(prompt, **settings)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["budget.accumulate=2"], "cannot be accumulated"),
        (["budget.batch_size=0"], "data.packing=lanes is for a recurrent model"),
        (["data.length=3000"], "the train text is too short"),
        (["data.length=400", "budget.batch_size=40"], "text is too short for its lanes"),
        (["model.bidirectional=true"], "would let the model see what causal asks it to predict"),
        (["model.pool=last"], "model.pool must be none"),
    ],
)
def test_what_cannot_be_read_on_is_refused(changes: list[str], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why):
        train(tiny(tmp_path, *changes), out=tmp_path / "run", quiet=True)
