"""What happens between the steps of a run: log, show, evaluate, sample, save, and stop when asked to."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from descent.evaluation import calibration
from descent.objectives import Forecast
from descent.runs.assemble import Parts
from descent.runs.forecast_figure import draw_forecast, forecast_window
from descent.runs.interrupt import Interrupt
from descent.runs.loaded import Loaded
from descent.runs.metrics import HIGHER_IS_BETTER, MetricsLog, read_metrics, series
from descent.runs.progress import Progress
from descent.training import checkpoint
from descent.training.gradients import GradientWarning
from descent.training.loop import StepReport
from descent.training.stopping import best_index, should_stop

LINES = 1000


class Course:
    """Follows a run from step to step; `after_step` is what the loop calls.

    Args:
        folder: the run's.
        parts: what is trained.
        log: its metrics, open for appending.
        progress: where a person watches.
        interrupt: a signal that has arrived, if any.
    """

    def __init__(self, folder: Path, parts: Parts, log: MetricsLog, progress: Progress, interrupt: Interrupt):
        self.folder, self.parts, self.log = folder, parts, log
        self.progress, self.interrupt = progress, interrupt
        self.plan = parts.recipe.evaluation
        self.steps = parts.settings.steps
        self.split = "validation" if "validation" in parts.dataset.splits else None
        self._log_every = max(1, self.steps // LINES)
        lines = read_metrics(folder / "metrics.jsonl")
        _, seconds = series(lines, "step", "seconds")
        self._earlier = seconds[-1] if seconds else 0.0
        told = [line for line in lines if line.get("event") == "warning"]
        self._told = {(line.get("kind"), line.get("layer")) for line in told}
        scored, self._scores = series(lines, "evaluation", self.plan.metric, self.split)
        self._mark_best(scored)
        self._scored_at = -1
        self._saved_at = -1
        self._began = self._since = time.monotonic()
        self._apart = 0.0
        self._units = 0

    @property
    def seconds(self) -> float:
        """Seconds of the run so far, evaluations and savings included, before it was resumed, too."""
        return self._earlier + time.monotonic() - self._began

    def after_step(self, report: StepReport) -> bool:
        """Does what is due after a step; True ends the training."""
        step = report.step
        self._units += report.targets
        for warning in report.warnings:
            self._warn(warning)
        if step % self._log_every == 0 or step == self.steps:
            self._report(report)
        started = time.monotonic()
        scored = self.split is not None and _due(step, self.plan.every, self.steps)
        if scored:
            self.evaluate(self.split or "")
        plan = self.parts.recipe.samples
        if plan and step < self.steps and _due(step, plan.every, 0):
            self.sample()
        if _due(step, self.parts.recipe.checkpoints.every or self.plan.every, self.steps) or (
            scored and self._improved()
        ):
            self.save()
        enough = scored and self.enough()
        if self.interrupt.number is not None:
            self.save()
        self._apart += time.monotonic() - started
        return enough or self.interrupt.number is not None

    def _warn(self, warning: GradientWarning) -> None:
        """Records a gradient that explodes or vanishes; one that is clipped needs nobody's attention.

        The watch begins anew when a run is resumed; what the log has already is not told again.
        """
        if (warning.kind, warning.layer) in self._told:
            return
        self._told.add((warning.kind, warning.layer))
        self.log.append("warning", **asdict(warning))
        if not warning.clipped:
            self.progress.note(f"warning: {warning.message}")

    def _report(self, report: StepReport) -> None:
        now = time.monotonic()
        elapsed = now - self._since - self._apart
        values: dict[str, Any] = {
            "loss": next(iter(report.losses.values())),
            "losses": report.losses,
            "learning_rate": report.learning_rate,
            "gradient_norm": next(iter(report.gradient_norms.values())),
            "seconds": round(self.seconds, 3),
            "rate": round(self._units / elapsed, 1) if elapsed > 0 else None,
            "memory": memory(self.parts.settings.device),
        }
        self._since, self._apart, self._units = now, 0.0, 0
        self.log.append("step", report.step, **values)
        self.progress.step({"step": report.step, **values})

    def evaluate(self, split: str) -> None:
        """Scores a whole split and records it; of the validation split also who is best."""
        step = self.parts.state.step
        if split == self.split and step == self._scored_at:
            return
        found = self.parts.evaluate(split)
        final = split != self.split or step >= self.steps
        extra: dict[str, Any] = {}
        if final and found.predictions is not None:
            extra = {"confusion": found.confusion, "calibration": asdict(calibration(found.predictions))}
        self.log.append(
            "evaluation",
            step,
            split=split,
            examples=found.examples,
            **found.metrics,
            **extra,
            seconds=round(self.seconds, 3),
        )
        self.progress.evaluation(step, split, found.metrics)
        if split == self.split:
            score = found.metrics.get(self.plan.metric, math.nan)  # one that the data leave undefined
            if math.isfinite(score):  # the log, which a resumed run reads, holds no other
                self._scored_at = step
                self._scores.append(score)

    def finish(self) -> None:
        """Scores and saves the last step, whatever the plan."""
        if self.split is not None:
            self.evaluate(self.split)
        self.save()

    def _improved(self) -> bool:
        """Whether the newest score is the best so far."""
        higher = self.plan.metric in HIGHER_IS_BETTER
        return best_index(self._scores, higher=higher) == len(self._scores) - 1

    def enough(self) -> bool:
        """Whether the evaluations so far say to stop early."""
        higher = self.plan.metric in HIGHER_IS_BETTER
        if not should_stop(self._scores, self.plan.patience, higher=higher):
            return False
        self.progress.note(
            f"stopped early: {self.plan.metric} has not improved in {self.plan.patience} evaluations"
        )
        return True

    def save(self) -> None:
        """Saves a checkpoint, marks it best if it is, and removes what need not be kept."""
        step, folder = self.parts.state.step, self.folder / "checkpoints"
        if step == self._saved_at:
            return
        self.log.sync()  # a checkpoint must not outlive the scores that say whether it is the best
        saved = checkpoint.save(folder, self.parts.state)
        self._saved_at = step
        if step == self._scored_at:
            self._mark_best([-1] * (len(self._scores) - 1) + [step])
        checkpoint.prune(folder, self.parts.recipe.checkpoints.keep, verified=saved)

    def _mark_best(self, steps: list[int]) -> None:
        """Records the best score if its checkpoint is there and not on record.

        Also called when a run goes on: it may have been killed between a save and this.
        """
        folder, metric = self.folder / "checkpoints", self.plan.metric
        index = best_index(self._scores, higher=metric in HIGHER_IS_BETTER)
        if index is None or steps[index] not in checkpoint.steps(folder):
            return
        best = checkpoint.Best(steps[index], metric, self._scores[index])
        if checkpoint.read_best(folder) != best:
            checkpoint.mark_best(folder, best)

    def draw(self) -> None:
        """Draws what a forecaster says of the middle of the last split, beside what came true."""
        objective, splits = self.parts.objective, self.parts.dataset.splits
        if not isinstance(objective, Forecast):
            return
        name = next(name for name in ("test", "validation", "train") if name in splits)
        self.parts.state.model.eval()
        with self.parts.averaged():
            drawn = forecast_window(
                self.parts.state.model, objective, splits[name], device=str(self.parts.settings.device)
            )
        title = f"{self.parts.dataset.name}: a forecast of the {name} part"
        draw_forecast(drawn, self.folder / "plots" / "forecast.png", title, objective.config.quantiles)

    def sample(self) -> None:
        """Lets a language model write, and keeps what it wrote."""
        plan, parts = self.parts.recipe.samples, self.parts
        if plan is None or parts.tokenizer is None:
            return
        loaded = Loaded.of(parts)
        prompt = plan.prompt or (self._source() if loaded.translates else "")
        with parts.averaged():
            text = loaded.generate(
                prompt,
                max_new_tokens=plan.max_new_tokens,
                temperature=plan.temperature,
                top_k=plan.top_k,
                top_p=plan.top_p,
                seed=parts.recipe.seed,
                sliding=True,
            )
        shown = f"{prompt}\n{text}" if loaded.translates else prompt + text
        step = parts.state.step
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        (folder / f"step-{step:06d}.txt").write_text(shown, encoding="utf-8", newline="")
        self.log.append("sample", step, text=shown)
        self.progress.sample(step, shown)

    def _source(self) -> str:
        """The first text of the held-out pairs, as the model gets it."""
        parts = self.parts
        batch = parts.dataset.splits[self.split or "train"].gather(np.arange(1))
        if parts.tokenizer is None or "source_lengths" not in batch:
            return ""
        ids = batch["source"][0, : int(batch["source_lengths"][0])].tolist()
        return parts.tokenizer.decode([index for index in ids if index != parts.tokenizer.end])


def memory(device: torch.device) -> int | None:
    """Bytes that were held at most, on the GPU or by this process; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _due(step: int, every: int, last: int) -> bool:
    return step == last or (every > 0 and step % every == 0)
