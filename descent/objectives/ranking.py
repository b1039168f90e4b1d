"""Ranking: of a group of documents the relevant one is to have the highest score.

Legend: N rows, K pairs of the fullest row, P pairs, G groups.
"""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.config import Config, Field
from descent.objectives.objective import Batch, Objective, Phase, model_inputs

IGNORED = -100


class RankingConfig(Config):
    type: Literal["ranking"] = "ranking"
    interpolate: bool = Field(
        default=False,
        description="rank by the model's score and the first stage's together, with the weight that is best "
        "on the validation split",
    )


class RankingObjective(Objective):
    """The mean over groups of the cross-entropy of the relevant document among its group, in nats.

    A group is a query, one relevant document and others that are not; its scores are put through a softmax
    (Z. Cao et al., Learning to Rank: From Pairwise Approach to Listwise Approach, ICML 2007; for rerankers
    L. Gao et al., arXiv:2101.08751). A group may reach over several rows, so a batch cannot be accumulated
    from parts.
    """

    splittable = False

    def __init__(self, config: RankingConfig | None = None):
        self.config = config or RankingConfig()

    def targets(self, phase: Phase, batch: Batch) -> int:
        groups = batch["targets"][..., 0]
        return int(groups[groups != IGNORED].unique().numel())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        scores_P, targets_P2 = pair_scores(model, batch)
        return group_losses(scores_P, targets_P2[:, 0], targets_P2[:, 1]).mean()


def pair_scores(model: nn.Module, batch: Batch) -> tuple[Float[Tensor, " pairs"], Int[Tensor, "pairs 2"]]:
    """The score of each pair of a query and a document, row after row, and its group and grade.

    Args:
        model: with one output an example.
        batch: `targets` (N, K, 2), -100 where there is no pair.
    """
    asked_NK = batch["targets"][..., 0] != IGNORED
    scores_NK1 = model(**model_inputs(batch)).float()
    return scores_NK1[asked_NK].squeeze(-1), batch["targets"][asked_NK]


def group_losses(
    scores: Float[Tensor, " pairs"], groups: Int[Tensor, " pairs"], grades: Int[Tensor, " pairs"]
) -> Float[Tensor, " groups"]:
    """The loss of each group that has a relevant document, in the order of the groups' numbers.

    Of several relevant documents each counts alike: the softmax's cross-entropy with equal shares of them.
    """
    distinct, numbers_P = groups.unique(return_inverse=True)
    zeros_G = scores.new_zeros(len(distinct))
    highest_G = zeros_G.scatter_reduce(0, numbers_P, scores.detach(), "amax", include_self=False)
    shares_P = (scores - highest_G[numbers_P]).exp()
    sums_G = zeros_G.index_add(0, numbers_P, shares_P).log() + highest_G
    right_P = (grades > 0).to(scores.dtype)
    counts_G = zeros_G.index_add(0, numbers_P, right_P)
    losses_G = zeros_G.index_add(0, numbers_P, (sums_G[numbers_P] - scores) * right_P)
    return (losses_G / counts_G.clamp_min(1))[counts_G > 0]
