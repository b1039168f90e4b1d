"""What a model must offer to be decoded, and the few lines that call it.

Shapes: B batch, T time, C width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@runtime_checkable
class Decodable(Protocol):
    """A model that continues sequences: `new_cache`, and a forward that reads and fills it.

    `model(tokens, cache=cache)` returns logits (batch, time, vocabulary) and leaves the cache holding
    those tokens; `cache.reorder(rows)` makes row i what row `rows[i]` was, of more or fewer rows. A model
    that also offers `features(tokens, cache=cache)` and `unembed(hidden)` has its head computed at the last
    position only. `config.context`, where there is one, is the greatest number of tokens it can see; a
    recurrent model has none.
    """

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        start: Tensor | None = None,
    ) -> Any: ...

    def __call__(self, tokens: Tensor, *, cache: Any) -> Tensor: ...


def context_limit(model: nn.Module) -> int | None:
    """The greatest number of tokens the model can see at once; None when there is no limit."""
    return getattr(getattr(model, "config", None), "context", None) or None


def next_logits(
    model: Any, tokens: Int[Tensor, "batch time"], cache: Any
) -> Float[Tensor, "batch vocabulary"]:
    """Feeds the tokens and returns the logits of the token after the last one, as float32."""
    if callable(getattr(model, "features", None)):
        hidden_BTC = model.features(tokens, cache=cache)
        return model.unembed(hidden_BTC[:, -1]).float()
    return model(tokens, cache=cache)[:, -1].float()


def device_of(model: nn.Module) -> torch.device:
    """Where the model's weights are."""
    return next(model.parameters()).device
