"""`verify`: every equivalence a model claims, measured and set against its tolerance.

Outputs in fp32 on the CPU, with rows of the run's own data where there is a run; training as the run trains.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from descent.data.dataset import Batch
from descent.nn.attention import Attention
from descent.runs.layout import is_run
from descent.runs.load import load
from descent.runs.loaded import Loaded
from descent.runs.run import Run
from descent.verify import decoding, exchange, stepping
from descent.verify.measure import NotApplicable, Row, asked, difference, random_batch, rows
from descent.verify.stepping import Stage

DECIMALS = 1e-4


def verify(where: str | Path | Run | Loaded) -> list[Row]:
    """Measures every row of the contract that applies.

    Args:
        where: a run (all rows), or a model in a folder or on the hub, or one already loaded (without
            the rows that need its data and optimizer).

    Returns:
        One row an equivalence, in the order of `docs/design.md`. Differences of outputs are relative to
        the largest output, or absolute where that is below 1.
    """
    run = where if isinstance(where, Run) else None
    if isinstance(where, (str, Path)) and is_run(Path(where)):
        run = Run(where)
    if run is not None:
        loaded = run.load()
    elif isinstance(where, Loaded):
        loaded = where
    else:
        loaded = load(where)  # type: ignore[arg-type]
    model = loaded.model.float().cpu().eval()
    stage = Stage(run) if run is not None else None
    batch = stage.examples() if stage is not None else random_batch(model)
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, tolerance, measure in _plan(loaded, model, batch, stage, Path(folder)):
            try:
                worst, note = measure()
            except NotApplicable as reason:
                worst, note = None, str(reason)
            found.append(Row(name, tolerance, worst, note))
    return found


Measure = Callable[[], tuple[float, str]]


def _plan(
    loaded: Loaded, model: nn.Module, batch: Batch, stage: Stage | None, folder: Path
) -> list[tuple[str, float, Measure]]:
    def of_run(measure: Callable[[Stage, Path], tuple[float, str]]) -> tuple[float, str]:
        if stage is None:
            raise NotApplicable("needs a run: its data and optimizer")
        return measure(stage, folder)

    lanes = stage.parts.batches if stage is not None and stage.parts.batches.split.lanes else None
    # A GPU adds up in no fixed order.
    exactly = 0.0 if stage is None or stage.parts.settings.device.type == "cpu" else DECIMALS
    return [
        ("cached decoding = full forward", DECIMALS, lambda: decoding.cached(model, batch)),
        ("carried state = one long forward", DECIMALS, lambda: decoding.carried(model, batch, lanes)),
        ("packed rows = padded rows", DECIMALS, lambda: decoding.packed(model, batch)),
        ("accumulated = one batch", DECIMALS, lambda: of_run(stepping.accumulated)),
        ("batch of n = n batches of one", DECIMALS, lambda: one_by_one(model, batch)),
        ("resumed = uninterrupted", exactly, lambda: of_run(stepping.resumed)),
        ("fused attention = weights-returning", DECIMALS, lambda: fused(model, batch)),
        ("exported and re-loaded = native", 0.0, lambda: exchange.exported(loaded, batch, folder)),
        ("ours = the reference library's", DECIMALS, lambda: exchange.reference(loaded, batch, folder)),
    ]


def one_by_one(model: nn.Module, batch: Batch) -> tuple[float, str]:
    """Every example alone gives what it gives in a batch."""
    with torch.inference_mode():
        together = asked(model, batch)
        alone = [asked(model, rows(batch, slice(i, i + 1))) for i in range(len(together))]
    return difference(torch.cat(alone), together), f"{len(together)} examples"


def fused(model: nn.Module, batch: Batch) -> tuple[float, str]:
    """Every attention layer gives the same output on the path that also returns the weights."""
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    if not layers:
        raise NotApplicable("no attention")
    worst: list[float] = []

    def again(layer: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, object], output: Tensor) -> None:
        found, _ = layer.forward(*args, **{**kwargs, "weights": True})
        worst.append(difference(found, output))

    handles = [layer.register_forward_hook(again, with_kwargs=True) for layer in layers]
    try:
        with torch.inference_mode():
            asked(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return max(worst), f"{len(layers)} layers"
