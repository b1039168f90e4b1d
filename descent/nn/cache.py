"""The keys and values a decoder keeps of the tokens it has seen, in buffers allocated once.

Shapes: L layers, B batch, G key/value heads, S capacity, T new tokens, D head size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from descent.errors import UserError

Pair = tuple[Tensor, Tensor]


class KVCache:
    """What a model remembers between forwards while it decodes.

    A forward hands `layer(i)` to its i-th attention and calls `advance(n)` once at its end:

        cache = model.new_cache(batch=1)
        logits = model(prompt, cache=cache)          # prefill
        logits = model(next_token, cache=cache)      # one step; attends to everything before

    Args:
        layers: number of layers that keep keys and values.
        batch: rows decoded together.
        groups: key/value heads of a layer.
        length: capacity in tokens.
        head_dim: size of a head.
        start: for rows of unequal length padded on the left, the index of each row's first real token;
            earlier indices are never attended to, and positions count from `start`.

    Attributes:
        length: tokens held.
        capacity: tokens it can hold.
        memory: named tensors, batch first, that a model carries besides keys and values.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        groups: int,
        length: int,
        head_dim: int,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        start: Int[Tensor, " batch"] | None = None,
    ):
        shape = (layers, batch, groups, length, head_dim)
        self.keys_LBGSD = torch.zeros(shape, dtype=dtype, device=device)
        self.values_LBGSD = torch.zeros(shape, dtype=dtype, device=device)
        self.start = None if start is None else start.to(self.keys_LBGSD.device)
        self.memory: dict[str, Tensor] = {}
        self.fixed: dict[int, Pair] = {}
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.keys_LBGSD.shape[3]

    @property
    def batch(self) -> int:
        return self.keys_LBGSD.shape[1]

    def layer(self, index: int) -> LayerCache:
        """The part of layer `index`."""
        return LayerCache(self, index)

    def advance(self, count: int) -> None:
        """Counts `count` tokens as held; called once a forward, after all layers wrote theirs."""
        self.length += count

    def positions(self, count: int) -> Int[Tensor, "..."]:
        """Positions of the next tokens: (count,), or (batch, count) for padded rows, with 0 for padding."""
        index_T = torch.arange(self.length, self.length + count, device=self.keys_LBGSD.device)
        if self.start is None:
            return index_T
        return (index_T - self.start[:, None]).clamp_min(0)

    def mask(self, count: int) -> Bool[Tensor, "batch 1 1 keys"] | None:
        """True at the keys that are no padding, once `count` more are held; None without padding."""
        if self.start is None:
            return None
        index_S = torch.arange(self.length + count, device=self.keys_LBGSD.device)
        return (index_S >= self.start[:, None])[:, None, None]

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Row i becomes what row `rows[i]` was; there may be more or fewer rows than before.

        Beam search keeps its best hypotheses so, and repeats a prompt it has run once.
        """
        self.keys_LBGSD, self.values_LBGSD = self.keys_LBGSD[:, rows], self.values_LBGSD[:, rows]
        self.start = None if self.start is None else self.start[rows]
        self.memory = {name: tensor[rows] for name, tensor in self.memory.items()}
        self.fixed = {index: (k[rows], v[rows]) for index, (k, v) in self.fixed.items()}


def cache_type(weight: Tensor, device: torch.device | str | None = None) -> torch.dtype:
    """The type of a cache for a model with this weight.

    On a CPU it is at least single precision: attention of one query to many keys in bfloat16 takes there two
    to five times as long.
    """
    on_cpu = torch.device(device or weight.device).type == "cpu"
    return torch.promote_types(weight.dtype, torch.float32) if on_cpu else weight.dtype


class LayerCache:
    """One layer's part of a `KVCache`."""

    def __init__(self, cache: KVCache, index: int):
        self.cache, self.index = cache, index

    def update(
        self, k: Float[Tensor, "batch groups new dim"], v: Float[Tensor, "batch groups new dim"]
    ) -> tuple[Float[Tensor, "batch groups keys dim"], Float[Tensor, "batch groups keys dim"]]:
        """Writes the new keys and values behind those held, and returns all of them.

        They come in the type of the cache; the first time they are the new ones themselves.
        """
        cache, old = self.cache, self.cache.length
        new = old + k.shape[2]
        if new > cache.capacity:
            raise UserError(
                "the key/value cache is full",
                got=new,
                expected=f"at most {cache.capacity} tokens",
                hint="ask for a cache with a greater length, or for fewer new tokens",
            )
        keys_BGSD, values_BGSD = cache.keys_LBGSD[self.index], cache.values_LBGSD[self.index]
        keys_BGSD[:, :, old:new] = k
        values_BGSD[:, :, old:new] = v
        if old == 0:
            return k, v
        return keys_BGSD[:, :, :new], values_BGSD[:, :, :new]

    def once(self, make: Callable[[], Pair]) -> Pair:
        """Keys and values that do not grow (of an encoder's output): made at the first call, then kept."""
        if self.index not in self.cache.fixed:
            self.cache.fixed[self.index] = make()
        return self.cache.fixed[self.index]


class StateCache:
    """What a recurrent model remembers between forwards: its state, whose size no length adds to.

    Args:
        state: named tensors, batch first.
        start: for rows padded on the left, the index of each row's first real token; before it the state
            stays what it was at first.

    Attributes:
        length: tokens read.
    """

    def __init__(self, state: dict[str, Tensor], start: Int[Tensor, " batch"] | None = None):
        self.state, self.length = state, 0
        device = next(iter(state.values())).device
        self.start = None if start is None else start.to(device)

    def resets(self, count: int) -> Bool[Tensor, "batch new"] | None:
        """True at those of the next tokens before which there was nothing but padding; None without any."""
        if self.start is None or self.length > int(self.start.max()):
            return None
        index_T = torch.arange(self.length, self.length + count, device=self.start.device)
        return index_T <= self.start[:, None]

    def advance(self, state: dict[str, Tensor], count: int) -> None:
        """Takes the state after `count` more tokens; called once a forward."""
        self.state, self.length = state, self.length + count

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Row i becomes what row `rows[i]` was; there may be more or fewer rows than before."""
        self.state = {name: tensor[rows] for name, tensor in self.state.items()}
        self.start = None if self.start is None else self.start[rows]
