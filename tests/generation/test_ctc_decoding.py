"""CTC decoding against all paths there are: which labelling is best, and where its labels are."""

from __future__ import annotations

import itertools
import json
import math
from collections import defaultdict

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from descent.errors import UserError
from descent.generation.ctc import align, best_path, decode_words, prefix_beam_search

Labels = tuple[int, ...]


def collapsed(path: Labels, blank: int) -> Labels:
    return tuple(label for label, _ in itertools.groupby(path) if label != blank)


def all_paths(logs: Tensor) -> dict[Labels, dict[Labels, float]]:
    """labelling -> path -> its log-probability, for every path there is."""
    frames, outputs = logs.shape
    rows, found = logs.double().tolist(), defaultdict(dict)
    for path in itertools.product(range(outputs), repeat=frames):
        found[collapsed(path, outputs - 1)][path] = sum(rows[t][k] for t, k in enumerate(path))
    return found


def total(paths: dict[Labels, float]) -> float:
    return math.log(sum(math.exp(value) for value in paths.values()))


def cases(frames: int, outputs: int, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(frames)
    return [(2 * torch.randn(frames, outputs, generator=generator)).log_softmax(1) for _ in range(count)]


CASES = [*cases(1, 3, 3), *cases(4, 3, 12), *cases(6, 3, 12), *cases(5, 4, 12)]


@pytest.mark.parametrize("logs", CASES)
def test_a_wide_beam_finds_every_labelling_with_its_probability(logs: Tensor) -> None:
    sums = {labels: total(paths) for labels, paths in all_paths(logs).items()}
    found = prefix_beam_search(logs, beams=10_000, results=10_000, least=0)
    assert {one.labels: one.score for one in found} == pytest.approx(sums, abs=1e-9)
    assert [one.labels for one in found] == sorted(sums, key=sums.__getitem__, reverse=True)


@pytest.mark.parametrize("logs", CASES)
def test_the_best_path_is_the_best_of_all(logs: Tensor) -> None:
    paths = {path: value for group in all_paths(logs).values() for path, value in group.items()}
    best = max(paths, key=paths.__getitem__)
    found = best_path(logs)
    assert found.labels == collapsed(best, logs.shape[1] - 1)
    assert found.score == pytest.approx(paths[best])


def test_the_best_path_need_not_be_the_best_labelling() -> None:
    # nothing at both frames has 0.6 * 0.6; the label in one of them or both 1 - 0.36
    logs = torch.tensor([[0.4, 0.6], [0.4, 0.6]]).log()
    assert best_path(logs).labels == ()
    best = prefix_beam_search(logs, beams=4)[0]
    assert best.labels == (0,)
    assert best.score == pytest.approx(math.log(0.64))


def test_random_frames_have_both() -> None:
    differ = [best_path(logs).labels != prefix_beam_search(logs, 100, least=0)[0].labels for logs in CASES]
    assert any(differ)
    assert not all(differ)


@pytest.mark.parametrize("logs", CASES)
def test_labels_are_where_their_best_path_has_them(logs: Tensor) -> None:
    blank = logs.shape[1] - 1
    for labels, paths in all_paths(logs).items():
        best = max(paths, key=paths.__getitem__)
        runs = [(label, len(list(group))) for label, group in itertools.groupby(best)]
        starts = itertools.accumulate((length for _, length in runs), initial=0)
        spans = [(s, s + n) for s, (label, n) in zip(starts, runs, strict=False) if label != blank]
        assert align(logs, labels) == spans


def test_too_few_frames_to_align() -> None:
    with pytest.raises(ValueError, match="2 labels do not fit into 2 frames"):
        align(CASES[3][:2], (1, 1))


def test_a_narrow_beam_gives_no_more_than_there_is() -> None:
    for logs in CASES:
        sums = {labels: total(paths) for labels, paths in all_paths(logs).items()}
        found = prefix_beam_search(logs, beams=2, results=5)
        assert len(found) <= 2
        for one in found:
            assert one.score <= sums[one.labels] + 1e-9


def test_equal_labels_need_a_blank_between_them() -> None:
    sure = torch.full((5, 3), 1e-6)
    for frame, output in enumerate((0, 0, 2, 0, 1)):
        sure[frame, output] = 1.0
    logs = (sure / sure.sum(1, keepdim=True)).log()
    assert best_path(logs).labels == (0, 0, 1)
    assert prefix_beam_search(logs)[0].labels == (0, 0, 1)
    assert align(logs, (0, 0, 1)) == [(0, 2), (3, 4), (4, 5)]


def test_no_frames() -> None:
    nothing = torch.zeros(0, 3)
    assert best_path(nothing).labels == ()
    assert prefix_beam_search(nothing)[0].labels == ()


def test_impossible_outputs() -> None:
    logs = torch.tensor([[0.5, 0.0, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).log()
    found = prefix_beam_search(logs, beams=50, results=50, least=0)
    assert found[0].labels == (0,)
    assert found[0].score == pytest.approx(0, abs=1e-6)
    assert not any(math.isnan(one.score) for one in found)


def test_no_beams() -> None:
    with pytest.raises(UserError, match="beams"):
        prefix_beam_search(CASES[0], beams=0)


def test_words() -> None:
    outputs = torch.stack([torch.randn(7, 4, generator=torch.Generator().manual_seed(s)) for s in (3, 4)])
    lengths = torch.tensor([7, 4])
    for beams in (1, 8):
        found = decode_words(outputs, lengths, ("one", "two", "three"), beams)
        for index, answer in enumerate(found):
            logs = outputs[index, : lengths[index]].log_softmax(1)
            best = best_path(logs) if beams == 1 else prefix_beam_search(logs, beams)[0]
            assert answer["text"].split() == [("one", "two", "three")[label] for label in best.labels]
            assert answer["text"]
            assert_close(answer["score"], best.score)
            assert [tuple(word["frames"]) for word in answer["words"]] == align(logs, best.labels)
        assert json.loads(json.dumps(found)) == found


def test_times() -> None:
    logits = torch.full((1, 4, 3), -9.0)
    logits[0, torch.arange(4), torch.tensor([2, 1, 1, 2])] = 9.0
    found = decode_words(logits, torch.tensor([4]), ("a", "b"), hop=0.03)[0]["words"]
    assert found == [{"word": "b", "frames": [1, 3], "seconds": [0.03, 0.09]}]


def test_padding_says_nothing() -> None:
    outputs = torch.randn(2, 7, 4, generator=torch.Generator().manual_seed(5))
    alone = decode_words(outputs[1:, :4], torch.tensor([4]), ("a", "b", "c"))
    outputs[1, 4:] = 100 * torch.randn(3, 4)
    assert decode_words(outputs, torch.tensor([7, 4]), ("a", "b", "c"))[1:] == alone
