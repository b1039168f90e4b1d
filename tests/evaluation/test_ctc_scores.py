"""The scores of strings: word error rates against an edit distance written out, over any batch size."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from descent.data.dataset import Batch, Indices, Split
from descent.errors import UserError
from descent.evaluation import ctc as scores
from descent.evaluation import evaluate, metric_names
from descent.generation.ctc import best_path, prefix_beam_search
from descent.objectives.ctc import CTC, ctc_losses

CLASSES, FRAMES = 3, 12
Labels = tuple[int, ...]


class Echo(nn.Module):
    """What it is given are the logits."""

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        return inputs


class Strings(Split):
    def __init__(self, batch: Batch):
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch["inputs"])

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        return {name: value[torch.from_numpy(indices)] for name, value in self.batch.items()}

    def describe(self) -> str:
        return "strings"


def split() -> Strings:
    """Nine strings, of which the logits favour the labels, here and there another."""
    generator = torch.Generator().manual_seed(7)
    inputs = torch.randn(9, FRAMES, CLASSES + 1, generator=generator)
    counts = torch.randint(0, 5, (9,), generator=generator)
    counts[4] = 0
    targets = torch.randint(CLASSES, (9, 5), generator=generator)
    for row, count in enumerate(counts.tolist()):
        targets[row, count:] = -100
        inputs[row, :, CLASSES] += 3.0
        inputs[row, torch.arange(count) * 2, targets[row, :count]] += 5.5
    lengths = torch.randint(10, FRAMES + 1, (9,), generator=generator)
    return Strings({"inputs": inputs, "lengths": lengths, "targets": targets})


def edits(true: Labels, found: Labels) -> int:
    """The fewest words to replace, leave out or put in (Levenshtein)."""
    row = list(range(len(found) + 1))
    for i, word in enumerate(true):
        before, row = row, [i + 1]
        for j, other in enumerate(found):
            row.append(min(before[j] + (word != other), before[j + 1] + 1, row[j] + 1))
    return row[-1]


def strings(batch: Batch) -> list[Labels]:
    return [tuple(label for label in row if label >= 0) for row in batch["targets"].tolist()]


@pytest.fixture(autouse=True)
def _jiwer(request: pytest.FixtureRequest) -> None:
    if "without" not in request.node.name:
        pytest.importorskip("jiwer")


@pytest.mark.parametrize("batch_size", [2, 9])
def test_scores(batch_size: int) -> None:
    data = split()
    found = evaluate(Echo(), CTC(), data, batch_size=batch_size)
    logs = [
        row[:length].log_softmax(1)
        for row, length in zip(data.batch["inputs"], data.batch["lengths"].tolist(), strict=True)
    ]
    true = strings(data.batch)
    greedy = [best_path(row).labels for row in logs]
    beam = [prefix_beam_search(row, scores.BEAMS)[0].labels for row in logs]
    words = sum(map(len, true))
    expected = {
        "loss": float(ctc_losses(Echo(), data.batch)[1].sum()) / (words + true.count(())),
        "wer": sum(map(edits, true, greedy)) / words,
        "wer_beam": sum(map(edits, true, beam)) / words,
        "sequence_accuracy": float(np.mean([a == b for a, b in zip(true, beam, strict=True)])),
    }
    assert 0 < expected["sequence_accuracy"] < 1
    assert expected["wer"] != expected["wer_beam"]
    assert_close(found.metrics, expected, atol=1e-6, rtol=1e-5)
    assert tuple(found.metrics) == scores.NAMES == metric_names(CTC(), CLASSES + 1)
    assert found.examples == words + true.count(())


def test_strings_without_a_mistake() -> None:
    labels = torch.tensor([[0, 1, 2], [2, 2, -100]])
    inputs = torch.zeros(2, 7, CLASSES + 1)
    inputs[:, :, CLASSES] = 20.0
    for row, column in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1)):
        inputs[row, 2 * column, labels[row, column]] = 60.0
    data = {"inputs": inputs, "targets": labels}
    found = evaluate(Echo(), CTC(), Strings(data)).metrics
    assert (found["wer"], found["wer_beam"], found["sequence_accuracy"]) == (0, 0, 1)
    assert found["loss"] == pytest.approx(0, abs=1e-4)


def test_word_errors() -> None:
    assert scores.word_errors([(1, 2, 3), (10,)], [(1, 3), ()]) == pytest.approx(2 / 4)
    assert scores.word_errors([(), (1,)], [(2, 2), (1,)]) == pytest.approx(2)
    assert scores.word_errors([(1, 0)], [(10,)]) == pytest.approx(1)


def test_nothing_to_score() -> None:
    with pytest.raises(UserError, match="no label"):
        scores.word_errors([(), ()], [(1,), ()])


def test_without_jiwer_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(UserError, match="jiwer") as error:
        scores.word_errors([(1,)], [(1,)])
    assert "descent[sound]" in str(error.value)
