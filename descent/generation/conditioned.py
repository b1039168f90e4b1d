"""Encoder-decoders in the one decoder: a model bound to sources is a `Decodable` as any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.errors import UserError


@runtime_checkable
class EncoderDecoder(Protocol):
    """A model that writes a text for a source.

    `encode(source, source_lengths)` gives named tensors, batch first. `new_cache(..., encoded=)` gives a
    cache that holds them, so that its `reorder` reorders the sources with the rest. `decode(tokens,
    cache=cache)` reads and fills it, for `unembed` to turn into logits.
    """

    def encode(self, source: Tensor, source_lengths: Tensor) -> dict[str, Tensor]: ...

    def decode(
        self, tokens: Tensor, encoded: Mapping[str, Tensor] | None = None, *, cache: Any = None
    ) -> Tensor: ...

    def unembed(self, hidden: Tensor) -> Tensor: ...

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        start: Tensor | None = None,
        *,
        encoded: Mapping[str, Tensor],
    ) -> Any: ...


class Conditioned(nn.Module):
    """An encoder-decoder and the sources it writes for: what `generate`, `stream` and `beam_search` take.

    Args:
        model: see `EncoderDecoder`; not copied.
        encoded: what it made of the sources, a row a prompt.
    """

    def __init__(self, model: Any, encoded: Mapping[str, Tensor]):
        super().__init__()
        self.model, self.encoded = model, dict(encoded)
        self.config = model.config

    def select(self, rows: Sequence[int]) -> Conditioned:
        """The same model with some of the sources."""
        return Conditioned(self.model, {name: tensor[list(rows)] for name, tensor in self.encoded.items()})

    def new_cache(
        self,
        batch: int,
        length: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        start: Int[Tensor, " batch"] | None = None,
    ) -> Any:
        """The model's cache, which holds the sources."""
        held = len(next(iter(self.encoded.values())))
        if batch != held:
            raise UserError(
                "a model that writes for sources needs one prompt for each",
                got=f"{batch} prompts, {held} sources",
                hint="select(rows) takes some of the sources; sliding is not for such models",
            )
        rows = {"length": length, "dtype": dtype, "device": device, "start": start}
        return self.model.new_cache(batch, **rows, encoded=self.encoded)

    def forward(self, tokens: Int[Tensor, "batch time"], *, cache: Any) -> Float[Tensor, "batch time vocab"]:
        """Logits of the token after each token."""
        return self.unembed(self.features(tokens, cache=cache))

    def features(self, tokens: Int[Tensor, "batch time"], *, cache: Any) -> Float[Tensor, "batch time dim"]:
        """What `unembed` turns into logits."""
        return self.model.decode(tokens, cache=cache)

    def unembed(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        return self.model.unembed(hidden)


@torch.no_grad()
def condition(
    model: Any, source: Int[Tensor, "batch source"], source_lengths: Int[Tensor, " batch"]
) -> Conditioned:
    """The model bound to these sources, which are encoded once, as in evaluation.

    Args:
        model: see `EncoderDecoder`.
        source: ids, padded behind.
        source_lengths: real ids of each row.
    """
    modes = [module for module in model.modules() if module.training]
    model.eval()
    try:
        return Conditioned(model, model.encode(source, source_lengths))
    finally:
        for module in modes:
            module.training = True
