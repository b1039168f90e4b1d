"""Gradients that explode or vanish: found with the layer and the step, told once, and none in sound runs."""

from __future__ import annotations

import copy
import io

import pytest
import torch
import torch.nn.functional as F
from run_tools import tiny
from torch import nn

from descent.nn.recurrent import Recurrent
from descent.objectives.objective import Objective
from descent.runs.metrics import MetricsLog, read_metrics
from descent.runs.run import Run
from descent.runs.train import fork, resume
from descent.runs.train import train as train_recipe
from descent.training.gradients import JUMP, GradientWarning, GradientWatch, reach
from descent.training.loop import Settings, train
from descent.training.optimizers import SGDConfig, build_optimizers
from descent.training.state import State

TIME, FEATURES = 40, 4


class Reader(nn.Module):
    """A recurrent layer and a head on its last step or on every one."""

    def __init__(self, cell: str = "tanh", scale: float = 1.0, every: bool = False, **options):
        super().__init__()
        torch.manual_seed(0)
        self.recurrent = Recurrent(cell, FEATURES, 16, **options)
        self.head, self.every = nn.Linear(16, 3), every
        with torch.no_grad():
            for name, parameter in self.recurrent.named_parameters():
                if name.startswith("weight_hh"):
                    parameter.mul_(scale)

    def forward(self, inputs):
        states = self.recurrent(inputs)[0]
        return self.head(states if self.every else states[:, -1])


class Classes(Objective):
    def loss(self, model, phase, batch):
        outputs = model(batch["inputs"])
        targets = batch["targets"] if outputs.dim() == 2 else batch["targets"][:, None].expand(-1, TIME)
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def batch_at(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(8, TIME, FEATURES, generator=generator)
    return {"inputs": inputs, "targets": inputs[:, 0, :3].argmax(1)}


def warnings_of(model: nn.Module, steps: int, rate: float = 0.1, clip: float = 0.0) -> list[GradientWarning]:
    found: list[GradientWarning] = []
    state = State(model, {"train": build_optimizers(SGDConfig(learning_rate=rate), model)})
    settings = Settings(steps=steps, clip_norm=clip)
    train(state, Classes(), batch_at, settings=settings, after_step=lambda r: found.extend(r.warnings))
    return found


def test_recurrent_weights_that_are_too_large_explode_in_the_first_step():
    (warning, *_) = warnings_of(Reader(scale=4.0, every=True), 2)
    assert (warning.kind, warning.layer, warning.step, warning.clipped) == (
        "exploding",
        "recurrent.l0",
        1,
        False,
    )
    model = Reader(scale=4.0, every=True)
    Classes().loss(model, Classes.phases[0], batch_at(0)).backward()
    norm = torch.cat([p.grad.flatten() for p in model.recurrent.parameters()]).norm()
    assert warning.norm == pytest.approx(float(norm), rel=1e-4)
    assert "recurrent.l0" in warning.message
    assert "clip_norm=1.0" in warning.message


def test_clipping_is_known_and_the_gradient_is_measured_before_it():
    (warning, *_) = warnings_of(Reader(scale=4.0, every=True), 1, clip=1.0)
    assert warning.clipped
    assert warning.norm > 100
    assert "clip_norm=1 bounds it" in warning.message


def test_a_jump_over_the_usual_length_names_its_layer_and_step():
    model = Reader(every=True)
    state = State(model, {"train": build_optimizers(SGDConfig(learning_rate=0.01), model)})
    found: list[GradientWarning] = []

    def jolted(step):
        if step in (47, 48):
            with torch.no_grad():
                model.recurrent.weight_hh_l0.mul_(4.0)
        return batch_at(step)

    train(
        state, Classes(), jolted, settings=Settings(steps=49), after_step=lambda r: found.extend(r.warnings)
    )
    assert [(w.kind, w.layer, w.step) for w in found] == [("exploding", "recurrent.l0", 48)]


def test_an_explosion_is_seen_before_there_is_a_usual_length():
    model = nn.Linear(1, 1)
    model.weight.grad, model.bias.grad = torch.zeros(1, 1), torch.ones(1)
    watch = GradientWatch(model)
    for step, norm in enumerate((0.0, 1.0, 90.0, 50.0)):
        watch.see("train", step, 1.0, norm)
    assert watch.taken() == ()
    watch.see("train", 4, 1.0, 9001.0)
    assert [(w.layer, w.step) for w in watch.taken()] == [("bias", 5)]


def test_the_state_of_an_elman_network_forgets_and_an_lstm_does_not():
    (warning,) = warnings_of(Reader(scale=0.5), 100)
    assert (warning.kind, warning.layer) == ("vanishing", "recurrent")
    assert warning.step == 61  # the third look
    back = int(warning.message.split("reaches back ")[1].split()[0])
    assert 5 < back < TIME - 1
    assert warnings_of(Reader("lstm", forget_bias=3.0), 100) == []
    assert warnings_of(Reader(scale=0.5, every=True), 100) == []  # every step has a loss of its own


def test_layers_that_no_gradient_reaches_are_named():
    torch.manual_seed(1)
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Linear(16, 16), nn.Sigmoid()]
    model = nn.Sequential(nn.Flatten(), nn.Linear(TIME * FEATURES, 16), *layers, nn.Linear(16, 3))
    found = warnings_of(model, 70)
    assert {warning.kind for warning in found} == {"vanishing"}
    assert "1" in {warning.layer for warning in found}
    assert {warning.step for warning in found} == {61}
    assert len({warning.layer for warning in found}) == len(found) < 9


