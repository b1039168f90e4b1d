"""Rows about time: the cache, a state that is carried, rows of several documents, rows with padding.

Shapes: B rows, T time, V vocabulary or outputs.
"""

from __future__ import annotations

import inspect
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from descent.data.batches import Batches
from descent.data.dataset import Batch
from descent.errors import UserError
from descent.generation import prepare
from descent.generation.protocol import Decodable
from descent.nn.cache import StateCache
from descent.objectives.causal import kept
from descent.verify.measure import NotApplicable, asked, difference, read_by, rows

STEPS = 16
"""Steps fed one at a time; the rest are the prompt."""
PIECES = 4
BY_EXAMPLE = ("classes", "next", "pretraining", "vector")
"""Heads that answer once for each document."""


@torch.inference_mode()
def cached(model: Any, batch: Batch) -> tuple[float, str]:
    """Outputs of a prompt in one forward and then step by step, against one forward of all.

    By the model as it is, and by its twin that `generate` decodes with.
    """
    if not _decodes(model):
        raise NotApplicable("no language model")
    encoded = model.encode(batch["source"], batch["source_lengths"]) if "source" in batch else None
    x_BT = batch["tokens" if encoded else read_by(batch) or ""]
    count, length = x_BT.shape[:2]
    prompt = max(1, length - STEPS)
    full_BTV, worst = (asked(model, batch) if encoded else model(x_BT)), 0.0
    for decoder in (model, prepare(model)):
        decoder: Any
        cache = _empty(decoder, count, length, **({"encoded": encoded} if encoded else {}))
        pieces = [x_BT[:, :prompt], *(x_BT[:, at : at + 1] for at in range(prompt, length))]
        if encoded:
            parts = [decoder.unembed(decoder.decode(piece, cache=cache)) for piece in pieces]
        else:
            parts = [decoder(piece, cache=cache) for piece in pieces]
        worst = max(worst, difference(torch.cat(parts, 1), full_BTV))
    return worst, f"prompt of {prompt}, then {length - prompt} steps; also as generate does it"


def _decodes(model: Any) -> bool:
    return isinstance(model, Decodable)


def _empty(model: Any, count: int, length: int, **known: Any) -> Any:
    """A new cache, or why there is none."""
    try:
        return model.new_cache(count, length, **known)
    except UserError as error:
        raise NotApplicable(str(error).splitlines()[0]) from None


@torch.inference_mode()
def carried(model: Any, batch: Batch, batches: Batches | None) -> tuple[float, str]:
    """Pieces one after another, as training carries the state from step to step, against one forward of all.

    Args:
        batches: of a run in lanes, whose first steps are taken; else the rows of `batch` are cut.
    """
    if not _decodes(model) or "source" in batch:
        raise NotApplicable("no state to carry from batch to batch")
    steps = batches.batch if batches is not None else _cut(batch)
    first = steps(0)
    name = read_by(first) or ""
    cache = _empty(model, len(first[name]), first[name].shape[1])
    if not isinstance(cache, StateCache):
        raise NotApplicable("no state to carry: it looks back at all it has read")
    most = batch[name].shape[1] if batches is None else len(batches.split) // batches.batch_size
    count = min(PIECES, most)
    state, parts, read = cache.state, [], []
    for piece in map(steps, range(count)):
        cache = StateCache(kept(state, piece["carried"]))
        parts.append(model(piece[name], cache=cache))
        read.append(piece[name])
        state = cache.state
    whole_BTV = model(torch.cat(read, 1))
    return difference(torch.cat(parts, 1), whole_BTV), f"{count} pieces of {read[0].shape[1]} steps"


