"""ViT: a Transformer over the patches of an image, as published and in a compact form for small sets."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field, Items
from descent.errors import UserError, unknown
from descent.models import require_sizes
from descent.nn.attention import Attention
from descent.nn.block import Block
from descent.nn.dropout import dropout
from descent.nn.feedforward import FeedForward
from descent.nn.norm import LayerNorm

SIZES: dict[str, dict[str, int]] = {  # the paper's table 1; Ti and S: Touvron et al. (2021)
    "Ti": {"depth": 12, "dim": 192, "heads": 3},
    "S": {"depth": 12, "dim": 384, "heads": 6},
    "B": {"depth": 12, "dim": 768, "heads": 12},
    "L": {"depth": 24, "dim": 1024, "heads": 16},
}


class ViTConfig(Config):
    """Configuration of `ViT`; `ViTConfig.published("S")` gives the published ones.

    Args:
        inputs: shape (channels, height, width) of an image; empty = taken from the data.
        outputs: classes; 0 = taken from the data.
        depth: number of blocks.
        dim: width of a token.
        heads: attention heads.
        patch: side of a patch in pixels, a divisor of height and width; unused with a convolutional stem.
        stem: channels of 3x3 convolutions, each followed by ReLU and a pool of stride 2, that take the place
            of the patches; the last must be `dim`. Empty = patches.
        hidden: width inside the feed-forward part; 0 = 4 * dim.
        pool: what the head sees: a "class" token, or the "mean" of all tokens.
        norm_eps: added to the variance by the norms (1e-6 in the authors' code, 1e-12 in transformers).
        dropout: probability of dropping an element after the embedding and after every part of a block.
    """

    type: Literal["vit"] = "vit"
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)
    depth: int = Field(default=12, gt=0)
    dim: int = Field(default=192, gt=0)
    heads: int = Field(default=3, gt=0)
    patch: int = Field(default=16, gt=0)
    stem: Items[Annotated[int, Field(gt=0)]] = ()
    hidden: int = Field(default=0, ge=0)
    pool: Literal["class", "mean"] = "class"
    norm_eps: float = Field(default=1e-6, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _shapes(self) -> ViTConfig:
        if len(self.inputs) not in (0, 3):
            raise ValueError("inputs must be the channels, height and width of an image")
        if self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads})")
        if self.stem and self.stem[-1] != self.dim:
            raise ValueError(f"the last channels of the stem must be dim ({self.dim})")
        step = self.step
        if self.inputs and any(side % step for side in self.inputs[1:]):
            raise ValueError(f"height and width must be multiples of {step}, the pixels of a token's side")
        return self

    @classmethod
    def published(cls, size: str, **changes: Any) -> ViTConfig:
        """The ViT called `size`, a key of `SIZES`, with patches of 16 and any field changed."""
        if size not in SIZES:
            raise unknown("ViT", size, SIZES)
        return cls.read({**SIZES[size], **changes})

    @property
    def step(self) -> int:
        """Pixels from one token to the next."""
        return 2 ** len(self.stem) if self.stem else self.patch

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.inputs[1] // self.step, self.inputs[2] // self.step


class ViT(nn.Module):
    """A Transformer encoder over patches.

        image -> embedding (one token a patch) -> [class token, patches] + positions -> blocks -> norm -> head
        block:  x + attention(norm(x)), then x + feedforward(norm(x))

    Dosovitskiy et al. (2021), "An Image is Worth 16x16 Words", section 3.1: GELU, LayerNorm before each part,
    learned positions, the head on the class token, zero at the start. Sizes Ti and S: Touvron et al. (2021),
    "Training data-efficient image transformers". `pool = "mean"` leaves the class token out: Beyer et al.
    (2022), "Better plain ViT baselines for ImageNet-1k". A convolutional `stem` and few tokens make the
    compact form that learns from small sets: Hassani et al. (2021), "Escaping the Big Data Paradigm with
    Compact Transformers"; their sequence pooling and stochastic depth are left out.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        require_sizes(config, "inputs", "outputs")
        self.config = config
        rows, columns = config.grid
        self.embedding = _stem(config) if config.stem else _patches(config)
        first = int(config.pool == "class")
        self.class_token = nn.Parameter(torch.zeros(1, 1, config.dim)) if first else None
        self.positions = nn.Parameter(torch.zeros(1, first + rows * columns, config.dim))
        self.blocks = nn.ModuleList(_block(config) for _ in range(config.depth))
        self.norm = LayerNorm(config.dim, config.norm_eps)
        self.head = nn.Linear(config.dim, config.outputs)
        self._initialise()

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs"]:
        x_NTD = self.features(inputs)
        return self.head(x_NTD.mean(1) if self.class_token is None else x_NTD[:, 0])

    def features(
        self, inputs: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """The normalised tokens after the last block, the class token first if there is one."""
        if inputs.shape[1:] != self.config.inputs:
            got = "x".join(map(str, inputs.shape[1:]))
            raise UserError(
                "a ViT has positions for one size of image",
                got=got,
                expected="x".join(map(str, self.config.inputs)),
            )
        x_NTD = self.embedding(inputs).flatten(2).transpose(1, 2)
        if self.class_token is not None:
            x_NTD = torch.cat((self.class_token.to(x_NTD.dtype).expand(len(x_NTD), -1, -1), x_NTD), dim=1)
        x_NTD = dropout(x_NTD + self.positions.to(x_NTD.dtype), self.config.dropout, self.training)
        for block in self.blocks:
            x_NTD = block(x_NTD)
        return self.norm(x_NTD)

    def adapt(self, state: Mapping[str, Tensor], grid: tuple[int, int] | None = None) -> dict[str, Tensor]:
        """Weights learned on another size of image, their positions resized to this model's grid.

        The class token's position stays; the others are resized as an image is (section 3.2).

        Args:
            state: the weights.
            grid: rows and columns of their tokens. When not given, it is this model's where the number of
                positions is, else a square.
        """
        held = state.get("positions")
        if held is None:
            return dict(state)
        first = int(self.class_token is not None)
        count = held.shape[1] - first
        if grid is None:
            side = round(max(count, 0) ** 0.5)
            grid = self.config.grid if held.shape[1] == self.positions.shape[1] else (side, side)
        if grid == self.config.grid or grid[0] * grid[1] != count:
            return dict(state)
        grid_1DHW = held[:, first:].transpose(1, 2).unflatten(2, grid).float()
        resized_1DHW = F.interpolate(grid_1DHW, self.config.grid, mode="bicubic", antialias=True)
        moved = torch.cat((held[:, :first], resized_1DHW.flatten(2).transpose(1, 2).to(held.dtype)), dim=1)
        return {**state, "positions": moved}

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.constant_(module.bias, 0.0)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu" if self.config.stem else "linear")
                nn.init.constant_(module.get_parameter("bias"), 0.0)
        for module in self.modules():
            if isinstance(module, Attention):  # three square matrices in one
                for part in module.qkv.weight.data.chunk(3):
                    nn.init.xavier_uniform_(part)
        nn.init.normal_(self.positions, std=0.02)
        nn.init.zeros_(self.head.weight)


def _patches(config: ViTConfig) -> nn.Module:
    """One linear map of each patch, written as a convolution whose stride is its kernel."""
    return nn.Conv2d(config.inputs[0], config.dim, config.patch, config.patch)


def _stem(config: ViTConfig) -> nn.Module:
    channels = (config.inputs[0], *config.stem)
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*layers)


def _block(config: ViTConfig) -> Block:
    return Block(
        Attention(config.dim, config.heads),
        LayerNorm(config.dim, config.norm_eps),
        FeedForward(config.dim, config.hidden or 4 * config.dim, "gelu"),
        LayerNorm(config.dim, config.norm_eps),
        dropout=config.dropout,
    )
