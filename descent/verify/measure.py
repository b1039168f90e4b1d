"""What every row of the contract is made with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from descent.data.dataset import Batch
from descent.objectives.objective import model_inputs


@dataclass(frozen=True)
class Row:
    """One equivalence.

    Attributes:
        name: what is claimed equal to what.
        tolerance: the largest difference allowed; 0 = equal bit for bit.
        worst: the largest difference found; None if the row does not apply.
        note: how it was measured, or why it does not apply.
    """

    name: str
    tolerance: float
    worst: float | None
    note: str = ""

    @property
    def ok(self) -> bool:
        """False if the difference is over the tolerance (a NaN is)."""
        return self.worst is None or self.worst <= self.tolerance


class NotApplicable(Exception):
    """Why a row has nothing to measure in this model."""


def difference(found: Tensor, expected: Tensor) -> float:
    """Largest absolute difference, relative to the largest expected value where that is over 1."""
    found, expected = found.double(), expected.double()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1))


def asked(model: Any, batch: Batch, **known: Any) -> Tensor:
    """What the model says of a batch; tokens or features, where they are its one input, by their place."""
    held = {**model_inputs(batch), **known}
    name = read_by(batch)
    return joined(model(held.pop(name), **held) if name else model(**held))


def joined(outputs: Tensor | tuple[Tensor, ...]) -> Tensor:
    """Several answers to each row side by side; one as it is."""
    return outputs if isinstance(outputs, Tensor) else torch.cat([one.flatten(1) for one in outputs], dim=1)


def read_by(batch: Batch) -> str | None:
    """What a model of one input reads, "inputs" or "tokens"; None where it takes several."""
    several = "source" in batch or "history" in batch
    return None if several else "inputs" if "inputs" in batch else "tokens"


def rows(batch: Batch, chosen: slice) -> Batch:
    """Some rows of a batch."""
    return {name: value[chosen] for name, value in batch.items()}


def random_batch(model: Any, count: int = 3, length: int = 24) -> Batch:
    """Random rows for a model that came without data."""
    config: Any = model.config
    generator = torch.Generator().manual_seed(0)
    lengths = torch.arange(length, 0, -(length // count))[:count]

    def ids(size: int = length) -> Tensor:
        return torch.randint(config.vocab_size, (count, size), generator=generator)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    if config.type in ("forecaster", "dlinear"):
        history = getattr(config, "history", length)
        known = numbers(history + config.horizon, getattr(config, "known", 0))
        return {"history": numbers(history, config.channels), "known": known}
    if config.type in ("seq2seq", "transformer", "t5"):
        return {"source": ids(), "source_lengths": lengths, "tokens": ids(length // 2)}
    if config.type in ("rnn", "dscnn"):
        if config.inputs:
            return {"inputs": numbers(length, *config.inputs), "lengths": lengths}
        return {"tokens": ids()} if config.pool == "none" else {"inputs": ids(), "lengths": lengths}
    if getattr(config, "vocab_size", 0):
        return {"tokens": ids(min(length, config.context))}
    return {"inputs": numbers(*config.inputs)}
