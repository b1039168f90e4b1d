"""One layer of a Transformer, made of parts that are given to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from jaxtyping import Bool, Float
from torch import Tensor, nn

from descent.nn.cache import LayerCache
from descent.nn.dropout import dropout

Part = Callable[[Tensor], Tensor]


class Block(nn.Module):
    """Attention, perhaps attention to a context, then a feed-forward part, each added to its input.

        pre:   x + attention(norm(x))      Radford et al. (2019), section 2.3
        post:  norm(x + attention(x))      Vaswani et al. (2017), section 3.1

    Args:
        attention: attention of x to itself.
        attention_norm: its norm.
        feedforward: the part applied to every token alone.
        feedforward_norm: its norm.
        cross: attention to a context, between the two.
        cross_norm: its norm.
        order: whether a norm stands before its part, or after the addition.
        dropout: probability of dropping an element of what a part adds.
    """

    def __init__(
        self,
        attention: nn.Module,
        attention_norm: nn.Module,
        feedforward: nn.Module,
        feedforward_norm: nn.Module,
        *,
        cross: nn.Module | None = None,
        cross_norm: nn.Module | None = None,
        order: Literal["pre", "post"] = "pre",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.attention, self.attention_norm = attention, attention_norm
        self.cross, self.cross_norm = cross, cross_norm
        self.feedforward, self.feedforward_norm = feedforward, feedforward_norm
        self.order, self.dropout = order, dropout

    def forward(
        self,
        x: Float[Tensor, "batch time dim"],
        context: Float[Tensor, "batch keys context_dim"] | None = None,
        *,
        mask: Bool[Tensor, "..."] | None = None,
        bias: Float[Tensor, "..."] | None = None,
        context_mask: Bool[Tensor, "..."] | None = None,
        rotation: tuple[Tensor, Tensor] | None = None,
        cache: LayerCache | None = None,
        value: Float[Tensor, "batch time shared"] | None = None,
    ) -> Float[Tensor, "batch time dim"]:
        """The layer's output; arguments as in `Attention`, `context_mask` is that of `cross`."""

        def attend_self(h: Tensor) -> Tensor:
            return self.attention(h, mask=mask, bias=bias, rotation=rotation, cache=cache, value=value)

        x = self._add(x, self.attention_norm, attend_self)
        if self.cross is not None and self.cross_norm is not None:
            cross = self.cross
            x = self._add(x, self.cross_norm, lambda h: cross(h, context, mask=context_mask, cache=cache))
        return self._add(x, self.feedforward_norm, self.feedforward)

    def _add(self, x: Tensor, norm: Part, part: Part) -> Tensor:
        added = dropout(part(norm(x) if self.order == "pre" else x), self.dropout, self.training)
        return x + added if self.order == "pre" else norm(x + added)
