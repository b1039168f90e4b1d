"""The networks that transformers computes too: one row each, read in both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from descent.weights import gpt2, resnet, vit

State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """How a network stands in config.json and model.safetensors.

    Attributes:
        classes: names under `architectures` that are read; the first is written.
        is_published: whether the class computes what a configuration of ours describes.
        config_from: (config.json, where) -> our configuration.
        config_to: the way back.
        state_from: (tensors, our configuration, where) -> our tensors, all of them.
        state_to: the way back.
        images: whether it classifies images, and so names classes and says how pictures are prepared.
    """

    classes: tuple[str, ...]
    is_published: Callable[[Any], bool]
    config_from: Callable[[Mapping[str, Any], str], Any]
    config_to: Callable[[Any], dict[str, Any]]
    state_from: Callable[[State, Any, str], dict[str, Tensor]]
    state_to: Callable[[State], dict[str, Tensor]]
    images: bool = False


ARCHITECTURES: dict[str, Architecture] = {
    "gpt2": Architecture(
        gpt2.CLASSES, gpt2.is_gpt2, gpt2.config_from, gpt2.config_to, gpt2.state_from, gpt2.state_to
    ),
    "resnet": Architecture(
        resnet.CLASSES,
        resnet.is_published,
        resnet.config_from,
        resnet.config_to,
        resnet.state_from,
        resnet.state_to,
        images=True,
    ),
    "vit": Architecture(
        vit.CLASSES,
        vit.is_published,
        vit.config_from,
        vit.config_to,
        vit.state_from,
        vit.state_to,
        images=True,
    ),
}
"""model_type -> its row"""


def of(config: Any) -> Architecture | None:
    """The row of a configuration of ours; None where transformers has no such network."""
    return next((row for row in ARCHITECTURES.values() if row.is_published(config)), None)
