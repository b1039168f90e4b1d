"""ViT: config.json of transformers, and the names of weights there and in torchvision and timm.

    transformers   vit.encoder.layer.3.attention.attention.query.weight, key, value
    torchvision    encoder.layers.encoder_layer_3.self_attention.in_proj_weight
    timm           blocks.3.attn.qkv.weight
    here           blocks.3.attention.qkv.weight

One matrix holds all queries, all keys and all values, in that order, in torchvision, timm and here.
`vit.pooler.dense` is what ViTModel adds and no classifier uses; `mask_token` belongs to pretraining.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from descent.models.vit import ViTConfig
from descent.weights.classes import outputs_of
from descent.weights.fields import check, number, size_of
from descent.weights.keymap import KeyMap, Rule, model_shapes

CLASSES = ("ViTForImageClassification",)


def _linear(theirs: str, ours: str) -> list[Rule]:
    return [Rule(f"{theirs}.{name}", f"{ours}.{name}") for name in ("weight", "bias")]


def _joined(pattern: str, names: tuple[str, ...], ours: str) -> list[Rule]:
    return [
        Rule(tuple(f"{pattern}.{name}.{part}" for name in names), f"{ours}.{part}")
        for part in ("weight", "bias")
    ]


_LAYER = "vit.encoder.layer.{n}"
_QKV = "blocks.{n}.attention.qkv"

KEYS = KeyMap(
    [
        Rule("vit.embeddings.cls_token", "class_token"),
        Rule("vit.embeddings.position_embeddings", "positions"),
        *_linear("vit.embeddings.patch_embeddings.projection", "embedding"),
        *_linear(_LAYER + ".layernorm_before", "blocks.{n}.attention_norm"),
        *_joined(_LAYER + ".attention.attention", ("query", "key", "value"), _QKV),
        *_linear(_LAYER + ".attention.output.dense", "blocks.{n}.attention.output"),
        *_linear(_LAYER + ".layernorm_after", "blocks.{n}.feedforward_norm"),
        *_linear(_LAYER + ".intermediate.dense", "blocks.{n}.feedforward.up"),
        *_linear(_LAYER + ".output.dense", "blocks.{n}.feedforward.down"),
        *_linear("vit.layernorm", "norm"),
        *_linear("classifier", "head"),
        Rule("vit.pooler.dense.weight", None),
        Rule("vit.pooler.dense.bias", None),
        Rule("vit.embeddings.mask_token", None),
    ]
)

TIMM = KeyMap(
    [
        Rule("cls_token", "class_token"),
        Rule("pos_embed", "positions"),
        *_linear("patch_embed.proj", "embedding"),
        *_linear("blocks.{n}.norm1", "blocks.{n}.attention_norm"),
        *_linear("blocks.{n}.attn.qkv", _QKV),
        *_linear("blocks.{n}.attn.proj", "blocks.{n}.attention.output"),
        *_linear("blocks.{n}.norm2", "blocks.{n}.feedforward_norm"),
        *_linear("blocks.{n}.mlp.fc1", "blocks.{n}.feedforward.up"),
        *_linear("blocks.{n}.mlp.fc2", "blocks.{n}.feedforward.down"),
        *_linear("norm", "norm"),
        *_linear("head", "head"),
    ]
)

_ENCODER = "encoder.layers.encoder_layer_{n}"

TORCHVISION = KeyMap(
    [
        Rule("class_token", "class_token"),
        Rule("encoder.pos_embedding", "positions"),
        *_linear("conv_proj", "embedding"),
        *_linear(_ENCODER + ".ln_1", "blocks.{n}.attention_norm"),
        Rule(_ENCODER + ".self_attention.in_proj_weight", _QKV + ".weight"),
        Rule(_ENCODER + ".self_attention.in_proj_bias", _QKV + ".bias"),
        *_linear(_ENCODER + ".self_attention.out_proj", "blocks.{n}.attention.output"),
        *_linear(_ENCODER + ".ln_2", "blocks.{n}.feedforward_norm"),
        *_linear(_ENCODER + ".mlp.0", "blocks.{n}.feedforward.up"),
        *_linear(_ENCODER + ".mlp.3", "blocks.{n}.feedforward.down"),
        *_linear(_ENCODER + ".mlp.linear_1", "blocks.{n}.feedforward.up"),  # names of its first releases
        *_linear(_ENCODER + ".mlp.linear_2", "blocks.{n}.feedforward.down"),
        *_linear("encoder.ln", "norm"),
        *_linear("heads.head", "head"),
    ]
)

_FIXED: dict[str, tuple[Any, ...]] = {  # what our ViT computes; another value would be another network
    "hidden_act": ("gelu",),
    "qkv_bias": (True,),
    "attention_probs_dropout_prob": (0.0,),
}
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size")


def config_from(table: Mapping[str, Any], where: str) -> ViTConfig:
    """Our configuration for the config.json of a ViTForImageClassification.

    Raises:
        UserError: lists every field that is missing or describes a network that ours is not.
    """
    check(table, where, "a ViT", _FIXED, _NEEDED)
    patch = size_of(table.get("patch_size", 16), where, "patch_size")
    check({"patch_size": list(patch)}, where, "a ViT", {"patch_size": ([patch[0]] * 2,)}, ())
    return ViTConfig.read(
        {
            "inputs": [table.get("num_channels", 3), *size_of(table["image_size"], where)],
            "outputs": outputs_of(table, where),
            "depth": table["num_hidden_layers"],
            "dim": table["hidden_size"],
            "heads": table["num_attention_heads"],
            "patch": patch[0],
            "hidden": table["intermediate_size"],
            "norm_eps": table.get("layer_norm_eps", 1e-12),
            "dropout": number(table.get("hidden_dropout_prob", 0.0)),
        },
        where=where,
    )


def config_to(config: ViTConfig) -> dict[str, Any]:
    """The config.json of a ViT that transformers computes; see `is_published`."""
    height, width = config.inputs[1:]
    return {
        "model_type": "vit",
        "architectures": [CLASSES[0]],
        "hidden_size": config.dim,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.hidden or 4 * config.dim,
        "image_size": height if height == width else [height, width],
        "patch_size": config.patch,
        "num_channels": config.inputs[0],
        "qkv_bias": True,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
    }


def is_published(config: Any) -> bool:
    """Whether transformers' ViTForImageClassification computes this network."""
    return isinstance(config, ViTConfig) and not config.stem and config.pool == "class"


def state_from(tensors: Mapping[str, Tensor], config: ViTConfig, where: str) -> dict[str, Tensor]:
    """Our state from published tensors; a `UserError` lists every difference to what `config` needs."""
    return KEYS.to_ours(tensors, model_shapes(config, tensors, where), where)


def state_to(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names for the state of a ViT."""
    return KEYS.to_theirs(state)
