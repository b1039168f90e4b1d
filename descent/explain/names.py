"""The methods by name, and what each is: a light table, for the command line's help imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["METHODS", "SEQUENCES", "TABLE", "TEXTS", "Method", "that"]


@dataclass(frozen=True)
class Method:
    """What is known of a method before it runs.

    Attributes:
        title: as a figure says it.
        is_map: gives one map an image.
        takes_layer: a layer may be chosen.
        takes_target: its answer depends on the class.
        takes_images: it is about images; otherwise about the model alone.
    """

    title: str
    is_map: bool = True
    takes_layer: bool = False
    takes_target: bool = True
    takes_images: bool = True


TABLE = {
    "saliency": Method("Saliency"),
    "smoothgrad": Method("SmoothGrad"),
    "integrated-gradients": Method("Integrated gradients"),
    "gradcam": Method("Grad-CAM", takes_layer=True),
    "occlusion": Method("Occlusion"),
    # By itself it gives every layer and head; where one map an image is wanted, the last layer's mean.
    "attention": Method("Attention, last layer", takes_layer=True, takes_target=False),
    "rollout": Method("Attention rollout", takes_target=False),
    "features": Method("Feature maps", is_map=False, takes_layer=True, takes_target=False),
    "filters": Method("Filters", is_map=False, takes_target=False, takes_images=False),
    "maximise": Method("Activation maximisation", is_map=False, takes_layer=True, takes_images=False),
}
METHODS = (*TABLE, "all")
SEQUENCES = {
    "gates": "Gates over time",
    "hidden": "Hidden states",
    "units": "Units over the text",
    "saliency": "Saliency",
    "gradient-distance": "How far back the gradient reaches",
    "alignment": "Alignment",
}
"""The views of a model that reads over time, and their titles; saliency has one for images, too."""

TEXTS = {
    "attention": "Attention",
    "rollout": "Attention rollout",
    "gradient-attention": "Gradient times attention",
    "masked": "Hidden words",
    "logit-lens": "Logit lens",
    "saliency": "Saliency",
    "gradient-input": "Gradient times input",
    "integrated-gradients": "Integrated gradients",
}
"""The views of a Transformer over text, and their titles; some have others for images, or over time."""


def that(trait: str) -> tuple[str, ...]:
    """The names of the methods that have a trait, an attribute of `Method`."""
    return tuple(name for name, method in TABLE.items() if getattr(method, trait))
