"""How well targets are predicted token by token, and how often the model alone writes the whole of one."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from descent.data.batches import sweep
from descent.data.dataset import IGNORED, Batch, Split
from descent.evaluation.result import Evaluation, moved
from descent.generation import Settings, generate
from descent.generation.conditioned import condition
from descent.objectives.seq2seq import Seq2SeqObjective, target_logits

NAMES: tuple[str, ...] = ("loss", "perplexity", "token_accuracy", "exact_match")
"""`loss`: the objective's, smoothed where it smooths; `perplexity`: of the true tokens, not smoothed;
`token_accuracy`: the share of them that is the most probable one; `exact_match`: the share of targets that
greedy decoding writes without a fault."""


def score(model: Any, objective: Seq2SeqObjective, split: Split, batch_size: int, device: str) -> Evaluation:
    """Scores an encoder-decoder on a whole split; the model is in evaluation mode already."""
    total, plain, right, tokens, exact, rows = 0.0, 0.0, 0, 0, 0, 0
    smoothing = objective.config.label_smoothing
    for batch in sweep(split, batch_size):
        batch = moved(batch, device)
        logits, targets = target_logits(model, batch)
        losses = F.cross_entropy(logits, targets, reduction="none").double()
        plain += losses.sum().item()
        smoothed = F.cross_entropy(logits, targets, reduction="none", label_smoothing=smoothing)
        total += smoothed.double().sum().item()
        right += int((logits.argmax(-1) == targets).sum())
        tokens += len(targets)
        exact += int(exact_matches(model, batch).sum())
        rows += len(batch["targets"])
    values = {
        "loss": total / max(tokens, 1),
        # Overflow at exp(709): a model that bad has no perplexity worth printing.
        "perplexity": math.exp(min(plain / max(tokens, 1), 700.0)),
        "token_accuracy": right / max(tokens, 1),
        "exact_match": exact / max(rows, 1),
    }
    return Evaluation(values, tokens)


def exact_matches(model: Any, batch: Batch) -> Bool[Tensor, " batch"]:
    """For each row whether greedy decoding writes its target and then ends.

    The mark that begins and the mark that ends a target are those of the batch. A row is decoded for as many
    tokens as the longest target has: what goes on longer equals none.
    """
    targets = batch["targets"]
    lengths = (targets != IGNORED).sum(1)
    ends = targets.gather(1, (lengths - 1).clamp_min(0)[:, None])
    twin = condition(model, batch["source"], batch["source_lengths"])
    settings = Settings(
        temperature=0.0, max_new_tokens=targets.shape[1], stop_ids=tuple(set(ends.flatten().tolist()))
    )
    written = generate(twin, batch["tokens"][:, :1].tolist(), settings)
    wanted = [row[: length - 1] for row, length in zip(targets.tolist(), lengths.tolist(), strict=True)]
    found = [one.tokens == row for one, row in zip(written, wanted, strict=True)]
    return torch.tensor(found)
