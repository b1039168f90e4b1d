"""One loop for supervised, adversarial and policy objectives, against loops written by hand."""

from __future__ import annotations

import copy
from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close
from training_toys import (
    GAN,
    Adversarial,
    Bandit,
    Regression,
    Unsplittable,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    mlp,
    regression_batch,
)

from descent.errors import UserError
from descent.objectives import Batch, Phase
from descent.training.average import EMA
from descent.training.loop import NonFiniteLoss, Settings, StepReport, only, reseed, split, train
from descent.training.optimizers import AdamWConfig, SGDConfig, build_optimizers
from descent.training.schedules import CosineConfig, factor
from descent.training.state import State, state_hash

CPU = torch.device("cpu")


def state_of(model: nn.Module, config: SGDConfig | AdamWConfig | None = None) -> State:
    return State(model, {"train": build_optimizers(config or AdamWConfig(), model)})


def assert_same_bits(first: nn.Module, second: nn.Module) -> None:
    for (name, one), (_, other) in zip(first.state_dict().items(), second.state_dict().items(), strict=True):
        assert torch.equal(one, other), name


def test_supervised_equals_a_loop_written_by_hand():
    config = AdamWConfig(learning_rate=0.01, weight_decay=0.1)
    schedule = CosineConfig(warmup=5)
    settings = Settings(steps=40, seed=3, schedule=schedule, clip_norm=0.5)
    ours = state_of(mlp(), config)
    train(ours, Regression(), regression_batch, settings=settings)

    model = mlp()
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}],
        lr=0.01,
        betas=config.betas,
        fused=True,
    )
    for step in range(40):
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * factor(schedule, step, 40)
        batch = regression_batch(step)
        F.mse_loss(model(batch["inputs"]), batch["targets"]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
    assert_same_bits(ours.model, model)


def gan_by_hand(steps: int) -> GAN:
    torch.manual_seed(0)
    model = GAN()
    rate = {"lr": 0.002, "betas": (0.9, 0.95), "weight_decay": 0.0, "fused": True}
    optimizers = [
        torch.optim.AdamW(part.parameters(), **rate)
        for part in (model.discriminator, model.discriminator, model.generator)
    ]
    for step in range(steps):
        real = regression_batch(step)["inputs"][:, :2]
        reseed(1, step, 0, CPU)
        losses = [lambda real=real: discriminator_loss(model, real)]
        losses.append(lambda real=real: gradient_penalty(model, real))
        losses.append(lambda real=real: generator_loss(model, len(real)))
        for number, (loss, optimizer) in enumerate(zip(losses, optimizers, strict=True)):
            if number == 1 and step % 4:
                continue
            model.zero_grad()
            loss().backward()
            optimizer.step()
    return model


def test_adversarial_with_a_lazy_regulariser_equals_a_loop_written_by_hand():
    torch.manual_seed(0)
    model = GAN()
    config = AdamWConfig(learning_rate=0.002, weight_decay=0.0)
    optimizers = {phase.name: build_optimizers(config, model, phase.modules) for phase in Adversarial.phases}
    reports: list[StepReport] = []
    train(
        State(model, optimizers),
        Adversarial(),
        lambda step: {"inputs": regression_batch(step)["inputs"][:, :2]},
        settings=Settings(steps=30),
        after_step=reports.append,
    )
    assert_same_bits(model, gan_by_hand(30))
    due = [report.step - 1 for report in reports if "penalty" in report.losses]
    assert due == list(range(0, 30, 4))


def test_a_policy_learns_from_its_own_rollouts():
    torch.manual_seed(0)
    policy = nn.Linear(1, 4, bias=False)
    nn.init.zeros_(policy.weight)
    state = state_of(policy, SGDConfig(learning_rate=1.0, momentum=0.0))
    train(state, Bandit(), lambda step: {"inputs": torch.ones(64, 1)}, settings=Settings(steps=100))
    chances = policy.weight.flatten().softmax(0)
    assert chances.argmax() == 1
    assert chances[1] > 0.8


def test_accumulated_parts_equal_one_batch():
    def batch_at(step: int) -> Batch:
        batch = regression_batch(step, rows=11)  # not divisible by 4
        batch["targets"][:step] = torch.nan  # unevenly many targets in the parts
        return batch

    trained = []
    for parts in (1, 4):
        state = state_of(mlp(), SGDConfig(learning_rate=0.05))
        reports: list[StepReport] = []
        settings = Settings(steps=6, accumulate=parts)
        train(state, Regression(), batch_at, settings=settings, after_step=reports.append)
        trained.append((state.model, reports))
    (whole, one), (parted, four) = trained
    for first, second in zip(whole.parameters(), parted.parameters(), strict=True):
        assert_close(first, second, rtol=0, atol=2e-7)
    assert [report.targets for report in one] == [report.targets for report in four]
    assert [report.losses["train"] for report in one] == pytest.approx([r.losses["train"] for r in four])


def test_a_part_without_targets_counts_for_nothing_and_a_batch_without_is_refused():
    batch = regression_batch(0, rows=8)
    batch["targets"][4:] = torch.nan
    states = [state_of(mlp(), SGDConfig()) for _ in range(2)]
    train(states[0], Regression(), lambda step: batch, settings=Settings(steps=1, accumulate=4))
    train(states[1], Regression(), lambda step: batch, settings=Settings(steps=1))
    for first, second in zip(*(state.model.parameters() for state in states), strict=True):
        assert_close(first, second, rtol=0, atol=2e-7)
    batch["targets"][:] = torch.nan
    with pytest.raises(UserError, match="no target to learn from"):
        train(states[0], Regression(), lambda step: batch, settings=Settings(steps=2))


def test_split_loses_nothing_and_gives_single_numbers_to_all():
    batch = {"x": torch.arange(7), "scale": torch.tensor(2.0)}
    parts = split(batch, 3)
    assert torch.equal(torch.cat([part["x"] for part in parts]), batch["x"])
    assert all(part["scale"] == 2.0 for part in parts)
    assert [len(part["x"]) for part in split(batch, 20)] == [1] * 7


def test_what_cannot_be_split_is_refused():
    with pytest.raises(UserError, match=r"cannot be accumulated(.|\n)*accumulate=1"):
        train(state_of(mlp()), Unsplittable(), regression_batch, settings=Settings(steps=1, accumulate=2))


def test_a_phase_without_optimizer_or_module_is_refused():
    model = GAN()
    with pytest.raises(UserError, match="'discriminator' has no optimizer"):
        train(State(model, {}), Adversarial(), regression_batch, settings=Settings(steps=1))
    renamed = nn.ModuleDict({"generator": nn.Linear(1, 1), "critic": nn.Linear(1, 1)})
    optimizers = {phase.name: build_optimizers(SGDConfig(), renamed) for phase in Adversarial.phases}
    with pytest.raises(UserError, match="trains 'discriminator', which the model does not have"):
        train(State(renamed, optimizers), Adversarial(), regression_batch, settings=Settings(steps=1))


def test_freezing_restores_the_flags_there_were():
    model = GAN()
    model.generator[0].weight.requires_grad_(False)  # as a base under LoRA
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    with only(model, Phase("d", ("discriminator",))):
        flags = {name: p.requires_grad for name, p in model.named_parameters()}
        assert flags == {name: name.startswith("discriminator") for name in flags}
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    with suppress(KeyboardInterrupt), only(model, Phase("g", ("generator",))):
        raise KeyboardInterrupt
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before


def test_what_was_frozen_stays_as_it_was():
    torch.manual_seed(0)
    model = GAN()
    model.generator[0].weight.requires_grad_(False)
    frozen = model.generator[0].weight.clone()
    config = AdamWConfig(learning_rate=0.01, weight_decay=0.1)
    optimizers = {phase.name: build_optimizers(config, model, phase.modules) for phase in Adversarial.phases}
    batch = {"inputs": torch.randn(6, 2)}
    train(State(model, optimizers), Adversarial(), lambda step: batch, settings=Settings(steps=5))
    assert torch.equal(model.generator[0].weight, frozen)
    assert not model.generator[0].weight.requires_grad


def test_batch_norms_count_a_batch_only_in_their_own_phase():
    torch.manual_seed(0)
    model = GAN(norm=True)
    optimizers = {
        phase.name: build_optimizers(SGDConfig(), model, phase.modules) for phase in Adversarial.phases
    }
    batch = {"inputs": torch.randn(6, 2)}
    train(State(model, optimizers), Adversarial(), lambda step: batch, settings=Settings(steps=5))
    norm = model.generator[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.num_batches_tracked == 5
    assert norm.track_running_stats


def test_a_step_is_a_function_of_its_number():
    """A run stopped after 7 steps and taken up in another state of the generators ends the same."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 16), nn.Dropout(0.5), nn.Linear(16, 2))
    whole, parts = (state_of(copy.deepcopy(model)) for _ in range(2))
    for state in (whole, parts):
        state.average = EMA(state.model, 0.9)
    train(whole, Regression(), regression_batch, settings=Settings(steps=20))
    stop = lambda report: report.step == 7  # noqa: E731
    train(parts, Regression(), regression_batch, settings=Settings(steps=20), after_step=stop)
    assert parts.step == 7
    torch.manual_seed(99)
    train(parts, Regression(), regression_batch, settings=Settings(steps=20))
    assert state_hash(whole) == state_hash(parts)


def test_seed_step_and_rank_each_change_the_numbers_drawn():
    drawn = []
    for arguments in ((1, 2, 0), (1, 2, 0), (2, 1, 0), (1, 2, 1), (12, 0, 0), (1, 20, 0)):
        reseed(*arguments, CPU)
        drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 5


@pytest.mark.parametrize("accumulate", [1, 3])
def test_bf16_learns_and_keeps_weights_in_fp32(accumulate: int):
    state = state_of(mlp(), AdamWConfig(learning_rate=0.01))
    reports: list[StepReport] = []
    settings = Settings(steps=60, precision="bf16", accumulate=accumulate)
    train(state, Regression(), regression_batch, settings=settings, after_step=reports.append)
    assert reports[-1].losses["train"] < 0.5 * reports[0].losses["train"]
    assert {p.dtype for p in state.model.parameters()} == {torch.float32}


def test_a_loss_that_is_not_finite_stops_before_anything_is_stepped():
    state = state_of(mlp())

    def batch_at(step: int) -> Batch:
        batch = regression_batch(step)
        return {**batch, "inputs": batch["inputs"] * (torch.inf if step == 3 else 1)}

    hashes: list[str] = []
    with pytest.raises(NonFiniteLoss) as caught:
        train(
            state,
            Regression(),
            batch_at,
            settings=Settings(steps=10),
            after_step=lambda report: hashes.append(state_hash(state)),
        )
    assert state.step == 3
    assert state_hash(state) == hashes[-1]
    text = str(caught.value)
    assert "step 3, phase 'train': the loss is nan" in text
    assert "gradients not finite: 0.weight" in text
    assert "and 3 more" in text
    assert "weights not finite" not in text


def test_a_gradient_that_is_not_finite_stops_too_though_the_loss_is():
    class Root(Regression):
        def loss(self, model, phase, batch):
            return super().loss(model, phase, batch) + (0 * model[4].bias).sqrt().sum()

    state = state_of(mlp())
    before = state_hash(state)
    with pytest.raises(NonFiniteLoss, match=r"gradients not finite: 4\.bias"):
        train(state, Root(), regression_batch, settings=Settings(steps=5))
    assert state_hash(state) == before


def test_weights_that_are_not_finite_are_named():
    state = state_of(mlp())
    with torch.no_grad():
        state.model.get_parameter("2.bias")[1] = torch.nan
    with pytest.raises(NonFiniteLoss, match=r"weights not finite: 2\.bias\n"):
        train(state, Regression(), regression_batch, settings=Settings(steps=5))


def test_the_report_tells_what_was_done():
    reports: list[StepReport] = []
    schedule = CosineConfig(warmup=4)
    settings = Settings(steps=8, schedule=schedule, total=10)
    state = state_of(mlp(), SGDConfig(learning_rate=0.2))
    train(state, Regression(), regression_batch, settings=settings, after_step=reports.append)
    assert [report.step for report in reports] == list(range(1, 9))
    assert [report.learning_rate for report in reports] == [0.2 * factor(schedule, s, 10) for s in range(8)]
    assert all(report.targets == 24 and report.gradient_norms["train"] > 0 for report in reports)
