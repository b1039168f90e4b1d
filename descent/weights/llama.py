"""Llama, Mistral, Qwen2 and Qwen3 in the Hugging Face layout: config.json and the names of their weights.

One network in four dialects, which differ in what attention has (`_KINDS`). Their matrices for queries, keys
and values are three, ours is one, whose rows stand in this order. Two layouts of config.json say how
positions are turned: `rope_theta` with `rope_scaling`, and since transformers 5 `rope_parameters`. Both are
read, and both are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from descent.errors import UserError, shown
from descent.models.llama import Llama3Scaling, LlamaConfig, YarnScaling
from descent.nn.position import yarn_magnitude
from descent.weights.fields import check
from descent.weights.keymap import KeyMap, Rule, model_shapes

_ATTENTION, _FEEDFORWARD = "layers.{n}.self_attn.", "layers.{n}.mlp."
_PARTS = ("query", "key", "value")
_JOINT = ".attention.qkv."

KEYS = KeyMap(
    [
        Rule("embed_tokens.weight", "tokens.weight"),
        Rule("layers.{n}.input_layernorm.weight", "blocks.{n}.attention_norm.weight"),
        *(
            Rule(f"{_ATTENTION}{part[0]}_proj.{kind}", f"blocks.{{n}}.attention.{part}.{kind}")
            for part in _PARTS
            for kind in ("weight", "bias")
        ),
        Rule(f"{_ATTENTION}o_proj.weight", "blocks.{n}.attention.output.weight"),
        Rule(f"{_ATTENTION}o_proj.bias", "blocks.{n}.attention.output.bias"),
        Rule(f"{_ATTENTION}q_norm.weight", "blocks.{n}.attention.query_norm.weight"),
        Rule(f"{_ATTENTION}k_norm.weight", "blocks.{n}.attention.key_norm.weight"),
        Rule(f"{_ATTENTION}rotary_emb.inv_freq", None),
        Rule("layers.{n}.post_attention_layernorm.weight", "blocks.{n}.feedforward_norm.weight"),
        *(
            Rule(f"{_FEEDFORWARD}{part}_proj.weight", f"blocks.{{n}}.feedforward.{part}.weight")
            for part in ("gate", "up", "down")
        ),
        Rule("norm.weight", "norm.weight"),
    ],
    prefix="model.",
)
"""Queries, keys and values under names of their own: see `_part_names`."""

HEAD = "lm_head.weight"

_SIZES = {
    "num_hidden_layers": "depth",
    "hidden_size": "dim",
    "num_attention_heads": "heads",
    "intermediate_size": "hidden",
    "max_position_embeddings": "context",
    "vocab_size": "vocab_size",
}
_FIXED: dict[str, tuple[Any, ...]] = {  # what our Llama computes; another value would be another network
    "hidden_act": ("silu",),
    "mlp_bias": (False,),
    "attention_bias": (False, True),
    "tie_word_embeddings": (False, True),
    "use_sliding_window": (False, True, None),
    "partial_rotary_factor": (1.0, None),
    "rope_interleaved": (False, None),
    "quantization_config": (None,),
}
_WINDOW = {"mistral": 4096}
"""What a class of transformers takes for `sliding_window` where it is left out."""


def _is_llama(config: LlamaConfig) -> bool:
    return not config.qk_norm and config.bias != "qkv" and config.width % config.head_count == 0


def _is_mistral(config: LlamaConfig) -> bool:
    """What Llama's class refuses alone: a width that the heads do not divide."""
    return not config.qk_norm and config.bias == "none" and config.width % config.head_count > 0


_KINDS: dict[str, tuple[str, Callable[[LlamaConfig], bool]]] = {
    "llama": ("LlamaForCausalLM", _is_llama),
    "mistral": ("MistralForCausalLM", _is_mistral),
    "qwen2": ("Qwen2ForCausalLM", lambda config: not config.qk_norm and config.bias == "qkv"),
    "qwen3": ("Qwen3ForCausalLM", lambda config: config.qk_norm and config.bias != "qkv"),
}
"""model_type -> its class, and whether that computes what a configuration of ours describes."""

CLASSES = {kind: (name,) for kind, (name, _) in _KINDS.items()}


def is_published(config: Any, kind: str) -> bool:
    """Whether transformers' class for `kind`, a model_type, computes what the configuration describes."""
    return isinstance(config, LlamaConfig) and _KINDS[kind][1](config)


