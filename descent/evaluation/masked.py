"""How well a masked language model finds hidden tokens, and whether a piece of text follows another."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F

from descent.data.batches import sweep
from descent.data.dataset import Split
from descent.evaluation.result import Evaluation, moved
from descent.objectives.causal import LOGITS_AT_ONCE
from descent.objectives.masked import Masked, hidden_tokens, next_logits

NAMES = ("loss", "perplexity", "accuracy", "next_accuracy")
"""`loss`: the objective's; `perplexity`: of the hidden tokens; `accuracy`: the share of them that is the most
probable token; `next_accuracy`: of pairs, the share of right answers."""


def score(model: Any, objective: Masked, split: Split, batch_size: int, device: str) -> Evaluation:
    """Scores a masked language model on a whole split, whose masks are the same every time."""
    total, count, right = 0.0, 0, 0
    asked, pairs, told = 0.0, 0, 0
    for batch in sweep(split, batch_size):
        held = moved(batch, device)
        hidden, features, targets = hidden_tokens(model, held)
        chunk = objective.config.chunk or max(1, LOGITS_AT_ONCE // model.config.vocab_size)
        for part, wanted in zip(features.split(chunk), targets.split(chunk), strict=True):
            logits = model.unembed(part).float()
            total += F.cross_entropy(logits, wanted, reduction="none").double().sum().item()
            right += int((logits.argmax(-1) == wanted).sum())
        count += len(targets)
        if "next_targets" in held:
            logits, follows = next_logits(model, hidden, held)
            asked += F.cross_entropy(logits, follows, reduction="none").double().sum().item()
            told += int((logits.argmax(-1) == follows).sum())
            pairs += len(follows)
    loss = total / max(count, 1)
    # Overflow at exp(709): a model that bad has no perplexity worth printing.
    values = {"loss": loss, "perplexity": math.exp(min(loss, 700.0)), "accuracy": right / max(count, 1)}
    if pairs:
        values |= {"loss": loss + asked / pairs, "next_accuracy": told / pairs}
    return Evaluation(values, count)
