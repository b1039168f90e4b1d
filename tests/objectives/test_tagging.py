"""The loss of tags: the mean over the tokens that have one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from descent.objectives import Tagging, TaggingConfig, build_objective
from descent.objectives.tagging import tag_logits

TARGETS = torch.tensor([[-100, 2, -100, 0], [1, -100, -100, -100]])


class Table(nn.Module):
    """Logits looked up by token; what else it is given must be what the batch holds."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, tokens: Tensor, *, documents: Tensor) -> Tensor:
        assert documents.shape == tokens.shape
        return self.table(tokens)


def batch() -> dict[str, Tensor]:
    tokens = torch.tensor([[0, 1, 2, 3], [4, 1, 1, 0]])
    return {"tokens": tokens, "documents": torch.zeros_like(tokens), "targets": TARGETS}


def test_the_mean_over_tokens_that_have_a_tag():
    torch.manual_seed(0)
    model, objective = Table(), build_objective(TaggingConfig())
    assert isinstance(objective, Tagging)
    phase = objective.phases[0]
    logs = model.table.weight.log_softmax(-1)
    torch.testing.assert_close(
        objective.loss(model, phase, batch()), -(logs[1, 2] + logs[3, 0] + logs[4, 1]) / 3
    )
    assert objective.targets(phase, batch()) == 3


def test_logits_come_row_by_row():
    torch.manual_seed(0)
    model = Table()
    logits, targets = tag_logits(model, batch())
    torch.testing.assert_close(logits, model.table.weight[[1, 3, 4]])
    assert targets.tolist() == [2, 0, 1]


def test_a_part_without_tags_adds_nothing():
    objective, none = Tagging(), {**batch(), "targets": torch.full_like(TARGETS, -100)}
    assert objective.targets(objective.phases[0], none) == 0
    assert objective.loss(Table(), objective.phases[0], none).item() == 0.0


def test_parts_weighted_by_their_targets_are_the_whole():
    torch.manual_seed(0)
    model, objective, whole = Table(), Tagging(), batch()
    phase = objective.phases[0]
    parts = [{name: value[row : row + 1] for name, value in whole.items()} for row in range(2)]
    total = sum(objective.loss(model, phase, part) * objective.targets(phase, part) for part in parts)
    torch.testing.assert_close(total / 3, objective.loss(model, phase, whole))