def _cut(batch: Batch) -> Any:
    """The pieces of a batch by number."""
    name = read_by(batch) or ""
    size = max(1, batch[name].shape[1] // PIECES)

    def piece(number: int) -> Batch:
        x_BT = batch[name][:, number * size : (number + 1) * size]
        return {name: x_BT, "carried": torch.full((len(x_BT),), number > 0)}

    return piece


@torch.inference_mode()
def packed(model: Any, batch: Batch) -> tuple[float, str]:
    """Documents that share a row, and rows of unequal length, against each in a row of its own."""
    takes = inspect.signature(model.forward).parameters
    found: list[tuple[float, str]] = []
    if "source_documents" in takes:
        found.append(_pairs(model, batch))
    elif "documents" in takes and getattr(model.config, "pool", "none") == "none":
        found.append(_documents(model, batch))
    if "lengths" in takes or "source_lengths" in takes:
        found.append(_lengths(model, batch))
    if not found:
        raise NotApplicable("its rows are all of one length")
    return max(worst for worst, _ in found), "; ".join(note for _, note in found)


def _documents(model: Any, batch: Batch) -> tuple[float, str]:
    row_T = batch[read_by(batch) or ""][0]
    length = len(row_T)
    bounds = [0, length // 5, length // 5 + length // 3, length]
    documents = [row_T[start:stop] for start, stop in pairwise(bounds) if stop > start]
    numbers = torch.cat([torch.full((len(d),), i) for i, d in enumerate(documents)])
    positions = torch.cat([torch.arange(len(d)) for d in documents])
    note = f"{len(documents)} documents in a row of {length}"
    if getattr(model.config, "head", "") in BY_EXAMPLE:
        starts = torch.tensor([[0, *accumulate(map(len, documents[:-1]))]])
        known = {"documents": numbers[None], "positions": positions[None], "starts": starts}
        together = _several(model(row_T[None], **known))
        alone = [_several(model(document[None])) for document in documents]
        each = [torch.cat([one[place].flatten(0, -2) for one in alone]) for place in range(len(together))]
        worst = [difference(found[0], own) for found, own in zip(together, each, strict=True)]
        return max(worst), note
    together_TV = model(row_T[None], documents=numbers[None], positions=positions[None])[0]
    alone = [_padded(model, document, length) for document in documents]
    return difference(together_TV, torch.cat(alone)), note


def _pairs(model: Any, batch: Batch) -> tuple[float, str]:
    """All pairs of the batch in one row, against each in a row of its own."""
    lengths = batch["source_lengths"].tolist()
    sources = [row[:length] for row, length in zip(batch["source"], lengths, strict=True)]
    targets = [row[: len(row) - number] for number, row in enumerate(batch["tokens"])]
    sides = []
    for rows_of in (sources, targets):
        numbers = torch.cat([torch.full((len(row),), i) for i, row in enumerate(rows_of)])
        sides += [torch.cat(rows_of)[None], numbers[None].to(batch["source"].device)]
    together = model(sides[0], sides[2], source_documents=sides[1], documents=sides[3])[0]
    alone = [model(s[None], t[None])[0] for s, t in zip(sources, targets, strict=True)]
    return difference(together, torch.cat(alone)), f"{len(sources)} pairs in a row"


def _several(outputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else outputs


def _padded(model: Any, document: Tensor, length: int) -> Tensor:
    used = len(document)
    padding = document.new_zeros(length - used, *document.shape[1:])
    numbers = (torch.arange(length) >= used).long()
    positions = torch.cat([torch.arange(used), torch.arange(length - used)])
    row_T = torch.cat([document, padding])
    return model(row_T[None], documents=numbers[None], positions=positions[None])[0, :used]


def _lengths(model: Any, batch: Batch) -> tuple[float, str]:
    """Rows cut to unequal lengths, what was cut left behind their ends as padding, against each alone."""
    name, counted = ("source", "source_lengths") if "source" in batch else (read_by(batch) or "", "lengths")
    count, time = batch[name].shape[:2]
    batch = {k: v for k, v in batch.items() if k not in ("documents", "positions")}
    real_B = batch.get(counted, torch.full((count,), time))
    lengths_B = (real_B * (count - torch.arange(count)) // count).clamp(min=1)
    together, worst = asked(model, batch, **{counted: lengths_B}), 0.0
    for i, length in enumerate(lengths_B.tolist()):
        row = rows(batch, slice(i, i + 1))
        row[name] = row[name][:, :length]
        alone = asked(model, row, **{counted: lengths_B[i : i + 1]})
        steps = name != "source" and together.dim() == 3
        worst = max(worst, difference(together[i : i + 1, :length] if steps else together[i : i + 1], alone))
    return worst, f"{count} rows of {int(lengths_B.min())} to {int(lengths_B.max())} of {time} steps"
