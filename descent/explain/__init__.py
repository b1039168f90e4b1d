"""What a network looks at: probes by module name, maps of images, and the check that they mean something.

A model is not changed to be explained and does not know of it. Each method is a function of a model and
its inputs that returns arrays and leaves the model as it was; figures are drawn by `figure` alone.

`names` imports no torch; the other names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descent.explain.attribution import Attribution
    from descent.explain.features import FeatureMaps, Filters, feature_maps, filters
    from descent.explain.gradient import integrated_gradients, saliency, smoothgrad
    from descent.explain.maximisation import Maximised, maximise
    from descent.explain.methods import ATTRIBUTIONS, Explanation, check, explain
    from descent.explain.names import METHODS
    from descent.explain.probes import Layer, layers, probe
    from descent.explain.region import gradcam, occlusion
    from descent.explain.sanity import Sanity, sanity_check
    from descent.explain.tokens import AttentionMaps, attention, attention_maps, rollout

_HOMES = {
    "attribution": ("Attribution",),
    "features": ("FeatureMaps", "Filters", "feature_maps", "filters"),
    "gradient": ("integrated_gradients", "saliency", "smoothgrad"),
    "maximisation": ("Maximised", "maximise"),
    "methods": ("ATTRIBUTIONS", "Explanation", "check", "explain"),
    "names": ("METHODS",),
    "probes": ("Layer", "layers", "probe"),
    "region": ("gradcam", "occlusion"),
    "sanity": ("Sanity", "sanity_check"),
    "tokens": ("AttentionMaps", "attention", "attention_maps", "rollout"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ATTRIBUTIONS",
    "METHODS",
    "AttentionMaps",
    "Attribution",
    "Explanation",
    "FeatureMaps",
    "Filters",
    "Layer",
    "Maximised",
    "Sanity",
    "attention",
    "attention_maps",
    "check",
    "explain",
    "feature_maps",
    "filters",
    "gradcam",
    "integrated_gradients",
    "layers",
    "maximise",
    "occlusion",
    "probe",
    "rollout",
    "saliency",
    "sanity_check",
    "smoothgrad",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'descent.explain' has no attribute {name!r}")
    return getattr(import_module(f"descent.explain.{_HOME[name]}"), name)
