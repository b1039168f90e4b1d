"""Scores of frames against the definitions, whatever the batches are."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from descent.data.music_splits import FrameSplit
from descent.errors import UserError
from descent.evaluation.frames import NAMES, score
from descent.objectives.frames import Frames


class Echo(nn.Module):
    """Says of each key how loud the frame before had it, tilted so that every key differs."""

    def forward(self, inputs, lengths=None):
        return 3.0 * inputs - 1.5 + torch.linspace(-2, 2, 88)


def rolls(*lengths):
    generator = np.random.default_rng(0)
    return [generator.random((length, 88)) < 0.2 for length in lengths]


def by_hand(pieces):
    later, first, right, wrong = [], [], 0, 0
    for roll in pieces:
        before = np.concatenate([np.zeros((1, 88)), roll[:-1]])
        outputs = Echo()(torch.from_numpy(before)).numpy()
        on = 1 / (1 + np.exp(-outputs))
        losses = -np.log(np.where(roll, on, 1 - on)).sum(axis=1)
        first.append(losses[0])
        later.extend(losses[1:])
        predicted = on[1:] > 0.5
        right += (predicted & roll[1:]).sum()
        wrong += (predicted != roll[1:]).sum()
    return {
        "loss": np.mean(later),
        "loss_from_silence": np.mean(later + first),
        "accuracy": right / (right + wrong),
    }


@pytest.mark.parametrize("batch_size", [1, 2, 256])
def test_scores_are_those_of_the_definitions(batch_size):
    pieces = rolls(9, 2, 14, 1, 5)
    found = score(Echo(), Frames(), FrameSplit(pieces), batch_size=batch_size)
    assert tuple(found.metrics) == NAMES
    assert found.examples == 8 + 1 + 13 + 0 + 4
    for name, value in by_hand(pieces).items():
        assert_close(found.metrics[name], float(value), rtol=1e-5, atol=0)


def test_whole_pieces_are_scored_whatever_rows_they_are_trained_in():
    pieces = rolls(9, 14)
    whole = score(Echo(), Frames(), FrameSplit(pieces))
    cut = score(Echo(), Frames(), FrameSplit(pieces, transpose=0, length=4))
    assert whole == cut


def test_pieces_of_one_frame_cannot_be_scored():
    with pytest.raises(UserError, match="too short"):
        score(Echo(), Frames(), FrameSplit(rolls(1, 1)))
