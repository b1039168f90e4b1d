"""Gradients that explode or vanish, found while a network trains, with the layer and the step.

    every step        the gradient's length, which the loop knows anyway, against its usual one
    every LOOK steps  the length by layer; and how far back in time a recurrent layer's gradient reaches

Sources: Hochreiter (1991), "Untersuchungen zu dynamischen neuronalen Netzen"; Bengio, Simard, Frasconi
(1994), "Learning long-term dependencies with gradient descent is difficult"; Pascanu, Mikolov, Bengio (2013),
"On the difficulty of training recurrent neural networks", where clipping mends those that explode.

Watching changes nothing: no random number is drawn, and no gradient is touched.
Legend: B rows, T steps of a row, K distances.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.nn.recurrent import Recurrent

__all__ = ["GradientWarning", "GradientWatch", "reach"]

LOOK = 20
"""Steps from one look at every layer to the next."""
PATIENCE = 3
"""Looks in a row at which a layer's gradient must be lost before that is said."""
WINDOW, LEAST = 100, 20
"""Steps that the usual length is the median of, and how many there must be for one."""
JUMP = 10.0
"""A gradient so many times as long as usual explodes; sound runs stay below 3."""
STEEP = 1000.0
"""In a run's first steps: |gradient| |weights| / loss of a layer that explodes; sound ones stay below 30."""
FAINT = 1e-5
"""A layer whose gradient is so small beside the strongest layer's, both per weight, is not reached; in sound
runs the weakest has 1e-3 or more."""
LOST = 2.0**-23
"""What is smaller than this share is rounded away where single precision adds up."""
SHORTEST = 16
"""Steps of a row below which nobody asks how far back a gradient reaches."""
_NOTHING = nullcontext()
_LAYER = re.compile(r"_(l\d+(?:_reverse)?)$")


@dataclass(frozen=True)
class GradientWarning:
    """A gradient that explodes or vanishes.

    Attributes:
        kind: which of the two.
        layer: the name of the module; of a recurrent one's several layers `name.l0`, `name.l1`, ...
        step: batches done, the one it was seen at included.
        norm: of the layer's gradient before clipping; of one that vanishes in time, at its far end.
        message: the same in a sentence, with a remedy.
        clipped: the run clips its gradients, which is the remedy.
    """

    kind: Literal["exploding", "vanishing"]
    layer: str
    step: int
    norm: float
    message: str
    clipped: bool = False


@dataclass(frozen=True)
class _Layer:
    gradient: float
    weights: float
    count: int

    @property
    def per_weight(self) -> float:
        return self.gradient / math.sqrt(self.count)


