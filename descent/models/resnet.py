"""ResNet: residual networks for photographs and for small images, with pre-activation as an option."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from descent.config import Config, Field, Items
from descent.errors import unknown
from descent.models import require_sizes
from descent.nn.convolution import Convolution

_WIDE = (256, 512, 1024, 2048)
SIZES: dict[str, dict[str, Any]] = {  # He et al. (2016), table 1, and section 4.2 for 32 x 32
    "18": {"depths": (2, 2, 2, 2), "widths": (64, 128, 256, 512)},
    "34": {"depths": (3, 4, 6, 3), "widths": (64, 128, 256, 512)},
    "50": {"depths": (3, 4, 6, 3), "widths": _WIDE, "block": "bottleneck"},
    "101": {"depths": (3, 4, 23, 3), "widths": _WIDE, "block": "bottleneck"},
    "152": {"depths": (3, 8, 36, 3), "widths": _WIDE, "block": "bottleneck"},
    **{
        str(6 * n + 2): {"depths": (n, n, n), "widths": (16, 32, 64), "stem": "small", "shortcut": "padded"}
        for n in (3, 5, 7, 9)
    },
}


class ResNetConfig(Config):
    """Configuration of `ResNet`; `ResNetConfig.published("50")` gives those of the paper.

    Args:
        inputs: shape (channels, height, width) of an image; empty = taken from the data.
        outputs: classes; 0 = taken from the data.
        depths: blocks of each stage.
        widths: channels that leave each stage.
        block: "basic", two 3x3 convolutions, or "bottleneck", 1x1 to a quarter of the channels, 3x3, 1x1.
        stem: "large", a 7x7 convolution of stride 2 and a pool of stride 2, or "small", one 3x3 convolution.
        shortcut: where the shape changes, "projection" by a 1x1 convolution (the paper's option B), or
            "padded": every second pixel, and zeros for the new channels (option A, without parameters).
        preactivation: whether norm and ReLU stand before each convolution (He et al., 2016, "Identity
            Mappings in Deep Residual Networks") instead of after it.
        zero_init: whether every block starts as its shortcut: the gain of its last norm is 0 (Goyal et al.,
            2017, section 5.1), or with pre-activation its last convolution.
    """

    type: Literal["resnet"] = "resnet"
    inputs: Items[Annotated[int, Field(gt=0)]] = ()
    outputs: int = Field(default=0, ge=0)
    depths: Items[Annotated[int, Field(gt=0)]] = (2, 2, 2, 2)
    widths: Items[Annotated[int, Field(gt=0)]] = (64, 128, 256, 512)
    block: Literal["basic", "bottleneck"] = "basic"
    stem: Literal["large", "small"] = "large"
    shortcut: Literal["projection", "padded"] = "projection"
    preactivation: bool = False
    zero_init: bool = False

    @model_validator(mode="after")
    def _shapes(self) -> ResNetConfig:
        if len(self.inputs) not in (0, 3):
            raise ValueError("inputs must be the channels, height and width of an image")
        if not self.depths or len(self.depths) != len(self.widths):
            raise ValueError("depths and widths must name the same stages, at least one")
        if self.block == "bottleneck" and any(width % 4 for width in self.widths):
            raise ValueError("the widths of bottleneck blocks must be multiples of 4")
        if self.shortcut == "padded" and list(self.widths) != sorted(self.widths):
            raise ValueError("a padded shortcut can only widen: widths must not fall")
        if self.shortcut == "padded" and self.block == "bottleneck":
            raise ValueError("padded shortcuts go with basic blocks")
        return self

    @classmethod
    def published(cls, size: str, **changes: Any) -> ResNetConfig:
        """The ResNet called `size`, a key of `SIZES`, with any field changed."""
        if size not in SIZES:
            raise unknown("ResNet", size, SIZES)
        return cls.read({**SIZES[size], **changes})

    @property
    def stem_width(self) -> int:
        """Channels of the stem: those of the first stage inside its blocks."""
        return self.widths[0] // 4 if self.block == "bottleneck" else self.widths[0]


class ResNet(nn.Module):
    """Residual blocks in stages; each stage but the first halves the map.

        image -> stem -> stage 1 -> ... -> stage n -> mean of each map -> head
        block:           x -> [conv - norm - ReLU] x (n - 1) -> conv - norm -> + shortcut(x) -> ReLU
        pre-activation:  x -> [norm - ReLU - conv] x n -> + shortcut(x)

    He, Zhang, Ren, Sun (2016), "Deep Residual Learning for Image Recognition"; pre-activation from the
    same authors' "Identity Mappings in Deep Residual Networks" (2016), where a block that changes the shape
    projects its activated input, and a norm and ReLU stand before the mean.

    Different from the paper: a bottleneck block takes its stride in the 3x3 convolution, not in the first
    1x1, as all published weights since 2017 do ("ResNet v1.5"). Weights start with variance 2 / fan-out.
    """

    def __init__(self, config: ResNetConfig):
        super().__init__()
        require_sizes(config, "inputs", "outputs")
        self.config = config
        width, plain = config.stem_width, config.preactivation
        small = config.stem == "small"
        self.stem = Convolution(
            config.inputs[0],
            width,
            3 if small else 7,
            stride=1 if small else 2,
            padding=1 if small else 3,
            norm=None if plain else nn.BatchNorm2d(width),
            activation=None if plain else "relu",
            pool=None if small else nn.MaxPool2d(3, 2, 1),
        )
        if plain:  # a norm would bring its own bias
            self.stem.convolution.register_parameter("bias", None)
        block = PreActivated if plain else Residual
        self.stages = nn.ModuleList()
        for stage, (depth, after) in enumerate(zip(config.depths, config.widths, strict=True)):
            strides = [2 if stage else 1] + [1] * (depth - 1)
            before = [width] + [after] * (depth - 1)
            blocks = (block(b, after, s, config) for b, s in zip(before, strides, strict=True))
            self.stages.append(nn.Sequential(*blocks))
            width = after
        self.norm = nn.BatchNorm2d(width) if plain else None
        self.head = nn.Linear(width, config.outputs)
        self._initialise()

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch outputs"]:
        return self.head(self.features(inputs).mean((2, 3)))

    def features(
        self, inputs: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch maps rows columns"]:
        """The last maps, before their mean is taken."""
        x_NCHW = self.stem(inputs)
        for stage in self.stages:
            x_NCHW = stage(x_NCHW)
        return x_NCHW if self.norm is None else F.relu(self.norm(x_NCHW))

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules() if self.config.zero_init else ():
            if isinstance(module, (Residual, PreActivated)):
                nn.init.zeros_(module.last.get_parameter("weight"))


class Shortcut(nn.Module):
    """What is added to a block's output where its shape differs: a projection, or padding with zeros."""

    def __init__(self, before: int, after: int, stride: int, *, padded: bool, norm: bool):
        super().__init__()
        self.stride, self.more = stride, after - before
        self.projection = (
            None
            if padded
            else Convolution(before, after, 1, stride=stride, norm=nn.BatchNorm2d(after) if norm else None)
        )
        if self.projection is not None and not norm:
            self.projection.convolution.register_parameter("bias", None)

    def forward(
        self, x: Float[Tensor, "batch before height width"]
    ) -> Float[Tensor, "batch after rows columns"]:
        if self.projection is not None:
            return self.projection(x)
        ahead = self.more // 2
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, ahead, self.more - ahead))


