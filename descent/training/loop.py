"""The one loop: supervised, adversarial and policy objectives train through it.

    for every step:  batch -> objective.batches
        for every phase that is due:  [micro-batch -> loss -> backward] x accumulate -> clip -> step
        average, step + 1, after_step

The loop counts batches, not optimizer steps. Nothing about a step is remembered: the batch, the
random state and the learning rate are functions of the step's number.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, nn

from descent.errors import UserError
from descent.objectives.objective import Batch, Objective, Phase
from descent.training.gradients import GradientWarning, GradientWatch
from descent.training.layers import Layers, frozen
from descent.training.precision import autocast
from descent.training.schedules import ConstantConfig, ScheduleConfig, factor
from descent.training.state import State


@dataclass(frozen=True)
class Settings:
    """What the loop needs to know beside the objective.

    Attributes:
        steps: the loop stops when so many batches are done.
        seed: with the step and the rank, decides all randomness of a step.
        schedule: multiplies the optimizers' learning rates.
        total: steps the schedule spans; 0 = steps.
        accumulate: parts a batch is computed in.
        clip_norm: the longest gradient, L2 over a phase's parameters; 0 = no limit.
        device, precision: where and in what to compute.
        rank: the number of this process among those that train together.
        layers: which layers are trained at which step; None = all at every step.
    """

    steps: int
    seed: int = 1
    schedule: ScheduleConfig = field(default_factory=ConstantConfig)
    total: int = 0
    accumulate: int = 1
    clip_norm: float = 0.0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    rank: int = 0
    layers: Layers | None = None


@dataclass(frozen=True)
class StepReport:
    """What one step did.

    Attributes:
        step: batches done so far, this one included.
        losses, gradient_norms: by phase; only the phases that were due. The norm is before clipping.
        learning_rate: of the first group of the first phase's first optimizer.
        targets: how many targets the first phase's loss is a mean over.
        warnings: gradients that explode or vanish; each is told once in a training.
    """

    step: int
    losses: dict[str, float]
    gradient_norms: dict[str, float]
    learning_rate: float
    targets: int
    warnings: tuple[GradientWarning, ...] = ()


class NonFiniteLoss(UserError):
    """A loss or gradient is NaN or infinite; nothing was stepped."""


def train(
    state: State,
    objective: Objective,
    batch_at: Callable[[int], Batch],
    *,
    settings: Settings,
    after_step: Callable[[StepReport], bool | None] = lambda report: None,
) -> None:
    """Trains from `state.step` to `settings.steps`, changing `state`.

    Args:
        state: the model on its device, its optimizers, the step to start from.
        objective: phases, batches and loss.
        batch_at: the batch of a step; called once a step, in order.
        settings: everything else.
        after_step: called after every step; returning True ends the training.

    Raises:
        UserError: the settings do not go with the objective.
        NonFiniteLoss: before anything of that step's phase is stepped.
    """
    check(state, objective, settings)
    watch = GradientWatch(state.model, settings.clip_norm)
    while state.step < settings.steps:
        if after_step(train_step(state, objective, batch_at(state.step), settings, watch)):
            return


def check(state: State, objective: Objective, settings: Settings) -> None:
    """Raises a `UserError` where objective, optimizers and settings do not go together."""
    if settings.accumulate > 1 and not objective.splittable:
        raise UserError(
            f"a batch of {type(objective).__name__} cannot be accumulated: its loss is no sum over parts",
            got=f"accumulate = {settings.accumulate}",
            expected="accumulate = 1",
            hint="set budget.accumulate=1, and lower budget.batch_size if memory is short",
        )
    names = [name for name, _ in state.model.named_parameters(remove_duplicate=False)]
    for phase in objective.phases:
        if phase.name not in state.optimizers:
            raise UserError(f"the phase {phase.name!r} has no optimizer")
        for prefix in phase.modules:
            if not any(Phase(modules=(prefix,)).owns(name) for name in names):
                raise UserError(f"the phase {phase.name!r} trains {prefix!r}, which the model does not have")


def train_step(
    state: State, objective: Objective, batch: Batch, settings: Settings, watch: GradientWatch | None = None
) -> StepReport:
    """One batch through every phase that is due; `watch` sees its gradients."""
    reseed(settings.seed, state.step, settings.rank, settings.device)
    if not state.model.training:
        state.model.train()
    with frozen(state.model, settings.layers, state.step):
        losses, norms, targets = _phases(state, objective, batch, settings, watch)
    if state.average is not None:
        state.average.update(state.model, state.step)
    state.step += 1
    rate = state.optimizers[objective.phases[0].name][0].param_groups[0]["lr"]
    return StepReport(state.step, losses, norms, rate, targets, watch.taken() if watch else ())


def _phases(
    state: State,
    objective: Objective,
    batch: Batch,
    settings: Settings,
    watch: GradientWatch | None,
) -> tuple[dict[str, float], dict[str, float], int]:
    """Steps each phase that is due; returns losses and gradient norms by phase, and the first's targets."""
    moved = {name: value.to(settings.device, non_blocking=True) for name, value in batch.items()}
    with autocast(settings.device, settings.precision):
        made = objective.batches(state.model, moved)
    # Targets are counted on the host's copy where there is one: counting on a GPU waits for it.
    counted = batch if made is moved else made
    multiple = factor(settings.schedule, state.step, settings.total or settings.steps)
    losses: dict[str, float] = {}
    norms: dict[str, float] = {}
    targets = 0
    for phase in objective.phases:
        if state.step % phase.every:
            continue
        for optimizer in state.optimizers[phase.name]:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * multiple
        with only(state.model, phase), watch.listening(state.step) if watch else nullcontext():
            loss, count = accumulate(state.model, objective, phase, made, counted, settings)
            losses[phase.name], norms[phase.name] = _clip(state, phase, loss, settings.clip_norm, watch)
        for optimizer in state.optimizers[phase.name]:
            optimizer.step()
        state.model.zero_grad()
        targets = targets or count
    return losses, norms, targets


