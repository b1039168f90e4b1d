"""What is done to logits before a token is drawn: pure functions, rows independent of each other.

A removed token has the logit -inf. Every filter keeps or removes equally probable tokens together,
so that the outcome does not depend on the order of the vocabulary; the most probable token always stays.

Shapes: B batch, N most probable tokens in descending order.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from descent.generation.settings import Settings

Logits = Float[Tensor, "batch vocabulary"]

_HEAD = 512  # a sort of 50,000 logits takes milliseconds, the 512 greatest of them a tenth of that


def forbid(logits: Logits, tokens: Sequence[int]) -> Logits:
    """Removes these tokens, as far as there are such."""
    known = [token for token in tokens if token < logits.shape[-1]]
    if not known:
        return logits
    return logits.index_fill(-1, torch.tensor(known, device=logits.device), -torch.inf)


def repetition_penalty(logits: Logits, seen: Bool[Tensor, "batch vocabulary"], penalty: float) -> Logits:
    """Divides the positive logits of tokens already seen by `penalty`, and multiplies the negative ones.

    Keskar et al. (2019), "CTRL", section 4.1; a token counts once however often it was seen.

    Args:
        logits: the model's logits.
        seen: True for the tokens that stand in the row (prompt and completion).
        penalty: above 1 discourages repetition, 1 changes nothing.
    """
    if penalty == 1:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def top_k(logits: Logits, k: int) -> Logits:
    """Keeps the k greatest logits of each row, and those equal to the k-th; 0 keeps all.

    Fan, Lewis, Dauphin (2018), section 5.4.
    """
    if k == 0 or k >= logits.shape[-1]:
        return logits
    return _from(logits, logits.topk(k).values[:, -1:])


def top_p(logits: Logits, p: float) -> Logits:
    """Keeps the smallest set of most probable tokens that holds at least the probability p; 1 keeps all.

    A token stays when the tokens more probable than it hold less than p together: Holtzman et al. (2020),
    "The Curious Case of Neural Text Degeneration", section 3.1.
    """
    if p >= 1:
        return logits
    width = logits.shape[-1]
    total = logits.double().logsumexp(-1, keepdim=True)  # in float32 its error moves p = 0.999999
    for count in (min(_HEAD, width), width):
        descending_BN = logits.topk(count).values
        mass_BN = (descending_BN.double() - total).exp().cumsum(-1)
        if count == width or bool((mass_BN[:, -1] >= p).all()):
            break
    before_BN = mass_BN.roll(1, -1)
    before_BN[:, 0] = 0
    kept = (before_BN < p).sum(-1, keepdim=True)
    return _from(logits, descending_BN.gather(-1, kept - 1))


def min_p(logits: Logits, p: float) -> Logits:
    """Keeps tokens at least p times as probable as the most probable one; 0 keeps all.

    Nguyen et al. (2024), "Turning Up the Heat: Min-p Sampling".
    """
    if p == 0:
        return logits
    return _from(logits, logits.amax(-1, keepdim=True) + torch.tensor(p, dtype=torch.float64).log().item())


def process(
    logits: Logits, settings: Settings, seen: Bool[Tensor, "batch vocabulary"] | None = None
) -> Logits:
    """All of the settings' processors in their order; with `temperature=0` only the first two."""
    logits = forbid(logits, settings.forbidden)
    if seen is not None:
        logits = repetition_penalty(logits, seen, settings.repetition_penalty)
    if settings.temperature == 0:
        return logits
    if settings.temperature != 1:
        # From the greatest logit down, so that a tiny temperature cannot overflow into inf - inf.
        logits = (logits - logits.amax(-1, keepdim=True)) / settings.temperature
    return min_p(top_p(top_k(logits, settings.top_k), settings.top_p), settings.min_p)


def _from(logits: Logits, least: Float[Tensor, "batch 1"]) -> Logits:
    return logits.masked_fill(logits < least, -torch.inf)
