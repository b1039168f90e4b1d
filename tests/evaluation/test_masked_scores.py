"""Scores of masked language models: over the whole split, whatever the batches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from descent.data.dataset import IGNORED
from descent.data.load import Documents
from descent.data.masked import tokenize_masked
from descent.data.masked_config import MaskedData
from descent.evaluation import evaluate, metric_names
from descent.models.bert import BERT, BERTConfig
from descent.objectives import Masked, MaskedConfig, model_inputs
from descent.text import train

TEXTS = [
    f"The river of stone number {number} turns. It is a river, and a name. 山高水长。月明。"
    for number in range(40)
]


def parts(next_sentence: bool):
    tokenizer = train("bpe", TEXTS, 300, marks="bert")
    config = MaskedData(path="x", length=24, next_sentence=next_sentence)
    split = tokenize_masked(Documents("toy", {"train": TEXTS}, ""), config, tokenizer).splits["train"]
    torch.manual_seed(0)
    head = "pretraining" if next_sentence else "masked"
    model = BERT(BERTConfig(depth=1, dim=16, heads=2, vocab_size=tokenizer.vocab_size, head=head))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model, split


@pytest.mark.parametrize("next_sentence", [False, True])
def test_scores_are_those_of_the_whole_split(next_sentence: bool):
    model, split = parts(next_sentence)
    found = evaluate(model, Masked(), split, batch_size=5)
    again = evaluate(model, Masked(MaskedConfig(chunk=3)), split, batch_size=64)
    for name, value in found.metrics.items():
        assert again.metrics[name] == pytest.approx(value, rel=1e-5)
    assert set(found.metrics) <= set(metric_names(Masked(), 0))

    whole: NDArray[np.int64] = np.arange(split.whole)
    batch, asked = split.gather(whole), None
    with torch.inference_mode():
        said = model.eval()(**model_inputs(batch))
    logits, targets = (said[0] if next_sentence else said).flatten(0, 1), batch["targets"].flatten()
    loss = F.cross_entropy(logits, targets, ignore_index=IGNORED).item()
    kept = targets != IGNORED
    assert found.examples == int(kept.sum())
    assert found.metrics["perplexity"] == pytest.approx(math.exp(loss), rel=1e-4)
    right = (logits.argmax(-1) == targets)[kept].double().mean().item()
    assert found.metrics["accuracy"] == pytest.approx(right)
    if next_sentence:
        answers = batch["next_targets"].flatten()
        asked = F.cross_entropy(said[1].flatten(0, 1), answers, ignore_index=IGNORED).item()
        told = (said[1].flatten(0, 1).argmax(-1) == answers)[answers != IGNORED].double().mean().item()
        assert found.metrics["next_accuracy"] == pytest.approx(told)
        assert 0 < told < 1
    assert found.metrics["loss"] == pytest.approx(loss + (asked or 0.0), rel=1e-5)
    assert ("next_accuracy" in found.metrics) == next_sentence


def test_scores_repeat():
    model, split = parts(False)
    assert evaluate(model, Masked(), split).metrics == evaluate(model, Masked(), split).metrics
