"""What stands for each example of a row that holds several: one of its tokens, or the mean of all.

Legend: N rows, T tokens of a row, K examples of a row, D width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def taken(
    hidden: Float[Tensor, "rows time dim"], places: Int[Tensor, "rows examples"]
) -> Float[Tensor, "rows examples dim"]:
    """The states at some places of each row."""
    return hidden.gather(1, places[:, :, None].expand(-1, -1, hidden.shape[2]))


def means(
    hidden: Float[Tensor, "rows time dim"], documents: Int[Tensor, "rows time"] | None, count: int
) -> Float[Tensor, "rows examples dim"]:
    """The mean state of the first `count` examples of each row, in single precision; 0 where there is none.

    Args:
        documents: the number of the example each token belongs to; when not given a row is one example.
    """
    if documents is None:
        return hidden.float().mean(1, keepdim=True)
    belongs_NKT = documents[:, None] == torch.arange(count, device=hidden.device)[:, None]
    with torch.autocast(hidden.device.type, enabled=False):
        return belongs_NKT.float() @ hidden.float() / belongs_NKT.sum(-1, keepdim=True).clamp_min(1)
