"""What a classifier said of every example, and what follows: scores by class, calibration, mistakes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn import metrics as sk
from torch import Tensor

__all__ = [
    "BINS",
    "Calibration",
    "ClassScores",
    "Mistake",
    "Predictions",
    "calibration",
    "class_scores",
    "class_shares",
    "most_wrong",
]

BINS = 15


def class_shares(outputs: Float[Tensor, "examples outputs"], loss: str) -> Float[Tensor, "examples classes"]:
    """The probabilities of the classes, in float64: no two logits of float32 become one probability there.

    Args:
        outputs: logits of the classes; for the loss "binary" one, of the second of two.
        loss: what the model was trained with.
    """
    logits = outputs.double()
    if loss != "binary":
        return torch.softmax(logits, dim=1)
    return torch.cat([torch.sigmoid(-logits), torch.sigmoid(logits)], dim=1)


@dataclass(frozen=True, eq=False)
class Predictions:
    """A classifier's answers for a split, in the split's order.

    Attributes:
        probabilities: one row an example, each summing to 1.
        targets: the true class of each.
    """

    probabilities: Float[np.ndarray, "examples classes"]
    targets: Int[np.ndarray, "examples"]

    @property
    def predicted(self) -> Int[np.ndarray, "examples"]:
        """The most probable class of each example."""
        return self.probabilities.argmax(axis=1)

    @property
    def confidence(self) -> Float[np.ndarray, "examples"]:
        """The probability of that class."""
        return self.probabilities.max(axis=1)


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class, in the order of the model's outputs; from 0 to 1.

    A score that would be 0 / 0 counts as 0.

    Attributes:
        precision: of those called this class, the share that is.
        recall: of those of this class, the share called so.
        f1: the harmonic mean of the two.
        support: examples of the class.
    """

    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]
    support: tuple[int, ...]

    @property
    def macro(self) -> dict[str, float]:
        """The plain mean of each score over the classes that the split holds."""
        held = np.array(self.support) > 0
        columns = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: float(np.mean(np.array(column)[held])) for name, column in columns.items()}


def class_scores(predictions: Predictions) -> ClassScores:
    """Precision, recall, F1 and support of every class."""
    found = sk.precision_recall_fscore_support(
        predictions.targets,
        predictions.predicted,
        labels=range(predictions.probabilities.shape[1]),
        zero_division=0,  # type: ignore[arg-type]
    )
    precision, recall, f1, support = (tuple(np.asarray(column).tolist()) for column in found)
    return ClassScores(precision, recall, f1, support)


@dataclass(frozen=True)
class Calibration:
    """How far confidence is from accuracy; see `calibration`.

    Attributes:
        ece: the mean of |accuracy - confidence| over the examples, taken bin by bin.
        largest: the same of the worst bin (the maximum calibration error).
        counts: examples of each bin.
        confidence: their mean confidence, None for an empty bin.
        accuracy: the share of them that is right, None for an empty bin.
    """

    ece: float
    largest: float
    counts: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


def calibration(predictions: Predictions, bins: int = BINS) -> Calibration:
    """Expected and maximum calibration error over bins of equal width.

    Bin m of M holds the examples whose top probability is in ((m - 1) / M, m / M].
    Source: Guo et al., On Calibration of Modern Neural Networks (2017), section 2, equations 3 and 5.
    """
    confidence = predictions.confidence
    right = (predictions.predicted == predictions.targets).astype(np.float64)
    edges = np.arange(1, bins) / bins
    places = np.searchsorted(edges, confidence, side="left")
    counts = np.bincount(places, minlength=bins)
    filled = np.maximum(counts, 1)
    sure = np.bincount(places, weights=confidence, minlength=bins) / filled
    accurate = np.bincount(places, weights=right, minlength=bins) / filled
    gaps = np.abs(accurate - sure)  # 0 where a bin is empty
    return Calibration(
        ece=float((counts * gaps).sum() / max(len(right), 1)),
        largest=float(gaps.max()),
        counts=tuple(counts.tolist()),
        confidence=tuple(float(s) if n else None for s, n in zip(sure, counts, strict=True)),
        accuracy=tuple(float(a) if n else None for a, n in zip(accurate, counts, strict=True)),
    )


@dataclass(frozen=True)
class Mistake:
    """An example given to a wrong class.

    Attributes:
        example: its number in the split.
        true: its class.
        predicted: the class it was given to, with this `probability`.
    """

    example: int
    true: int
    predicted: int
    probability: float


def most_wrong(predictions: Predictions, count: int) -> list[Mistake]:
    """The mistakes that were made with the highest probability, the worst first."""
    predicted, confidence = predictions.predicted, predictions.confidence
    wrong = np.flatnonzero(predicted != predictions.targets)
    worst = wrong[np.argsort(-confidence[wrong], kind="stable")][:count]
    return [
        Mistake(int(i), int(predictions.targets[i]), int(predicted[i]), float(confidence[i])) for i in worst
    ]
