"""A run's folder from start to end: what is in it, what repeats it, what resumes it, what stops it."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from run_tools import final_hash, text_file, tiny

from descent import api
from descent.errors import LockedRun, UserError
from descent.runs.course import Course
from descent.runs.lock import RunLock
from descent.runs.recipe import read_recipe
from descent.runs.run import Run
from descent.runs.train import fork, resume, train
from descent.training import checkpoint
from descent.training.loop import NonFiniteLoss, StepReport

KINDS = ["mlp", "lenet", "gpt", "packed"]


class Killed(BaseException):
    """What a test raises where a process would be killed."""


def killed_after(monkeypatch: pytest.MonkeyPatch, step: int, inside_evaluation: bool = False) -> None:
    """Lets the next run die at a step: after its work, or in the middle of its evaluation."""
    own_step, own_evaluate = Course.after_step, Course.evaluate

    def after_step(course: Course, report: StepReport) -> bool:
        if report.step == step and not inside_evaluation:
            monkeypatch.undo()
            raise Killed
        return own_step(course, report)

    def evaluate(course: Course, split: str) -> None:
        if course.parts.state.step == step and inside_evaluation:
            monkeypatch.undo()
            raise Killed
        own_evaluate(course, split)

    monkeypatch.setattr(Course, "after_step", after_step)
    monkeypatch.setattr(Course, "evaluate", evaluate)


def test_what_a_run_leaves(tmp_path: Path) -> None:
    run = train(tiny("gpt", tmp_path), out=tmp_path / "run", quiet=True)
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {"recipe.toml", "metrics.jsonl", "env.json", "data.json", "tokenizer.json", "checkpoints"}
    assert (run.folder / "plots" / "curves.png").stat().st_size > 10_000
    assert list((run.folder / "samples").glob("*.txt"))
    recipe = read_recipe(run.folder / "recipe.toml")
    assert (recipe.device, recipe.precision) == ("cpu", "fp32")
    assert recipe.model.vocab_size == 257  # type: ignore[union-attr]
    environment = json.loads((run.folder / "env.json").read_text(encoding="utf-8"))
    assert {"versions", "commit", "device", "threads", "seed"} <= environment.keys()
    assert [step for step, _ in run.checkpoints][-2:] == [6, 7]
    assert [line["step"] for line in run.metrics if line["event"] == "step"] == list(range(1, 8))
    scored = [(line["split"], line["step"]) for line in run.metrics if line["event"] == "evaluation"]
    assert [step for split, step in scored if split == "validation"] == [3, 6, 7]
    assert [split for split, _ in scored][-1] == "test"


def test_the_recipe_in_the_folder_repeats_the_run(tmp_path: Path) -> None:
    first = train(tiny("gpt", tmp_path), out=tmp_path / "first", quiet=True)
    second = train(read_recipe(first.folder / "recipe.toml"), out=tmp_path / "second", quiet=True)
    assert final_hash(first) == final_hash(second)
    other = train(tiny("gpt", tmp_path, "seed=2"), out=tmp_path / "other", quiet=True)
    assert final_hash(other) != final_hash(first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [[], ["average=0.9", "budget.accumulate=2", "optimizer.type=sgd"]])
def test_resumed_ends_with_the_same_bits(
    kind: str, changes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tiny(kind, tmp_path, *changes), out=tmp_path / "whole", quiet=True)
    killed_after(monkeypatch, 5)
    with pytest.raises(Killed):
        train(tiny(kind, tmp_path, *changes), out=tmp_path / "parts", quiet=True)
    resume(tmp_path / "parts", quiet=True)
    assert final_hash(Run(tmp_path / "parts")) == final_hash(whole)


def test_killed_inside_an_evaluation_twice_in_one_epoch_and_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # 1,245 training digits in batches of 249: an epoch ends after 5 steps.
    changes = ["budget.batch_size=249", "budget.steps=12", "checkpoints.every=1"]
    whole = train(tiny("mlp", tmp_path, *changes), out=tmp_path / "whole", quiet=True)
    killed_after(monkeypatch, 3, inside_evaluation=True)
    with pytest.raises(Killed):
        train(tiny("mlp", tmp_path, *changes), out=tmp_path / "parts", quiet=True)
    for step in (4, 6, 11):
        killed_after(monkeypatch, step)
        with pytest.raises(Killed):
            resume(tmp_path / "parts", quiet=True)
    run = resume(tmp_path / "parts", quiet=True)
    assert final_hash(run) == final_hash(whole)
    assert run.summary()["scores"] == whole.summary()["scores"]


def test_killed_between_the_parts_of_an_accumulated_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from descent.objectives import Supervised

    changes = ["budget.accumulate=2", "average=0.9"]
    whole = train(tiny("lenet", tmp_path, *changes), out=tmp_path / "whole", quiet=True)
    own, calls = Supervised.loss, []

    def loss(self: Supervised, model: torch.nn.Module, phase: Any, batch: Any) -> torch.Tensor:
        calls.append(model.training)
        if sum(calls) == 10:  # the second part of step 5; the gradient of the first is there
            assert any(p.grad is not None for p in model.parameters())
            raise Killed
        return own(self, model, phase, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Supervised, "loss", loss)
        with pytest.raises(Killed):
            train(tiny("lenet", tmp_path, *changes), out=tmp_path / "parts", quiet=True)
    assert Run(tmp_path / "parts").step == 4
    assert final_hash(resume(tmp_path / "parts", quiet=True)) == final_hash(whole)


HARMLESS_CHANGES = [
    "about=longer",
    "evaluation.every=2",
    "evaluation.batch_size=7",
    "evaluation.patience=50",
    "checkpoints.every=1",
    "checkpoints.keep=3",
    "samples.every=2",
    "samples.temperature=0.5",
    "budget.steps=9",
]
MEANINGFUL_CHANGES = [
    "name=another",
    "seed=2",
    "precision=bf16",
    "data.validation=0.2",
    "tokenizer.kind=char",
    "model.dropout=0.3",
    "objective.chunk=8",
    "optimizer.momentum=0.5",
    "schedule.warmup=0.5",
    "budget.batch_size=8",
    "budget.accumulate=2",
    "clip_norm=0.1",
    "average=0.5",
]


def test_every_option_is_harmless_or_means_something(tmp_path: Path) -> None:
    run = train(tiny("gpt", tmp_path), out=tmp_path / "run", quiet=True)
    for change in HARMLESS_CHANGES:
        before = run.recipe
        lines = [
            line for line in resume(run.folder, [change], quiet=True).metrics if line["event"] == "resume"
        ]
        assert run.recipe != before
        assert list(lines[-1]["changed"]) == [change.partition("=")[0]]
    held, steps = run.recipe, run.checkpoints
    for change in MEANINGFUL_CHANGES:
        with pytest.raises(UserError, match=f"(?s)another run.*{change.partition('=')[0]}: .*descent fork"):
            resume(run.folder, [change], quiet=True)
        assert (run.recipe, run.checkpoints) == (held, steps)
    # Every table of a recipe is in one of the lists: whoever adds one decides what it is.
    known = {change.partition("=")[0].partition(".")[0] for change in HARMLESS_CHANGES + MEANINGFUL_CHANGES}
    assert {*type(held).model_fields} - known == {"adapter", "claim", "compile", "device", "transfer"}


def test_meaning_may_not_change_when_resuming(tmp_path: Path) -> None:
    run = train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"(?s)optimizer.learning_rate: .*descent fork .*learning_rate=0.5"):
        resume(run.folder, ["optimizer.learning_rate=0.5"], quiet=True)
    with pytest.raises(UserError, match="only grow"):
        resume(run.folder, ["budget.steps=3"], quiet=True)
    longer = resume(run.folder, ["budget.steps=9", "evaluation.every=4"], quiet=True)
    assert longer.step == 9
    assert longer.recipe.budget.steps == 9
    line = next(line for line in longer.metrics if line["event"] == "resume")
    assert line["changed"]["budget.steps"] == [7, 9]


def test_other_data_are_noticed(tmp_path: Path) -> None:
    recipe = tiny("gpt", tmp_path)
    run = train(recipe, out=tmp_path / "run", quiet=True)
    path = Path(str(recipe.data.path))
    path.write_text(path.read_text(encoding="utf-8") + "one more line\n", encoding="utf-8")
    with pytest.raises(UserError, match="changed since"):
        resume(run.folder, ["budget.steps=9"], quiet=True)


def test_a_damaged_checkpoint_is_passed_over_and_said(tmp_path: Path) -> None:
    run = train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    weights = run.checkpoints[-1][1] / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    again = resume(run.folder, quiet=True)
    line = next(line for line in again.metrics if line["event"] == "resume")
    assert line["step"] == 6
    assert "step-000007" in line["skipped"][0]
    assert again.step == 7


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from descent.objectives import Supervised

    own, calls = Supervised.loss, []

    def poisoned(self: Supervised, model: object, phase: object, batch: object) -> torch.Tensor:
        calls.append(1)
        loss = own(self, model, phase, batch)  # type: ignore[arg-type]
        return loss * math.nan if len(calls) == 6 else loss

    monkeypatch.setattr(Supervised, "loss", poisoned)
    with pytest.raises(NonFiniteLoss, match="step 5"):
        train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    run = Run(tmp_path / "run")
    assert (run.step, run.best) == (4, 3)
    assert all(torch.isfinite(p).all() for p in run.load("last").model.parameters())
    assert all(math.isfinite(line["accuracy"]) for line in run.metrics if line["event"] == "evaluation")


def test_a_held_folder_names_its_holder(tmp_path: Path) -> None:
    run = train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    with RunLock(run.folder):
        with pytest.raises(LockedRun, match=r"process \d+ on ") as caught:
            resume(run.folder, quiet=True)
        with pytest.raises(LockedRun, match=r"process \d+ on "):
            train(tiny("mlp", tmp_path), out=run.folder, overwrite=True, quiet=True)
    assert caught.value.exit_code == 4
    resume(run.folder, ["budget.steps=8"], quiet=True)


def test_out_is_taken_only_when_free(tmp_path: Path) -> None:
    recipe = tiny("mlp", tmp_path, "budget.steps=1")
    run = train(recipe, out=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"already holds a run(?s:.*)--resume"):
        train(recipe, out=run.folder, quiet=True)
    assert train(recipe, out=run.folder, overwrite=True, quiet=True).step == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(UserError, match="not a run"):
        train(recipe, out=tmp_path / "mine", overwrite=True, quiet=True)
    for bad in ("CON", ".hidden", "a b", "x" * 65):
        with pytest.raises(UserError, match="cannot be called"):
            train(recipe, out=tmp_path / bad, quiet=True)


def test_a_mistake_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        train(tiny("gpt", tmp_path, "data.length=33"), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_the_same_call_starts_and_restarts(tmp_path: Path) -> None:
    """What names data, or leaves something to the machine, is no change of the recipe."""
    text = text_file(tmp_path)
    changes = [f"data.path={text}", "precision=auto", "budget.epochs=1", "budget.batch_size=4"]
    for _ in range(2):
        run = api.train(tiny("gpt", tmp_path).replace(claim=None), changes, out=tmp_path / "run", resume=True)
    assert run.metrics[-1]["event"] == "end"
    moved = tmp_path / "elsewhere.txt"
    text.rename(moved)
    with pytest.raises(UserError):
        resume(run.folder, quiet=True)
    other = tmp_path / "other.txt"
    other.write_text("something else, and much more of it. " * 99, encoding="utf-8")
    with pytest.raises(UserError, match="changed since"):
        resume(run.folder, [f"data.path={other}"], quiet=True)
    assert resume(run.folder, [f"data.path={moved}"], quiet=True).evaluate("validation").examples


def test_a_fork_that_saved_nothing_is_not_started_from_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)

    def full(*_: object) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", full)
        with pytest.raises(UserError, match="No space left"):
            fork(run.folder, ["seed=2", "budget.steps=9"], out=tmp_path / "fork", quiet=True)
    with pytest.raises(UserError, match=r"(?s)ended before the weights.*descent fork"):
        resume(tmp_path / "fork", quiet=True)


def test_a_fork_killed_at_its_first_step_goes_on_from_its_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    changes = ["optimizer.learning_rate=0.01", "budget.steps=9"]
    whole = fork(run.folder, changes, step=6, out=tmp_path / "whole", quiet=True)
    killed_after(monkeypatch, 7)
    with pytest.raises(Killed):
        fork(run.folder, changes, step=6, out=tmp_path / "fork", quiet=True)
    assert final_hash(resume(tmp_path / "fork", quiet=True)) == final_hash(whole)


def test_a_fork_goes_on_from_the_weights(tmp_path: Path) -> None:
    run = train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"budget\.steps"):
        fork(run.folder, ["optimizer.learning_rate=0.01"], quiet=True, out=tmp_path / "short")
    other = fork(run.folder, ["optimizer.learning_rate=0.01"], step=6, out=tmp_path / "fork", quiet=True)
    assert other.step == 7
    line = next(line for line in other.metrics if line["event"] == "fork")
    assert (line["step"], line["parent"]) == (6, str(run.folder))
    sgd = fork(run.folder, ["optimizer.type=sgd", "budget.steps=9"], out=tmp_path / "sgd", quiet=True)
    assert sgd.step == 9
    with pytest.raises(UserError, match="expected 9x64"):
        fork(run.folder, ["model.hidden=[9]", "budget.steps=9"], out=tmp_path / "wider", quiet=True)


def test_best_last_and_early_stopping(tmp_path: Path) -> None:
    changes = [
        "evaluation.every=1",
        "evaluation.patience=2",
        "optimizer.learning_rate=1.0",
        "budget.steps=40",
    ]
    run = train(tiny("mlp", tmp_path, *changes, "optimizer.type=sgd"), out=tmp_path / "run", quiet=True)
    scores = {
        line["step"]: line["accuracy"]
        for line in run.metrics
        if line["event"] == "evaluation" and line["split"] == "validation"
    }
    assert run.step < 40
    assert run.best == max(scores, key=lambda step: (scores[step], -step))
    assert len(run.checkpoints) <= 3
    assert run.best in dict(run.checkpoints)
    assert run.evaluate("validation").metrics["accuracy"] == pytest.approx(scores[run.best])


def test_a_clock_set_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train(tiny("mlp", tmp_path), out=tmp_path / "whole", quiet=True)
    killed_after(monkeypatch, 5)
    with pytest.raises(Killed):
        train(tiny("mlp", tmp_path), out=tmp_path / "parts", quiet=True)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    run = resume(tmp_path / "parts", quiet=True)
    assert final_hash(run) == final_hash(whole)
    assert all(line["seconds"] >= 0 for line in run.metrics if line["event"] == "step")
