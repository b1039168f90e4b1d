"""What an evaluation finds, whatever the task."""

from __future__ import annotations

from dataclasses import dataclass, field

from descent.data.dataset import Batch
from descent.evaluation.classes import Predictions


@dataclass(frozen=True)
class Evaluation:
    """Metrics of one split.

    Attributes:
        metrics: name -> value. `loss` in nats; `accuracy`, `top5` and `ece` (the expected calibration
            error, see `calibration`) from 0 to 1; `perplexity` exp(loss); `bits_per_byte` the loss per
            UTF-8 byte of the text in bits; `r2`, `mae` and `rmse` in the units of the targets the model
            sees; others as the module of their task says.
        examples: how many targets were scored; of a series, how many windows.
        confusion: counts, one row a true class and one column a predicted class; None if no classes.
        predictions: what a classifier said of each example, for `class_scores`, `calibration` and
            `most_wrong`; None if no classes.
    """

    metrics: dict[str, float]
    examples: int
    confusion: list[list[int]] | None = field(default=None, repr=False)
    predictions: Predictions | None = field(default=None, repr=False)


def moved(batch: Batch, device: str) -> Batch:
    """The batch on a device."""
    return {name: value.to(device) for name, value in batch.items()}
