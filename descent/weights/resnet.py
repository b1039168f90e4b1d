"""ResNet: config.json of transformers, and the names of weights there and in torchvision and timm.

    transformers   resnet.encoder.stages.0.layers.1.layer.0.convolution.weight
    torchvision    layer1.1.conv1.weight
    here           stages.0.1.layers.0.convolution.weight

`num_batches_tracked` counts the batches a norm has seen; files older than it lack it, and it has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from descent.models.resnet import ResNetConfig
from descent.weights.classes import outputs_of
from descent.weights.fields import check, size_of
from descent.weights.keymap import KeyMap, Rule, model_shapes

CLASSES = ("ResNetForImageClassification",)


def _norm(theirs: str, ours: str) -> list[Rule]:
    names = ("weight", "bias", "running_mean", "running_var")
    count = "num_batches_tracked"
    rules = [Rule(f"{theirs}.{name}", f"{ours}.{name}") for name in names]
    return [*rules, Rule(f"{theirs}.{count}", f"{ours}.{count}", absent=torch.int64)]


KEYS = KeyMap(
    [
        Rule("resnet.embedder.embedder.convolution.weight", "stem.convolution.weight"),
        *_norm("resnet.embedder.embedder.normalization", "stem.norm"),
        Rule(
            "resnet.encoder.stages.{n}.layers.{m}.layer.{k}.convolution.weight",
            "stages.{n}.{m}.layers.{k}.convolution.weight",
        ),
        *_norm(
            "resnet.encoder.stages.{n}.layers.{m}.layer.{k}.normalization", "stages.{n}.{m}.layers.{k}.norm"
        ),
        Rule(
            "resnet.encoder.stages.{n}.layers.{m}.shortcut.convolution.weight",
            "stages.{n}.{m}.shortcut.projection.convolution.weight",
        ),
        *_norm(
            "resnet.encoder.stages.{n}.layers.{m}.shortcut.normalization",
            "stages.{n}.{m}.shortcut.projection.norm",
        ),
        Rule("classifier.1.weight", "head.weight"),
        Rule("classifier.1.bias", "head.bias"),
    ]
)

TORCHVISION = KeyMap(
    [
        Rule("conv1.weight", "stem.convolution.weight"),
        *_norm("bn1", "stem.norm"),
        Rule("layer{n+1}.{m}.conv{k+1}.weight", "stages.{n}.{m}.layers.{k}.convolution.weight"),
        *_norm("layer{n+1}.{m}.bn{k+1}", "stages.{n}.{m}.layers.{k}.norm"),
        Rule("layer{n+1}.{m}.downsample.0.weight", "stages.{n}.{m}.shortcut.projection.convolution.weight"),
        *_norm("layer{n+1}.{m}.downsample.1", "stages.{n}.{m}.shortcut.projection.norm"),
        Rule("fc.weight", "head.weight"),
        Rule("fc.bias", "head.bias"),
    ]
)
"""timm has the same names."""

_FIXED: dict[str, tuple[Any, ...]] = {  # what our ResNet computes; another value would be another network
    "layer_type": ("basic", "bottleneck"),
    "hidden_act": ("relu",),
    "downsample_in_first_stage": (False,),
    "downsample_in_bottleneck": (False,),
}
_NEEDED = ("embedding_size", "hidden_sizes", "depths")


def config_from(table: Mapping[str, Any], where: str) -> ResNetConfig:
    """Our configuration for the config.json of a ResNetForImageClassification.

    The size of the images is no part of theirs, for a ResNet takes any: `image_size` if it is there, else
    224 x 224.

    Raises:
        UserError: lists every field that is missing or describes a network that ours is not.
    """
    check(table, where, "a ResNet", _FIXED, _NEEDED)
    config = ResNetConfig.read(
        {
            "inputs": [table.get("num_channels", 3), *size_of(table.get("image_size", 224), where)],
            "outputs": outputs_of(table, where),
            "depths": table["depths"],
            "widths": table["hidden_sizes"],
            "block": table.get("layer_type", "bottleneck"),
        },
        where=where,
    )
    check(table, where, "a ResNet", {"embedding_size": (config.stem_width,)}, ())
    return config


def config_to(config: ResNetConfig) -> dict[str, Any]:
    """The config.json of a ResNet that transformers computes; see `is_published`."""
    return {
        "model_type": "resnet",
        "architectures": [CLASSES[0]],
        "num_channels": config.inputs[0],
        "image_size": list(config.inputs[1:]),
        "embedding_size": config.stem_width,
        "hidden_sizes": list(config.widths),
        "depths": list(config.depths),
        "layer_type": config.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }


def is_published(config: Any) -> bool:
    """Whether transformers' ResNetForImageClassification computes this network."""
    if not isinstance(config, ResNetConfig):
        return False
    return config.stem == "large" and config.shortcut == "projection" and not config.preactivation


def state_from(tensors: Mapping[str, Tensor], config: ResNetConfig, where: str) -> dict[str, Tensor]:
    """Our state from published tensors; a `UserError` lists every difference to what `config` needs."""
    return KEYS.to_ours(tensors, model_shapes(config, tensors, where), where)


def state_to(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names for the state of a ResNet."""
    return KEYS.to_theirs(state)
