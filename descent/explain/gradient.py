"""Maps from the gradient of a class's score by the pixels: saliency, SmoothGrad, integrated gradients."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.attribution import Attribution, Target, chosen, gradients, scores_of
from descent.explain.probes import as_input, at_rest

__all__ = ["integrated_gradients", "saliency", "smoothgrad"]

INTERVALS, NODES = 8, 4
"""Of the path of integrated gradients: pieces to begin with, and gradients taken on each."""
FLOOR = 0.01


def saliency(
    model: nn.Module, inputs: Float[Tensor, "batch channels height width"], target: Target = None
) -> Attribution:
    """The size of the gradient: the greatest over the channels of |d score / d pixel|.

    Simonyan, Vedaldi, Zisserman (2014), "Deep Inside Convolutional Networks", section 3.1. The score is the
    logit, as there.

    Args:
        model: images to logits.
        inputs: normalised, as the model takes them.
        target: a class for all images or one for each; the predicted one by default.
    """
    with at_rest(model):
        x_NCHW = as_input(model, inputs)
        wanted_N = chosen(model(x_NCHW), target)
        slope_NCHW = gradients(model, x_NCHW, wanted_N)
    return Attribution("saliency", slope_NCHW.abs().amax(1).cpu(), wanted_N.cpu(), slope_NCHW.cpu())


def smoothgrad(
    model: nn.Module,
    inputs: Float[Tensor, "batch channels height width"],
    target: Target = None,
    *,
    samples: int = 32,
    noise: float = 0.15,
    seed: int = 0,
) -> Attribution:
    """The mean gradient over noisy copies of the image, then as `saliency`.

    Smilkov, Thorat, Kim, Viegas, Wattenberg (2017), "SmoothGrad: removing noise by adding noise".

    Args:
        model, inputs, target: as in `saliency`; the predicted class is that of the image without noise.
        samples: noisy copies.
        noise: standard deviation, as a share of the image's range (0.1 to 0.2 in the paper).
        seed: of the noise, which is the same for every image of a batch.
    """
    if samples < 1 or noise < 0:
        raise UserError(
            "SmoothGrad needs copies and noise", got=(samples, noise), expected="1 or more, 0 or more"
        )
    source = torch.Generator().manual_seed(seed)
    with at_rest(model):
        x_NCHW = as_input(model, inputs)
        wanted_N = chosen(model(x_NCHW), target)
        spread_N111 = noise * (x_NCHW.amax((1, 2, 3)) - x_NCHW.amin((1, 2, 3))).view(-1, 1, 1, 1)
        total_NCHW = torch.zeros_like(x_NCHW)
        for _ in range(samples):
            drawn = torch.randn(x_NCHW.shape[1:], generator=source).to(x_NCHW)
            total_NCHW += gradients(model, x_NCHW + spread_N111 * drawn, wanted_N)
        slope_NCHW = total_NCHW / samples
    return Attribution("smoothgrad", slope_NCHW.abs().amax(1).cpu(), wanted_N.cpu(), slope_NCHW.cpu())


def integrated_gradients(
    model: nn.Module,
    inputs: Float[Tensor, "batch channels height width"],
    target: Target = None,
    *,
    baseline: float | Tensor = 0.0,
    tolerance: float = 1e-3,
    most: int = 2048,
) -> Attribution:
    """(x - b) times the mean gradient on the straight way from a baseline b to the image x.

    Sundararajan, Taly, Yan (2017), "Axiomatic Attribution for Deep Networks", section 3. The values of an
    image add up to score(x) - score(b), and the error of that sum, the `residual`, is known. So the way is
    cut into pieces with Gauss-Legendre points on each, and the pieces with the greatest errors, which are
    known too, are halved until the residual is within `tolerance` of the difference of the scores (and of
    1, where the difference is greater; a difference under 0.01 counts as 0.01).

    Args:
        model, inputs, target: as in `saliency`.
        baseline: in normalised units: a number or what broadcasts to an image; 0 is the mean colour.
        tolerance: of the residual.
        most: gradients to take for an image at most; then the residual is what it is.

    Returns:
        `maps` are the sums of `values` over the channels; `residual` and `points` one number an image.
    """
    found: list[tuple[Tensor, float, int]] = []
    with at_rest(model):
        x_NCHW = as_input(model, inputs)
        wanted_N = chosen(model(x_NCHW), target)
        b_NCHW = torch.as_tensor(baseline, dtype=x_NCHW.dtype, device=x_NCHW.device).expand_as(x_NCHW)
        for x, b, wanted in zip(x_NCHW, b_NCHW, wanted_N, strict=True):
            found.append(_Path(model, b, x, wanted).integrate(tolerance, most))
    values_NCHW = torch.stack([values for values, *_ in found]).cpu()
    return Attribution(
        "integrated-gradients",
        values_NCHW.sum(1),
        wanted_N.cpu(),
        values_NCHW,
        torch.tensor([residual for _, residual, _ in found]),
        torch.tensor([points for *_, points in found]),
    )


class _Path:
    """The straight way from b to x, in pieces whose integrals and errors are known."""

    def __init__(self, model: nn.Module, b: Tensor, x: Tensor, target: Tensor):
        self.model, self.b, self.step, self.target = model, b, x - b, target
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        self.nodes = torch.from_numpy((nodes + 1) / 2)
        self.weights = torch.from_numpy(weights / 2).to(x)

    def integrate(self, tolerance: float, most: int) -> tuple[Tensor, float, int]:
        """The values, their residual, and how many gradients it took."""
        edges = torch.linspace(0, 1, INTERVALS + 1, dtype=torch.float64).tolist()
        pieces = self._pieces(list(pairwise(edges)))
        difference = sum(rise for _, _, rise, _ in pieces)
        allowed = tolerance * min(max(abs(difference), FLOOR), 1.0)
        points = NODES * INTERVALS
        while True:
            residual = sum(error for *_, error in pieces)
            room = (most - points) // (2 * NODES)
            if abs(residual) <= allowed or room < 1:
                break
            pieces.sort(key=lambda piece: -abs(piece[3]))
            worst = min(room, max(1, len(pieces) // 4))
            halves = []
            for (start, end), *_ in pieces[:worst]:
                halves += [(start, (start + end) / 2), ((start + end) / 2, end)]
            pieces = self._pieces(halves) + pieces[worst:]
            points += NODES * len(halves)
        return torch.stack([values for _, values, *_ in pieces]).double().sum(0).float(), residual, points

    def _pieces(
        self, bounds: list[tuple[float, float]]
    ) -> list[tuple[tuple[float, float], Tensor, float, float]]:
        """Of each piece: its bounds, the integral by value, the rise of the score, the integral's error."""
        ends = torch.tensor(bounds, dtype=torch.float64)
        widths = ends[:, 1] - ends[:, 0]
        scores = self._scores(ends.flatten()).view(-1, 2)
        rises = (scores[:, 1] - scores[:, 0]).tolist()
        places = (ends[:, :1] + widths[:, None] * self.nodes).flatten()
        slopes = gradients(self.model, self._images(places), self.target.expand(len(places)))
        means = torch.einsum("pncij,n->pcij", slopes.unflatten(0, (-1, NODES)), self.weights)
        values = means * self.step * widths.to(means).view(-1, 1, 1, 1)
        sums = values.double().sum((1, 2, 3)).tolist()
        errors = [total - rise for total, rise in zip(sums, rises, strict=True)]
        return list(zip(bounds, values.unbind(), rises, errors, strict=True))

    def _scores(self, places: Tensor) -> Tensor:
        return scores_of(self.model, self._images(places), self.target.expand(len(places))).double()

    def _images(self, places: Tensor) -> Tensor:
        return self.b + places.to(self.step).view(-1, 1, 1, 1) * self.step
