"""Marian's translation models in the Hugging Face layout: config.json and names of weights, both directions.

They are the Transformer of 2017 with another activation and a bias on the logits. Their positions hold all
sines before all cosines, ours in turn; as no number of a vector has a place of its own in a Transformer, the
numbers of every vector between the layers are put in our order instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from descent.errors import UserError
from descent.models.transformer import TransformerConfig
from descent.weights.fields import check, number
from descent.weights.keymap import KeyMap, Rule, model_shapes

CLASSES = ("MarianMTModel",)
EMBEDDING, BIAS = "model.shared.weight", "final_logits_bias"
COPIES = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
LONGEST = 512


def _both(theirs: str | tuple[str, ...], ours: str) -> list[Rule]:
    """The rules of a map's weight and bias, which may be several there."""
    if isinstance(theirs, str):
        return [Rule(f"{theirs}.{kind}", f"{ours}.{kind}") for kind in ("weight", "bias")]
    return [Rule(tuple(f"{part}.{kind}" for part in theirs), f"{ours}.{kind}") for kind in ("weight", "bias")]


def _projections(theirs: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{theirs}.{name}_proj" for name in names)


def _stack(name: str) -> list[Rule]:
    layer, ours = f"model.{name}.layers.{{n}}", f"{name}.{{n}}"
    return [
        Rule(f"model.{name}.embed_positions.weight", None),
        *_both(_projections(f"{layer}.self_attn", "q", "k", "v"), f"{ours}.attention.qkv"),
        *_both(f"{layer}.self_attn.out_proj", f"{ours}.attention.output"),
        *_both(f"{layer}.self_attn_layer_norm", f"{ours}.attention_norm"),
        *_both(f"{layer}.fc1", f"{ours}.feedforward.up"),
        *_both(f"{layer}.fc2", f"{ours}.feedforward.down"),
        *_both(f"{layer}.final_layer_norm", f"{ours}.feedforward_norm"),
    ]


_CROSS = "model.decoder.layers.{n}.encoder_attn"

KEYS = KeyMap(
    [
        Rule(EMBEDDING, "tokens.weight"),
        *_stack("encoder"),
        *_stack("decoder"),
        *_both(f"{_CROSS}.q_proj", "decoder.{n}.cross.query"),
        *_both(_projections(_CROSS, "k", "v"), "decoder.{n}.cross.key_value"),
        *_both(f"{_CROSS}.out_proj", "decoder.{n}.cross.output"),
        *_both(f"{_CROSS}_layer_norm", "decoder.{n}.cross_norm"),
        Rule(BIAS, "head_bias"),
    ]
)

_ROWS = ("output.weight", "output.bias", "down.weight", "down.bias", "_norm.weight", "_norm.bias")
_COLUMNS = ("tokens.weight", "qkv.weight", "query.weight", "key_value.weight", "up.weight")
"""Ends of the names of what gives a vector between the layers, and of what takes one."""

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "silu", "silu": "silu"}
_FIXED: dict[
    str, tuple[Any, ...]
] = {  # what our Transformer computes; another value would be another network
    "activation_function": tuple(_ACTIVATIONS),
    "scale_embedding": (True,),
    "static_position_embeddings": (True,),
    "normalize_embedding": (False,),
    "normalize_before": (False,),
    "add_final_layer_norm": (False,),
    "share_encoder_decoder_embeddings": (True,),
    "tie_word_embeddings": (True,),
}
_SIZES = {
    "encoder_layers": "depth",
    "d_model": "dim",
    "encoder_attention_heads": "heads",
    "encoder_ffn_dim": "hidden",
    "vocab_size": "vocab_size",
}


def config_from(table: Mapping[str, Any], where: str) -> TransformerConfig:
    """Our configuration for the config.json of a MarianMTModel.

    Raises:
        UserError: lists every field that is missing or describes a network that ours is not.
    """
    encoder = [name for name in _SIZES if name.startswith("encoder_")]
    alike: dict[str, tuple[Any, ...]] = {name.replace("en", "de", 1): (table.get(name),) for name in encoder}
    alike["decoder_vocab_size"] = (None, table.get("vocab_size"))
    check(table, where, "a Marian", {**_FIXED, **alike}, (*_SIZES, "scale_embedding"))
    return TransformerConfig.read(
        {
            **{ours: table[theirs] for theirs, ours in _SIZES.items()},
            "activation": _ACTIVATIONS[table.get("activation_function", "gelu")],
            "head_bias": True,
            "dropout": number(table.get("dropout", 0.1)),
            "attention_dropout": number(table.get("attention_dropout", 0.0)),
        },
        where=where,
    )


def config_to(config: TransformerConfig) -> dict[str, Any]:
    """The config.json of a Transformer that transformers' MarianMTModel computes; see `is_published`."""
    sizes = {"layers": config.depth, "attention_heads": config.heads, "ffn_dim": config.hidden_width}
    return {
        "model_type": "marian",
        "architectures": [CLASSES[0]],
        **{f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sizes.items()},
        "d_model": config.dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": LONGEST,
        "activation_function": config.activation,
        "scale_embedding": True,
        "static_position_embeddings": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "is_encoder_decoder": True,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "pad_token_id": 0,
        "eos_token_id": 0,
        "forced_eos_token_id": None,
        "decoder_start_token_id": 0,
    }


def is_published(config: Any) -> bool:
    """Whether transformers' MarianMTModel computes this network."""
    published = isinstance(config, TransformerConfig) and config.order == "post" and config.tied
    return published and config.norm_eps == 1e-5 and config.head_bias


def use(table: Mapping[str, Any]) -> dict[str, Any]:
    """How a published Marian is used: what its decoder begins with."""
    start, longest = table.get("decoder_start_token_id"), table.get("max_position_embeddings")
    start = table.get("pad_token_id") if start is None else start
    length = LONGEST if longest is None else longest
    return {} if start is None else {"preparation": {"kind": "pairs", "start": [start], "length": length}}


def state_from(tensors: Mapping[str, Tensor], config: TransformerConfig, where: str) -> dict[str, Tensor]:
    """Our state from published tensors; a `UserError` lists every difference to what `config` needs."""
    shapes = model_shapes(config, tensors, where)
    rest = {name: tensor for name, tensor in tensors.items() if name not in COPIES}
    for name in COPIES:
        copy = tensors.get(name)
        if copy is not None and not torch.equal(copy, rest.setdefault(EMBEDDING, copy)):
            raise UserError(f"{where}: {name} differs from {EMBEDDING}, which all sides share")
    if BIAS in rest:
        rest[BIAS] = rest[BIAS].flatten()
    state = KEYS.to_ours(rest, shapes, where)
    places = torch.arange(config.dim).view(2, -1).T.flatten()
    return {name: _ordered(name, tensor, places) for name, tensor in state.items()}


def state_to(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names, order and shapes for the state of a Transformer as Marian has it."""
    places = torch.arange(state["tokens.weight"].shape[1]).view(-1, 2).T.flatten()
    theirs = KEYS.to_theirs({name: _ordered(name, tensor, places) for name, tensor in state.items()})
    return {**theirs, BIAS: theirs[BIAS][None]}


def _ordered(name: str, tensor: Tensor, places: Tensor) -> Tensor:
    """The tensor with the numbers of the vectors between the layers in another order."""
    if name.endswith(_COLUMNS):
        return tensor[:, places]
    return tensor[places] if name.endswith(_ROWS) else tensor
