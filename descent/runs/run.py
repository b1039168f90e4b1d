"""A run's folder, read: what it was to do, how it went, and the model that came of it."""

from __future__ import annotations

import base64
import html
from pathlib import Path
from typing import Any, Literal

from torch import nn

from descent.data import Dataset
from descent.errors import CorruptArtifact, UserError
from descent.evaluation import Evaluation
from descent.models import build
from descent.nn.lora import merge_lora
from descent.runs import plots
from descent.runs.assemble import Parts, adapted, assemble
from descent.runs.folder import open_run, read_json
from descent.runs.layout import RECIPE_FILE
from descent.runs.loaded import Loaded
from descent.runs.metrics import read_metrics, series
from descent.runs.noted import checked_preparation
from descent.runs.recipe import Recipe, read_recipe
from descent.runs.report import class_figures, write_report
from descent.text import Tokenizer
from descent.training import checkpoint
from descent.weights import safetensors_file

Which = Literal["best", "last"] | int


class Run:
    """What lies in a run's folder. Reading it takes no lock: a run may be watched while it trains.

    Raises:
        UserError: the folder holds no run.
    """

    def __init__(self, folder: str | Path):
        self.folder = open_run(folder)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def recipe(self) -> Recipe:
        try:
            return read_recipe(self.folder / RECIPE_FILE)
        except UserError as error:  # written by Descent, so what is wrong with it befell it
            raise CorruptArtifact(str(error)) from None

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every line of `metrics.jsonl`."""
        return read_metrics(self.folder / "metrics.jsonl")

    @property
    def checkpoints(self) -> list[tuple[int, Path]]:
        """Step and folder of each checkpoint, in order; not verified."""
        folder = self.folder / "checkpoints"
        return [(step, folder / checkpoint.folder_name(step)) for step in checkpoint.steps(folder)]

    @property
    def step(self) -> int:
        """The step of the latest checkpoint, 0 if there is none."""
        return self.checkpoints[-1][0] if self.checkpoints else 0

    @property
    def best(self) -> int | None:
        """The step that scored best, if one was marked."""
        found = checkpoint.read_best(self.folder / "checkpoints")
        return found.step if found else None

    @property
    def tokenizer(self) -> Tokenizer | None:
        path = self.folder / "tokenizer.json"
        return Tokenizer.load(path) if path.is_file() else None

    @property
    def samples(self) -> list[tuple[int, str]]:
        """What a language model wrote at which step."""
        return [(line["step"], line["text"]) for line in self.metrics if line["event"] == "sample"]

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The names of the classes, if it learns classes."""
        labels = read_json(self.folder / "data.json").get("labels")
        return tuple(labels) if labels else None

    def checkpoint(self, which: Which = "best") -> Path:
        """The folder of a checkpoint: the best (else the latest), the latest, or that of a step."""
        folder = self.folder / "checkpoints"
        if isinstance(which, int):
            found = dict(self.checkpoints)
            if which not in found:
                there = ", ".join(str(step) for step in found) or "none"
                raise UserError(
                    f"{self.folder} has no checkpoint of step {which}", expected=f"one of {there}"
                )
            return found[which]
        if which == "best" and self.best is not None:
            return folder / checkpoint.folder_name(self.best)
        found_newest = checkpoint.newest(folder)
        if found_newest.path is None:
            if found_newest.skipped:
                raise CorruptArtifact(
                    f"{self.folder} has no checkpoint that is whole\n  " + "\n  ".join(found_newest.skipped)
                )
            raise UserError(
                f"{self.folder} has no checkpoint yet",
                hint=f"`descent train --resume {self.folder}` goes on with it",
            )
        return found_newest.path

    def load(self, which: Which = "best") -> Loaded:
        """The model of a checkpoint, with its averaged weights where it has them, ready to use."""
        recipe = self.recipe
        model = merge_lora(self.weighted(which))
        loss, file = getattr(recipe.objective, "loss", ""), self.folder / "data.json"
        preparation = checked_preparation({**read_json(file), "loss": loss}, recipe.model, str(file))
        return Loaded(
            model.eval(),
            recipe.model,
            self.tokenizer,
            self.labels,
            preparation,
            loss,
            str(self.folder),
            tta=recipe.evaluation.tta,
        )

    def weighted(self, which: Which = "best") -> nn.Module:
        """The model of a checkpoint as it is trained: with adapters, if it has any, beside its matrices."""
        recipe, path = self.recipe, self.checkpoint(which)
        manifest = checkpoint.verify(path)
        model = adapted(build(recipe.model), recipe)
        weights = path / "model.safetensors"
        safetensors_file.load_into(model, safetensors_file.read(weights), str(weights))
        average = path / "average.safetensors"
        if average.name in manifest.files:
            held, own = safetensors_file.read(average), dict(model.named_parameters())
            safetensors_file.check_fits({k: own[k] for k in held if k in own}, held, str(average))
            safetensors_file.copy_into(own, held)
        return model

    @property
    def default_split(self) -> str:
        """What `evaluate` scores unasked: the test split once the run has ended with it, else validation."""
        scored = {line["split"] for line in self.metrics if line["event"] == "evaluation"}
        return next((name for name in ("test", "validation") if name in scored), "train")

    def evaluate(self, split: str | None = None, which: Which = "best") -> Evaluation:
        """Scores a checkpoint on a whole split (see `default_split`)."""
        return self._scored(split or self.default_split, which)[1]

    def report(self, folder: str | Path, split: str | None = None, which: Which = "best") -> Evaluation:
        """Scores a classifier as `evaluate` does, and writes into a folder what there is to see of it.

        That is confusion.png, reliability.png, report.json, and of images mistakes.png, the most wrong.
        """
        split = split or self.default_split
        parts, found = self._scored(split, which)
        write_report(parts, split, found, Path(folder))
        return found

    def _scored(self, split: str, which: Which) -> tuple[Parts, Evaluation]:
        parts = self.parts()
        splits = parts.dataset.splits
        if split not in splits:
            raise UserError("no such split", got=split, expected="one of " + ", ".join(splits))
        checkpoint.load(self.checkpoint(which), parts.state)
        return parts, parts.evaluate(split)

    def parts(self) -> Parts:
        """Data, model and all, not yet loaded with weights; on the device there is here.

        Raises:
            UserError: the data are not those the run was trained on.
        """
        parts = assemble(self.recipe.replace(device="auto"), tokenizer=self.tokenizer)
        self.check_data(parts.dataset)
        return parts

    def check_data(self, dataset: Dataset) -> None:
        """Raises a `UserError` if the data are not those the run was started with."""
        held = read_json(self.folder / "data.json").get("fingerprint")
        if held is not None and held != dataset.fingerprint:
            raise UserError(
                f"the data of {self.folder} have changed since it was started",
                got=f"{dataset.name}, {dataset.fingerprint[:12]}",
                expected=f"fingerprint {held[:12]}",
                hint=f"put the old files back, or start from its weights: `descent fork {self.folder}`",
            )

    def plot(self) -> list[Path]:
        """Draws the run's curves into `plots/`, and returns the pictures' paths."""
        folder, lines = self.folder / "plots", self.metrics
        drawn = plots.curves(lines, folder, title=f"{self.recipe.name} ({self.name})")
        scored = [line for line in lines if line.get("confusion")]
        if scored:
            labels = list(self.labels or map(str, range(len(scored[-1]["confusion"]))))
            drawn += class_figures(scored[-1], labels, folder)
        return drawn

    def summary(self) -> dict[str, Any]:
        """The last word on everything: recipe, steps, time, and the latest score of each split."""
        lines = self.metrics
        _, seconds = series(lines, "step", "seconds")
        scores: dict[str, dict[str, Any]] = {}
        for line in lines:
            if line["event"] == "evaluation":
                left_out = ("event", "split", "confusion", "calibration", "seconds")
                scores[line["split"]] = {key: value for key, value in line.items() if key not in left_out}
        return {
            "folder": str(self.folder),
            "recipe": self.recipe.name,
            "step": self.step,
            "steps": self.recipe.budget.steps,
            "best": self.best,
            "seconds": seconds[-1] if seconds else 0.0,
            "scores": scores,
        }

    def __repr__(self) -> str:
        found = self.summary()
        scores = "; ".join(f"{split} {_shown(values)}" for split, values in found["scores"].items())
        steps = f"step {found['step']} of {found['steps']}"
        return f"Run({str(self.folder)!r}: {found['recipe']}, {steps}; {scores})"

    def _repr_html_(self) -> str:
        """A table and the curves, self-contained: no script, no link, every text escaped."""
        found = self.summary()
        rows = {
            "recipe": found["recipe"],
            "step": f"{found['step']} of {found['steps']}",
            "seconds": f"{found['seconds']:.0f}",
            **{split: _shown(values) for split, values in found["scores"].items()},
        }
        cells = "".join(
            f"<tr><th style='text-align:left'>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>"
            for key, value in rows.items()
        )
        pictures = "".join(
            f"<img style='max-width:100%' alt='{html.escape(path.stem)}'"
            f" src='data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}'>"
            for path in sorted((self.folder / "plots").glob("*.png"))
        )
        return f"<b>{html.escape(str(self.folder))}</b><table>{cells}</table>{pictures}"


def _shown(values: dict[str, Any]) -> str:
    numbers = {k: v for k, v in values.items() if isinstance(v, float)}
    return ", ".join(f"{name} {value:.4g}" for name, value in numbers.items())
