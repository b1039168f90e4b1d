"""The learning-rate finder: what it tries, what it advises, and that it leaves everything as it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run_tools import tiny
from torch import nn
from torch.testing import assert_close

from descent.errors import UserError
from descent.recipes import resolve
from descent.runs.assemble import Parts, assemble
from descent.runs.finder import draw, find_rate, smoothed
from descent.runs.run import Run
from descent.runs.train import train as train_run
from descent.training.loop import train
from descent.training.schedules import ConstantConfig
from descent.training.state import state_hash

FEW = {"low": 1e-5, "high": 1.0, "steps": 20}


def under_way(folder: Path, *changes: str) -> Parts:
    """The parts of a run after three steps, so that there is optimizer state and a schedule to disturb."""
    parts = assemble(tiny("mlp", folder, "average=0.9", "clip_norm=1.0", *changes))
    settings = replace(parts.settings, steps=3)
    train(parts.state, parts.objective, parts.batches.batch, settings=settings)
    return parts


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_everything_is_as_it_was(optimizer: str, tmp_path: Path) -> None:
    parts = under_way(tmp_path, f"optimizer.type={optimizer}")
    model, groups = parts.state.model, [g for o in parts.state.optimizers["train"] for g in o.param_groups]
    model.register_module("norm", nn.BatchNorm1d(4))  # buffers that count, and flags
    model.eval().requires_grad_(False)
    before = state_hash(parts.state), torch.get_rng_state(), [(g["lr"], g["initial_lr"]) for g in groups]
    flags = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    model.requires_grad_(True)
    find_rate(parts, **FEW)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    model.requires_grad_(False)
    assert state_hash(parts.state) == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert [(g["lr"], g["initial_lr"]) for g in groups] == before[2]
    assert ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]) == flags


def test_a_recipe_is_tried_without_touching_the_generators(tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, other = (find_rate(tiny("lenet", tmp_path), **FEW) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert one == other
    assert list(tmp_path.iterdir()) == []


def test_each_rate_is_one_step_of_the_loop(tmp_path: Path) -> None:
    """Against plain steps written here, at rates that follow the configured ones in proportion."""
    parts = under_way(tmp_path, "optimizer.type=muon", "schedule.warmup=5")
    hand = copy.deepcopy(parts.state)
    curve = find_rate(parts, **FEW)
    assert_close(torch.tensor(curve.rates), torch.logspace(-5, 0, 20)[: len(curve.rates)])
    muon, adam = hand.optimizers["train"]
    settings = replace(parts.settings, schedule=ConstantConfig(), steps=3)
    losses: list[float] = []
    for number, rate in enumerate(curve.rates):
        muon.param_groups[0]["initial_lr"] = rate
        for group in adam.param_groups:
            group["initial_lr"] = rate * 3e-3 / 0.02
        train(
            hand,
            parts.objective,
            parts.batches.batch,
            settings=replace(settings, steps=4 + number),
            after_step=lambda report: losses.append(report.losses["train"]) is not None,
        )
    assert list(curve.losses) == losses
    advice = curve.options
    assert set(advice) == {"optimizer.learning_rate", "optimizer.adam_learning_rate"}
    assert advice["optimizer.learning_rate"] == pytest.approx(curve.steepest, rel=0.06)
    assert advice["optimizer.adam_learning_rate"] == pytest.approx(0.15 * curve.steepest, rel=0.06)


def test_the_test_ends_where_the_loss_has_grown_too_high(tmp_path: Path) -> None:
    recipe = resolve("mlp-digits", ["optimizer.type=sgd", "precision=fp32"])
    curve = find_rate(recipe)
    assert 10 < len(curve.rates) < 100
    assert max(curve.losses[-10:]) > 4 * min(curve.smooth)
    assert curve.steepest < curve.rates[int(np.argmin(curve.smooth))] == pytest.approx(10 * curve.tenth)


def test_the_advice_trains(tmp_path: Path) -> None:
    """A rate ten times smaller and one a hundred times larger both end with a larger loss."""
    base = ["optimizer.type=sgd", "precision=fp32", "budget.steps=60", "schedule.type=constant"]
    rate = find_rate(resolve("mlp-digits", base)).options["optimizer.learning_rate"]
    losses = []
    for factor in (0.1, 1.0, 100.0):
        recipe = resolve("mlp-digits", [*base, f"optimizer.learning_rate={rate * factor}", "clip_norm=1.0"])
        parts = assemble(recipe)
        found: list[float] = []
        train(
            parts.state,
            parts.objective,
            parts.batches.batch,
            settings=parts.settings,
            after_step=lambda report, found=found: found.append(report.losses["train"]),
        )
        losses.append(np.mean(found[-10:]))
    assert losses[1] < 0.7 * losses[0]
    assert losses[1] < 0.7 * losses[2]


def test_a_compiled_model_is_tried_on_its_copy(tmp_path: Path) -> None:
    parts = under_way(tmp_path)
    vars(parts.state.model)["forward"] = lambda inputs: pytest.fail("the model itself computed")
    assert find_rate(parts, **FEW) == find_rate(under_way(tmp_path), **FEW)


def test_weights_to_start_from_are_started_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "plot", lambda run: [])
    run = train_run(tiny("lenet", tmp_path, "budget.steps=60"), out=tmp_path / "run", quiet=True)
    fresh, trained = (
        find_rate(tiny("lenet", tmp_path, *changes), **FEW)
        for changes in ([], [f"model.weights={run.folder}"])
    )
    assert trained.losses[0] < 0.7 * fresh.losses[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"low": 1.0, "high": 0.1}, "the rates to try must rise"),
        ({"low": 0.0}, "the rates to try must rise"),
        ({"high": float("inf")}, "the rates to try must rise"),
        ({"steps": 3}, "10 steps or more"),
        ({"low": 1e6, "high": 1e8}, r"no learning rate that was tried makes the loss of \S+ smaller"),
    ],
)
def test_what_cannot_be_tried_is_refused(options: dict[str, float], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        find_rate(tiny("mlp", tmp_path, "optimizer.type=sgd"), **options)  # type: ignore[arg-type]


def test_smoothing_shifts_nothing() -> None:
    line = np.linspace(3.0, 1.0, 51)
    assert_close(smoothed(line)[10:-10], line[10:-10])
    step = smoothed(np.repeat([2.0, 0.0], 26))
    assert_close(step + step[::-1], np.full(52, 2.0))
    assert (np.diff(step) <= 1e-12).all()


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    curve = find_rate(tiny("mlp", tmp_path), **FEW)
    path = draw(curve, tmp_path / "new" / "rates.png", "Learning rates")
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size > 10_000
