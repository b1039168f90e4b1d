"""Factors against their formulas, step by step."""

from __future__ import annotations

import math

import pytest

from descent.errors import UserError
from descent.training.schedules import (
    ConstantConfig,
    CosineConfig,
    LinearScheduleConfig,
    ScheduleConfig,
    TrapezoidConfig,
    factor,
)

ALL = [
    ConstantConfig(warmup=3),
    LinearScheduleConfig(warmup=3, final=0.1),
    CosineConfig(warmup=3, final=0.1),
    TrapezoidConfig(warmup=3, cooldown=4, final=0.1),
]


def factors(config: ScheduleConfig, total: int) -> list[float]:
    return [factor(config, step, total) for step in range(total)]


def test_each_schedule_step_by_step():
    rise = [1 / 3, 2 / 3, 1.0]
    assert factors(ConstantConfig(warmup=3), 8) == pytest.approx([*rise, 1, 1, 1, 1, 1])
    assert factors(LinearScheduleConfig(warmup=3), 8) == pytest.approx([*rise, 1, 0.8, 0.6, 0.4, 0.2])
    halves = [(1 + math.cos(math.pi * done / 5)) / 2 for done in range(5)]
    assert factors(CosineConfig(warmup=3), 8) == pytest.approx([*rise, *halves])
    hold = [1.0, 1.0, 0.75, 0.5, 0.25]
    assert factors(TrapezoidConfig(warmup=3, cooldown=4), 9) == pytest.approx([*rise, 1.0, *hold])


@pytest.mark.parametrize("config", ALL)
def test_no_step_is_wasted_and_the_last_factor_holds(config: ScheduleConfig):
    values = factors(config, 40)
    assert all(0 < value <= 1 for value in values)
    assert max(values) == 1.0
    assert factor(config, 1000, 40) == values[-1]


@pytest.mark.parametrize("config", ALL[1:])
def test_a_decay_nears_its_final_factor(config: ScheduleConfig):
    falling = factors(config, 4000)[-1000:]
    assert falling == sorted(falling, reverse=True)
    assert 0.1 < falling[-1] < 0.33


@pytest.mark.parametrize("span", [0.25, 10])
def test_spans_are_steps_or_fractions(span: float):
    assert factors(ConstantConfig(warmup=span), 40).index(1.0) == 9
    assert factors(TrapezoidConfig(cooldown=span), 40).index(0.9) == 31


def test_spans_longer_than_the_run_are_cut():
    assert factors(TrapezoidConfig(warmup=6, cooldown=20), 10) == pytest.approx(
        [1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 0.75, 0.5, 0.25]
    )
    assert factors(CosineConfig(warmup=1.0), 4) == [0.25, 0.5, 0.75, 1.0]
    assert factors(ConstantConfig(warmup=9), 3) == [1 / 3, 2 / 3, 1.0]
    assert factors(TrapezoidConfig(cooldown=0), 3) == [1.0, 1.0, 1.0]
    assert factors(LinearScheduleConfig(), 1) == [1.0]


@pytest.mark.parametrize("warmup", [-1, -0.5, 1.5, "3", True])
def test_other_spans_are_refused(warmup: object):
    with pytest.raises(UserError, match="warmup"):
        ConstantConfig.read({"warmup": warmup})
