"""The loss of a ranking: the relevant document among its group, wherever the group's pairs lie."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from descent.data.rows import Row, lay_out
from descent.objectives import Phase, RankingConfig, RankingObjective, build_objective
from descent.objectives.ranking import group_losses, pair_scores


class FirstToken(nn.Module):
    """A number for the token each example begins with."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scores = nn.Embedding(60, 1)

    def forward(self, tokens: Tensor, *, starts: Tensor, **others: Tensor) -> Tensor:
        return self.scores(tokens.gather(1, starts))


def batch_of(packed: bool) -> tuple[dict[str, Tensor], list[tuple[int, int]]]:
    """Fourteen pairs in three groups, out of order."""
    draw = np.random.default_rng(5)
    pairs = [(int(group), 0) for group in draw.permutation([3] * 6 + [8] * 4 + [5] * 4)]
    for group in (3, 8, 5):
        pairs[next(place for place, pair in enumerate(pairs) if pair[0] == group)] = (group, 1)
    rows: list[Row] = [
        {"tokens": np.arange(place + 1, place + 3 + place % 4), "answer": np.array(place)}
        for place in range(14)
    ]
    batch = lay_out(rows, 16, pad=0, packed=packed)
    known, places = torch.tensor(pairs), batch["targets"]
    batch["targets"] = known[places.clamp_min(0)].masked_fill(places[..., None] == -100, -100)
    return batch, pairs


@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_is_the_softmax_over_each_group(packed: bool) -> None:
    model = FirstToken()
    batch, pairs = batch_of(packed)
    losses = []
    for group in (3, 5, 8):
        own = [place for place, pair in enumerate(pairs) if pair[0] == group]
        scores = model.scores.weight[torch.tensor(own) + 1, 0]
        right = next(n for n, place in enumerate(own) if pairs[place][1])
        losses.append(F.cross_entropy(scores[None], torch.tensor([right])))
    objective = build_objective(RankingConfig())
    assert isinstance(objective, RankingObjective)
    assert not objective.splittable
    assert objective.targets(Phase(), batch) == 3
    torch.testing.assert_close(objective.loss(model, Phase(), batch), torch.stack(losses).mean())
    scores, targets = pair_scores(model, batch)
    torch.testing.assert_close(group_losses(scores, *targets.unbind(1)), torch.stack(losses))


def test_packed_and_padded_have_one_gradient() -> None:
    gradients = []
    for packed in (True, False):
        model = FirstToken()
        RankingObjective().loss(model, Phase(), batch_of(packed)[0]).backward()
        gradients.append(model.scores.weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])


def test_several_relevant_documents_count_alike_and_a_group_without_one_does_not() -> None:
    scores = torch.tensor([3.0, 900.0, 1.0, -900.0, 2.0, 5.0], requires_grad=True)
    groups, grades = torch.tensor([1, 2, 1, 2, 1, 4]), torch.tensor([4, 1, 0, 0, 1, 0])
    first = scores[[0, 2, 4]].log_softmax(0)
    wanted = torch.stack([-(first[0] + first[2]) / 2, torch.zeros(())])
    found = group_losses(scores, groups, grades)
    torch.testing.assert_close(found, wanted)
    found.sum().backward()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()
    assert scores.grad[5] == 0
