"""Rows for models that decode: the cache, and packed rows.

Shapes: B rows, T time, V vocabulary.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from descent.data.dataset import Batch
from descent.generation import prepare
from descent.verify.measure import difference

STEPS = 16
"""Tokens fed one at a time; the rest are the prompt."""


@torch.inference_mode()
def cached(model: Any, batch: Batch) -> tuple[float, str]:
    """Logits of a prompt in one forward and then token by token, against one forward of all.

    By the model as it is, and by its twin that `generate` decodes with.
    """
    tokens_BT = batch["tokens"]
    length = tokens_BT.shape[1]
    prompt = max(1, length - STEPS)
    full_BTV, worst = model(tokens_BT), 0.0
    for decoder in (model, prepare(model)):
        decoder: Any
        cache = decoder.new_cache(len(tokens_BT), length)
        parts = [decoder(tokens_BT[:, :prompt], cache=cache)]
        parts += [decoder(tokens_BT[:, at : at + 1], cache=cache) for at in range(prompt, length)]
        worst = max(worst, difference(torch.cat(parts, 1), full_BTV))
    return worst, f"prompt of {prompt}, then {length - prompt} tokens; also as generate does it"


@torch.inference_mode()
def packed(model: Any, batch: Batch) -> tuple[float, str]:
    """Documents that share a row, against each in a row of its own filled up with padding."""
    row_T = batch["tokens"][0]
    length = len(row_T)
    bounds = [0, length // 5, length // 5 + length // 3, length]
    documents = [row_T[start:stop] for start, stop in pairwise(bounds) if stop > start]
    numbers = torch.cat([torch.full((len(d),), i) for i, d in enumerate(documents)])
    positions = torch.cat([torch.arange(len(d)) for d in documents])
    together_TV = model(row_T[None], documents=numbers[None], positions=positions[None])[0]
    alone = [_padded(model, document, length) for document in documents]
    return difference(together_TV, torch.cat(alone)), f"{len(documents)} documents in a row of {length}"


def _padded(model: Any, document: Tensor, length: int) -> Tensor:
    used = len(document)
    tokens = torch.cat([document, document.new_zeros(length - used)])
    numbers = (torch.arange(length) >= used).long()
    positions = torch.cat([torch.arange(used), torch.arange(length - used)])
    return model(tokens[None], documents=numbers[None], positions=positions[None])[0, :used]
