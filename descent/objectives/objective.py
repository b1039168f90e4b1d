"""What a model is trained for: phases, batches and one scalar loss; nothing about how to step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Phase:
    """One turn of a training step: whose parameters move, and how often.

    Attributes:
        name: names the phase's optimizer and its losses in the metrics.
        modules: prefixes of the parameter names that this phase trains; empty for all of them.
        every: the phase takes part in every n-th step (16 for a lazy regulariser).
    """

    name: str = "train"
    modules: tuple[str, ...] = ()
    every: int = 1

    def owns(self, parameter: str) -> bool:
        """Whether this phase trains the parameter of that name."""
        return not self.modules or any(
            parameter == prefix or parameter.startswith(f"{prefix}.") for prefix in self.modules
        )


class Objective(ABC):
    """Owns the loss. The loop alone does backward, accumulation, clipping, stepping and freezing.

    `splittable` is False where the loss mixes the examples of a batch (contrastive losses, batch
    norm), so that a batch cannot be accumulated from parts.
    """

    phases: tuple[Phase, ...] = (Phase(),)
    splittable: bool = True

    def memory(self, model: nn.Module, lanes: int) -> dict[str, Tensor]:
        """Named tensors it cannot do without from step to step (a history buffer, a carried hidden
        state), changed in place; they are saved and restored with the weights.

        Args:
            model: on its device.
            lanes: rows of a batch that go on from the batch before; 0 = every row is a start.
        """
        return {}

    def batches(self, model: nn.Module, batch: Batch) -> Batch:
        """What the phases of a step see: the data itself, or rollouts made with the live model."""
        return batch

    def targets(self, phase: Phase, batch: Batch) -> int:
        """How many targets the loss is a mean over; parts of a batch are weighted by it."""
        return len(next(iter(batch.values())))

    @abstractmethod
    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        """The scalar this phase makes smaller: the mean over `targets(phase, batch)` targets."""


def model_inputs(batch: Batch) -> Batch:
    """What of a batch the model itself takes, by the names of its arguments."""
    return {
        name: value for name, value in batch.items() if name not in ("targets", "next_targets", "carried")
    }


def outputs_of(model: nn.Module, batch: Batch) -> Tensor:
    """What the model says of a batch, in single precision."""
    held = model_inputs(batch)
    first = [held.pop("inputs")] if "inputs" in held else []  # models call it by names of their own
    return model(*first, **held).float()
