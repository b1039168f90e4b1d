"""`model.weights` and `descent find-rate` on the command line."""

from __future__ import annotations

import json

import descent as package

SHORT = ("budget.steps=6", "evaluation.every=3", "-q")


def test_training_from_a_runs_weights(descent, digits_run):
    assert (
        descent("train", "mlp-digits", f"model.weights={digits_run}", *SHORT, "--out", "here").out == "here\n"
    )
    recipe = package.Run("here").recipe
    assert recipe.transfer.weights == str(digits_run)
    assert recipe.model == package.Run(digits_run).recipe.model
    shown = descent(
        "train", "mlp-digits", f"model.weights={digits_run}", "transfer.decay=0.5", "--dry-run"
    ).out
    assert "[transfer]" in shown
    assert "decay = 0.5" in shown


def test_mistakes_with_weights_are_answered(descent, digits_run):
    assert "model.type=mlp" in descent("train", "lenet-digits", f"model.weights={digits_run}", code=2).err
    assert (
        "model.hidden"
        in descent("train", "mlp-digits", f"model.weights={digits_run}", "model.hidden=[3]", code=2).err
    )
    assert "transfer.weights" in descent("train", "mlp-digits", "transfer.frozen=true", code=2).err
    assert "transfer.weights=..." in descent("train", "mlp-digits", "--weights", "x", code=2).err


def test_find_rate_prints_its_advice_and_draws_the_curve(descent, tmp_path):
    result = descent("find-rate", "mlp-digits", "--out", "lr.png", "--steps", 30)
    name, advice = result.out.splitlines()[0].split()
    assert name == "try"
    key, _, value = advice.partition("=")
    assert key == "optimizer.learning_rate"
    assert 1e-5 < float(value) < 1
    assert (tmp_path / "lr.png").stat().st_size > 10_000
    assert not (tmp_path / "runs").exists()
    assert descent("train", "mlp-digits", advice, *SHORT).code == 0


def test_find_rate_gives_json(descent):
    found = descent("find-rate", "mlp-digits", "--json", "--steps", 30, "--high", 0.1).json
    assert len(found["rates"]) == len(found["losses"]) == len(found["smooth"])
    assert found["options"]["optimizer.learning_rate"] > 0
    assert found["picture"] == "find-rate.png"
    assert json.dumps(found)


def test_find_rate_refuses_what_it_cannot_do(descent):
    assert "did you mean" in descent("find-rate", "mlp-digit", code=2).err
    assert "must be a PNG" in descent("find-rate", "mlp-digits", "--out", "lr.svg", code=2).err
    assert "must rise" in descent("find-rate", "mlp-digits", "--low", 1, "--high", 0.5, code=2).err
