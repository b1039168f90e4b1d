"""From a recipe to its parts: data, tokenizer, model, objective, optimizers, ready to train."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from descent.data import (
    Batches,
    Dataset,
    load_examples,
    load_text,
    load_texts,
    tokenize,
    tokenize_texts,
)
from descent.data.config import TableData, TextData
from descent.errors import UserError
from descent.evaluation import Evaluation, evaluate, metric_names
from descent.models import build
from descent.nn.lora import add_lora
from descent.objectives import ForecastConfig, Objective, SupervisedConfig, build_objective
from descent.runs.normalisation import renormalise
from descent.runs.recipe import DataConfig, Recipe
from descent.text import Tokenizer, obtain
from descent.text.unknown import unknown_share
from descent.training.average import EMA
from descent.training.layers import Layers, head_of
from descent.training.loop import Settings, reseed
from descent.training.optimizers import build_optimizers
from descent.training.precision import autocast, resolve_device, resolve_precision
from descent.training.state import State

LENGTH = 128
"""Tokens of a row, where neither the data nor the model say."""
UNKNOWN_SHARE = 0.001
"""Of the training tokens; more than that is said."""
LOOK = 5000
"""Training examples that a model which looks at data is shown."""
CLASS_LOSSES = ("cross_entropy", "binary")
KEPT_HEADS = ("causal", "seq2seq", "masked", "contrastive")
"""Objectives whose models answer with tokens or vectors: their head comes with the weights, and adapters
leave it as it is (often it is the table of all tokens)."""


@dataclass
class Parts:
    """A recipe made real.

    Attributes:
        recipe: with device, precision, steps and the sizes taken from the data filled in.
        tokenizer: for text, else None.
        batches: of the training split.
    """

    recipe: Recipe
    dataset: Dataset
    tokenizer: Tokenizer | None
    objective: Objective
    state: State
    batches: Batches
    settings: Settings

    def averaged(self) -> AbstractContextManager[None]:
        """While it lasts, the model computes with its averaged weights, if it has them."""
        average = self.state.average
        return average.swapped(self.state.model) if average else nullcontext()

    def evaluate(self, split: str) -> Evaluation:
        """Scores the model, with its averaged weights where it has them, on a whole split.

        Errors of values (`mae`, `rmse`) are in the target's own units; the loss is what is trained on.
        """
        with self.averaged():
            found = evaluate(
                self.state.model,
                self.objective,
                self.dataset.splits[split],
                batch_size=self.recipe.evaluation.batch_size,
                device=str(self.settings.device),
                cast=autocast(self.settings.device, self.settings.precision),
                tta=self.recipe.evaluation.tta,
            )
        unit = self.dataset.preparation.get("target_std", 1.0)
        errors = {name: found.metrics[name] * unit for name in ("mae", "rmse") if name in found.metrics}
        return replace(found, metrics={**found.metrics, **errors})


def load_data(
    recipe: Recipe, tokenizer: Tokenizer | None = None, progress: bool = False
) -> tuple[Dataset, Tokenizer | None]:
    """The recipe's data; for text also the tokenizer, trained on the training split if none is given."""
    if recipe.tokenizer is None:
        dataset, start = load_examples(_with_task(recipe), progress), recipe.transfer
        if start is not None and start.mean:
            renormalise(dataset, start.mean, start.std)
        if isinstance(recipe.objective, ForecastConfig):
            dataset.preparation["quantiles"] = list(recipe.objective.quantiles)
        return dataset, None
    if not isinstance(recipe.data, TextData):
        texts = load_texts(recipe.data, progress)
        train = texts.texts("train")
        tokenizer = tokenizer or obtain(recipe.tokenizer, train, progress)
        return _noted(tokenize_texts(texts, recipe.data, tokenizer), tokenizer, train), tokenizer
    documents = load_text(recipe.data, progress)
    train = documents.splits["train"]
    tokenizer = tokenizer or obtain(recipe.tokenizer, train, progress)
    length = recipe.data.length or getattr(recipe.model, "context", LENGTH)
    dataset = tokenize(documents, recipe.data, tokenizer, length, recipe.budget.batch_size)
    return _noted(dataset, tokenizer, train), tokenizer


def _noted(dataset: Dataset, tokenizer: Tokenizer, texts: Sequence[str]) -> Dataset:
    """The data, with a note where much of the training texts is unknown to the tokenizer."""
    share = unknown_share(tokenizer, texts)
    if share > UNKNOWN_SHARE:
        dataset.notes += (f"{share:.1%} of the training tokens are unknown to the tokenizer",)
    return dataset


def _with_task(recipe: Recipe) -> DataConfig:
    """Rows are values or classes as the loss needs them, whatever the target's numbers look like."""
    data, wants = recipe.data, recipe.objective
    if not isinstance(data, TableData) or data.task != "auto" or not isinstance(wants, SupervisedConfig):
        return data
    return data.replace(task="classification" if wants.loss in CLASS_LOSSES else "regression")


