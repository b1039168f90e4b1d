"""All that a run is at a step: weights, optimizer state, declared memories, and the step itself."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.optim import Optimizer

from descent.training.average import EMA
from descent.training.optimizer_state import state_tensors
from descent.weights.safetensors_file import raw_bytes


@dataclass
class State:
    """What is saved and restored, and nothing else is needed to go on.

    Attributes:
        model: the network or networks being trained.
        optimizers: the name of each phase -> its optimizers.
        average: the moving average of the weights, if there is one.
        memory: tensors an objective cannot do without (a history buffer, a carried hidden state).
        step: batches trained on so far.
    """

    model: nn.Module
    optimizers: dict[str, list[Optimizer]]
    average: EMA | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Every tensor of the state, by the kind of file it is kept in and its name."""
        kinds = {
            "model": self.model.state_dict(),
            "optimizer": state_tensors(self.model, self.optimizers),
            "average": self.average.tensors if self.average else {},
            "memory": self.memory,
        }
        return {kind: dict(tensors) for kind, tensors in kinds.items()}


def state_hash(state: State) -> str:
    """SHA-256 over weights, optimizer state, averages, memories and step: equal only if all bits are."""
    digest = hashlib.sha256(f"step {state.step}\n".encode())
    for kind, tensors in sorted(state.tensors().items()):
        hash_tensors(digest, kind, tensors)
    return digest.hexdigest()


def hash_tensors(digest: hashlib._Hash, kind: str, tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{kind} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(raw_bytes(tensor))
