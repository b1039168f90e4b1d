"""Runs on several tasks: they repeat, are scored by task, write what they are told to, start from a T5."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from standins import STAND_INS

from descent.config import Config
from descent.errors import CorruptArtifact, UserError
from descent.recipes import resolve
from descent.runs.load import load
from descent.runs.loaded import Loaded
from descent.runs.noted import checked_preparation
from descent.runs.run import Run
from descent.runs.train import train

TINY = ["model.depth=1", "model.dim=16", "model.heads=2", "device=cpu", "precision=fp32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("tasks")
    changes = [*STAND_INS["tasks"](folder), *TINY, "budget.steps=4", "evaluation.every=2"]
    return train(resolve("t5-tasks-en", changes), out=folder / "run", quiet=True)


def test_a_run_is_scored_by_task_and_keeps_the_best_mean(run: Run):
    scores = run.summary()["scores"]
    assert set(scores) == {"validation", "test"}
    for name in ("sentences_accuracy", "entities_f1", "questions_exact_match", "questions_f1", "mean"):
        assert 0 <= scores["test"][name] <= 1
    assert run.recipe.about == ""  # of other tasks than the recipe's
    assert [task.form for task in run.recipe.data.tasks] == ["sentences", "entities", "questions"]  # type: ignore[union-attr]


def test_its_recipe_reads_back_and_repeats_it(run: Run, tmp_path: Path):
    again = train(resolve(run.folder / "recipe.toml", []), out=tmp_path / "again", quiet=True)
    losses = [[line["loss"] for line in one.metrics if line["event"] == "step"] for one in (run, again)]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4


def test_it_writes_what_it_is_told_to(run: Run):
    loaded = load(run.folder)
    assert loaded.translates
    assert loaded.preparation["tasks"]["sentences"] == ["sentences sentence1:", "sentence2:"]
    text = "sentences sentence1: a river sentence2: a stone"
    assert isinstance(loaded.generate(text, max_new_tokens=4), str)
    assert loaded.generate(text, max_new_tokens=4) == loaded.complete([text, "x"], max_new_tokens=4)[0].text


def test_it_starts_from_a_pretrained_t5(tmp_path: Path):
    before = [*STAND_INS["spans"](tmp_path), *TINY, "budget.steps=2", "budget.batch_size=8"]
    train(resolve("t5", before), out=tmp_path / "t5", quiet=True)
    own = [one for one in STAND_INS["tasks"](tmp_path) if one.startswith("data.")]
    changes = [*own, f"transfer.weights={tmp_path / 't5'}", "budget.steps=2", "budget.batch_size=8"]
    after = train(resolve("t5-tasks-en", changes), out=tmp_path / "after", quiet=True)
    assert after.recipe.model.dim == 16  # type: ignore[union-attr]
    assert load(after.folder).tokenizer.fingerprint == load(tmp_path / "t5").tokenizer.fingerprint  # type: ignore[union-attr]


def test_all_that_a_t5_learns_begins_alike(tmp_path: Path):
    before = [*STAND_INS["spans"](tmp_path), *TINY, "budget.steps=2", "budget.batch_size=8"]
    first = train(resolve("t5", before), out=tmp_path / "t5", quiet=True)
    runs, plan = [first], [f"transfer.weights={first.folder}", "budget.steps=1", "budget.batch_size=8"]
    for kind in ("pairs", "tasks"):
        data = [one for one in STAND_INS[kind](tmp_path) if one.startswith("data.")]
        recipe = resolve("t5-tasks-en" if kind == "tasks" else "t5", [*data, f"data.type={kind}", *plan])
        runs.append(train(recipe, out=tmp_path / kind, quiet=True))
    for run in runs:
        pad = run.tokenizer.marks.special["<pad>"]  # type: ignore[union-attr]
        batch = run.parts().dataset.splits["train"].gather(np.arange(3), 0)
        assert set(batch["tokens"][:, 0].tolist()) == {pad}
        loaded = run.load()
        assert loaded.preparation["start"] == [pad]
        assert loaded.complete(["river"], max_new_tokens=3)[0].tokens == written(loaded, "river", pad)


def written(loaded: Loaded, text: str, start: int) -> list[int]:
    """Three tokens, each the likeliest after all before it, without a cache."""
    tokenizer, tokens = loaded.tokenizer, [start]
    assert tokenizer is not None
    source = torch.tensor([[*tokenizer.encode(text), tokenizer.end]])
    while len(tokens) < 4 and tokens[-1] != tokenizer.end:
        tokens.append(int(loaded.model(source, torch.tensor([tokens]))[0, -1].argmax()))
    return [token for token in tokens[1:] if token != tokenizer.end]


@pytest.mark.parametrize("metric", ["nothing_accuracy", "sentences_f1"])
def test_the_deciding_metric_is_one_of_a_task(metric: str, tmp_path: Path):
    changes = [*STAND_INS["tasks"](tmp_path), *TINY, f"evaluation.metric={metric}"]
    with pytest.raises(UserError, match=r"not a metric of this task(?s:.*)sentences_accuracy"):
        train(resolve("t5-tasks-en", changes), out=tmp_path / "run", quiet=True)


def test_what_is_noted_of_the_tasks_is_checked(run: Run):
    noted = dict(load(run.folder).preparation)
    config: Config = run.recipe.model
    assert checked_preparation({"preparation": noted}, config, "here") == noted
    with pytest.raises(CorruptArtifact, match="tasks"):
        checked_preparation({"preparation": {**noted, "tasks": {"a": 3}}}, config, "here")


def test_a_decoder_alone_is_refused():
    with pytest.raises(UserError, match="seq2seq on tasks takes a model of t5, transformer"):
        resolve("t5-tasks-en", ["model.type=seq2seq"])
