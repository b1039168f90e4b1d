"""T5 in the Hugging Face layout, versions 1.0 and 1.1: config.json and names of weights, in both directions.

    decoder.block.3.layer.1.EncDecAttention.k.weight, v      here  decoder.3.cross.key_value.weight
    decoder.block.3.layer.2.DenseReluDense.wi_0.weight             decoder.3.feedforward.gate.weight

The embedding may stand in a file under up to four names. Some published files hold distances between decoder
and encoder, which nothing has ever used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from descent.errors import UserError
from descent.models.t5 import T5Config
from descent.weights.fields import check, number
from descent.weights.keymap import KeyMap, Rule, model_shapes

CLASSES = ("T5ForConditionalGeneration", "T5WithLMHeadModel")
EMBEDDING, HEAD = "shared.weight", "lm_head.weight"
COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")

_START, _LONGEST = 0, 512
"""What T5's decoder begins with, its padding mark, and the longest text it was trained on."""


def _attention(theirs: str, ours: str) -> list[Rule]:
    names = (f"{theirs}.q.weight", f"{theirs}.k.weight", f"{theirs}.v.weight")
    return [Rule(names, f"{ours}.qkv.weight"), Rule(f"{theirs}.o.weight", f"{ours}.output.weight")]


def _feedforward(theirs: str, ours: str) -> list[Rule]:
    names = {"wi": "up", "wi_0": "gate", "wi_1": "up", "wo": "down"}
    return [Rule(f"{theirs}.{name}.weight", f"{ours}.{part}.weight") for name, part in names.items()]


def _stack(name: str, last: int) -> list[Rule]:
    block, ours = name + ".block.{n}.layer", name + ".{n}"
    distances = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    return [
        Rule(distances, f"{name}_bias.weight"),
        *_attention(f"{block}.0.SelfAttention", f"{ours}.attention"),
        Rule(f"{block}.0.layer_norm.weight", f"{ours}.attention_norm.weight"),
        *_feedforward(f"{block}.{last}.DenseReluDense", f"{ours}.feedforward"),
        Rule(f"{block}.{last}.layer_norm.weight", f"{ours}.feedforward_norm.weight"),
        Rule(f"{name}.final_layer_norm.weight", f"{name}_norm.weight"),
    ]


def _keys(gated: bool) -> KeyMap:
    """The names of one version: its feed-forward parts have `wi`, or `wi_0` and `wi_1`."""
    looks, cross = "decoder.block.{n}.layer.1", "decoder.{n}.cross"
    rules = [
        Rule(EMBEDDING, "tokens.weight"),
        *_stack("encoder", last=1),
        *_stack("decoder", last=2),
        Rule(f"{looks}.EncDecAttention.q.weight", f"{cross}.query.weight"),
        Rule(
            (f"{looks}.EncDecAttention.k.weight", f"{looks}.EncDecAttention.v.weight"),
            f"{cross}.key_value.weight",
        ),
        Rule(f"{looks}.EncDecAttention.o.weight", f"{cross}.output.weight"),
        Rule(f"{looks}.layer_norm.weight", "decoder.{n}.cross_norm.weight"),
        Rule("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", None),
        Rule(HEAD, "head.weight"),
    ]
    other = ".wi.weight" if gated else (".wi_0.weight", ".wi_1.weight")
    return KeyMap(
        [rule for rule in rules if not (isinstance(rule.theirs, str) and rule.theirs.endswith(other))]
    )


KEYS = {"relu": _keys(gated=False), "gated_gelu": _keys(gated=True)}

_FEEDFORWARD = {"relu": "relu", "gated_gelu": "gated-gelu"}
_FIXED: dict[str, tuple[Any, ...]] = {  # what our T5 computes; another value would be another network
    "feed_forward_proj": tuple(_FEEDFORWARD.values()),
    "is_encoder_decoder": (True,),
}
_SIZES = {
    "num_layers": "depth",
    "d_model": "dim",
    "num_heads": "heads",
    "d_kv": "head_dim",
    "d_ff": "hidden",
    "vocab_size": "vocab_size",
}


