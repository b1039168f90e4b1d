"""How well targets are predicted token by token, and how often the model alone writes the whole of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch.nn.functional as F

from descent.data.batches import sweep
from descent.data.dataset import IGNORED, Batch, Split
from descent.evaluation.result import Evaluation, moved
from descent.generation import Settings, generate
from descent.generation.conditioned import condition
from descent.objectives.seq2seq import Seq2SeqObjective, target_logits

NAMES: tuple[str, ...] = ("loss", "perplexity", "token_accuracy", "exact_match")
"""`loss`: the objective's, smoothed where it smooths; `perplexity`: of the true tokens, not smoothed;
`token_accuracy`: the share of them that is the most probable one; `exact_match`: the share of targets that
greedy decoding writes without a fault. Where sacreBLEU is installed and the data are texts, also `bleu`, from
0 to 100, of what greedy decoding writes."""


def names(objective: Seq2SeqObjective, outputs: int) -> tuple[str, ...]:
    """The metrics that can be had here."""
    return (*NAMES, "bleu") if find_spec("sacrebleu") else NAMES


def score(model: Any, objective: Seq2SeqObjective, split: Split, batch_size: int, device: str) -> Evaluation:
    """Scores an encoder-decoder on a whole split; the model is in evaluation mode already."""
    total, plain, right, tokens = 0.0, 0.0, 0, 0
    written: list[list[int]] = []
    wanted: list[list[int]] = []
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
        if split.decoded:
            written += greedy(model, batch)
            wanted += targets_of(batch)
    values = {
        "loss": total / max(tokens, 1),
        # Overflow at exp(709): a model that bad has no perplexity worth printing.
        "perplexity": math.exp(min(plain / max(tokens, 1), 700.0)),
        "token_accuracy": right / max(tokens, 1),
    }
    if split.decoded:
        values["exact_match"] = sum(map(list.__eq__, written, wanted)) / max(len(wanted), 1)
    decode = getattr(split, "decode", None)
    if split.decoded and decode is not None and find_spec("sacrebleu"):
        values["bleu"] = bleu(list(map(decode, written)), list(map(decode, wanted)))
    return Evaluation(values, tokens)


def greedy(model: Any, batch: Batch) -> list[list[int]]:
    """What greedy decoding writes for each row, without the mark that ends it.

    The mark that begins and the mark that ends a target are those of the batch. A row is decoded for half as
    many tokens again as the longest target has.
    """
    targets = batch["targets"]
    last = ((targets != IGNORED).sum(1) - 1).clamp_min(0)
    ends = tuple(set(targets.gather(1, last[:, None]).flatten().tolist()))
    twin = condition(model, batch["source"], batch["source_lengths"])
    settings = Settings(temperature=0.0, max_new_tokens=targets.shape[1] * 3 // 2 + 1, stop_ids=ends)
    found = generate(twin, batch["tokens"][:, :1].tolist(), settings)
    # what never ends equals no target
    return [one.tokens if one.reason == "stop" else [*one.tokens, IGNORED] for one in found]


def targets_of(batch: Batch) -> list[list[int]]:
    """The target of each row, without the mark that ends it."""
    lengths = (batch["targets"] != IGNORED).sum(1).tolist()
    return [row[: length - 1] for row, length in zip(batch["targets"].tolist(), lengths, strict=True)]


def bleu(written: Sequence[str], wanted: Sequence[str]) -> float:
    """Corpus BLEU, 0 to 100, as sacreBLEU counts it by default (tokens of mteval-v13a, case as it is).

    Papineni et al. (2002); Post (2018), "A Call for Clarity in Reporting BLEU Scores".
    """
    from sacrebleu import corpus_bleu  # of the extra "translation"

    return float(corpus_bleu(list(written), [list(wanted)]).score)
