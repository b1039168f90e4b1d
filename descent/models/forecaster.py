"""A recurrent forecaster of time series."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from descent.config import Config, Field
from descent.models import require_sizes
from descent.nn.cells import Cell
from descent.nn.dropout import dropout
from descent.nn.level import Level, level
from descent.nn.recurrent import Recurrent


class ForecasterConfig(Config):
    """Configuration of `Forecaster`.

    Args:
        channels: columns of the history, the targets first; 0 = taken from the data.
        outputs: columns to forecast; 0 = taken from the data.
        known: columns known for the horizon too, the calendar's among them; 0 = taken from the data.
        horizon: steps to forecast; 0 = taken from the data.
        quantiles: values said of each target and step, an odd number with the median in the middle; 0 = one
            value, without an axis for it.
        cell: of the recurrent layers.
        dim: their units.
        depth: how many.
        patch: time steps that one step of the recurrence reads, and says.
        mode: `direct`, the whole horizon from the state after the history; `autoregressive`, patch after
            patch, each read again as if it had been seen.
        apart: forecast each target from its own past (and the columns that are inputs only), with weights
            that all share; else from all columns together.
        level: what is taken off a window and given back to its forecast; see `descent.nn.level`.
        dropout: probability of dropping a unit between layers and before the output.
    """

    type: Literal["forecaster"] = "forecaster"
    channels: int = Field(default=0, ge=0)
    outputs: int = Field(default=0, ge=0)
    known: int = Field(default=0, ge=0)
    horizon: int = Field(default=0, ge=0)
    quantiles: int = Field(default=0, ge=0)
    cell: Cell = "lstm"
    dim: int = Field(default=128, gt=0)
    depth: int = Field(default=1, gt=0)
    patch: int = Field(default=1, gt=0)
    mode: Literal["direct", "autoregressive"] = "direct"
    apart: bool = True
    level: Level = "last"
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Forecaster(nn.Module):
    def __init__(self, config: ForecasterConfig):
        super().__init__()
        require_sizes(config, "channels", "outputs", "horizon")
        self.config = config
        extra = config.channels - config.outputs
        self.reads = 1 + extra if config.apart else config.channels
        self.says = 1 if config.apart else config.outputs
        self.values = max(config.quantiles, 1)
        self.patches = -(-config.horizon // config.patch)
        self.recurrent = Recurrent(
            config.cell, config.patch * (self.reads + config.known), config.dim, layers=config.depth,
            dropout=config.dropout, forget_bias=1.0,
        )
        self.head = nn.Linear(config.dim, config.patch * self.says * self.values)
        if config.mode == "direct":
            self.mix = nn.Linear(config.dim, config.dim)
            self.plan = nn.Linear(config.patch * config.known, config.dim, bias=False)
            self.place = nn.Parameter(torch.randn(self.patches, config.dim) * 0.5)
        self.column = nn.Parameter(torch.zeros(config.outputs if config.apart else 1, config.dim))
        nn.init.zeros_(self.head.weight); nn.init.zeros_(self.head.bias)

    def forward(self, history, known):
        c = self.config
        shift, scale = level(history, c.level)
        x = (history - shift) / scale
        B, T, _ = x.shape
        S, n, p, O = T // c.patch, self.patches, c.patch, c.outputs
        x = x[:, T - S * p:]
        known = known[:, T - S * p:]
        known = F.pad(known, (0, 0, 0, (S + n) * p - known.shape[1]))
        k = known.reshape(B, S + n, p * c.known)
        if c.apart:
            own = x[..., :O].permute(0, 2, 1).reshape(B * O, S * p, 1)
            rest = x[..., O:].repeat_interleave(O, 0)
            x = torch.cat([own, rest], -1)
            k = k.repeat_interleave(O, 0)
        x = x.reshape(len(x), S, -1)
        start = self.recurrent.new_state(len(x), x.device)
        start["hidden"] = start["hidden"] + self.column.repeat(B, 1)[:, None]
        if c.mode == "direct":
            out, _ = self.recurrent(torch.cat([x, k[:, :S]], -1), start)
            h = dropout(out[:, -1], c.dropout, self.training)
            h = F.gelu(self.mix(h)[:, None] + self.plan(k[:, S:]) + self.place + 0)
            h = dropout(h, c.dropout, self.training)
            y = self.head(h)
        else:
            out, state = self.recurrent(torch.cat([x, k[:, 1:S + 1]], -1), start)
            h = out[:, -1:]
            ys = []
            held = x[:, -1:].reshape(len(x), 1, p, self.reads)[:, :, -1:, self.says:].expand(-1, -1, p, -1)
            for i in range(n):
                y = self.head(dropout(h, c.dropout, self.training))
                ys.append(y)
                if i < n - 1:
                    v = y.reshape(len(x), 1, p, self.says, self.values)[..., self.values // 2]
                    v = torch.cat([v, held], -1).reshape(len(x), 1, -1)
                    h, state = self.recurrent(torch.cat([v, k[:, S + i + 1:S + i + 2]], -1), state)
            y = torch.cat(ys, 1)
        y = y.reshape(len(y), n * p, self.says, self.values)[:, :c.horizon]
        if c.apart:
            y = y.reshape(B, O, c.horizon, self.values).transpose(1, 2)
        y = y * scale[..., :O, None] + shift[..., :O, None]
        return y if c.quantiles else y[..., 0]