def accumulate(
    model: nn.Module, objective: Objective, phase: Phase, batch: Batch, counted: Batch, settings: Settings
) -> tuple[Tensor, int]:
    """Adds up the gradients of a batch, part by part; returns its mean loss and number of targets."""
    parts = list(zip(split(batch, settings.accumulate), split(counted, settings.accumulate), strict=True))
    counts = [objective.targets(phase, part) for _, part in parts]
    total = sum(counts)
    if not total:
        raise UserError(f"a batch has no target to learn from in the phase {phase.name!r}")
    whole = torch.zeros((), device=settings.device)
    # One context for all parts: the weights are cast once. Backward follows the forward's own types.
    with autocast(settings.device, settings.precision):
        for (part, _), count in zip(parts, counts, strict=True):
            if not count:
                continue
            loss = objective.loss(model, phase, part)
            with torch.autocast(settings.device.type, enabled=False):
                loss = loss if count == total else loss * (count / total)
                loss.backward()
                whole += loss.detach()
    return whole, total


def _clip(
    state: State, phase: Phase, loss: Tensor, longest: float, watch: GradientWatch | None
) -> tuple[float, float]:
    """Clips the gradients, and stops the run if loss or gradients are not finite."""
    owned = [parameter for parameter in state.model.parameters() if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in owned if p.grad is not None])
    # The one moment at which the host waits for the device.
    value, length = torch.stack([loss.float(), norm.float().to(loss.device)]).tolist()
    if not (math.isfinite(value) and math.isfinite(length)):
        raise _not_finite(state, phase, value, length)
    if watch:
        watch.see(phase.name, state.step, value, length)
    if longest and length + 1e-6 > longest:  # as clip_grad_norm_ decides, without its pass at factor 1
        torch.nn.utils.clip_grads_with_norm_(owned, longest, norm)
    return value, length


def _not_finite(state: State, phase: Phase, loss: float, norm: float) -> NonFiniteLoss:
    def bad(tensors: list[tuple[str, Tensor | None]]) -> list[str]:
        return [name for name, value in tensors if value is not None and not value.isfinite().all()]

    named = list(state.model.named_parameters())
    weights = bad([(name, parameter.detach()) for name, parameter in named])
    gradients = bad([(name, parameter.grad) for name, parameter in named])
    lines = [f"training stopped at step {state.step}, phase {phase.name!r}: the loss is {loss:g}"]
    lines.append(f"  the gradient's norm is {norm:g}; nothing of this phase was stepped")
    for kind, names in (("weights", weights), ("gradients", gradients)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            lines.append(f"  {kind} not finite: {', '.join(names[:3])}{more}")
    return NonFiniteLoss(
        "\n".join(lines), hint="lower optimizer.learning_rate, set clip_norm=1.0, or look at the data"
    )


@contextmanager
def only(model: nn.Module, phase: Phase) -> Iterator[None]:
    """Freezes every parameter that is not the phase's, and afterwards restores the flags there were.

    Batch norms outside the phase normalise by the batch as in training, but do not take it into
    their running statistics, which would otherwise count it once a phase.
    """
    if not phase.modules:
        yield
        return
    owned = {id(p) for name, p in model.named_parameters(remove_duplicate=False) if phase.owns(name)}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in owned]
    norms = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and module.track_running_stats
        and not phase.owns(name)
    ]
    try:
        for parameter in frozen:
            parameter.requires_grad_(False)
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.track_running_stats = True


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch in at most `parts` pieces along its first axis, none empty; single numbers go to each."""
    if parts == 1:
        return [batch]
    rows = max(len(value) for value in batch.values() if value.ndim)
    bounds = [rows * i // parts for i in range(parts + 1)]
    return [
        {name: value[start:stop] if value.ndim else value for name, value in batch.items()}
        for start, stop in pairwise(bounds)
        if stop > start
    ]


def reseed(seed: int, step: int, rank: int, device: torch.device) -> None:
    """Puts torch's generators into the state that belongs to (seed, step, rank)."""
    digest = hashlib.blake2b(f"{seed}/{step}/{rank}".encode(), digest_size=8).digest()
    number = int.from_bytes(digest, "little")
    # torch.manual_seed visits every backend there is, at a hundred times the cost.
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)
