"""Where a Transformer over text looks: attention of any layer and head, to itself and to a source.

Legend: N rows of a batch, H heads, R asked queries, S keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError, nearest
from descent.explain.probes import at_rest
from descent.explain.text_reading import Reading, Side, read_text
from descent.explain.text_tokens import averaged, summed
from descent.nn.attention import Attention

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded

__all__ = [
    "AttentionLayer",
    "Call",
    "Kind",
    "TextAttention",
    "attention_of",
    "attention_parts",
    "attention_weights",
    "chosen_layers",
    "joined",
    "kind_of",
    "only_rows",
    "sides_of",
    "watching",
]

Kind = Literal["self", "encoder", "decoder", "cross"]
MOST = 2**26
"""Weights that are computed at most; 256 MB."""


@dataclass(frozen=True)
class AttentionLayer:
    """What one layer's tokens look at.

    Attributes:
        name: of the module, as `model.named_modules()` has it.
        kind: "self", of a model of one side; "encoder"; "decoder", of what is written to itself; or "cross",
            of what is written to the source.
        rows: the tokens that look, as they read; of "cross" those that are written at that place.
        keys: the tokens that are looked at. Parts of one character are one token on either side: what is
            given to them is added up, what they give is averaged.
        heads: numbers of the heads.
        weights: a row adds up to 1.
    """

    name: str
    kind: Kind
    rows: tuple[str, ...]
    keys: tuple[str, ...]
    heads: tuple[int, ...]
    weights: Float[Tensor, "heads rows keys"]


@dataclass(frozen=True)
class TextAttention:
    """The attention of a text.

    Attributes:
        layers: those asked for, first to last.
        text: what an encoder-decoder wrote, or was given as written; else empty.
    """

    layers: tuple[AttentionLayer, ...]
    text: str = ""

    def layer(self, name: str) -> AttentionLayer:
        """The layer of that name."""
        return next(layer for layer in self.layers if layer.name == name)


class Call(NamedTuple):
    """How a layer was called: the arguments of `Attention.forward`."""

    x: Tensor
    context: Tensor | None
    rules: dict[str, Any]
    value: Tensor | None


def attention_of(
    loaded: Loaded,
    text: str,
    target: str | None = None,
    second: str | None = None,
    *,
    layers: Sequence[str | int] | None = None,
    heads: Sequence[int] | None = None,
    rows: Sequence[int] | None = None,
) -> TextAttention:
    """The attention weights of a text in any layers, heads and rows.

    The model runs as always, through the fused kernel, which never holds them; those of the asked rows are
    computed again from what enters each layer.

    Args:
        loaded, text, target, second: see `read_text`.
        layers: names of modules; numbers of blocks, counted from the end where negative; or kinds of `Kind`.
            All by default.
        heads: numbers of heads; all by default.
        rows: numbers of the tokens that look, as they are shown; all by default.

    Raises:
        UserError: as `read_text`; there is no such layer, head or row; or more than 67 million weights are
            asked for.
    """
    model, _, reading = read_text(loaded, text, target, second)
    parts = chosen_layers(model, layers)
    asked = {
        name: _rows_of(name, sides_of(reading, kind_of(name, part))[0], rows) for name, part in parts.items()
    }
    chosen = {name: _heads_of(part, heads) for name, part in parts.items()}
    count = sum(
        len(chosen[name]) * sum(map(len, asked[name])) * len(sides_of(reading, kind_of(name, part))[1].ids)
        for name, part in parts.items()
    )
    if count > MOST:
        raise UserError(
            "these are too many attention weights to hold",
            got=f"{count:,}",
            expected=f"at most {MOST:,}",
            hint="ask for some layers, heads or rows",
        )
    places = {name: [place for group in groups for place in group] for name, groups in asked.items()}
    found = attention_weights(model, reading.inputs, layers=list(parts), heads=chosen, rows=places)
    numbers = {
        name: _numbers(sides_of(reading, kind_of(name, part))[0], rows) for name, part in parts.items()
    }
    return TextAttention(
        tuple(
            joined(reading, name, kind_of(name, part), found[name][0], numbers[name], chosen[name])
            for name, part in parts.items()
        ),
        reading.text,
    )


def attention_weights(
    model: nn.Module,
    inputs: Mapping[str, Tensor],
    *,
    layers: Sequence[str] | None = None,
    heads: Mapping[str, Sequence[int]] | None = None,
    rows: Mapping[str, Sequence[int]] | None = None,
) -> dict[str, Float[Tensor, "batch heads rows keys"]]:
    """The attention weights of a batch by layer, in single precision; the model runs fused.

    Args:
        model: a Transformer with `features`.
        inputs: arguments of `features`: rows may be packed with several documents, or padded.
        layers: names of attention layers; all by default.
        heads, rows: numbers by layer, not counting how tokens are shown; all by default.
    """
    parts = attention_parts(model)
    wanted = {name: parts[name] for name in (parts if layers is None else layers)}
    kept: dict[str, Tensor] = {}

    def keep(name: str, part: Attention, call: Call) -> None:
        asked = range(call.x.shape[1]) if rows is None else rows[name]
        found_NHRS = part.weights_of(call.x, asked, call.context, **call.rules)
        kept[name] = (found_NHRS if heads is None else found_NHRS[:, list(heads[name])]).float().cpu()

    with watching(model, wanted, keep), torch.no_grad():
        model.features(**inputs)  # type: ignore[operator]
    return {name: kept[name] for name in wanted}


def attention_parts(model: nn.Module) -> dict[str, Attention]:
    """The attention layers by name, first to last."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Attention)}


