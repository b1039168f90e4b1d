"""Attention followed through all layers: rollout, and gradient times attention for one answer.

Legend: H heads, T tokens, S source tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.attention_text import (
    MOST,
    AttentionLayer,
    Call,
    TextAttention,
    attention_parts,
    chosen_layers,
    joined,
    kind_of,
    watching,
)
from descent.explain.text_answer import Answer, answer_of
from descent.explain.text_reading import Reading, read_text
from descent.explain.text_tokens import summed
from descent.nn.attention import Attention

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded

__all__ = ["Relevance", "gradient_attention", "relevance", "text_rollout"]


@dataclass(frozen=True)
class Relevance:
    """What an answer hangs on, by token.

    Attributes:
        pieces: by side, "tokens" and "source", the tokens as they read.
        values: by side, one number a token.
        answer: what is explained.
    """

    pieces: dict[str, tuple[str, ...]]
    values: dict[str, Float[Tensor, " tokens"]]
    answer: Answer


def text_rollout(
    loaded: Loaded, text: str, target: str | None = None, second: str | None = None
) -> TextAttention:
    """Attention followed through all layers down to the tokens.

    Abnar, Zuidema (2020), "Quantifying Attention Flow in Transformers", section 3: each layer is
    0.5 A + 0.5 I, A the mean over its heads and I for the residual connection, and the layers are multiplied.
    Cross-attention, which the paper has not, is followed in the same way, half of it into the rollout of the
    encoder; so what a written token takes from the source and from what was written adds up to 1.

    Args:
        loaded, text, target, second: see `read_text`.

    Returns:
        Of a model of one side one layer "rollout"; of an encoder-decoder "encoder", "decoder" and "cross",
        of one head each.
    """
    model, _, reading = read_text(loaded, text, target, second)
    flow = _Flow(reading)

    def follow(name: str, part: Attention, call: Call) -> None:
        found = part.weights_of(call.x, range(call.x.shape[1]), call.context, **call.rules)[0]
        flow.mix(kind_of(name, part), found.float().mean(0))

    with watching(model, attention_parts(model), follow), torch.no_grad():
        model.features(**reading.inputs)  # type: ignore[operator]
    found = [
        joined(reading, "rollout" if kind == "self" else kind, kind, matrix[None].cpu())
        for kind, matrix in flow.found.items()
    ]
    return TextAttention(tuple(found), reading.text)


class _Flow:
    """How much of each token's input is in its state, layer by layer."""

    def __init__(self, reading: Reading):
        device = reading.inputs["tokens"].device
        sizes = {name: ids.shape[1] for name, ids in reading.inputs.items() if name in ("tokens", "source")}
        whole = {name: torch.eye(size, device=device) for name, size in sizes.items()}
        own = whole["tokens"]
        self.found: dict[Any, Tensor] = {"self": own}
        if "source" in whole:
            nothing = own.new_zeros(sizes["tokens"], sizes["source"])
            self.found = {"encoder": whole["source"], "decoder": own, "cross": nothing}

    def mix(self, kind: str, weights: Tensor) -> None:
        """Goes through a layer: half of each state stays, half is what attention brings (all of it where a
        token may look at nothing)."""
        held = self.found
        share = 0.5 * weights.sum(-1, keepdim=True)
        if kind == "cross":
            held["decoder"] = (1 - share) * held["decoder"]
            held["cross"] = (1 - share) * held["cross"] + 0.5 * weights @ held["encoder"]
            return
        for name in ("decoder", "cross") if kind == "decoder" else (kind,):
            held[name] = (1 - share) * held[name] + 0.5 * weights @ held[name]


def gradient_attention(
    loaded: Loaded,
    text: str,
    target: str | None = None,
    second: str | None = None,
    *,
    layers: Sequence[str | int] | None = None,
    position: int | None = None,
    wanted: str | None = None,
) -> tuple[TextAttention, Answer]:
    """Each attention weight times the gradient of an answer's score by it, in any layers.

    To first order what the weight adds to the score.

    Args:
        loaded, text, target, second: see `read_text`.
        layers: as in `attention_of`.
        position, wanted: which answer, see `answer_of`.
    """
    model, tokenizer, reading = read_text(loaded, text, target, second)
    answer = answer_of(loaded, tokenizer, reading, position, wanted)
    parts = chosen_layers(model, layers)
    found = _graded(model, reading, answer, parts)
    layers_found: list[AttentionLayer] = [
        joined(reading, name, kind_of(name, parts[name]), products.cpu()) for name, products in found.items()
    ]
    return TextAttention(tuple(layers_found), reading.text), answer


