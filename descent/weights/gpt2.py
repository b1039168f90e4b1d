"""GPT-2 in the Hugging Face layout: config.json and the names of its weights, in both directions.

Their matrices are stored (in, out), ours (out, in) as `nn.Linear` has them. Files saved by transformers
begin every name with `transformer.`, the published ones do not. `attn.bias` and `attn.masked_bias` are
the causal mask, which is no weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from descent.errors import UserError
from descent.models.gpt import GPTConfig
from descent.weights.keymap import KeyMap, Rule, model_shapes

KEYS = KeyMap(
    [
        Rule("wte.weight", "tokens.weight"),
        Rule("wpe.weight", "positions.weight"),
        Rule("h.{n}.ln_1.weight", "blocks.{n}.attention_norm.weight"),
        Rule("h.{n}.ln_1.bias", "blocks.{n}.attention_norm.bias"),
        Rule("h.{n}.attn.c_attn.weight", "blocks.{n}.attention.qkv.weight", transpose=True),
        Rule("h.{n}.attn.c_attn.bias", "blocks.{n}.attention.qkv.bias"),
        Rule("h.{n}.attn.c_proj.weight", "blocks.{n}.attention.output.weight", transpose=True),
        Rule("h.{n}.attn.c_proj.bias", "blocks.{n}.attention.output.bias"),
        Rule("h.{n}.attn.bias", None),
        Rule("h.{n}.attn.masked_bias", None),
        Rule("h.{n}.ln_2.weight", "blocks.{n}.feedforward_norm.weight"),
        Rule("h.{n}.ln_2.bias", "blocks.{n}.feedforward_norm.bias"),
        Rule("h.{n}.mlp.c_fc.weight", "blocks.{n}.feedforward.up.weight", transpose=True),
        Rule("h.{n}.mlp.c_fc.bias", "blocks.{n}.feedforward.up.bias"),
        Rule("h.{n}.mlp.c_proj.weight", "blocks.{n}.feedforward.down.weight", transpose=True),
        Rule("h.{n}.mlp.c_proj.bias", "blocks.{n}.feedforward.down.bias"),
        Rule("ln_f.weight", "norm.weight"),
        Rule("ln_f.bias", "norm.bias"),
    ],
    prefix="transformer.",
)

HEAD = "lm_head.weight"
"""The output head: tied to the token embedding unless the configuration says otherwise; never prefixed."""

CLASSES = ("GPT2LMHeadModel", "GPT2Model")

_ACTIVATIONS = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu": "gelu_exact"}
_FIXED: dict[str, tuple[Any, ...]] = {  # what our GPT computes; another value would be another network
    "activation_function": tuple(_ACTIVATIONS),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}
_SIZES = {
    "n_layer": "depth",
    "n_embd": "dim",
    "n_head": "heads",
    "n_positions": "context",
    "vocab_size": "vocab_size",
}
_FREE = {"feedforward", "depth", "dim", "heads", "groups", "context", "vocab_size", "hidden", "tied"}
# Without effect on what a trained GPT-2 computes.
_IDLE = {"rotary_base", "zero_init", "dropout", "attention_dropout"}


def config_from(table: Mapping[str, Any], where: str) -> GPTConfig:
    """Our configuration for a GPT-2 config.json.

    Raises:
        UserError: lists every field that is missing or describes a network that is not GPT-2.
    """
    problems = [
        f"  {name}: got {table[name]!r:.60}, expected {' or '.join(map(repr, values))}"
        for name, values in _FIXED.items()
        if name in table and table[name] not in values
    ]
    problems += [f"  {name}: is required" for name in _SIZES if name not in table]
    if problems:
        raise UserError("\n".join([f"{where}: not a GPT-2 that can be loaded", *problems]))
    sizes = {ours: table[theirs] for theirs, ours in _SIZES.items()}
    hidden = table.get("n_inner")
    return GPTConfig.read(
        {
            **GPTConfig.gpt2().table(),
            **sizes,
            "feedforward": _ACTIVATIONS[table.get("activation_function", "gelu_new")],
            "hidden": 0 if hidden is None else hidden,
            "tied": table.get("tie_word_embeddings", True),
            "dropout": table.get("resid_pdrop", 0.0),
            "attention_dropout": table.get("attn_pdrop", 0.0),
        },
        where=where,
    )


def config_to(config: GPTConfig) -> dict[str, Any]:
    """The config.json of a GPT that has the shape of GPT-2; see `is_gpt2`."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": config.depth,
        "n_embd": config.width,
        "n_head": config.head_count,
        "n_positions": config.context,
        "n_ctx": config.context,
        "n_inner": config.hidden_width,
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tied,
        "activation_function": "gelu" if config.feedforward == "gelu_exact" else "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.attention_dropout,
        "initializer_range": 0.02,
    }


def is_gpt2(config: Any) -> bool:
    """Whether the configuration describes a network that transformers' GPT2LMHeadModel computes."""
    if not isinstance(config, GPTConfig):
        return False
    asked, published = config.model_dump(), GPTConfig.gpt2().model_dump()
    same = all(asked[name] == published[name] for name in published.keys() - _FREE - _IDLE)
    return same and config.feedforward in _ACTIVATIONS.values() and config.group_count == config.head_count


def state_from(tensors: Mapping[str, Tensor], config: GPTConfig, where: str) -> dict[str, Tensor]:
    """Our state from published tensors; a `UserError` lists every difference to what `config` needs."""
    shapes = model_shapes(config, tensors, where)
    rest = {name: tensor for name, tensor in tensors.items() if name != HEAD}
    head = tensors.get(HEAD)
    if not config.tied:
        shapes.pop("head.weight")
        if head is None or tuple(head.shape) != (config.vocab_size, config.width):
            got = "missing" if head is None else f"its shape is {tuple(head.shape)}"
            expected = f"({config.vocab_size}, {config.width}), as the head is not tied"
            raise UserError(f"{where}: {HEAD}: {got}", expected=expected)
        return {**KEYS.to_ours(rest, shapes, where), "head.weight": head}
    state = KEYS.to_ours(rest, shapes, where)
    if head is not None and not torch.equal(head, state["tokens.weight"]):
        raise UserError(
            f"{where}: {HEAD} differs from the token embedding, to which config.json ties it",
            hint="if the head was trained apart, set tie_word_embeddings to false",
        )
    return state


def state_to(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names and layouts for the state of a GPT with the shape of GPT-2."""
    rest = {name: tensor for name, tensor in state.items() if name != "head.weight"}
    head = {HEAD: state["head.weight"]} if "head.weight" in state else {}
    return {**KEYS.to_theirs(rest), **head}
