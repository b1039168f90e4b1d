"""The learning rate as a function of the step: a factor on the optimizer's own rates.

Nothing is remembered from step to step, so that a resumed run goes on exactly where it was. Steps
count from 0. The first step of a warm-up of w has the factor 1/w, never 0, and the last step of a
decay is still above its final factor: no step is spent at a rate of nought.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator

from descent.config import Config, Field


def _steps_or_fraction(value: int | float) -> int | float:
    if value < 0 or (isinstance(value, float) and value > 1):
        raise ValueError("give a whole number of steps (100), or a fraction of all steps from 0.0 to 1.0")
    return value


Span = Annotated[int | float, AfterValidator(_steps_or_fraction)]
"""A number of steps when whole (100), a fraction of all steps when written with a point (0.05)."""


class _Schedule(Config):
    warmup: Span = Field(default=0, description="steps, or a fraction of all steps, of linear rise")


class _Decay(_Schedule):
    final: float = Field(default=0.0, ge=0, le=1, description="factor that the decay ends at")


class ConstantConfig(_Schedule):
    """1 throughout, after the warm-up."""

    type: Literal["constant"] = "constant"


class LinearScheduleConfig(_Decay):
    """A straight line from 1 down to `final`."""

    type: Literal["linear"] = "linear"


class CosineConfig(_Decay):
    """Half a cosine from 1 down to `final` (Loshchilov and Hutter 2017, section 3, without restarts)."""

    type: Literal["cosine"] = "cosine"


class TrapezoidConfig(_Decay):
    """1 until a last straight `cooldown` (warm-up, hold, cool-down; Hägele et al. 2024, section 3)."""

    type: Literal["trapezoid"] = "trapezoid"
    cooldown: Span = Field(default=0.4, description="steps, or a fraction of all steps, of linear fall")


ScheduleConfig = ConstantConfig | LinearScheduleConfig | CosineConfig | TrapezoidConfig


def factor(config: ScheduleConfig, step: int, total: int) -> float:
    """What the learning rates are multiplied by at a step.

    Args:
        config: the schedule.
        step: from 0; beyond `total` the last factor holds.
        total: steps of the whole run.

    Returns:
        A number from 0 to 1.
    """
    step = min(step, total - 1)
    warmup = _steps(config.warmup, total)
    if step < warmup:
        return (step + 1) / warmup
    if isinstance(config, ConstantConfig):
        return 1.0
    if isinstance(config, TrapezoidConfig):
        cooldown = min(_steps(config.cooldown, total), total - warmup)
        remaining = min(1.0, (total - step) / cooldown) if cooldown else 1.0
    else:
        remaining = (total - step) / (total - warmup)
    if isinstance(config, CosineConfig):
        remaining = (1 - math.cos(math.pi * remaining)) / 2
    return config.final + (1 - config.final) * remaining


def _steps(span: int | float, total: int) -> int:
    return min(total, round(span * total) if isinstance(span, float) else span)
