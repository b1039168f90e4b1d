"""How well vectors of texts find each text's partner among all partners of a split.

Legend: P pairs of a split, Q pairs looked at at once, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.data.batches import sweep
from descent.data.dataset import Split
from descent.evaluation.result import Evaluation, moved
from descent.objectives.contrastive import Contrastive, pair_vectors, sharing

NAMES = ("loss", "recall1", "recall10", "mrr")
"""`loss`: the objective's with the whole split for a batch, so more than that of training's small batches;
`recall1` and `recall10`: the shares of texts whose partner is the first, or among the first 10, of all
partners by cosine; `mrr`: the mean of one over its rank. All are means of both ways; of equal cosines the
partner's counts as the last, and other pairs with a text in common are left out."""
AT_ONCE = 512


def score(model: nn.Module, objective: Contrastive, split: Split, batch_size: int, device: str) -> Evaluation:
    """Scores a model on a whole split; it is in evaluation mode already."""
    found = [pair_vectors(model, moved(batch, device)) for batch in sweep(split, batch_size)]
    first_PD, second_PD, texts_P2 = (torch.cat(parts) for parts in zip(*found, strict=True))
    ways = [
        _one_way(*sides, texts_P2, objective.config.temperature)
        for sides in ((first_PD, second_PD), (second_PD, first_PD))
    ]
    losses, ranks = (torch.cat(parts).double() for parts in zip(*ways, strict=True))
    values = {
        "loss": losses.mean(),
        "recall1": (ranks <= 1).double().mean(),
        "recall10": (ranks <= 10).double().mean(),
        "mrr": (1 / ranks).mean(),
    }
    return Evaluation({name: float(value) for name, value in values.items()}, len(texts_P2))


def _one_way(
    asked: Float[Tensor, "pairs dim"],
    partners: Float[Tensor, "pairs dim"],
    texts: Int[Tensor, "pairs 2"],
    temperature: float,
) -> tuple[Float[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """The loss of each text, and the rank of its partner among all, from 1."""
    losses, ranks = [], []
    with torch.autocast(asked.device.type, enabled=False):
        for start in range(0, len(asked), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            cosines_QP = asked[some] @ partners.T
            cosines_QP = cosines_QP.masked_fill(sharing(texts[some], texts, start), float("-inf"))
            own_Q = torch.arange(start, start + len(cosines_QP), device=asked.device)
            losses.append(F.cross_entropy(cosines_QP / temperature, own_Q, reduction="none"))
            ranks.append((cosines_QP >= cosines_QP.gather(1, own_Q[:, None])).sum(1))
    return torch.cat(losses), torch.cat(ranks)
