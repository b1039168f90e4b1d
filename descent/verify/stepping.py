"""Rows about training: accumulation, and resuming."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor

from descent.data.dataset import Batch
from descent.runs.assemble import Parts, put_together
from descent.runs.run import Run
from descent.training import checkpoint
from descent.training.loop import accumulate, train
from descent.training.state import state_hash
from descent.verify.measure import NotApplicable

ROWS = 8
MORE_STEPS = 4


class Stage:
    """A run's parts, loaded from its checkpoint; the data are read once."""

    def __init__(self, run: Run):
        self.run, self.parts = run, run.parts()
        self.load(self.parts)

    def load(self, parts: Parts, path: Path | None = None) -> Parts:
        checkpoint.load(path or self.run.checkpoint("last"), parts.state)
        return parts

    def again(self) -> Parts:
        """New parts on the same data, not yet loaded."""
        return put_together(self.parts.recipe, self.parts.dataset, self.parts.tokenizer)

    def examples(self) -> Batch:
        """The first rows of the data the run was evaluated on."""
        splits = self.parts.dataset.splits
        split = splits.get("validation", splits["train"])
        return split.gather(np.arange(min(ROWS, split.whole)))


def accumulated(stage: Stage, folder: Path) -> tuple[float, str]:
    """The gradients of a batch, against those added up over its parts (dropout off)."""
    parts, held = stage.parts, stage.examples()
    batch = {name: value.to(parts.settings.device) for name, value in held.items()}
    if not parts.objective.splittable:
        raise NotApplicable("the objective cannot be split")
    model = parts.state.model.eval()
    found: list[dict[str, Tensor]] = []
    pieces = min(4, len(next(iter(batch.values()))))
    for number in (1, pieces):
        model.zero_grad()
        settings = replace(parts.settings, accumulate=number, precision="fp32")
        accumulate(model, parts.objective, parts.objective.phases[0], batch, held, settings)
        found.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    model.zero_grad()
    whole, split = found
    largest = max(float(gradient.abs().max()) for gradient in whole.values())
    worst = max(float((split[name] - whole[name]).abs().max()) for name in whole)
    return worst / (largest or 1.0), f"gradients of {pieces} parts, relative to the largest"


def resumed(stage: Stage, folder: Path) -> tuple[float, str]:
    """Weights, optimizer and step after some more steps, against those with a save and a load between."""
    parts = stage.load(stage.again())
    middle = parts.state.step + MORE_STEPS // 2
    _train(parts, middle)
    saved = checkpoint.save(folder / "checkpoints", parts.state)
    _train(parts, middle + MORE_STEPS // 2)
    other = stage.load(stage.again(), saved)
    _train(other, middle + MORE_STEPS // 2)
    note = f"{MORE_STEPS} steps, saved and loaded after {MORE_STEPS // 2}; SHA-256 of the whole state"
    if state_hash(parts.state) == state_hash(other.state):
        return 0.0, note
    pairs = zip(parts.state.model.parameters(), other.state.model.parameters(), strict=True)
    worst = max(float((a - b).abs().max()) for a, b in pairs)
    return worst or float("inf"), note


def _train(parts: Parts, stop: int) -> None:
    total = parts.settings.total or parts.settings.steps
    settings = replace(parts.settings, steps=stop, total=total)
    batch_at: Callable[[int], Batch] = parts.batches.batch
    train(parts.state, parts.objective, batch_at, settings=settings)
