"""From a loaded model and image files to explanations: the methods by name, and what fits a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from descent.data import prepare_image
from descent.data.dataset import normalise, restored
from descent.errors import UserError, unknown
from descent.evaluation import class_shares
from descent.explain.attribution import Attribution, chosen
from descent.explain.features import FeatureMaps, Filters, feature_maps, filters
from descent.explain.gradient import integrated_gradients, saliency, smoothgrad
from descent.explain.maximisation import Maximised, channels_of, maximise
from descent.explain.names import METHODS, TABLE, that
from descent.explain.probes import as_input, at_rest
from descent.explain.region import gradcam, occlusion
from descent.explain.sanity import Sanity, sanity_check
from descent.explain.tokens import AttentionMaps, attention, attention_maps, rollout

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded

__all__ = ["ATTRIBUTIONS", "Explanation", "check", "class_number", "explain", "shape_of"]

ATTRIBUTIONS: dict[str, Callable[..., Attribution]] = {
    "saliency": saliency,
    "smoothgrad": smoothgrad,
    "integrated-gradients": integrated_gradients,
    "gradcam": gradcam,
    "occlusion": occlusion,
    "attention": attention,
    "rollout": rollout,
}
"""The methods that give one map an image."""
SHOWN_TARGETS = 10

Found = Attribution | AttentionMaps | FeatureMaps | Filters | Maximised


@dataclass(frozen=True)
class Explanation:
    """What methods found for some images.

    Attributes:
        found: by the name of the method.
        pictures: the images as the model sees them, in 0..1; none for methods that need no image.
        names: of the images.
        labels: of the classes.
        predicted: the class the model gives each image.
        probability: and how sure it is, of the image as it is, also where `predict` averages views of it.
        unfit: methods that do not fit the model, with the reason; only where all were asked for.
        mean, std: of the channels, for turning a model's input back into a picture.
    """

    found: dict[str, Found]
    pictures: NDArray[np.float32]
    names: tuple[str, ...]
    labels: tuple[str, ...]
    predicted: tuple[int, ...] = ()
    probability: tuple[float, ...] = ()
    unfit: dict[str, str] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def draw(self, path: str | Path) -> Path:
        """Draws it into a PNG."""
        from descent.explain.figure import draw

        return draw(self, Path(path))


def explain(
    loaded: Loaded,
    images: Any = (),
    method: str = "gradcam",
    *,
    target: int | str | None = None,
    layer: str | None = None,
    names: Sequence[str] = (),
    **options: Any,
) -> Explanation:
    """Explains a classifier of images by a method called by its name.

    Args:
        loaded: what `descent.load` gave.
        images: paths or PIL images, one or several, or inputs of the model as a tensor (batch, channels,
            height, width); none for `filters` and `maximise`.
        method: a name of `METHODS`; "all" takes those that give one map an image and fit the model.
            "attention" gives every layer and head; in "all" it is one map, the mean of the last layer.
        target: the class to explain, by its name or number; the predicted one by default. `maximise` takes
            the first classes by default, or the first channels of `layer`. Attention, rollout, features and
            filters are the same for every class and take none.
        layer: for `gradcam`, `attention`, `features` and `maximise`.
        names: of the images; those of their files by default.
        options: of the method's function. The baseline of integrated gradients is black here.

    Raises:
        UserError: the model classifies no images, or the method does not fit it or what is given.
    """
    _check_given(method, images, target, layer)
    mean, std = _scale(loaded)
    if method in TABLE and not TABLE[method].takes_images:
        found = filters(loaded.model) if method == "filters" else _maximised(loaded, target, layer, options)
        blank = np.zeros((0, 1, 1, 1), np.float32)
        return Explanation({method: found}, blank, (), _labels(loaded), mean=mean, std=std)
    inputs, known = _inputs(loaded, images)
    with at_rest(loaded.model), torch.no_grad():
        outputs = loaded.model(as_input(loaded.model, inputs)).float().cpu()
    predicted = chosen(outputs, None)
    wanted = predicted if target is None else class_number(loaded, target)
    results, unfit = _results(loaded, inputs, wanted, method, {"layer": layer, **options})
    return Explanation(
        results,
        restored(inputs, mean, std).numpy(),
        tuple(names) or known,
        _labels(loaded),
        tuple(predicted.tolist()),
        tuple(class_shares(outputs, loaded.loss).gather(1, predicted[:, None])[:, 0].tolist()),
        unfit,
        mean=mean,
        std=std,
    )


def _check_given(method: str, images: Any, target: int | str | None, layer: str | None) -> None:
    """Nothing that is given may be of no use to the method."""
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    given = {
        "layer": layer is not None,
        "target": target is not None,
        "images": len(images) > 0 if isinstance(images, (Tensor, list, tuple)) else True,
    }
    for what, is_given in given.items():
        fits = that(f"takes_{what}") + (() if what == "layer" else ("all",))
        if is_given and method not in fits:
            raise UserError(f"{method} takes no {what}", expected=f"{what} for one of " + ", ".join(fits))


def check(
    loaded: Loaded, images: Any, methods: Sequence[str] = (), *, target: int | str | None = None
) -> list[Sanity]:
    """The sanity check of methods on a loaded model; see `sanity_check`.

    Args:
        loaded, images, target: as in `explain`.
        methods: names of `ATTRIBUTIONS`; all that fit the model by default.
    """
    for name in methods:
        if name not in ATTRIBUTIONS:
            raise unknown("method with a sanity check", name, ATTRIBUTIONS)
    inputs, _ = _inputs(loaded, images)
    wanted = None if target is None else class_number(loaded, target)
    results = []
    for name in methods or ATTRIBUTIONS:
        # Far from complete is near enough for ranks, and a network without weights makes it slow.
        rough = {"most": 64} if name == "integrated-gradients" else {}
        method = _with_defaults(loaded, name, **rough)
        try:
            method(loaded.model, inputs[:1])
        except UserError:
            if methods:
                raise
            continue
        results.append(sanity_check(loaded.model, inputs, method, wanted))
    return results


def class_number(loaded: Loaded, target: int | str) -> int:
    """The number of a class given by name or number; a `UserError` names the nearest there is."""
    labels = _labels(loaded)
    if isinstance(target, str) and target in labels:
        return labels.index(target)
    if isinstance(target, int) or (target.isascii() and target.isdigit()):
        return int(target)
    raise unknown("class", target, labels)


def _results(
    loaded: Loaded, inputs: Tensor, target: int | Tensor, method: str, options: dict[str, Any]
) -> tuple[dict[str, Found], dict[str, str]]:
    given = {name: value for name, value in options.items() if value is not None}
    if method == "features":
        return {method: feature_maps(loaded.model, inputs, **given)}, {}
    if method == "attention":
        layer = given.pop("layer", None)
        maps = attention_maps(loaded.model, inputs, layers=None if layer is None else [layer], **given)
        return {method: maps}, {}
    if method != "all":
        return {method: _with_defaults(loaded, method)(loaded.model, inputs, target, **given)}, {}
    results: dict[str, Found] = {}
    unfit = {}
    for name in ATTRIBUTIONS:
        try:
            results[name] = _with_defaults(loaded, name)(loaded.model, inputs, target)
        except UserError as error:
            unfit[name] = error.what
    return results, unfit


def _with_defaults(loaded: Loaded, name: str, **more: Any) -> Callable[..., Attribution]:
    """The method, with what follows from the model's data: a black baseline."""
    method = ATTRIBUTIONS[name]
    if name != "integrated-gradients":
        return method
    black = _ends(loaded)[0]
    return lambda model, inputs, target=None, **options: method(
        model, inputs, target, **{"baseline": black, **more, **options}
    )


