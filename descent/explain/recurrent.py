"""Inside a recurrent network: its gates over time, its hidden states, and single units over a text.

Karpathy, Johnson, Fei-Fei (2015), "Visualizing and Understanding Recurrent Networks": units of the cell that
follow quotes, lines or brackets (figure 2), and how many gates stand open or shut (figure 3).

Legend: L layers times directions, T steps, H hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.probes import at_rest
from descent.explain.sequences import answers
from descent.nn.recurrent import Recurrent

__all__ = ["Trace", "recurrent_layers", "trace"]

GATES = ("input", "forget", "output", "reset", "update")
"""What lies in 0..1 and lets something through; the others are states, or candidates for one."""
SHUT, OPEN = 0.1, 0.9
"""A gate below is shut and one above is open, as in the paper's section 4.2."""


@dataclass(frozen=True)
class Trace:
    """All that a recurrent network computed over one sequence.

    Attributes:
        module: the name of the recurrent module.
        layers: names of its layers, each direction by itself.
        values: by name ("hidden", the LSTM's "cell", the gates), one array (L, T, H) each.
        pieces: of a text, what each step reads.
    """

    module: str
    layers: tuple[str, ...]
    values: dict[str, Float[np.ndarray, "layers time hidden"]]
    pieces: tuple[str, ...] = ()

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the gates there are; none of an Elman network."""
        return tuple(name for name in GATES if name in self.values)

    @property
    def memory(self) -> Float[np.ndarray, "layers time hidden"]:
        """What a unit remembers: the hyperbolic tangent of an LSTM's cell, else the hidden state."""
        return np.tanh(self.values["cell"]) if "cell" in self.values else self.values["hidden"]

    def saturation(self) -> dict[str, tuple[Float[np.ndarray, " layers"], Float[np.ndarray, " layers"]]]:
        """Of each gate, by layer, the share of its values that are shut and that are open."""
        return {
            name: ((self.values[name] < SHUT).mean((1, 2)), (self.values[name] > OPEN).mean((1, 2)))
            for name in self.gates
        }

    def most_varied(self, count: int = 4) -> list[tuple[int, int]]:
        """Layer and number of the units whose memory varies most over the sequence, the first the most."""
        spread_LH = self.memory.std(1)
        order = np.argsort(-spread_LH, axis=None, kind="stable")[:count]
        return [divmod(int(place), spread_LH.shape[1]) for place in order]


def recurrent_layers(model: nn.Module) -> list[str]:
    """The names of a model's recurrent modules."""
    return [name for name, module in model.named_modules() if isinstance(module, Recurrent)]


def trace(
    model: nn.Module, batch: Mapping[str, Tensor], *, layer: str | None = None, pieces: Sequence[str] = ()
) -> Trace:
    """What a recurrent module does over the first row of a batch, by its readable cell.

    The forward pass runs as always; what enters the module is traced again, step by step, and the states
    equal those of the pass.

    Args:
        model: one with a `Recurrent` module.
        batch: as the model takes it.
        layer: the name of the module; by default the first one that reads anything.
        pieces: of a text, kept for figures.

    Raises:
        UserError: the model has no recurrent module, or none of that name.
    """
    modules = {name: module for name, module in model.named_modules() if isinstance(module, Recurrent)}
    if not modules:
        raise UserError(
            f"a {type(model).__name__} has no recurrent layer", hint="give a run of model.type=rnn"
        )
    if layer is not None and layer not in modules:
        raise UserError("no recurrent layer is called so", got=layer, expected="one of " + ", ".join(modules))
    seen: dict[str, tuple[Tensor, Any, Tensor | None]] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
            state = next(iter(inputs[1:]), options.get("state"))
            seen.setdefault(name, (inputs[0], state, options.get("lengths")))

        return hook

    handles = [m.register_forward_pre_hook(keep(name), with_kwargs=True) for name, m in modules.items()]
    home = next(model.parameters()).device
    try:
        with at_rest(model), torch.no_grad():
            answers(model, {name: value[:1].to(home) for name, value in batch.items() if value.dim()})
            wanted = layer or next((name for name in modules if name in seen), None)
            if wanted is None or wanted not in seen:
                raise UserError(
                    f"{layer or 'the recurrent layer'} is stepped through by the model itself and cannot be "
                    "traced",
                    expected="one of " + ", ".join(seen) if seen else None,
                )
            inputs, state, lengths = seen[wanted]
            found = modules[wanted].trace(inputs, state, lengths=lengths)
    finally:
        for handle in handles:
            handle.remove()
    steps = inputs.shape[1] if lengths is None else int(lengths[0])
    values = {name: value[0, :steps].transpose(0, 1).float().cpu().numpy() for name, value in found.items()}
    ways = ("", "_reverse")[: modules[wanted].directions]
    names = tuple(f"l{index}{way}" for index in range(modules[wanted].layers) for way in ways)
    return Trace(wanted, names, values, tuple(pieces[:steps]))