def _shapes(before: int, after: int, stride: int, config: ResNetConfig) -> list[tuple[int, int, int, int]]:
    """Channels in and out, kernel and stride of a block's convolutions."""
    if config.block == "basic":
        return [(before, after, 3, stride), (after, after, 3, 1)]
    inner = after // 4
    return [(before, inner, 1, 1), (inner, inner, 3, stride), (inner, after, 1, 1)]


def _shortcut(before: int, after: int, stride: int, config: ResNetConfig, *, norm: bool) -> Shortcut | None:
    if before == after and stride == 1:
        return None
    return Shortcut(before, after, stride, padded=config.shortcut == "padded", norm=norm)


class Residual(nn.Module):
    """ReLU(layers(x) + shortcut(x)): He et al. (2016), figures 2 and 5."""

    def __init__(self, before: int, after: int, stride: int, config: ResNetConfig):
        super().__init__()
        shapes = _shapes(before, after, stride, config)
        self.layers = nn.Sequential(
            *(
                Convolution(
                    a,
                    b,
                    kernel,
                    stride=step,
                    padding=kernel // 2,
                    norm=nn.BatchNorm2d(b),
                    activation="relu" if place < len(shapes) - 1 else None,
                )
                for place, (a, b, kernel, step) in enumerate(shapes)
            )
        )
        self.shortcut = _shortcut(before, after, stride, config, norm=True)

    @property
    def last(self) -> nn.Module:
        """What the layers end with."""
        return self.layers[-1].norm  # pyright: ignore[reportReturnType, reportAttributeAccessIssue]

    def forward(
        self, x: Float[Tensor, "batch before height width"]
    ) -> Float[Tensor, "batch after rows columns"]:
        kept = x if self.shortcut is None else self.shortcut(x)
        return F.relu(self.layers(x) + kept)

    def for_inference(self, dtype: torch.dtype | None) -> PackedResidual | None:
        """The same block for inference, with sum and ReLU in the last convolution."""
        *first, last = [layer for layer in self.layers if isinstance(layer, Convolution)]
        found = [layer.for_inference(dtype) for layer in first] + [last.for_inference(dtype, F.relu)]
        packed = [layer for layer in found if layer is not None]
        if len(packed) < len(found):
            return None
        shortcut: nn.Module | None = self.shortcut
        if self.shortcut is not None and self.shortcut.projection is not None:
            shortcut = self.shortcut.projection.for_inference(dtype)
            if shortcut is None:
                return None
        return PackedResidual(packed, shortcut)


class PackedResidual(nn.Module):
    """A `Residual` in inference."""

    def __init__(self, layers: Iterable[nn.Module], shortcut: nn.Module | None):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shortcut = shortcut

    def forward(
        self, x: Float[Tensor, "batch before height width"]
    ) -> Float[Tensor, "batch after rows columns"]:
        kept = x if self.shortcut is None else self.shortcut(x)
        *first, last = self.layers
        for layer in first:
            x = layer(x)
        return last(x, kept)


class PreActivated(nn.Module):
    """layers(x) + shortcut(x), with norm and ReLU before every convolution."""

    def __init__(self, before: int, after: int, stride: int, config: ResNetConfig):
        super().__init__()
        shapes = _shapes(before, after, stride, config)
        self.norms = nn.ModuleList(nn.BatchNorm2d(a) for a, *_ in shapes)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, kernel, step, kernel // 2, bias=False) for a, b, kernel, step in shapes
        )
        self.shortcut = _shortcut(before, after, stride, config, norm=False)

    @property
    def last(self) -> nn.Module:
        """What the layers end with."""
        return self.convolutions[-1]

    def forward(
        self, x: Float[Tensor, "batch before height width"]
    ) -> Float[Tensor, "batch after rows columns"]:
        activated = F.relu(self.norms[0](x))
        kept = x if self.shortcut is None else self.shortcut(activated)
        h = self.convolutions[0](activated)
        for norm, convolution in zip(self.norms[1:], self.convolutions[1:], strict=True):
            h = convolution(F.relu(norm(h)))
        return h + kept