def relevance(
    loaded: Loaded,
    text: str,
    target: str | None = None,
    second: str | None = None,
    *,
    position: int | None = None,
    wanted: str | None = None,
) -> Relevance:
    """What an answer hangs on, by gradient times attention followed through all layers.

    Chefer, Gur, Wolf (2021), "Generic Attention-model Explainability for Interpreting Bi-Modal and
    Encoder-Decoder Transformers", section 3: of each layer the mean over the heads of the positive products
    is added to what was gathered, which it multiplies (equations 5 and 6; 10 with 8 and 9 for
    cross-attention). Shown is the row of the token that answers, without the 1 it has of itself at first.

    Args:
        loaded, text, target, second: see `read_text`.
        position, wanted: which answer, see `answer_of`.
    """
    model, tokenizer, reading = read_text(loaded, text, target, second)
    answer = answer_of(loaded, tokenizer, reading, position, wanted)
    parts = attention_parts(model)
    found = _graded(model, reading, answer, parts)
    gathered = _Flow(reading).found
    for name, products in found.items():
        mean = products.clamp_min(0).mean(0)
        kind = kind_of(name, parts[name])
        if kind == "cross":
            gathered["cross"] = gathered["cross"] + _shared(gathered["decoder"]).T @ mean @ _shared(
                gathered["encoder"]
            )
            continue
        for target_name in ("decoder", "cross") if kind == "decoder" else (kind,):
            gathered[target_name] = gathered[target_name] + mean @ gathered[target_name]
    names = {"tokens": "decoder", "source": "cross"} if "cross" in gathered else {"tokens": "self"}
    sides = {side: reading.sides[side] for side in names}
    own = "decoder" if "cross" in gathered else "self"
    gathered[own] = gathered[own] - torch.eye(len(gathered[own]), device=gathered[own].device)
    values = {
        side: summed(gathered[kind][answer.place].cpu(), sides[side].groups) for side, kind in names.items()
    }
    return Relevance({name: side.pieces for name, side in sides.items()}, values, answer)


def _shared(gathered: Tensor) -> Tensor:
    """Equations 8 and 9: what was gathered beside a token itself, made to add up to 1; and the token."""
    own = torch.eye(len(gathered), device=gathered.device)
    other = gathered - own
    return other / other.sum(-1, keepdim=True).clamp_min(1e-12) + own


def _graded(
    model: nn.Module, reading: Reading, answer: Answer, parts: dict[str, Attention]
) -> dict[str, Float[Tensor, "heads rows keys"]]:
    """Each layer's weights times the gradient of the score by them, first layer to last.

    A weight multiplies a value, so the gradient by it is that of the head's output times the value: the model
    runs fused, and no layer holds weights but those computed here.
    """
    sizes = {name: ids.shape[1] for name, ids in reading.inputs.items()}
    count = sum(part.heads for part in parts.values()) * max(sizes.values()) ** 2
    if count > MOST:
        raise UserError(
            "the text is too long for gradient times attention",
            got=f"{count:,} weights",
            expected=f"at most {MOST:,}",
        )
    weights: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    outs: dict[str, Tensor] = {}

    def see(name: str, part: Attention, call: Call) -> None:
        with torch.no_grad():
            weights[name] = part.weights_of(call.x, range(call.x.shape[1]), call.context, **call.rules)[0]
            values[name] = part.values_of(call.x, call.context, value=call.value)[0]

    def tap(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor]:
            outs[name] = given[0] if given[0].requires_grad else given[0].detach().requires_grad_(True)
            return (outs[name],)

        return hook

    handles = [part.output.register_forward_pre_hook(tap(name)) for name, part in parts.items()]
    try:
        with watching(model, parts, see), torch.enable_grad():
            score = answer.score(model, reading.inputs)[0]
            slopes = torch.autograd.grad(score, list(outs.values()), allow_unused=True)
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, Tensor] = {}
    for (name, out), slope in zip(outs.items(), slopes, strict=True):
        slope = torch.zeros_like(out) if slope is None else slope
        slope_HTD = slope[0].unflatten(-1, (parts[name].heads, -1)).transpose(0, 1).float()
        found[name] = weights[name].float() * (slope_HTD @ values[name].float().transpose(1, 2))
    return found
