"""The sources of an encoder-decoder: who of them sees whom, and what a decoder holds of them.

Shapes: B batch, S source tokens, T target tokens.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from descent.nn.attention import document_mask
from descent.nn.cache import KVCache

Encoded = Mapping[str, Tensor]
"""Tensors by name, batch first: `memory`, the encoder's output; `real` or `documents`, what of it counts."""


def source_mask(
    source: Int[Tensor, "batch source"],
    lengths: Int[Tensor, " batch"] | None,
    documents: Int[Tensor, "batch source"] | None,
) -> Bool[Tensor, "batch 1 rows source"] | None:
    """True where a token of a source may look at another; None where all may.

    Args:
        source: ids.
        lengths: real ids of each row; what stands behind them is padding.
        documents: for rows packed with several sources, the number of each token's.
    """
    if documents is not None:
        if lengths is not None:
            raise ValueError("give source_lengths for one source a row, or source_documents for several")
        return document_mask(documents)
    return None if lengths is None else _real(source, lengths)[:, None, None]


def encoded(
    memory: Float[Tensor, "batch source dim"],
    lengths: Int[Tensor, " batch"] | None,
    documents: Int[Tensor, "batch source"] | None,
) -> dict[str, Tensor]:
    """The encoder's output with what a decoder must know to look at the right part of it."""
    if documents is not None:
        return {"memory": memory, "documents": documents}
    whole = torch.full_like(memory[:, 0, 0], memory.shape[1], dtype=torch.long)
    return {"memory": memory, "real": _real(memory, whole if lengths is None else lengths)}


def context_mask(
    held: Encoded, documents: Int[Tensor, "batch target"] | None
) -> Bool[Tensor, "batch 1 rows source"]:
    """True where a token of a target may look at one of a source.

    Args:
        held: from `encoded`.
        documents: for rows packed with several targets, the number of each token's, which is its source's.
    """
    if ("documents" in held) != (documents is not None):
        raise ValueError("packed rows need both source_documents and documents")
    if documents is not None:
        return (documents[:, :, None] == held["documents"][:, None, :])[:, None]
    return held["real"][:, None, None]


def hold(cache: KVCache, held: Encoded) -> KVCache:
    """The cache with the sources in it, one for each of its rows."""
    if "documents" in held:
        raise ValueError("a cache holds one source a row, not several")
    if any(len(tensor) != cache.batch for tensor in held.values()):
        raise ValueError("a cache takes one source for each row")
    cache.memory.update(held)
    return cache


def sources_of(held: Encoded | None, cache: KVCache | None) -> Encoded:
    """What a decoder looks at: what was encoded, or else what its cache holds."""
    if cache is None and held is not None:
        return held
    if cache is None or held is not None:
        raise ValueError("give what was encoded, or a cache that holds it")
    return cache.memory


def _real(source: Tensor, lengths: Int[Tensor, " batch"]) -> Bool[Tensor, "batch source"]:
    return torch.arange(source.shape[1], device=source.device) < lengths[:, None]
