"""The loss of frames: every key of every real frame, nothing of the padding, and batches that add up."""

import torch
from torch import nn
from torch.testing import assert_close

from descent.objectives.frames import Frames, frame_losses
from descent.objectives.objective import Phase


class Tilted(nn.Module):
    """Outputs that are a linear map of the inputs, step by step."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(88, 88)
        self.asked = set()

    def forward(self, inputs, lengths=None):
        self.asked = {"inputs", "lengths"} if lengths is not None else {"inputs"}
        return self.map(inputs)


def batch_of(lengths, time=7):
    generator = torch.Generator().manual_seed(2)
    inputs, targets = (torch.rand(2, len(lengths), time, 88, generator=generator) < 0.1).float()
    return {"inputs": inputs, "lengths": torch.tensor(lengths), "targets": targets}


def by_hand(outputs, batch):
    """The sum over real frames of -log of the probability of the frame, key by key."""
    total = 0.0
    for row, length in enumerate(batch["lengths"].tolist()):
        on = torch.sigmoid(outputs[row, :length].double())
        true = batch["targets"][row, :length] > 0
        total += -torch.where(true, on, 1 - on).log().sum().item()
    return total


def test_the_loss_is_the_negative_log_probability_of_a_frame():
    torch.manual_seed(0)
    model, batch = Tilted(), batch_of([7, 3, 1])
    loss = Frames().loss(model, Phase(), batch)
    expected = by_hand(model(batch["inputs"]).detach(), batch) / 11
    assert_close(loss.item(), expected, rtol=1e-5, atol=0)
    assert Frames().targets(Phase(), batch) == 11
    Frames().loss(model, Phase(), batch)
    assert model.asked == {"inputs", "lengths"}


def test_padding_counts_for_nothing():
    torch.manual_seed(0)
    model, batch = Tilted(), batch_of([4, 2])
    changed = {name: value.clone() for name, value in batch.items()}
    for row, length in enumerate((4, 2)):
        changed["inputs"][row, length:] = 9.0
        changed["targets"][row, length:] = 1.0
    assert_close(Frames().loss(model, Phase(), changed), Frames().loss(model, Phase(), batch))
    losses = frame_losses(model(batch["inputs"]), batch["targets"], batch["lengths"])
    assert (losses > 0).tolist() == [[True] * 4 + [False] * 3, [True] * 2 + [False] * 5]


def test_parts_weighted_by_their_frames_are_the_whole():
    torch.manual_seed(0)
    model, batch, objective = Tilted(), batch_of([7, 3, 1, 5]), Frames()
    parts = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 3), slice(3, 4))]
    sums = [objective.loss(model, Phase(), part) * objective.targets(Phase(), part) for part in parts]
    assert_close(sum(sums) / 16, objective.loss(model, Phase(), batch))


def test_a_silent_model_pays_log_two_a_key():
    outputs = torch.zeros(1, 2, 88)
    losses = frame_losses(outputs, torch.ones(1, 2, 88), torch.tensor([2]))
    assert_close(losses, torch.full((1, 2), 88 * 0.6931472))
