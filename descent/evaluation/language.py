"""How well a language model predicts a text: every token of a split, once."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from descent.data.batches import sweep
from descent.data.dataset import IGNORED, Batch, Split
from descent.evaluation.result import Evaluation, moved
from descent.objectives.causal import Carried, Causal, causal_loss

NAMES = ("loss", "perplexity", "bits_per_byte", "accuracy")


def score(model: Any, objective: Causal, split: Split, batch_size: int, device: str) -> Evaluation:
    """Loss in nats, perplexity and bits per byte; of a task with answers, the share of right ones."""
    total, count, right = 0.0, 0, 0
    carried = Carried(model, split.lanes) if split.lanes else None
    for batch in sweep(split, split.lanes or batch_size):
        held = moved(batch, device)
        loss, scored = (
            carried.loss(model, held, objective.config.chunk)
            if carried
            else causal_loss(model, held, objective.config.chunk)
        )
        total, count = total + loss.item(), count + int(scored)
        if split.answers:
            right += _right(model, held)
    loss = total / max(count, 1)
    # Overflow at exp(709): a model that bad has no perplexity worth printing.
    values = {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}
    if split.bytes:
        values["bits_per_byte"] = total / math.log(2) / split.bytes
    if split.answers:
        values["accuracy"] = right / max(count, 1)
    return Evaluation(values, count)


def _right(model: nn.Module, batch: Batch) -> int:
    """How many answers of a batch are the most probable token."""
    asked: Tensor = batch["targets"] != IGNORED
    logits = model(batch["tokens"])[asked]
    return int((logits.argmax(-1) == batch["targets"][asked]).sum())