def _sizes(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """The sizes the data ask of the model, once the loss is known to suit the data."""
    sizes, wants = dict(dataset.sizes), recipe.objective
    if isinstance(wants, ForecastConfig):
        sizes["quantiles"] = len(wants.quantiles)
    if not isinstance(wants, SupervisedConfig):
        return sizes
    classes = len(dataset.labels or ())
    if (wants.loss in CLASS_LOSSES) != bool(classes):
        expected = "cross_entropy or binary" if classes else "mse, l1 or huber"
        raise UserError("objective.loss does not fit the data", got=wants.loss, expected=expected)
    if wants.loss == "binary":
        if classes != 2:
            raise UserError("objective.loss=binary needs two classes", got=f"{classes} classes")
        sizes["outputs"] = 1
    if wants.class_weights and len(wants.class_weights) != classes:
        raise UserError(
            "objective.class_weights: one for each class",
            got=f"{len(wants.class_weights)} weights",
            expected=f"{classes}",
        )
    return sizes


def fill(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe with everything resolved that depends on the data or the machine."""
    held, sizes = recipe.model.model_dump(), _sizes(recipe, dataset)
    taken = {name: size for name, size in sizes.items() if name in held and not held[name]}
    wrong = {
        name: (held[name], size)
        for name, size in sizes.items()
        if held.get(name) and _plain(held[name]) != _plain(size)
    }
    if wrong:
        name, (has, needs) = next(iter(wrong.items()))
        raise UserError(
            f"model.{name} does not fit the data {dataset.name!r}",
            got=has,
            expected=str(needs),
            hint=f"leave model.{name} out to take it from the data",
        )
    device = resolve_device(recipe.device)
    examples = len(dataset.splits["train"])
    batch_size = recipe.budget.batch_size or examples
    steps = recipe.budget.steps or max(1, ceil(recipe.budget.epochs * examples / batch_size))
    return recipe.replace(
        model=recipe.model.replace(**taken).table(),
        device=device.type,
        precision=resolve_precision(recipe.precision, device),
        budget=recipe.budget.replace(steps=steps, epochs=0.0, batch_size=batch_size).table(),
    )


def assemble(recipe: Recipe, *, tokenizer: Tokenizer | None = None, progress: bool = False) -> Parts:
    """Loads the data and builds everything; the weights are a function of `recipe.seed`.

    Args:
        recipe: what to build.
        tokenizer: the one of an earlier part of the same run.
        progress: show downloads and the tokenizer's training on stderr.
    """
    dataset, tokenizer = load_data(recipe, tokenizer, progress)
    return put_together(recipe, dataset, tokenizer)


def put_together(recipe: Recipe, dataset: Dataset, tokenizer: Tokenizer | None) -> Parts:
    """Builds everything for data that are loaded already."""
    recipe = fill(recipe, dataset)
    device = torch.device(recipe.device)
    torch.manual_seed(recipe.seed)
    if recipe.transfer is not None:  # a new head must not be the one that weights of this seed began with
        reseed(recipe.seed, -1, 0, device)
    model = _placed(adapted(build(recipe.model), recipe), dataset, device)
    objective = build_objective(recipe.objective)
    known = metric_names(objective, recipe.model.model_dump().get("outputs", 0))
    known += dataset.splits["train"].metrics
    if recipe.evaluation.metric not in known:
        raise UserError(
            "evaluation.metric is not a metric of this task",
            got=recipe.evaluation.metric,
            expected="one of " + ", ".join(known),
        )
    layers = _layers(recipe, model)
    state = State(
        model=model,
        optimizers={
            phase.name: build_optimizers(recipe.optimizer, model, phase.modules, layers)
            for phase in objective.phases
        },
        average=EMA(model, recipe.average) if recipe.average else None,
        memory=objective.memory(model, dataset.splits["train"].lanes),
    )
    settings = Settings(
        steps=recipe.budget.steps,
        seed=recipe.seed,
        schedule=recipe.schedule,
        accumulate=recipe.budget.accumulate,
        clip_norm=recipe.clip_norm,
        device=device,
        precision=recipe.precision,
        layers=layers,
    )
    if recipe.compile:
        _compile(model)
    batches = Batches(dataset.splits["train"], recipe.budget.batch_size, recipe.seed)
    return Parts(recipe, dataset, tokenizer, objective, state, batches, settings)


def adapted(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The model with the recipe's adapters, and all but these and a new head frozen."""
    if recipe.adapter is not None:
        shape, start, head = recipe.adapter.model_dump(), recipe.transfer, head_of(model)
        add_lora(model, **{**shape, "targets": list(recipe.adapter.targets)}, trained=[head])
        if recipe.objective.type in KEPT_HEADS and (start is None or start.head != "new"):
            model.get_submodule(head).requires_grad_(False)
    return model


def _layers(recipe: Recipe, model: nn.Module) -> Layers | None:
    """Which layers are trained when, and how fast, where the model starts from others' weights."""
    start = recipe.transfer
    if start is None:
        return None
    return Layers.of(model, start.decay, start.thaw, start.frozen, recipe.budget.steps)


@runtime_checkable
class LooksAtData(Protocol):
    """A model that sets some of its weights from training examples, before it is trained."""

    def initialise(self, inputs: Tensor) -> None: ...


def _placed(model: nn.Module, dataset: Dataset, device: torch.device) -> nn.Module:
    """The model on its device, shown some training examples, unaltered, if it asks for them.

    Convolutions are laid out with the channels last, which their kernels are faster with: on a CPU a step of
    LeNet takes half the time in single precision, one of ResNet-20 two thirds in bfloat16.
    """
    if isinstance(model, LooksAtData):
        train = dataset.splits["train"]
        # spread over the split: a folder's examples come class by class
        places = np.linspace(0, len(train) - 1, min(LOOK, len(train))).astype(np.int64)
        model.initialise(train.gather(places)["inputs"])
    model = model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model


def _compile(model: nn.Module) -> None:
    """Compiles what an objective calls, in place, so that names and state stay the same."""
    for name in ("features", "forward"):
        if hasattr(model, name):
            setattr(model, name, torch.compile(getattr(model, name)))
            return


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, (list, tuple)) else value
