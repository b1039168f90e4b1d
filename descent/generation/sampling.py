"""Drawing tokens: every row of a batch from a stream of its own.

The n-th uniform number of a stream is a function of (seed, n) alone (Philox, a counter-based generator:
Salmon et al., 2011), so a row's tokens do not depend on the batch it is in.

Shapes: B batch, V vocabulary, N draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def uniforms(seeds: Sequence[int], count: int) -> Float[Tensor, "batch count"]:
    """The first `count` uniform numbers in [0, 1) of each seed's stream, as float64."""
    rows = [np.random.Generator(np.random.Philox(key=seed)).random(count) for seed in seeds]
    return torch.from_numpy(np.stack(rows))


def draw(
    logits: Float[Tensor, "batch vocabulary"], uniform: Float[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """The token at which the cumulative probability first exceeds the row's uniform number.

    A token of probability 0 (logit -inf) is never drawn.
    """
    cumulative_BV = torch.softmax(logits.double(), -1).cumsum(-1)
    # A uniform number is at most 1 - 2^-53: its product with the total stays below the total when rounded.
    target_B1 = uniform[:, None] * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, target_B1, right=True)[:, 0]


def log_probability(
    logits: Float[Tensor, "batch vocabulary"], tokens: Int[Tensor, " batch"]
) -> Float[Tensor, " batch"]:
    """Natural logarithm of the probability the model itself gives each token (temperature 1, no filter)."""
    return logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
