"""What a network looks at and remembers: probes, maps of images and their check, views of sequences.

A model is not changed to be explained and does not know of it. Each method is a function of a model and
its inputs that returns arrays and leaves the model as it was; figures are drawn by `figure` alone.

`names` imports no torch; the other names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descent.explain.attention_figure import (
        draw_heads,
        draw_lens,
        draw_lines,
        draw_map,
        draw_values,
        draw_words,
    )
    from descent.explain.attention_flow import gradient_attention, relevance, text_rollout
    from descent.explain.attention_page import draw_page
    from descent.explain.attention_text import AttentionLayer, TextAttention, attention_of, attention_weights
    from descent.explain.attribution import Attribution
    from descent.explain.distance import GradientDistance, gradient_distance
    from descent.explain.features import FeatureMaps, Filters, feature_maps, filters
    from descent.explain.gradient import integrated_gradients, saliency, smoothgrad
    from descent.explain.hidden_words import masked_words, pseudo_likelihood
    from descent.explain.maximisation import Maximised, maximise
    from descent.explain.methods import ATTRIBUTIONS, Explanation, check, explain
    from descent.explain.names import METHODS, SEQUENCES, TEXTS
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
    from descent.explain.text_attribution import TokenAttribution, token_attribution
    from descent.explain.text_lens import LogitLens, logit_lens
    from descent.explain.tokens import AttentionMaps, attention, attention_maps, rollout

_HOMES = {
    "attention_figure": ("draw_heads", "draw_lens", "draw_lines", "draw_map", "draw_values", "draw_words"),
    "attention_flow": ("gradient_attention", "relevance", "text_rollout"),
    "attention_page": ("draw_page",),
    "attention_text": ("AttentionLayer", "TextAttention", "attention_of", "attention_weights"),
    "attribution": ("Attribution",),
    "distance": ("GradientDistance", "gradient_distance"),
    "features": ("FeatureMaps", "Filters", "feature_maps", "filters"),
    "gradient": ("integrated_gradients", "saliency", "smoothgrad"),
    "text_lens": ("LogitLens", "logit_lens"),
    "hidden_words": ("masked_words", "pseudo_likelihood"),
    "maximisation": ("Maximised", "maximise"),
    "methods": ("ATTRIBUTIONS", "Explanation", "check", "explain"),
    "names": ("METHODS", "SEQUENCES", "TEXTS"),
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
    "text_attribution": ("TokenAttribution", "token_attribution"),
    "tokens": ("AttentionMaps", "attention", "attention_maps", "rollout"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ATTRIBUTIONS",
    "METHODS",
    "SEQUENCES",
    "TEXTS",
    "AttentionLayer",
    "AttentionMaps",
    "Attribution",
    "Explanation",
    "FeatureMaps",
    "Filters",
    "GradientDistance",
    "Layer",
    "LogitLens",
    "Maximised",
    "Sanity",
    "SequenceSaliency",
    "Steps",
    "TextAttention",
    "TokenAttribution",
    "Trace",
    "attention",
    "attention_maps",
    "attention_of",
    "attention_weights",
    "check",
    "draw_distance",
    "draw_gates",
    "draw_heads",
    "draw_hidden",
    "draw_lens",
    "draw_lines",
    "draw_map",
    "draw_page",
    "draw_sequence_saliency",
    "draw_units",
    "draw_values",
    "draw_words",
    "explain",
    "feature_maps",
    "filters",
    "gradcam",
    "gradient_attention",
    "gradient_distance",
    "integrated_gradients",
    "layers",
    "logit_lens",
    "masked_words",
    "maximise",
    "occlusion",
    "probe",
    "pseudo_likelihood",
    "recurrent_layers",
    "relevance",
    "rollout",
    "saliency",
    "sanity_check",
    "sequence_saliency",
    "smoothgrad",
    "steps_of_example",
    "steps_of_file",
    "steps_of_text",
    "text_rollout",
    "token_attribution",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'descent.explain' has no attribute {name!r}")
    return getattr(import_module(f"descent.explain.{_HOME[name]}"), name)
