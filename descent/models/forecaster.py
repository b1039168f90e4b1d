"""A recurrent forecaster of time series.

Legend: B windows, R rows of the recurrence (B, or B times O where targets stand apart), T history, H horizon,
P steps of a patch, S patches of the history, N patches of the horizon, C columns, O targets, K known
columns, D units, Q quantiles.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn

from descent.config import Config, Field
from descent.errors import UserError
from descent.models import require_sizes
from descent.nn.cells import Cell
from descent.nn.dropout import dropout
from descent.nn.level import Level, level
from descent.nn.recurrent import Recurrent, State


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
            that all share; else all from all columns together.
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

    @model_validator(mode="after")
    def _median_in_the_middle(self) -> ForecasterConfig:
        if self.quantiles and self.quantiles % 2 == 0:
            raise ValueError("quantiles is an odd number, so that the median is in the middle")
        return self


class Forecaster(nn.Module):
    """Reads a history patch by patch, then says the horizon patch by patch.

        x_1 .. x_S = patches of the history, each with what is known of its steps
        h_S = recurrent(x_1 .. x_S)

        direct:          y_n = W gelu(A h_S + B known_n + place_n) + c     for every patch n of the horizon
        autoregressive:  y_n = W h_(S+n-1) + c;  h_(S+n) = recurrent(y_n, known_(n+1))

    A state that forecasts step by step is Elman's network run on (J. Elman, Finding structure in time, 1990);
    all steps from one state, the direct strategy (S. Ben Taieb et al., Expert Systems with Applications 39,
    2012). Patches for recurrent networks, and targets apart under shared weights: S. Lin et al., SegRNN,
    2023, whose position codes `place_n` are; there they are read by one more step of the recurrence.

    Where patches do not fill the history, its oldest steps are left out. In autoregressive mode the columns
    that are inputs only stand still over the horizon, and of quantiles the median is read again.
    """

    def __init__(self, config: ForecasterConfig):
        super().__init__()
        require_sizes(config, "channels", "outputs", "horizon")
        self.config = config
        only_read = config.channels - config.outputs
        self.says = 1 if config.apart else config.outputs
        reads = self.says + only_read + config.known
        self.patches = -(-config.horizon // config.patch)
        self.recurrent = Recurrent(
            config.cell,
            config.patch * reads,
            config.dim,
            layers=config.depth,
            dropout=config.dropout,
            forget_bias=1.0,
        )
        if config.mode == "direct":
            self.mix = nn.Linear(config.dim, config.dim)
            self.place = nn.Parameter(0.5 * torch.randn(self.patches, config.dim))
            if config.known:
                self.plan = nn.Linear(config.patch * config.known, config.dim, bias=False)
        self.head = nn.Linear(config.dim, config.patch * self.says * max(config.quantiles, 1))
        nn.init.zeros_(self.head.weight)  # the first forecast is the level of the window
        nn.init.zeros_(self.head.bias)

    def forward(
        self, history: Float[Tensor, "batch history channels"], known: Float[Tensor, "batch steps known"]
    ) -> Float[Tensor, "batch horizon outputs *quantiles"]:
        """The forecast of each target.

        Args:
            history: standardised, the targets first.
            known: of the steps of history and horizon.
        """
        c, outputs = self.config, self.config.outputs
        shift, scale = level(history, c.level)
        x_RSF, known_RNK = self._patches((history - shift) / scale, known)
        said_RNF = (self._direct if c.mode == "direct" else self._autoregressive)(x_RSF, known_RNK)
        y_RHOQ = said_RNF.reshape(len(x_RSF), -1, self.says, max(c.quantiles, 1))[:, : c.horizon]
        y_BHOQ = (
            y_RHOQ.reshape(-1, outputs, c.horizon, y_RHOQ.shape[3]).transpose(1, 2) if c.apart else y_RHOQ
        )
        y_BHOQ = y_BHOQ * scale[..., :outputs, None] + shift[..., :outputs, None]
        return y_BHOQ if c.quantiles else y_BHOQ[..., 0]

    def _patches(
        self, x: Float[Tensor, "batch history channels"], known: Float[Tensor, "batch steps known"]
    ) -> tuple[Float[Tensor, "rows patches values"], Float[Tensor, "rows all_patches plans"]]:
        """The history in patches, and what is known, in patches of history and horizon."""
        patch, outputs = self.config.patch, self.config.outputs
        count = x.shape[1] // patch
        if not count:
            raise UserError(
                "the history is shorter than a patch of the model",
                got=f"{x.shape[1]} steps",
                expected=f"at least {patch}",
                hint="a longer data.history, or a smaller model.patch",
            )
        skipped = x.shape[1] - count * patch
        steps = (count + self.patches) * patch
        known = F.pad(known[:, skipped:], (0, 0, 0, steps + skipped - known.shape[1]))
        known_BNK = known.reshape(len(known), count + self.patches, -1)
        x = x[:, skipped:]
        if self.config.apart:
            own_RT1 = x[..., :outputs].transpose(1, 2).reshape(-1, count * patch, 1)
            x = torch.cat([own_RT1, x[..., outputs:].repeat_interleave(outputs, 0)], dim=2)
            known_BNK = known_BNK.repeat_interleave(outputs, 0)
        return x.reshape(len(x), count, -1), known_BNK

    def _direct(
        self, x: Float[Tensor, "rows patches values"], known: Float[Tensor, "rows all_patches plans"]
    ) -> Float[Tensor, "rows new_patches values_said"]:
        count = x.shape[1]
        states, _ = self.recurrent(torch.cat([x, known[:, :count]], dim=2))
        last_RD = dropout(states[:, -1], self.config.dropout, self.training)
        mixed_RND = self.mix(last_RD)[:, None] + self.place
        if self.config.known:
            mixed_RND = mixed_RND + self.plan(known[:, count:])
        return self.head(dropout(F.gelu(mixed_RND), self.config.dropout, self.training))

    def _autoregressive(
        self, x: Float[Tensor, "rows patches values"], known: Float[Tensor, "rows all_patches plans"]
    ) -> Float[Tensor, "rows new_patches values_said"]:
        """Each step of the recurrence reads a patch and the plan of the next one, which it then says."""
        count, patch = x.shape[1], self.config.patch
        states, state = self.recurrent(torch.cat([x, known[:, 1 : count + 1]], dim=2))
        latest_RPF = x[:, -1].reshape(len(x), patch, -1)
        still_RPF = latest_RPF[:, -1:, self.says :].expand(-1, patch, -1)
        said: list[Tensor] = []
        hidden_RD = states[:, -1]
        for place in range(count, count + self.patches):
            said.append(self.head(dropout(hidden_RD, self.config.dropout, self.training)))
            if len(said) < self.patches:
                plan_RK = known[:, place + 1]
                hidden_RD, state = self._read_again(said[-1], still_RPF, plan_RK, state)
        return torch.stack(said, dim=1)

    def _read_again(
        self,
        said: Float[Tensor, "rows values_said"],
        still: Float[Tensor, "rows patch inputs_only"],
        plan: Float[Tensor, "rows plans"],
        state: State,
    ) -> tuple[Float[Tensor, "rows dim"], State]:
        values_RPOQ = said.reshape(len(said), self.config.patch, self.says, -1)
        median_RPO = values_RPOQ[..., values_RPOQ.shape[3] // 2]
        patch_RF = torch.cat([median_RPO, still], dim=2).flatten(1)
        states, state = self.recurrent(torch.cat([patch_RF, plan], dim=1)[:, None], state)
        return states[:, 0], state
