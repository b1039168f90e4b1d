"""What is refused before anything is trained or removed, and what a killed process may leave."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_tools import final_hash, tiny

from descent.errors import CorruptArtifact, UserError
from descent.recipes import resolve
from descent.runs.course import Course
from descent.runs.train import fork, resume, train


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mlp-digits", ["objective.loss=mse"], "does not fit the data"),
        ("mlp-digits", ["objective.loss=binary"], "two classes"),
        ("mlp-digits", ["objective.class_weights=[1.0, 2.0]"], "one for each class"),
        (
            "linear-diabetes",
            ["data.task=regression", "objective.loss=cross_entropy"],
            "does not fit the data",
        ),
        ("linear-diabetes", ["evaluation.metric=accuracy"], "not a metric"),
    ],
)
def test_losses_and_metrics_that_do_not_suit_the_data(
    name: str, changes: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        train(resolve(name, changes), out=tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_two_classes_by_one_logit_from_start_to_prediction(tmp_path: Path) -> None:
    changes = ["data.source=breast-cancer", "objective.loss=binary", "budget.steps=60"]
    run = train(resolve("linear-diabetes", changes), out=tmp_path / "run", quiet=True)
    assert run.recipe.model.outputs == 1  # type: ignore[union-attr]
    assert run.summary()["scores"]["test"]["accuracy"] > 0.85
    preparation = run.load().preparation
    row = {column["name"]: 0.0 for column in preparation["features"]}
    found = run.load().predict(row)[0]
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_no_whole_checkpoint_is_no_fresh_start(tmp_path: Path) -> None:
    run = train(tiny("mlp", tmp_path, "checkpoints.keep=1"), out=tmp_path / "run", quiet=True)
    for _, path in run.checkpoints:
        weights = path / "model.safetensors"
        raw = bytearray(weights.read_bytes())
        raw[-1] ^= 1
        weights.write_bytes(raw)
    with pytest.raises(CorruptArtifact, match="no checkpoint that is whole"):
        resume(run.folder, quiet=True)


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = ["evaluation.every=1", "evaluation.patience=2", "optimizer.type=sgd", "budget.steps=40"]
    recipe = tiny("mlp", tmp_path, *changes, "optimizer.learning_rate=1.0")
    whole = train(recipe, out=tmp_path / "whole", quiet=True)

    def killed(course: Course) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Course, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, out=tmp_path / "parts", quiet=True)
    again = resume(tmp_path / "parts", quiet=True)
    assert (again.step, final_hash(again)) == (whole.step, final_hash(whole))


def test_a_fork_says_how_its_steps_count_and_where_it_may_go(tmp_path: Path) -> None:
    run = train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match=r"budget\.steps=12"):
        fork(run.folder, ["budget.steps=5"], out=tmp_path / "fork", quiet=True)
    with pytest.raises(UserError, match="already holds a run") as caught:
        fork(run.folder, ["budget.steps=12"], out=run.folder, quiet=True)
    assert "--overwrite" not in str(caught.value)


def test_errors_are_in_the_units_of_the_target(tmp_path: Path) -> None:
    text = "a,y\n" + "".join(f"{n},{1000 * n + n * n % 7}\n" for n in range(200))
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    changes = [f"data.path={tmp_path / 't.csv'}", "data.target=y", "budget.steps=30"]
    run = train(resolve("linear-diabetes", changes), out=tmp_path / "run", quiet=True)
    rows = [{"a": n} for n in range(200)]
    errors = [row["value"] - (1000 * n + n * n % 7) for n, row in enumerate(run.load().predict(rows))]
    sizes = {name: run.evaluate(name) for name in ("train", "validation", "test")}
    total = sum(found.metrics["mae"] * found.examples for found in sizes.values())
    assert total / 200 == pytest.approx(sum(map(abs, errors)) / 200, rel=1e-3)


def test_a_fork_keeps_the_tokenizer_of_its_weights(tmp_path: Path) -> None:
    run = train(tiny("gpt", tmp_path), out=tmp_path / "run", quiet=True)
    with pytest.raises(UserError, match="tokenizer"):
        fork(run.folder, ["tokenizer.kind=char", "budget.steps=9"], out=tmp_path / "fork", quiet=True)


def test_overwrite_removes_runs_and_nothing_else(tmp_path: Path) -> None:
    recipe = tiny("mlp", tmp_path, "budget.steps=1")
    book = tmp_path / "book"
    book.mkdir()
    (book / "recipe.toml").write_text('base = "gpt"\n', encoding="utf-8")
    (book / "book.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(UserError, match="more than a run"):
        train(recipe, out=book, overwrite=True, quiet=True)
    assert (book / "book.txt").read_text(encoding="utf-8") == "years of work"


def test_a_folder_left_before_it_was_a_run_is_taken(tmp_path: Path) -> None:
    left = tmp_path / "run"
    left.mkdir()
    (left / "lock").write_text("process 1 on nowhere\n", encoding="utf-8")
    (left / "tokenizer.json").write_text("{", encoding="utf-8")
    assert train(tiny("mlp", tmp_path, "budget.steps=1"), out=left, quiet=True).step == 1


def test_other_data_are_not_scored(tmp_path: Path) -> None:
    recipe = tiny("gpt", tmp_path)
    run = train(recipe, out=tmp_path / "run", quiet=True)
    path = Path(str(recipe.data.path))
    path.write_text(path.read_text(encoding="utf-8").replace("river", "rivet"), encoding="utf-8")
    with pytest.raises(UserError, match="changed since"):
        run.evaluate()