def config_from(table: Mapping[str, Any], where: str, kind: str) -> LlamaConfig:
    """Our configuration for a config.json of that kind.

    Raises:
        UserError: lists every field that is missing or describes a network that is not computed here.
    """
    needed = [*_SIZES] if kind == "llama" else [*_SIZES, "num_key_value_heads"]
    check(table, where, f"a {kind}", _FIXED, needed)
    biased = "attention" if table.get("attention_bias", False) else "none"
    values = {ours: table[theirs] for theirs, ours in _SIZES.items()}
    values |= {"groups": table.get("num_key_value_heads") or 0}
    values |= {"head_dim": table.get("head_dim", 128 if kind == "qwen3" else None) or 0}
    values |= {"norm_eps": table.get("rms_norm_eps", 1e-6), "tied": table.get("tie_word_embeddings", False)}
    values |= {"bias": "qkv" if kind == "qwen2" else biased, "qk_norm": kind == "qwen3"}
    values |= {"attention_dropout": table.get("attention_dropout", 0.0)}
    context = LlamaConfig.read(values, where=where).context
    _refuse_windows(table, where, kind, context)
    return LlamaConfig.read({**values, **_positions_from(table, where, context)}, where=where)


def _refuse_windows(table: Mapping[str, Any], where: str, kind: str, context: int) -> None:
    """Attention within a window is another network, unless rows are no longer than the window."""
    window = table.get("sliding_window", _WINDOW.get(kind))
    used = not kind.startswith("qwen") or table.get("use_sliding_window", False)
    off = not used or window is None or (type(window) is int and window >= context)
    layers = table.get("layer_types") or []
    if not off or not isinstance(layers, list) or any(layer != "full_attention" for layer in layers):
        raise UserError(
            f"{where}: attention within a sliding window is not computed here",
            got=f"sliding_window {shown(window)} for rows of up to {context:,}",
            expected="no window, or one that holds the longest row",
            hint="if your rows are no longer than the window, set max_position_embeddings to it",
        )


def _positions_from(table: Mapping[str, Any], where: str, context: int) -> dict[str, Any]:
    """`rotary_base` and `scaling` from either layout; where both stand there, they must agree."""
    given = {name: table.get(name) for name in ("rope_parameters", "rope_scaling")}
    tables = {name: rope for name, rope in given.items() if rope is not None} or {"rope_theta": {}}
    found = [_rotary_from(rope, table, f"{where}: {name}", context) for name, rope in tables.items()]
    if found[0] != found[-1]:
        raise UserError(f"{where}: rope_parameters and rope_scaling turn positions in different ways")
    return found[0]


_ROPE_FIELDS: dict[str, set[str]] = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "yarn": {
        *("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"),
        *("mscale", "mscale_all_dim", "truncate"),
    },
}
_GROWING = "angles that change as a row grows would not fit the keys already in the cache"


def _rotary_from(rope: Any, table: Mapping[str, Any], where: str, context: int) -> dict[str, Any]:
    if not isinstance(rope, dict):
        raise UserError(where, got=rope, expected="a table")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if not isinstance(kind, str) or kind not in _ROPE_FIELDS:
        raise UserError(
            f"{where}: this stretching of positions is not computed here",
            got=kind,
            expected=" or ".join(_ROPE_FIELDS),
            hint=_GROWING if kind == "dynamic" else None,
        )
    known = {"rope_type", "type", "rope_theta", "partial_rotary_factor"} | _ROPE_FIELDS[kind]
    strange = sorted(map(str, rope.keys() - known))
    if strange:
        raise UserError(f"{where}: fields that are not known here for {kind}: {', '.join(strange)}")
    check(rope, where, "positions", {"partial_rotary_factor": (1.0, None)}, ())
    base = {"rotary_base": rope.get("rope_theta", table.get("rope_theta", 10000.0))}
    place = "original_max_position_embeddings"  # beside the table it counts more than in it
    trained = table.get(place) or rope.get(place) or context
    try:
        return {**base, "scaling": _scaling_from(kind, rope, trained, context)}
    except (TypeError, ValueError, KeyError, ArithmeticError):  # a field left out, or of another type
        got = {name: rope[name] for name in sorted(_ROPE_FIELDS[kind] & rope.keys())}
        raise UserError(
            where, got=got, expected="numbers for " + ", ".join(sorted(_ROPE_FIELDS[kind]))
        ) from None


def _scaling_from(kind: str, rope: Mapping[str, Any], trained: Any, context: int) -> dict[str, Any] | None:
    """Our table for theirs; most fields of another type are left for `LlamaConfig.read` to refuse."""
    if kind == "default":
        return None
    if kind == "linear":
        return {"type": kind, "factor": rope["factor"]}
    if kind == "llama3":
        ends = {"low": rope["low_freq_factor"], "high": rope["high_freq_factor"]}
        return {"type": kind, "factor": rope["factor"], **ends, "trained": trained}
    factor: Any = rope.get("factor") or context / trained
    magnitude: Any = rope.get("attention_factor")
    slope, other = rope.get("mscale"), rope.get("mscale_all_dim")
    if magnitude is None and slope and other:
        magnitude = yarn_magnitude(factor, slope) / yarn_magnitude(factor, other)
    ends = {"fast": rope.get("beta_fast") or 32.0, "slow": rope.get("beta_slow") or 1.0}
    rest = {"magnitude": magnitude or 0.0, "whole": rope.get("truncate", True), "trained": trained}
    return {"type": kind, "factor": factor, **ends, **rest}


