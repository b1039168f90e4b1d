"""Contrastive: the vector of a text is to be nearer to its partner's than to those of the rest of the batch.

Legend: P pairs of a batch, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field
from descent.objectives.objective import Batch, Objective, Phase, model_inputs

IGNORED = -100


class ContrastiveConfig(Config):
    type: Literal["contrastive"] = "contrastive"
    temperature: float = Field(
        default=0.05, gt=0, description="cosines are divided by it before the softmax; smaller is sharper"
    )


class Contrastive(Objective):
    """InfoNCE with the rest of the batch as negatives, both ways, in nats.

        loss = (mean_i -log softmax_j(cos(a_i, b_j) / t)_i + mean_j -log softmax_i(cos(a_i, b_j) / t)_j) / 2

    A. van den Oord, Y. Li, O. Vinyals, arXiv:1807.03748, equation 4; for texts T. Gao, X. Yao, D. Chen,
    SimCSE, arXiv:2104.08821, equations 1 and 4, where it goes one way. Pairs that share a text are no
    negatives of each other. A pair is told from all others, so a batch cannot be accumulated from parts.
    """

    splittable = False

    def __init__(self, config: ContrastiveConfig | None = None):
        self.config = config or ContrastiveConfig()

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int((batch["targets"][..., 0] != IGNORED).sum()) // 2

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        first_PD, second_PD, texts_P2 = pair_vectors(model, batch)
        with torch.autocast(first_PD.device.type, enabled=False):  # cosines over t need their digits
            logits_PP = first_PD @ second_PD.T / self.config.temperature
            logits_PP = logits_PP.masked_fill(sharing(texts_P2, texts_P2), float("-inf"))
            own_P = torch.arange(len(logits_PP), device=logits_PP.device)
            return (F.cross_entropy(logits_PP, own_P) + F.cross_entropy(logits_PP.T, own_P)) / 2


def pair_vectors(
    model: nn.Module, batch: Batch
) -> tuple[Float[Tensor, "pairs dim"], Float[Tensor, "pairs dim"], Int[Tensor, "pairs 2"]]:
    """The vectors of the first and of the second text of each pair, of length 1, and the texts' numbers.

    Args:
        model: answers with a vector an example.
        batch: `targets` (N, K, 2), of each example its turn and the number of its text (see
            `data.similar.SimilarSplit`); pairs come in the order of their turns.
    """
    asked_NK = batch["targets"][..., 0] != IGNORED
    turns, texts = batch["targets"][asked_NK].unbind(-1)
    order = turns.argsort()
    vectors = F.normalize(model(**model_inputs(batch))[asked_NK].float(), dim=-1)[order]
    return vectors[0::2], vectors[1::2], texts[order].view(-1, 2)


def sharing(
    texts: Int[Tensor, "some 2"], others: Int[Tensor, "pairs 2"], start: int = 0
) -> Bool[Tensor, "some pairs"]:
    """Which of the other pairs have a text in common with each pair; a pair is no other of itself.

    Args:
        texts: the numbers of both texts of the pairs `start`, `start + 1`, ... of the others.
        others: those of all pairs.
        start: see `texts`.
    """
    shared = (texts[:, None, :, None] == others[None, :, None, :]).any(-1).any(-1)
    places = torch.arange(len(texts), device=texts.device)
    shared[places, places + start] = False
    return shared
