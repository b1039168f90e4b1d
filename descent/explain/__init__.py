"""What a network looks at and remembers: probes, maps of images and their check, views of sequences.

A model is not changed to be explained and does not know of it. Each method is a function of a model and
its inputs that returns arrays and leaves the model as it was; figures are drawn by `figure` alone.

`names` imports no torch; the other names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descent.explain.attribution import Attribution
    from descent.explain.distance import GradientDistance, gradient_distance
    from descent.explain.features import FeatureMaps, Filters, feature_maps, filters
    from descent.explain.gradient import integrated_gradients, saliency, smoothgrad
    from descent.explain.maximisation import Maximised, maximise
    from descent.explain.methods import ATTRIBUTIONS, Explanation, check, explain
    from descent.explain.names import METHODS, SEQUENCES
    from descent.explain.probes import Layer, layers, probe
    from descent.explain.recurrent import Trace, recurrent_layers, trace
    from descent.explain.region import gradcam, occlusion
    from descent.explain.sanity import Sanity, sanity_check
    from descent.explain.sequence_figure import (
        draw_distance,
        draw_gates,
        draw_hidden,
        draw_sequence_saliency,
        draw_units,
    )
    from descent.explain.sequence_saliency import SequenceSaliency, sequence_saliency
    from descent.explain.sequences import Steps, steps_of_example, steps_of_file, steps_of_text
    from descent.explain.tokens import AttentionMaps, attention, attention_maps, rollout

_HOMES = {
    "attribution": ("Attribution",),
    "distance": ("GradientDistance", "gradient_distance"),
    "features": ("FeatureMaps", "Filters", "feature_maps", "filters"),
    "gradient": ("integrated_gradients", "saliency", "smoothgrad"),
    "maximisation": ("Maximised", "maximise"),
    "methods": ("ATTRIBUTIONS", "Explanation", "check", "explain"),
    "names": ("METHODS", "SEQUENCES"),
    "probes": ("Layer", "layers", "probe"),
    "recurrent": ("Trace", "recurrent_layers", "trace"),
    "region": ("gradcam", "occlusion"),
    "sanity": ("Sanity", "sanity_check"),
    "sequence_figure": (
        "draw_distance",
        "draw_gates",
        "draw_hidden",
        "draw_sequence_saliency",
        "draw_units",
    ),
    "sequence_saliency": ("SequenceSaliency", "sequence_saliency"),
    "sequences": ("Steps", "steps_of_example", "steps_of_file", "steps_of_text"),
    "tokens": ("AttentionMaps", "attention", "attention_maps", "rollout"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ATTRIBUTIONS",
    "METHODS",
    "SEQUENCES",
    "AttentionMaps",
    "Attribution",
    "Explanation",
    "FeatureMaps",
    "Filters",
    "GradientDistance",
    "Layer",
    "Maximised",
    "Sanity",
    "SequenceSaliency",
    "Steps",
    "Trace",
    "attention",
    "attention_maps",
    "check",
    "draw_distance",
    "draw_gates",
    "draw_hidden",
    "draw_sequence_saliency",
    "draw_units",
    "explain",
    "feature_maps",
    "filters",
    "gradcam",
    "gradient_distance",
    "integrated_gradients",
    "layers",
    "maximise",
    "occlusion",
    "probe",
    "recurrent_layers",
    "rollout",
    "saliency",
    "sanity_check",
    "sequence_saliency",
    "smoothgrad",
    "steps_of_example",
    "steps_of_file",
    "steps_of_text",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'descent.explain' has no attribute {name!r}")
    return getattr(import_module(f"descent.explain.{_HOME[name]}"), name)
