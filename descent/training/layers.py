"""The layers of a network from its stem to its head, and how each is trained on from weights it was given.

    groups     stem | block | block | ... | head
    rates      decay^n ...   decay^2  decay   1       discriminative (Howard and Ruder 2018, section 3.2)
    thawing    the head alone, then with every `thaw` steps one group more (section 3.3 there)

Source: J. Howard, S. Ruder (2018), "Universal Language Model Fine-tuning for Text Classification".
What is trained at a step is a function of the step's number, so a resumed run goes on as it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn

from descent.errors import UserError

HEADS = frozenset({"head", "lm_head", "unembedding", "classifier"})
"""What the layer that gives the logits is called; a model without such a name has it in its last Linear."""
CONTAINERS = (nn.ModuleList, nn.Sequential, nn.ModuleDict)
TABLES = (nn.Embedding, nn.EmbeddingBag)

Group = tuple[str, ...]
"""Prefixes of the names of its parameters and modules."""


@dataclass(frozen=True)
class Layers:
    """Which layers of a model are trained at which step, and at what share of the learning rate.

    Attributes:
        groups: from the stem to the head.
        decay: the rate of a group is `decay` times that of the group after it.
        thaw: steps between one group's unfreezing and the next one's; 0 = all are trained from the start.
        frozen: only the head is ever trained.
    """

    groups: tuple[Group, ...]
    decay: float = 1.0
    thaw: int = 0
    frozen: bool = False

    @classmethod
    def of(cls, model: nn.Module, decay: float, thaw: int | float, frozen: bool, steps: int) -> Layers:
        """The layers of a model; `thaw` in steps when whole, else as a fraction of all `steps`."""
        span = max(1, round(thaw * steps)) if thaw and isinstance(thaw, float) else int(thaw)
        return cls(layer_groups(model), decay, span, frozen)

    def group(self, name: str) -> int:
        """The number of the group that a parameter or module belongs to: that of its longest prefix."""
        fitting = [
            (len(prefix), number)
            for number, prefixes in enumerate(self.groups)
            for prefix in prefixes
            if inside(name, prefix)
        ]
        return max(fitting, default=(0, 0))[1]

    def rate(self, name: str) -> float:
        """What a parameter's learning rate is multiplied by."""
        return self.decay ** (len(self.groups) - 1 - self.group(name))

    def first(self, step: int) -> int:
        """The number of the lowest group that is trained at a step."""
        if self.frozen:
            return len(self.groups) - 1
        return max(0, len(self.groups) - 1 - step // self.thaw) if self.thaw else 0


def inside(name: str, prefix: str) -> bool:
    """Whether a parameter or module is the one called `prefix`, or in it; all is in the model itself ("")."""
    return not prefix or name == prefix or name.startswith(f"{prefix}.")


def head_of(model: nn.Module) -> str:
    """The name of the layer that gives a model's outputs.

    The last layer called by a name of `HEADS` that has weights of its own; else the last Linear. A model that
    sets such a name to None uses its token embedding for it: that is then the head.

    Raises:
        UserError: there is no such layer.
    """
    if any(getattr(model, name, model) is None for name in HEADS):
        return next(name for name, module in model.named_modules() if isinstance(module, TABLES))
    named = [name for name, module in model.named_modules() if _last(name) in HEADS and _own(module)]
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not named and not linear:
        raise UserError(
            f"{type(model).__name__} has no head: no layer called {', '.join(sorted(HEADS))}, and no Linear"
        )
    return (named or linear)[-1]


def layer_groups(model: nn.Module) -> tuple[Group, ...]:
    """The layers of a model in the order in which it defines them, its head last.

    Containers are opened once, so that each block of a stack is a group. What has no matrix or kernel (a
    norm, a second embedding) belongs to the group before it, and parameters that the model itself holds to
    the first.
    """
    head = head_of(model)
    groups: list[list[str]] = []
    for name, module in _layers(model):
        if name == head:
            continue
        if groups and not _has_weights(module):
            groups[-1].append(name)
        else:
            groups.append([name])
    own = [name for name, _ in model.named_parameters(recurse=False)]
    if own and head:
        groups = [[*own, *groups[0]], *groups[1:]] if groups else [own]
    # A layer around the head, with nothing else in it, is no group of its own.
    kept = [group for group in groups if any(_has_parameters(model, name, without=head) for name in group)]
    return (*map(tuple, kept), (head,))


@contextmanager
def frozen(model: nn.Module, layers: Layers | None, step: int) -> Iterator[None]:
    """Freezes what is not trained at a step, and afterwards restores the flags there were.

    Frozen batch norms compute with their running statistics and do not change them.
    """
    first = layers.first(step) if layers else 0
    if layers is None or not first:
        yield
        return
    parameters = [p for name, p in model.named_parameters() if p.requires_grad and layers.group(name) < first]
    norms = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and module.training
        and layers.group(name) < first
    ]
    try:
        for parameter in parameters:
            parameter.requires_grad_(False)
        for norm in norms:
            norm.eval()
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
        for norm in norms:
            norm.train()


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_children():
        if isinstance(module, CONTAINERS):
            yield from ((f"{name}.{inner}", part) for inner, part in module.named_children())
        else:
            yield name, module


def _has_weights(module: nn.Module) -> bool:
    """Whether it holds a matrix or a kernel that is no table of embeddings."""
    return any(not isinstance(part, TABLES) and _own(part) for part in module.modules())


def _own(module: nn.Module) -> bool:
    return any(parameter.ndim >= 2 for parameter in module.parameters(recurse=False))


def _has_parameters(model: nn.Module, prefix: str, without: str) -> bool:
    return any(
        inside(name, prefix) and not inside(name, without)
        for name, _ in model.named_parameters(remove_duplicate=False)
    )


def _last(name: str) -> str:
    return name.rpartition(".")[2]