def config_from(table: Mapping[str, Any], where: str) -> T5Config:
    """Our configuration for a T5's config.json.

    Raises:
        UserError: lists every field that is missing or describes a network that ours is not.
    """
    check(table, where, "a T5", _FIXED, _SIZES)
    layers = table.get("num_decoder_layers")
    gated = table.get("feed_forward_proj", "relu") != "relu"
    return T5Config.read(
        {
            **{ours: table[theirs] for theirs, ours in _SIZES.items()},
            "decoder_depth": 0 if layers in (None, table["num_layers"]) else layers,
            "feedforward": "gated_gelu" if gated else "relu",
            # Since its fifth version transformers calls every head tied and says apart whether it is scaled.
            "tied": table.get("scale_decoder_outputs", table.get("tie_word_embeddings", True)),
            "buckets": table.get("relative_attention_num_buckets", 32),
            "max_distance": table.get("relative_attention_max_distance", 128),
            "norm_eps": table.get("layer_norm_epsilon", 1e-6),
            "dropout": number(table.get("dropout_rate", 0.1)),
        },
        where=where,
    )


def config_to(config: T5Config) -> dict[str, Any]:
    """The config.json of a T5."""
    return {
        "model_type": "t5",
        "architectures": [CLASSES[0]],
        "num_layers": config.depth,
        "num_decoder_layers": config.decoder_depth or config.depth,
        "d_model": config.dim,
        "num_heads": config.heads,
        "d_kv": config.head_width,
        "d_ff": config.hidden_width,
        "vocab_size": config.vocab_size,
        "feed_forward_proj": _FEEDFORWARD[config.feedforward],
        "tie_word_embeddings": config.tied,
        "relative_attention_num_buckets": config.buckets,
        "relative_attention_max_distance": config.max_distance,
        "layer_norm_epsilon": config.norm_eps,
        "dropout_rate": config.dropout,
        "is_encoder_decoder": True,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "decoder_start_token_id": _START,
    }


def is_published(config: Any) -> bool:
    """Whether transformers' T5ForConditionalGeneration computes this network."""
    return isinstance(config, T5Config)


def use(table: Mapping[str, Any]) -> dict[str, Any]:
    """How a published T5 is used: what its decoder begins with."""
    start = table.get("decoder_start_token_id")
    start = table.get("pad_token_id") if start is None else start
    longest = table.get("n_positions")
    return {
        "preparation": {
            "kind": "pairs",
            "start": [_START if start is None else start],
            "length": _LONGEST if longest is None else longest,
        }
    }


def state_from(tensors: Mapping[str, Tensor], config: T5Config, where: str) -> dict[str, Tensor]:
    """Our state from published tensors; a `UserError` lists every difference to what `config` needs."""
    shapes = model_shapes(config, tensors, where)
    rest = dict(tensors)
    copies = {name: rest.pop(name) for name in COPIES if name in rest}
    if config.tied and HEAD in rest:
        copies[HEAD] = rest.pop(HEAD)
    if EMBEDDING not in rest and copies:
        rest[EMBEDDING] = next(iter(copies.values()))
    if not config.tied and EMBEDDING in rest:  # a head that is tied, but not scaled, is left out of a file
        rest.setdefault(HEAD, rest[EMBEDDING].clone())
    for name, copy in copies.items():
        if not torch.equal(copy, rest[EMBEDDING]):
            raise UserError(
                f"{where}: {name} differs from {EMBEDDING}, to which config.json ties it",
                hint="if a head was trained apart, set tie_word_embeddings to false"
                if name == HEAD
                else None,
            )
    return KEYS[config.feedforward].to_ours(rest, shapes, where)


def state_to(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names for the state of a T5."""
    gated = "encoder.0.feedforward.gate.weight" in state
    return KEYS["gated_gelu" if gated else "relu"].to_theirs(state)
