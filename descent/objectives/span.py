"""The place of an answer in a text: the token it begins with and the token it ends with.

Legend: N rows, T tokens of a row, K examples of the fullest row, E examples.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from descent.config import Config
from descent.objectives.objective import Batch, Objective, Phase, model_inputs

IGNORED = -100


class SpanConfig(Config):
    type: Literal["span"] = "span"


class SpanObjective(Objective):
    """The mean of the cross-entropies of an answer's first and last token, in nats.

    Each is over the tokens of the example's own document alone. Source: J. Devlin et al., BERT,
    arXiv:1810.04805, section 4.2.
    """

    def __init__(self, config: SpanConfig | None = None):
        self.config = config or SpanConfig()

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int((batch["targets"][..., 0] != IGNORED).sum())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        return span_losses(model(**model_inputs(batch)), batch).sum() / max(self.targets(phase, batch), 1)


def own_probabilities(logits: Float[Tensor, "n time 2"], batch: Batch) -> Float[Tensor, "e time 2"]:
    """The log-probability of every token of a row to begin and to end the answer of each example.

    Examples come row after row. A token of another document, or of padding, has minus infinity.

    Args:
        logits: of every token to be the first, and to be the last one.
        batch: its `documents` (N, T), if rows hold several, and `targets` (N, K, 2).
    """
    rows_E, numbers_E = (batch["targets"][..., 0] != IGNORED).nonzero(as_tuple=True)
    found_ET2 = logits.float()[rows_E]
    if "documents" in batch:
        own_ET = batch["documents"][rows_E] == numbers_E[:, None]
        found_ET2 = found_ET2.masked_fill(~own_ET[..., None], -torch.inf)
    return found_ET2.log_softmax(1)


def span_losses(logits: Float[Tensor, "n time 2"], batch: Batch) -> Float[Tensor, " e"]:
    """The loss of each example (see `SpanObjective`), row after row."""
    targets_E2: Int[Tensor, "e 2"] = batch["targets"][batch["targets"][..., 0] != IGNORED]
    chances_ET2 = own_probabilities(logits, batch)
    return -chances_ET2.gather(1, targets_E2[:, None]).squeeze(1).mean(1)
