"""The logit lens: what each layer's states would say if they were the last.

Legend: L states, T tokens, D width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.errors import UserError
from descent.explain.probes import at_rest
from descent.explain.text_reading import is_encoder_decoder, read_text
from descent.explain.text_tokens import apart, label

if TYPE_CHECKING:
    from descent.runs.loaded import Loaded

__all__ = ["LogitLens", "logit_lens"]


@dataclass(frozen=True)
class LogitLens:
    """The likeliest tokens of each layer at each token of a text.

    Attributes:
        layers: "embedding", what enters the first block, then the blocks.
        pieces: the tokens read, one each; parts of one character are numbered.
        written: of an encoder-decoder what is written at each; else empty.
        words: the likeliest tokens as they read, by layer, token and rank.
        ids, probabilities: of those.
    """

    layers: tuple[str, ...]
    pieces: tuple[str, ...]
    written: tuple[str, ...]
    words: tuple[tuple[tuple[str, ...], ...], ...]
    ids: Int[Tensor, "layers tokens top"]
    probabilities: Float[Tensor, "layers tokens top"]


def logit_lens(
    loaded: Loaded, text: str, target: str | None = None, second: str | None = None, *, top: int = 1
) -> LogitLens:
    """Each layer's states through the last norm and the head: the likeliest tokens, and how likely they are.

    Nostalgebraist (2020), "interpreting GPT: the logit lens". Of a language model the token that comes next,
    of a BERT with a head for hidden words the token itself, of an encoder-decoder what its decoder writes.

    Args:
        loaded, text, target, second: see `read_text`.
        top: how many tokens to give.

    Raises:
        UserError: the model has no head over a vocabulary.
    """
    model, tokenizer, reading = read_text(loaded, text, target, second)
    crossed = is_encoder_decoder(model)
    if top < 1:
        raise UserError("top", got=top, expected="1 or more")
    if not crossed and not hasattr(model, "new_cache") and getattr(model, "masked", None) is None:
        raise UserError(
            "this model has no head over its vocabulary",
            got=f"model.head={getattr(model.config, 'head', '')}",
            expected="a language model, an encoder-decoder, or a BERT with a head for hidden words",
        )
    name = "decoder" if crossed else "blocks"
    norm = getattr(model, "decoder_norm" if crossed else "norm")
    states, found = _states(model, name, reading.inputs), []
    with at_rest(model), torch.no_grad():
        for hidden_TD in states.values():
            logits_TV = model.unembed(hidden_TD if norm is None else norm(hidden_TD))  # type: ignore[operator]
            found.append(logits_TV.float().softmax(-1).topk(min(top, logits_TV.shape[-1])))
    ids = torch.stack([best.indices for best in found]).cpu()
    names = {index: label(tokenizer, [index]) for index in ids.unique().tolist()}
    words = tuple(tuple(tuple(names[index] for index in place) for place in layer) for layer in ids.tolist())
    pieces = apart(tokenizer, reading.sides["tokens"].ids)
    return LogitLens(
        tuple(states),
        ("start", *pieces[1:]) if crossed else pieces,
        apart(tokenizer, reading.sides["written"].ids) if crossed else (),
        words,
        ids,
        torch.stack([best.values for best in found]).float().cpu(),
    )


def _states(model: nn.Module, name: str, inputs: dict[str, Tensor]) -> dict[str, Float[Tensor, "tokens dim"]]:
    """What enters the first block, and what each gives."""
    blocks: Any = getattr(model, name)
    seen: dict[str, Tensor] = {}

    def enter(module: nn.Module, given: tuple[Any, ...]) -> None:
        seen["embedding"] = given[0][0]

    def leave(label: str) -> Any:
        def hook(module: nn.Module, given: Any, output: Tensor) -> None:
            seen[label] = output[0]

        return hook

    handles = [blocks[0].register_forward_pre_hook(enter)]
    handles += [block.register_forward_hook(leave(f"{name}.{n}")) for n, block in enumerate(blocks)]
    try:
        with at_rest(model), torch.no_grad():
            model.features(**inputs)  # type: ignore[operator]
    finally:
        for handle in handles:
            handle.remove()
    return seen