def test_a_layer_that_gets_nothing_at_all_is_named():
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Linear(FEATURES, 8), nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, inputs):
            return self.third(self.second(self.first(inputs[:, 0]) * 0.0))

    (warning,) = warnings_of(Cut(), 70)
    assert (warning.layer, warning.norm) == ("first", 0.0)
    assert "zero" in warning.message


def test_watching_changes_no_bit(monkeypatch):
    def ended(model):
        warnings_of(model, 45)
        return model.state_dict()

    watched = ended(Reader(scale=0.5, layers=2, dropout=0.2))
    monkeypatch.setattr("descent.training.gradients.GradientWatch.see", lambda *a: None)
    monkeypatch.setattr("descent.training.gradients.LOOK", 10**9)
    alone = ended(Reader(scale=0.5, layers=2, dropout=0.2))
    for name in alone:
        assert torch.equal(watched[name], alone[name]), name


def test_a_rare_example_at_the_end_of_training_is_no_explosion():
    model = nn.Linear(1, 1)
    model.weight.grad, model.bias.grad = torch.ones(1, 1), torch.zeros(1)
    watch = GradientWatch(model)
    for step in range(200):
        watch.see("train", step, 2.0 if step < 100 else 1e-3, 1.0 if step < 100 else 1e-3)
    watch.see("train", 200, 0.5, 0.5)  # 500 times as long, at a loss 500 times as high
    assert watch.taken() == ()
    watch.see("train", 201, 0.5, 2 * JUMP)
    assert [warning.layer for warning in watch.taken()] == ["weight"]
    watch.see("train", 202, 0.5, 2 * JUMP)
    assert watch.taken() == ()


def test_reach_compares_by_the_distance_from_each_rows_end():
    by_time = torch.tensor([[1.0, 2, 4, 0], [3.0, 5, 7, 9], [0, 0, 0, 0], [1.0, 2, 8, 0]])
    torch.testing.assert_close(reach(by_time), torch.tensor([7.0, (2 + 7 + 2) / 3, (1 + 5 + 1) / 3]))
    assert reach(torch.zeros(2, 5)).shape == (0,)


@pytest.mark.parametrize("kind", ["mlp", "lenet", "gpt", "packed"])
def test_sound_runs_are_not_warned(kind, tmp_path):
    recipe = tiny(kind, tmp_path, "budget.steps=100", "evaluation.every=0", "checkpoints.every=0")
    run = train_recipe(recipe, out=tmp_path / "run", quiet=True)
    assert [line for line in run.metrics if line["event"] == "warning"] == []


def test_a_run_records_a_warning_and_shows_it_unless_it_is_clipped(tmp_path, monkeypatch):
    real = GradientWatch.see

    def see(watch, phase, step, loss, norm):
        with_jump = step == 3
        if with_jump:
            watch._tell("exploding", "layers.0", step, 7.0, "the gradient explodes in layers.0")
        real(watch, phase, step, loss, norm)

    monkeypatch.setattr(GradientWatch, "see", see)
    for name, changes, shown in [("open", [], True), ("clipped", ["clip_norm=1.0"], False)]:
        screen = io.StringIO()
        monkeypatch.setattr("sys.stderr", screen)
        run = train_recipe(tiny("mlp", tmp_path, *changes), out=tmp_path / name)
        (line,) = [line for line in run.metrics if line["event"] == "warning"]
        assert (line["kind"], line["layer"], line["step"], line["norm"]) == ("exploding", "layers.0", 4, 7.0)
        assert line["clipped"] is not shown
        assert ("warning: step 4: the gradient explodes in layers.0" in screen.getvalue()) is shown
        assert Run(run.folder).summary()["step"] == 7


def test_a_resumed_run_tells_only_what_is_new(tmp_path, monkeypatch):
    def see(watch, phase, step, loss, norm):
        watch._tell("exploding", "layers.0", step, 7.0, "the gradient explodes in layers.0")
        if step == 8:
            watch._tell("vanishing", "layers.0", step, 0.0, "the gradient vanishes in layers.0")

    monkeypatch.setattr(GradientWatch, "see", see)
    run = train_recipe(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    run = resume(run.folder, ["budget.steps=10"])
    told = [(line["kind"], line["step"]) for line in run.metrics if line["event"] == "warning"]
    assert told == [("exploding", 1), ("vanishing", 9)]
    assert "explodes" not in screen.getvalue()
    assert "warning: step 9: the gradient vanishes in layers.0" in screen.getvalue()
    forked = fork(run.folder, ["budget.steps=12"], out=tmp_path / "forked", quiet=True)
    assert [line["kind"] for line in forked.metrics if line["event"] == "warning"] == ["exploding"]


def test_a_warning_in_the_log_leaves_the_series_as_they_are(tmp_path):
    from descent.runs.metrics import series

    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.append("step", 1, loss=2.0, gradient_norm=1.0)
        log.append("warning", 2, kind="exploding", layer="a", norm=float("inf"), message="x", clipped=False)
        log.append("step", 2, loss=1.0, gradient_norm=2.0)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[1]["norm"] is None
    assert series(lines, "step", "gradient_norm") == ([1, 2], [1.0, 2.0])
    assert copy.deepcopy(lines) == lines