def config_to(config: LlamaConfig, kind: str) -> dict[str, Any]:
    """The config.json of a configuration for which `is_published` holds."""
    sizes = {theirs: getattr(config, ours) for theirs, ours in _SIZES.items()}
    sizes |= {"hidden_size": config.width, "num_attention_heads": config.head_count}
    biased = {} if kind in ("qwen2", "mistral") else {"attention_bias": config.bias == "attention"}
    plain = {"mlp_bias": False} if kind == "llama" else {"sliding_window": None}
    rope = _rope_to(config)
    older = {name: value for name, value in rope.items() if name != "rope_theta"}
    return {
        "model_type": kind,
        "architectures": list(CLASSES[kind]),
        **sizes,
        "intermediate_size": config.hidden_width,
        "num_key_value_heads": config.group_count,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        **biased,
        **plain,
        "tie_word_embeddings": config.tied,
        "attention_dropout": config.attention_dropout,
        "rope_parameters": rope,
        "rope_theta": config.rotary_base,
        "rope_scaling": older if config.scaling else None,
        "initializer_range": 0.02,
    }


def _rope_to(config: LlamaConfig) -> dict[str, Any]:
    scaling, base = config.scaling, {"rope_theta": config.rotary_base}
    if scaling is None:
        return {"rope_type": "default", **base}
    rope = {"rope_type": scaling.type, **base, "factor": scaling.factor}
    if isinstance(scaling, Llama3Scaling):
        rope |= {"low_freq_factor": scaling.low, "high_freq_factor": scaling.high}
    if isinstance(scaling, YarnScaling):
        rope |= {"beta_fast": scaling.fast, "beta_slow": scaling.slow, "truncate": scaling.whole}
        rope |= {"attention_factor": scaling.magnitude} if scaling.magnitude else {}
    if isinstance(scaling, (Llama3Scaling, YarnScaling)):
        rope |= {"original_max_position_embeddings": scaling.trained}
    return rope


def state_from(tensors: Mapping[str, Tensor], config: LlamaConfig, where: str) -> dict[str, Tensor]:
    """Our state from published tensors; a `UserError` lists every difference to what `config` needs."""
    inner, shared = (heads * config.head_width for heads in (config.head_count, config.group_count))
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in model_shapes(config, tensors, where).items():
        names = _part_names(name)
        rows = (inner, shared, shared) if len(names) > 1 else shape[:1]
        shapes |= {part: (count, *shape[1:]) for part, count in zip(names, rows, strict=True)}
    rest, head = {name: tensor for name, tensor in tensors.items() if name != HEAD}, tensors.get(HEAD)
    head_shape = shapes.pop("head.weight", None)
    state = _joined(KEYS.to_ours(rest, shapes, where))
    if head_shape is None:
        if head is not None and not torch.equal(head, state["tokens.weight"]):
            raise UserError(
                f"{where}: {HEAD} differs from the token embedding, to which config.json ties it",
                hint="if the head was trained apart, set tie_word_embeddings to false",
            )
        return state
    if head is None or tuple(head.shape) != head_shape:
        got = "missing" if head is None else f"its shape is {tuple(head.shape)}"
        raise UserError(f"{where}: {HEAD}: {got}", expected=f"{head_shape}, as the head is not tied")
    return {**state, "head.weight": head}


def state_to(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Published names and layouts for the state of a Llama."""
    apart: dict[str, Tensor] = {}
    for name, tensor in state.items():
        names = _part_names(name)
        rows = [len(tensor)]
        if len(names) > 1:
            inner = state[name.partition("qkv")[0] + "output.weight"].shape[1]
            rows = [inner, *[(len(tensor) - inner) // 2] * 2]
        apart |= dict(zip(names, tensor.split(rows), strict=True))
    head = apart.pop("head.weight", None)
    return {**KEYS.to_theirs(apart), **({} if head is None else {HEAD: head})}


def _part_names(ours: str) -> list[str]:
    """The three names of a joint matrix or bias; of any other tensor its own."""
    before, joint, kind = ours.partition(_JOINT)
    return [f"{before}.attention.{part}.{kind}" for part in _PARTS] if joint else [ours]


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Query, key and value one after another, as the rows of `qkv`."""
    found: dict[str, Tensor] = {}
    for name, tensor in state.items():
        before, query, kind = name.partition(".attention.query.")
        if query:
            parts = [state[f"{before}.attention.{part}.{kind}"] for part in _PARTS]
            found[f"{before}{_JOINT}{kind}"] = torch.cat(parts)
        elif ".attention.key." not in name and ".attention.value." not in name:
            found[name] = tensor
    return found