def kind_of(name: str, part: Attention) -> Kind:
    """What a layer's tokens look at."""
    if part.is_cross:
        return "cross"
    first = name.split(".")[0]
    return "encoder" if first == "encoder" else "decoder" if first == "decoder" else "self"


def chosen_layers(model: nn.Module, layers: Sequence[str | int] | None) -> dict[str, Attention]:
    """The attention layers that are meant, first to last.

    Raises:
        UserError: there is no such layer; the nearest name is given.
    """
    parts = attention_parts(model)
    if layers is None:
        return parts
    blocks = sorted({_block_of(name) for name in parts})
    wanted: set[str] = set()
    for layer in layers:
        number = int(layer) if str(layer).lstrip("-").isascii() and str(layer).lstrip("-").isdigit() else None
        if number is not None and -len(blocks) <= number < len(blocks):
            wanted |= {name for name in parts if _block_of(name) == blocks[number]}
            continue
        met = {name for name, part in parts.items() if layer in (name, kind_of(name, part))}
        if not met:
            kinds = dict.fromkeys(kind_of(name, part) for name, part in parts.items())
            near = nearest(str(layer), [*parts, *kinds]) or next(reversed(parts))
            raise UserError(
                f"there is no attention layer {layer!r}",
                expected=f"a name such as {near}, a block from 0 to {len(blocks) - 1}, or "
                + ", ".join(kinds),
            )
        wanted |= met
    return {name: part for name, part in parts.items() if name in wanted}


@contextmanager
def watching(
    model: nn.Module, parts: Mapping[str, Attention], see: Callable[[str, Attention, Call], None]
) -> Iterator[None]:
    """The model at rest, `see` called with what enters each of these layers."""
    handles: list[Any] = []

    def hooked(name: str, part: Attention) -> Callable[..., None]:
        def hook(module: nn.Module, given: Any, options: dict[str, Any]) -> None:
            rules = {key: options[key] for key in ("mask", "bias", "rotation") if key in options}
            context = given[1] if len(given) > 1 else options.get("context")
            see(name, part, Call(given[0], context, rules, options.get("value")))

        return hook

    with at_rest(model):
        try:
            for name, part in parts.items():
                handles.append(part.register_forward_pre_hook(hooked(name, part), with_kwargs=True))
            yield
        finally:
            for handle in handles:
                handle.remove()


def sides_of(reading: Reading, kind: Kind) -> tuple[Side, Side]:
    """The tokens that look and those that are looked at."""
    sides = {
        "self": ("tokens", "tokens"),
        "encoder": ("source", "source"),
        "decoder": ("tokens", "tokens"),
        "cross": ("written", "source"),
    }
    looks, seen = sides[kind]
    return reading.sides[looks], reading.sides[seen]


def joined(
    reading: Reading,
    name: str,
    kind: Kind,
    weights: Float[Tensor, "heads queries keys"],
    rows: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
) -> AttentionLayer:
    """The weights of tokens as those of what is read as one.

    Args:
        weights: of the tokens of `rows`, one after another.
        rows: numbers of shown tokens; all by default.
        heads: numbers of the heads of `weights`; 0, 1, ... by default.
    """
    looks, seen = sides_of(reading, kind)
    numbers = range(len(looks.groups)) if rows is None else rows
    sizes = [len(looks.groups[number]) for number in numbers]
    found_HRS = averaged(summed(weights, seen.groups), sizes)
    read = tuple(looks.pieces[number] for number in numbers)
    return AttentionLayer(name, kind, read, seen.pieces, tuple(heads or range(len(weights))), found_HRS)


def only_rows(found: TextAttention, rows: Sequence[int]) -> TextAttention:
    """The rows of these numbers of every layer."""
    layers = []
    for layer in found.layers:
        wrong = [row for row in rows if not 0 <= row < len(layer.rows)]
        if wrong:
            raise UserError(
                f"there is no such row in {layer.name}", got=wrong, expected=f"0 to {len(layer.rows) - 1}"
            )
        names = tuple(layer.rows[row] for row in rows)
        layers.append(replace(layer, rows=names, weights=layer.weights[:, list(rows)]))
    return replace(found, layers=tuple(layers))


def _numbers(side: Side, rows: Sequence[int] | None) -> list[int]:
    return list(range(len(side.groups)) if rows is None else rows)


def _rows_of(name: str, side: Side, rows: Sequence[int] | None) -> list[range]:
    numbers, count = _numbers(side, rows), len(side.groups)
    wrong = [number for number in numbers if not 0 <= number < count]
    if wrong or not numbers:
        raise UserError(f"there is no such row in {name}", got=wrong, expected=f"0 to {count - 1}")
    return [side.groups[number] for number in numbers]


def _heads_of(part: Attention, heads: Sequence[int] | None) -> list[int]:
    numbers = list(range(part.heads) if heads is None else heads)
    wrong = [number for number in numbers if not 0 <= number < part.heads]
    if wrong or not numbers:
        raise UserError("there is no such head", got=wrong, expected=f"0 to {part.heads - 1}")
    return numbers


def _block_of(name: str) -> int:
    return next((int(part) for part in name.split(".") if part.isdigit()), 0)
