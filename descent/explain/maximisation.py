"""Activation maximisation: pictures that a class or a channel answers to most.

Legend: P pictures, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.attribution import chosen, score
from descent.explain.probes import as_input, at_rest, module_called, probe

__all__ = ["Maximised", "channels_of", "maximise"]


@dataclass(frozen=True)
class Maximised:
    """Pictures found by climbing.

    Attributes:
        images: normalised, within the range of real pixels.
        targets: the class or the channel of each.
        layer: whose channels they are; None for classes.
        before: what was climbed, at the first picture.
        after: and at the last.
    """

    images: Float[Tensor, "pictures channels height width"]
    targets: tuple[int, ...]
    layer: str | None
    before: Float[Tensor, "pictures"]
    after: Float[Tensor, "pictures"]


def maximise(
    model: nn.Module,
    targets: int | Sequence[int],
    *,
    layer: str | None = None,
    shape: tuple[int, int, int] | None = None,
    low: float | Tensor = -2.0,
    high: float | Tensor = 2.0,
    steps: int = 200,
    rate: float = 0.05,
    jitter: int = -1,
    l2: float = 0.5,
    variation: float = 8.0,
    seed: int = 0,
) -> Maximised:
    """Gradient ascent on the picture, for each target: its score, less penalties.

    Erhan, Bengio, Courville, Vincent (2009), "Visualizing Higher-Layer Features of a Deep Network". What
    keeps the pictures from being noise is in Olah, Mordvintsev, Schubert (2017), "Feature Visualization":
    the picture moves by a few pixels at every step, total variation and distance from grey are penalised,
    and the climb is in the spectrum, where low frequencies move first. A sigmoid keeps every pixel between
    `low` and `high`.

    Args:
        model: images to logits.
        targets: numbers of classes, or of channels of `layer`.
        layer: a layer whose mean over a channel is climbed in place of a class's logit.
        shape: of a picture; that of `model.config.inputs` by default.
        low, high: of real pixels in normalised units: a number, or one a channel as (channels, 1, 1).
        steps, rate: of Adam.
        jitter: pixels to move by, up to; -1 = an eighth of the side.
        l2, variation: weights of the mean square distance from the middle of the range (0 to 1), and of the
            mean absolute difference of neighbours, in units of what the network gives for the first pictures.
        seed: of the first picture and the moves.

    Raises:
        UserError: there is no such class, layer or channel.
    """
    asked = (targets,) if isinstance(targets, int) else tuple(targets)
    inputs = shape or tuple(getattr(getattr(model, "config", None), "inputs", ()))
    if len(inputs) != 3 or not asked or steps < 1:
        got = (inputs, asked, steps)
        raise UserError("activation maximisation needs a shape, a target and a step", got=got)
    source = torch.Generator().manual_seed(seed)
    move = max(inputs[1:]) // 8 if jitter < 0 else jitter
    moves = torch.randint(-move, move + 1, (steps, 2), generator=source).tolist()
    hill = _Hill(model, asked, layer, low, high)
    with at_rest(model), torch.enable_grad():
        canvas = _Canvas((len(asked), *inputs), source, hill.device)
        before, unit = hill.heights(canvas.picture())
        climb = torch.optim.Adam([canvas.spectrum], lr=rate)
        for down, right in moves:
            picture = canvas.picture()
            heights, _ = hill.heights(picture.roll((down, right), (2, 3)))
            loss = unit * (l2 * _distance(picture) + variation * _roughness(picture)) - heights.sum()
            (canvas.spectrum.grad,) = torch.autograd.grad(loss, canvas.spectrum)
            climb.step()
        last = canvas.picture().detach()
        after, _ = hill.heights(last)
    return Maximised(hill.image(last).cpu(), asked, layer, before.detach().float().cpu(), after.float().cpu())


def channels_of(model: nn.Module, layer: str, shape: tuple[int, int, int]) -> int:
    """How many channels of a layer can be climbed.

    Args:
        model: images to logits.
        layer: its name.
        shape: channels, height and width of a picture.

    Raises:
        UserError: no layer is called so, or it gives no tensor.
    """
    with at_rest(model), torch.no_grad():
        return _channel_means(model, layer, as_input(model, torch.zeros(1, *shape))).shape[1]


def _channel_means(model: nn.Module, layer: str, images: Tensor) -> Float[Tensor, "pictures channels"]:
    """The mean of each channel of a layer over places or tokens."""
    with probe(model, [layer]) as seen:
        model(images)
    if layer not in seen:
        raise UserError(f"the layer {layer!r} gives no tensor")
    held = seen[layer]
    return held.mean((2, 3)) if held.dim() == 4 else held.mean(1) if held.dim() == 3 else held


class _Hill:
    """What is climbed: for each picture in 0..1 what its target gives."""

    def __init__(
        self,
        model: nn.Module,
        asked: tuple[int, ...],
        layer: str | None,
        low: float | Tensor,
        high: float | Tensor,
    ):
        if layer is not None:
            module_called(model, layer)
        home = next(iter(model.parameters()))
        self.device, self.dtype = home.device, home.dtype
        self.model, self.asked, self.layer, self.ends = model, asked, layer, (low, high)

    def image(self, picture: Tensor) -> Tensor:
        """The model's input for a picture in 0..1."""
        low, high = (torch.as_tensor(end).detach().clone().to(picture) for end in self.ends)
        return low + (high - low) * picture

    def heights(self, picture: Tensor) -> tuple[Tensor, float]:
        """What the targets give; and the mean size of all that is given, the unit of the penalties."""
        given = self._given(self.image(picture).to(self.dtype))
        unit, asked = float(given.detach().abs().mean()), list(self.asked)
        if self.layer is None:
            return score(given, chosen(given, asked)), unit
        if not all(0 <= channel < given.shape[1] for channel in asked):
            expected = f"0 to {given.shape[1] - 1}"
            raise UserError(f"{self.layer} has no such channel", got=asked, expected=expected)
        return given[torch.arange(len(asked)), asked], unit

    def _given(self, images: Tensor) -> Tensor:
        """The logits of each picture, or the means of the layer's channels."""
        return self.model(images) if self.layer is None else _channel_means(self.model, self.layer, images)


class _Canvas:
    """Pictures in 0..1 kept as spectra, in which a step of the same size moves low frequencies further."""

    def __init__(self, shape: tuple[int, ...], source: torch.Generator, device: torch.device):
        count, channels, height, width = shape
        self.size = (height, width)
        rows, columns = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
        frequency = (rows[:, None] ** 2 + columns[None] ** 2).sqrt().clamp(min=1 / max(height, width))
        self.scale = (1 / frequency / frequency.reciprocal().square().mean().sqrt()).to(device)
        drawn = torch.randn(count, channels, *frequency.shape, 2, generator=source)
        self.spectrum = (0.05 * drawn).to(device).requires_grad_(True)

    def picture(self) -> Float[Tensor, "pictures channels height width"]:
        field = torch.fft.irfft2(torch.view_as_complex(self.spectrum) * self.scale, s=self.size, norm="ortho")
        return field.sigmoid()


def _distance(picture: Tensor) -> Tensor:
    return (2 * picture - 1).square().mean((1, 2, 3)).sum()


def _roughness(picture: Tensor) -> Tensor:
    down, right = picture.diff(dim=2).abs(), picture.diff(dim=3).abs()
    return down.mean((1, 2, 3)).sum() + right.mean((1, 2, 3)).sum()
