"""Scores of an encoder-decoder, against a copier whose answers are known and a model scored by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from descent.data.pair_rows import PairSplit
from descent.evaluation.seq2seq import NAMES, bleu, greedy, names, score, targets_of
from descent.models.seq2seq import Seq2Seq, Seq2SeqConfig
from descent.nn.cache import StateCache
from descent.objectives.seq2seq import Seq2SeqObjective, Seq2SeqObjectiveConfig

END, VOCAB = 0, 6
SURE = 9.0


class Copier(nn.Module):
    """Writes the source again, surely; a 5 it writes as a 4, and a row of three never ends."""

    def __init__(self):
        super().__init__()
        self.config = None
        self.scale = nn.Parameter(torch.tensor(SURE))

    def encode(self, source: Tensor, source_lengths: Tensor) -> dict[str, Tensor]:
        return {"source": source, "lengths": source_lengths, "place": torch.zeros_like(source_lengths)}

    def new_cache(self, batch, length=None, dtype=None, device=None, start=None, *, encoded):
        return StateCache(dict(encoded), start)

    def decode(self, tokens: Tensor, encoded: Any = None, *, cache: Any = None) -> Tensor:
        held = encoded if cache is None else cache.state
        places = held["place"][:, None] + torch.arange(tokens.shape[1])
        padded = nn.functional.pad(held["source"], (0, 9), value=END)
        written = padded.gather(1, places)
        written = torch.where(written == 5, 4, written)
        endless = (held["lengths"] == 4)[:, None] & (written == END)
        if cache is not None:
            cache.advance({**held, "place": held["place"] + tokens.shape[1]}, tokens.shape[1])
        return nn.functional.one_hot(torch.where(endless, 1, written), VOCAB) * self.scale

    def features(self, source: Tensor, source_lengths: Tensor, tokens: Tensor) -> Tensor:
        return self.decode(tokens, self.encode(source, source_lengths))

    def unembed(self, hidden: Tensor) -> Tensor:
        return hidden


ROWS = [
    ([1, 2, END], [1, 2, END]),  # right
    ([3, END], [3, END]),  # right
    ([5, 2, END], [5, 2, END]),  # its first token is written as 4
    ([1, 2, 3, END], [1, 2, 3, END]),  # right, but does not end
    ([4, 4, END], [4, END]),  # a token too many
    ([END], [END]),  # right
]
SPLIT = PairSplit(ROWS, END, VOCAB)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_scores_are_over_all_targets_whatever_the_batches(batch_size: int, smoothing: float):
    objective = Seq2SeqObjective(Seq2SeqObjectiveConfig(label_smoothing=smoothing))
    with torch.inference_mode():
        found = score(Copier(), objective, SPLIT, batch_size, "cpu")
    tokens, wrong = 3 + 2 + 3 + 4 + 2 + 1, 3  # the 5, the end of three, and the end of [4]
    total = math.log(math.exp(SURE) + VOCAB - 1)
    right = total - SURE
    spread = (total * VOCAB - SURE) / VOCAB  # of the uniform distribution
    plain = (right * (tokens - wrong) + total * wrong) / tokens
    assert found.examples == tokens
    assert tuple(found.metrics) == (*NAMES, "bleu")
    assert found.metrics["token_accuracy"] == pytest.approx((tokens - wrong) / tokens)
    assert found.metrics["exact_match"] == pytest.approx(3 / 6)
    assert found.metrics["perplexity"] == pytest.approx(math.exp(plain), rel=1e-5)
    assert found.metrics["loss"] == pytest.approx((1 - smoothing) * plain + smoothing * spread, rel=1e-5)


def matches(model: Any, batch: dict[str, Tensor]) -> list[bool]:
    return [one == other for one, other in zip(greedy(model, batch), targets_of(batch), strict=True)]


def test_each_row_is_matched_by_itself():
    batch = SPLIT.gather(torch.arange(6).numpy())
    assert matches(Copier(), batch) == [True, True, False, False, False, True]


def test_bleu_is_of_what_the_model_writes():
    assert names(Seq2SeqObjective(), 0) == (*NAMES, "bleu")
    with torch.inference_mode():
        found = score(Copier(), Seq2SeqObjective(), SPLIT, 100, "cpu").metrics["bleu"]
    texts = ["1 2", "3", "4 2", "1 2 3 1 1 1 1", "4 4", ""]
    assert found == pytest.approx(bleu(texts, ["1 2", "3", "5 2", "1 2 3", "4", ""]))
    long = ["the cat sat on the mat today", "a dog ran over the green hill"]
    assert bleu(long, long) == pytest.approx(100)
    assert bleu(long, long[::-1]) < 10


def test_teacher_forcing_does_not_count_as_writing():
    """A model that is told the true token each time may be right everywhere and still write another text."""
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(vocab_size=VOCAB, dim=8)).eval()
    found = score(model, Seq2SeqObjective(), SPLIT, 100, "cpu")
    batch = SPLIT.gather(torch.arange(6).numpy())
    for row, (source, target) in enumerate(ROWS):
        tokens = [END]
        while len(tokens) <= batch["targets"].shape[1]:
            logits = model(torch.tensor([source]), torch.tensor([len(source)]), torch.tensor([tokens]))
            tokens.append(int(logits[0, -1].argmax()))
            if tokens[-1] == END:
                break
        assert matches(model, batch)[row] == (tokens[1:] == target)
    assert found.metrics["exact_match"] == pytest.approx(sum(matches(model, batch)) / 6)
