"""Scores by class, calibration and mistakes, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from descent.evaluation import Predictions, calibration, class_scores, class_shares, most_wrong

CLASSES = 40


def answers(said: list[tuple[float, bool]]) -> Predictions:
    """Predictions of class 0 with these confidences, each right or wrong."""
    rows = np.zeros((len(said), CLASSES))
    for row, (confidence, _) in zip(rows, said, strict=True):
        row[:] = (1 - confidence) / (CLASSES - 1)
        row[0] = confidence
    return Predictions(rows, np.array([0 if right else 7 for _, right in said]))


def given(predicted: list[int], targets: list[int], classes: int) -> Predictions:
    return Predictions(0.1 / classes + 0.9 * np.eye(classes)[predicted], np.array(targets))


def test_probabilities_come_from_logits_of_classes_or_of_the_second_of_two() -> None:
    logits = torch.tensor([[1.0, -2.0, 0.5], [40.0, 0.0, -3.0]])
    weights = logits.double().exp()
    torch.testing.assert_close(class_shares(logits, "cross_entropy"), weights / weights.sum(1, keepdim=True))
    single = logits[:, :1]
    torch.testing.assert_close(class_shares(single, "cross_entropy"), torch.ones(2, 1).double())
    found = class_shares(single, "binary")
    torch.testing.assert_close(found[:, 1], 1 / (1 + (-single[:, 0].double()).exp()))
    torch.testing.assert_close(found[1, 0], torch.tensor(-40.0).double().exp(), rtol=1e-9, atol=0)


def test_calibration_by_hand_with_confidences_on_the_edges_of_bins() -> None:
    said = [(0.2, True), (0.3, False), (0.4, True), (0.6, True), (0.6, False), (1.0, True), (0.9, True)]
    found = calibration(answers(said), bins=5)
    assert found.counts == (1, 2, 2, 0, 2)
    assert found.confidence == (0.2, pytest.approx(0.35), 0.6, None, pytest.approx(0.95))
    assert found.accuracy == (1.0, 0.5, 0.5, None, 1.0)
    assert found.ece == pytest.approx((1 * 0.8 + 2 * 0.15 + 2 * 0.1 + 2 * 0.05) / 7, abs=1e-12)
    assert found.largest == pytest.approx(0.8, abs=1e-12)


def test_a_bin_holds_its_upper_edge_and_not_its_lower_one() -> None:
    edges = [m / 15 for m in range(1, 16)]
    assert calibration(answers([(edge, True) for edge in edges])).counts == (1,) * 15
    above = [(float(np.nextafter(edge, 1)), True) for edge in edges[:-1]]
    assert calibration(answers(above)).counts == (0, *(1,) * 14)


@pytest.mark.parametrize("right", [0, 1])
def test_one_filled_bin_says_it_all(right: int) -> None:
    found = calibration(answers([(0.75, bool(right))] * 3), bins=10)
    assert found.counts == (0, 0, 0, 0, 0, 0, 0, 3, 0, 0)
    assert found.accuracy == (None,) * 7 + (float(right), None, None)
    assert found.ece == found.largest == pytest.approx(abs(right - 0.75))


def test_calibrated_answers_have_no_error_and_boastful_ones_have_theirs() -> None:
    honest = [(k / 10, n < k) for k in range(2, 11) for n in range(10)]
    found = calibration(answers(honest), bins=10)
    assert found.ece == pytest.approx(0, abs=1e-12)
    assert found.largest == pytest.approx(0, abs=1e-12)
    boastful = [(k / 10 + 0.05, n < k) for k in range(2, 10) for n in range(10)]
    found = calibration(answers(boastful), bins=10)
    assert (found.ece, found.largest) == pytest.approx((0.05, 0.05), abs=1e-12)


def test_answers_drawn_from_their_own_probabilities_are_nearly_calibrated() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.05, 1, 20_000)
    said = list(zip(confidence.tolist(), (random.random(20_000) < confidence).tolist(), strict=True))
    found = calibration(answers(said))
    assert 0 < found.ece < 0.02
    assert found.ece < found.largest < 0.06


def test_no_examples_have_no_error() -> None:
    found = calibration(Predictions(np.zeros((0, 3)), np.zeros(0, dtype=np.int64)), bins=4)
    assert (found.ece, found.largest, found.counts, found.accuracy) == (0, 0, (0,) * 4, (None,) * 4)


def test_scores_by_class_by_hand() -> None:
    # Class 2 is never predicted, class 3 is not in the split.
    scores = class_scores(given([0, 0, 1, 1, 1, 3, 0, 0], [0, 0, 0, 0, 1, 1, 2, 2], 4))
    assert scores.support == (4, 2, 2, 0)
    assert scores.precision == (2 / 4, 1 / 3, 0, 0)
    assert scores.recall == (2 / 4, 1 / 2, 0, 0)
    assert scores.f1 == pytest.approx((1 / 2, 2 / 5, 0, 0), abs=1e-12)
    expected = {"precision": (1 / 2 + 1 / 3) / 3, "recall": (1 / 2 + 1 / 2) / 3, "f1": (1 / 2 + 2 / 5) / 3}
    assert scores.macro == pytest.approx(expected, abs=1e-12)


def test_the_worst_mistakes_come_first_and_equals_in_order() -> None:
    said = [(0.6, False), (0.9, True), (0.9, False), (0.3, False), (0.9, False), (0.95, False), (0.9, False)]
    predictions = answers(said)
    found = most_wrong(predictions, 10)
    assert [mistake.example for mistake in found] == [5, 2, 4, 6, 0, 3]
    assert [mistake.probability for mistake in found] == [0.95, 0.9, 0.9, 0.9, 0.6, 0.3]
    assert {(mistake.true, mistake.predicted) for mistake in found} == {(7, 0)}
    assert most_wrong(predictions, 3) == found[:3]
    assert most_wrong(answers([(0.9, True)]), 3) == []