def _maximised(
    loaded: Loaded, target: int | str | None, layer: str | None, options: dict[str, Any]
) -> Maximised:
    if target is None:
        shape = shape_of(loaded)
        count = len(_labels(loaded)) if layer is None else channels_of(loaded.model, layer, shape)
        targets = list(range(min(SHOWN_TARGETS, count)))
    else:
        targets = [int(target) if layer and str(target).isdigit() else class_number(loaded, target)]
    low, high = _ends(loaded)
    return maximise(loaded.model, targets, layer=layer, **{"low": low, "high": high, **options})


def _inputs(
    loaded: Loaded, images: Any
) -> tuple[Float[Tensor, "batch channels height width"], tuple[str, ...]]:
    if isinstance(images, Tensor):
        return images, tuple(f"image {number}" for number in range(len(images)))
    listed = list(images) if isinstance(images, (list, tuple)) else [images]
    if not listed:
        raise UserError("there is no image to explain", expected="one image or more")
    inputs = torch.stack([prepare_image(loaded.preparation, item) for item in listed])
    named = (Path(item).name if isinstance(item, (str, Path)) else "" for item in listed)
    return inputs, tuple(name or f"image {number}" for number, name in enumerate(named))


def shape_of(loaded: Loaded) -> tuple[int, int, int]:
    """Channels, height and width of the images that a loaded model takes."""
    _scale(loaded)
    channels, height, width = loaded.preparation["shape"]
    return channels, height, width


def _scale(loaded: Loaded) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the channels."""
    held = loaded.preparation
    if held.get("kind") != "images":
        raise loaded.unprepared() or UserError(
            f"{loaded.name or 'this model'} classifies no images", hint="give a run trained on images"
        )
    return tuple(held["mean"]), tuple(held["std"])


def _ends(loaded: Loaded) -> tuple[Tensor, Tensor]:
    """Black and white as the model gets them, (channels, 1, 1)."""
    mean, std = map(list, _scale(loaded))
    black, white = (torch.full((len(mean), 1, 1), byte) for byte in (0.0, 255.0))
    return normalise(black, mean, std), normalise(white, mean, std)


def _labels(loaded: Loaded) -> tuple[str, ...]:
    outputs = max(getattr(loaded.config, "outputs", 0), 2)
    return tuple(loaded.labels or (str(number) for number in range(outputs)))
