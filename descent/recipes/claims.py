"""What the recipes were measured to reach, each with every seed that was run; the ledger says more.

`python -m benchmarks.runs` measures; a recipe with any option changed carries no claim.
"""

from __future__ import annotations

from statistics import mean
from typing import Literal

from descent.runs.recipe import Claim

MACHINE = "2 threads of AMD EPYC, torch 2.13.0+cpu"


ONE_THREAD = "1 threads of AMD EPYC, torch 2.13.0+cpu"


def _of(
    split: Literal["train", "validation", "test"],
    metric: str,
    values: tuple[float, ...],
    minutes: float,
    machine: str = MACHINE,
) -> Claim:
    """The result of seeds 1, 2, ...; `minutes` are those of the slowest run, evaluation included."""
    return Claim(
        metric=metric,
        split=split,
        value=round(mean(values), 5),
        values=values,
        seeds=tuple(range(1, len(values) + 1)),
        minutes=minutes,
        machine=machine,
    )


CLAIMS: dict[str, Claim] = {
    "mlp-mnist": _of("test", "accuracy", (0.991, 0.9906, 0.9911), 0.63),
    "lenet-digits": _of("test", "accuracy", (0.99145, 0.9943, 0.9886), 0.15),
    "lenet-mnist": _of("test", "accuracy", (0.9959, 0.9956, 0.9958), 4.85),
    "airbench-cifar": _of("test", "accuracy", (0.881, 0.892, 0.887), 3.62, ONE_THREAD),
    "airbench-cifar-long": _of("test", "accuracy", (0.909,), 6.54),
    "resnet-cifar": _of("test", "accuracy", (0.844,), 4.49, ONE_THREAD),
    "alexnet-cifar": _of("test", "accuracy", (0.692,), 3.76, ONE_THREAD),
    "vit-cifar": _of("test", "accuracy", (0.736,), 5.47, ONE_THREAD),
    "lstm-shakespeare": _of("validation", "loss", (1.46936,), 13.44, ONE_THREAD),
    "lstm-chorales": _of("test", "loss", (8.32165, 8.32816, 8.37016), 4.0, ONE_THREAD),
    "lstm-fsdd": _of("test", "accuracy", (0.98667, 1.0, 0.98333), 1.48, ONE_THREAD),
    "lstm-fsdd-ctc": _of("test", "wer", (0.00863, 0.00664, 0.01393), 8.8, ONE_THREAD),
    "gpt-shakespeare": _of("validation", "loss", (1.4645, 1.4748, 1.4662), 9.32),
    "gpt-shakespeare-short": _of("validation", "loss", (1.5558, 1.5534, 1.5563), 1.31),
    "gpt-shakespeare-long": _of("validation", "loss", (1.4571, 1.4527, 1.4492), 13.27),
}