class GradientWatch:
    """Watches the gradients of one training; each kind of trouble is told once a layer.

    Args:
        model: what is trained.
        clip_norm: the longest gradient the loop lets pass; 0 = no limit.
    """

    def __init__(self, model: nn.Module, clip_norm: float = 0.0):
        self.clip_norm = clip_norm
        self._layers: dict[str, list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            self._layers.setdefault(_layer_of(name), []).append(parameter)
        self._recurrent = {
            name: module for name, module in model.named_modules() if isinstance(module, Recurrent)
        }
        self._usual: dict[str, _Usual] = {}
        self._found: list[GradientWarning] = []
        self._told: set[tuple[str, str]] = set()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._by_time: dict[str, Tensor] = {}

    def listening(self, step: int) -> AbstractContextManager[None]:
        """Where a look is due, keeps the gradients that reach the inputs of recurrent layers, by time.

        Args:
            step: batches done before this one.
        """
        self._by_time.clear()
        due = self._recurrent and step and step % LOOK == 0
        return self._hooked() if due else _NOTHING

    @contextmanager
    def _hooked(self) -> Iterator[None]:
        handles = [
            module.register_forward_pre_hook(self._hook(name), with_kwargs=True)
            for name, module in self._recurrent.items()
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def taken(self) -> tuple[GradientWarning, ...]:
        """What was found since this was last asked."""
        found, self._found = tuple(self._found), []
        return found

    def see(self, phase: str, step: int, loss: float, norm: float) -> None:
        """Looks at the gradients that lie in the parameters, before they are clipped.

        Args:
            phase: each has its own usual length.
            step: batches done before this one.
            loss: of this step and phase.
            norm: of all its gradients together.
        """
        usual = self._usual.setdefault(phase, _Usual())
        times = usual.times(norm) if usual.exceeded(loss, norm) else 0.0
        usual.take(loss, norm)
        if not (times or step < LEAST or step % LOOK == 0):
            return
        layers = self._look()
        if times:
            name = max(layers, key=lambda name: layers[name].gradient)
            self._exploding(name, step, layers[name].gradient, times)
        if step < LEAST:
            name = max(layers, key=lambda name: layers[name].gradient)
            self._steep(name, step, layers[name], loss)
        if step and step % LOOK == 0:
            self._unreached(phase, step, layers)
            self._forgotten(phase, step)

    def _look(self) -> dict[str, _Layer]:
        """The length of each layer's gradient and weights; only layers that have a gradient."""
        held = [(name, p) for name, layer in self._layers.items() for p in layer if p.grad is not None]
        gradients = [p.grad for _, p in held if p.grad is not None]
        weights = [p.detach() for _, p in held]
        # all on their way before the host waits for them, once
        lengths = torch.stack([tensor.float().norm() for tensor in (*gradients, *weights)]).tolist()
        sums: dict[str, list[float]] = {}
        for (name, parameter), gradient, weight in zip(held, lengths, lengths[len(held) :], strict=False):
            total = sums.setdefault(name, [0.0, 0.0, 0.0])
            total[0], total[1] = math.hypot(total[0], gradient), math.hypot(total[1], weight)
            total[2] += parameter.numel()
        return {name: _Layer(gradient, weight, int(n)) for name, (gradient, weight, n) in sums.items()}

    def _exploding(self, name: str, step: int, length: float, times: float) -> None:
        self._tell(
            "exploding", name, step, length,
            f"the gradient explodes: {times:,.0f} times its usual length, {length:.3g} of it in {name}",
        )  # fmt: skip

    def _steep(self, name: str, step: int, layer: _Layer, loss: float) -> None:
        if layer.gradient * layer.weights > STEEP * abs(loss):
            self._tell(
                "exploding", name, step, layer.gradient,
                f"the gradient explodes in {name}: its length is {layer.gradient:.3g}, the loss {loss:.3g}",
            )  # fmt: skip

    def _unreached(self, phase: str, step: int, layers: dict[str, _Layer]) -> None:
        """Layers that hardly any gradient arrives at, beside the others."""
        if len(layers) < 3:
            return
        strongest = max(layer.per_weight for layer in layers.values())
        for name, layer in layers.items():
            if self._still_lost(phase, name, layer.per_weight < FAINT * strongest):
                share = (
                    f"{layer.per_weight / strongest:.1g} of the strongest layer's"
                    if layer.gradient
                    else "zero"
                )
                self._tell(
                    "vanishing", name, step, layer.gradient,
                    f"the gradient vanishes in {name}: per weight it is {share}; "
                    "a norm, a residual path or another activation may carry it",
                )  # fmt: skip

    def _forgotten(self, phase: str, step: int) -> None:
        """Recurrent layers whose gradient is lost on its way back to the first steps of a row."""
        for name, by_time_BT in self._by_time.items():
            profile_K = reach(by_time_BT)
            if len(profile_K) < SHORTEST:
                continue
            nearest, far = float(profile_K.max()), float(profile_K[-(len(profile_K) // 4) :].mean())
            if self._still_lost(phase, f"{name} in time", far < LOST * nearest):
                back = int((profile_K >= LOST * nearest).nonzero().max())
                self._tell(
                    "vanishing", name, step, far,
                    f"the gradient vanishes in {name}: it reaches back {back} of {len(profile_K) - 1} steps "
                    "and is then less than rounding; a gated cell (lstm, gru) carries it further, "
                    "and so does an lstm's forget_bias",
                )  # fmt: skip

    def _still_lost(self, phase: str, name: str, lost: bool) -> bool:
        self._lost[phase, name] = self._lost[phase, name] + 1 if lost else 0
        return self._lost[phase, name] >= PATIENCE

    def _tell(
        self, kind: Literal["exploding", "vanishing"], layer: str, step: int, norm: float, message: str
    ) -> None:
        if (kind, layer) in self._told:
            return
        self._told.add((kind, layer))
        clipped = kind == "exploding" and self.clip_norm > 0
        if kind == "exploding":
            message += f"; clip_norm={self.clip_norm:g} bounds it" if clipped else "; clip_norm=1.0 bounds it"
        sentence = f"step {step + 1:,}: {message}"
        self._found.append(GradientWarning(kind, layer, step + 1, norm, sentence, clipped))

    def _hook(self, name: str) -> Callable[..., Any]:
        def keep(gradient: Tensor) -> None:
            if name not in self._by_time:
                self._by_time[name] = gradient.detach().float().norm(dim=-1)

        def hook(module: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
            first, *rest = inputs
            if not torch.is_grad_enabled() or first.shape[1] < SHORTEST:
                return None
            if first.requires_grad:
                first.register_hook(keep)
                return None
            leaf = first.detach().requires_grad_(True)  # of features no gradient would be taken
            leaf.register_hook(keep)
            return (leaf, *rest), options

        return hook


class _Usual:
    """The usual length of a phase's gradient, by itself and by the loss."""

    def __init__(self) -> None:
        self._norms: deque[float] = deque(maxlen=WINDOW)
        self._ratios: deque[float] = deque(maxlen=WINDOW)
        self._since = 0
        self.norm = self.ratio = self.first = math.inf
        self._largest = 0.0

    def exceeded(self, loss: float, norm: float) -> bool:
        """Whether this gradient is far longer than usual, also for its loss or beside the first ones.

        Near the end of training a rare example has a gradient far longer than the others, and a loss far
        higher: that is no explosion. Before there is a usual length, the longest so far stands for it.
        """
        if math.isinf(self.norm):
            return norm > JUMP**2 * self._largest > 0
        return norm > JUMP * self.norm and (norm > JUMP * self.ratio * abs(loss) or norm > JUMP * self.first)

    def times(self, norm: float) -> float:
        """So many times the usual length."""
        return norm / (self._largest if math.isinf(self.norm) else self.norm)

    def take(self, loss: float, norm: float) -> None:
        self._norms.append(norm)
        self._largest = max(self._largest, norm)
        self._ratios.append(norm / max(abs(loss), 1e-12))
        self._since += 1
        if self._since == LOOK:  # a median a look costs nothing, one a step does
            self._since = 0
            self.norm, self.ratio = statistics.median(self._norms), statistics.median(self._ratios)
            if math.isinf(self.first):
                self.first = self.norm


def reach(by_time: Float[Tensor, "batch time"]) -> Float[Tensor, "distances"]:
    """Mean length of a gradient over the rows, by its distance from the last step that has one.

    Rows that end early are compared by distance, and those shorter than the middle one are left out.

    Args:
        by_time: the length at each step of each row; 0 where a row is padded.
    """
    rows_BT = by_time[(by_time > 0).any(1)]
    if not len(rows_BT):
        return rows_BT.new_zeros(0)
    steps_T = torch.arange(rows_BT.shape[1], device=rows_BT.device)
    last_B = (steps_T * (rows_BT > 0)).amax(1)
    span = int(last_B.median())
    long_B = last_B >= span
    places_BK = last_B[long_B, None] - torch.arange(span + 1, device=rows_BT.device)
    return rows_BT[long_B].gather(1, places_BK).mean(0)


def _layer_of(parameter: str) -> str:
    """The layer a parameter belongs to: its module, and of a recurrent one with its number."""
    module, _, leaf = parameter.rpartition(".")
    number = _LAYER.search(leaf)
    return f"{module}.{number[1]}".lstrip(".") if number else module or leaf
