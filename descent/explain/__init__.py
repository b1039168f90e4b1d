"""What a network looks at: probes by module name, maps of images, and the check that they mean something.

A model is not changed to be explained and does not know of it. Each method is a function of a model and
its inputs that returns arrays and leaves the model as it was; figures are drawn by `figure` alone.
"""

from __future__ import annotations

from descent.explain.attribution import Attribution
from descent.explain.features import FeatureMaps, Filters, feature_maps, filters
from descent.explain.gradient import integrated_gradients, saliency, smoothgrad
from descent.explain.maximisation import Maximised, maximise
from descent.explain.methods import ATTRIBUTIONS, METHODS, Explanation, check, explain
from descent.explain.probes import Layer, layers, probe
from descent.explain.region import gradcam, occlusion
from descent.explain.sanity import Sanity, sanity_check
from descent.explain.tokens import AttentionMaps, attention, attention_maps, rollout

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
