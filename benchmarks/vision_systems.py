"""The systems of `benchmarks.vision`: Descent and timm on the same networks and images.

In training all of them do the same step: forward, mean cross-entropy, backward, SGD with momentum (ResNets)
or AdamW (ViT). Descent's is its own loop; timm has none to import, so it gets the shortest loop there is.
In inference Descent's model is the twin that a loaded model predicts with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from descent.config import Config
from descent.generation import prepare
from descent.models import build
from descent.models.resnet import ResNetConfig
from descent.models.vit import ViTConfig
from descent.objectives import SupervisedConfig, build_objective
from descent.training.loop import Settings, train_step
from descent.training.optimizers import AdamWConfig, OptimizerConfig, SGDConfig, build_optimizers
from descent.training.precision import autocast, tune_allocator
from descent.training.state import State

RATE, MOMENTUM, DECAY, BETAS = {"sgd": 0.01, "adamw": 1e-4}, 0.9, 5e-4, (0.9, 0.95)
BATCHES = 3
"""Different batches, taken in turn."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A network and the images it is trained on.

    Attributes:
        config: of Descent's model.
        timm: the name of the same network there.
        batch, side, classes: images of a batch, pixels of a side, outputs.
        optimizer: "sgd" or "adamw".
    """

    config: Callable[..., Config]
    timm: str
    batch: int
    side: int
    classes: int
    optimizer: str

    def model(self) -> nn.Module:
        return build(self.config(inputs=(3, self.side, self.side), outputs=self.classes))

    def calls(self, task: str) -> int:
        """Steps or forwards of a round."""
        return {"training": 1, "batch": 2, "single": 20}[task]

    def flops(self, training: bool) -> int:
        """Arithmetic of one image's products and convolutions, with the backward pass or without."""
        with torch.device("meta"):
            model, image = self.model(), torch.zeros(1, 3, self.side, self.side)
        # In evaluation, as a norm of one image has no variance; the products are the same.
        with FlopCounterMode(display=False) as counter:
            out = model.eval()(image)
            if training:
                out.sum().backward()
        return counter.get_total_flops()


def _resnet18(**sizes: Any) -> ResNetConfig:
    return ResNetConfig.published("18", stem="small", **sizes)


def _resnet50(**sizes: Any) -> ResNetConfig:
    return ResNetConfig.published("50", **sizes)


def _vit(**sizes: Any) -> ViTConfig:
    return ViTConfig.published("S", **sizes)


SHAPES = {
    "resnet18": Shape(_resnet18, "resnet18", batch=64, side=32, classes=10, optimizer="sgd"),
    "resnet50": Shape(_resnet50, "resnet50", batch=16, side=224, classes=1000, optimizer="sgd"),
    "vit-s": Shape(_vit, "vit_small_patch16_224", batch=16, side=224, classes=1000, optimizer="adamw"),
}
"""ResNet-18 with a 3x3 stem and no pool after it, as is usual for 32 x 32; the others as published."""


def descent(name: str, task: str, compiled: bool = False) -> Callable[[], float]:
    """What `descent train` and a loaded model do in bfloat16; the former tunes the allocator, too."""
    torch.manual_seed(1)
    shape = SHAPES[name]
    model = shape.model().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if task != "training":
        twin = prepare(model, torch.bfloat16)
        return _inference(twin, shape, task, half=True, channels_last=False)
    tune_allocator()
    if compiled:
        model.forward = torch.compile(model.forward)
    objective = build_objective(SupervisedConfig())
    optimizers = build_optimizers(_optimizer(shape), model)
    state = State(model, {phase.name: optimizers for phase in objective.phases})
    settings = Settings(steps=2**31, precision="bf16")
    batches = _batches(shape, channels_last=False)  # as data come; the first layer rearranges them

    def work() -> float:
        inputs, targets = batches[state.step % BATCHES]
        report = train_step(state, objective, {"inputs": inputs, "targets": targets}, settings)
        return next(iter(report.losses.values()))

    return work


def timm(name: str, task: str, best: bool, tuned: bool = False) -> Callable[[], float]:
    """timm's network.

    Args:
        best: with bfloat16 autocast, channels last and the fused optimizer; otherwise as it comes.
        tuned: with Descent's settings of the allocator.
    """
    if tuned:
        tune_allocator()
    torch.manual_seed(1)
    shape = SHAPES[name]
    model = _timm_model(shape)
    if best:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if task != "training":
        return _inference(model, shape, task, half=best, channels_last=best)
    options: dict[str, Any] = {"lr": RATE[shape.optimizer], "weight_decay": DECAY, "fused": best or None}
    optimizer = (
        torch.optim.SGD(model.parameters(), momentum=MOMENTUM, **options)
        if shape.optimizer == "sgd"
        else torch.optim.AdamW(model.parameters(), betas=BETAS, **options)
    )
    batches, turn, context = _batches(shape, channels_last=best), 0, _context(best)

    def work() -> float:
        nonlocal turn
        inputs, targets = batches[turn % BATCHES]
        turn += 1
        with context:
            loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    model.train()
    return work


def _inference(
    model: nn.Module, shape: Shape, task: str, half: bool, channels_last: bool
) -> Callable[[], float]:
    model.eval()
    batches, context, calls = _batches(shape, channels_last), _context(half), shape.calls(task)
    inputs = [images[:1] if task == "single" else images for images, _ in batches]

    def work() -> float:
        with torch.inference_mode(), context:
            return sum(model(inputs[i % BATCHES])[0, 0].item() for i in range(calls))

    return work


def _context(half: bool) -> AbstractContextManager[Any]:
    return autocast(torch.device("cpu"), "bf16") if half else nullcontext()


def _batches(shape: Shape, channels_last: bool) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return [
        (
            torch.randn(shape.batch, 3, shape.side, shape.side, generator=random).to(memory_format=layout),
            torch.randint(shape.classes, (shape.batch,), generator=random),
        )
        for _ in range(BATCHES)
    ]


def _optimizer(shape: Shape) -> OptimizerConfig:
    rate = RATE[shape.optimizer]
    if shape.optimizer == "sgd":
        return SGDConfig(learning_rate=rate, momentum=MOMENTUM, weight_decay=DECAY)
    return AdamWConfig(learning_rate=rate, betas=BETAS, weight_decay=DECAY)


def _timm_model(shape: Shape) -> nn.Module:
    library = _import_timm()
    model = library.create_model(shape.timm, num_classes=shape.classes)
    if shape.side == 32:
        model.conv1, model.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return model


_declared: list[torch.library.Library] = []


def _import_timm() -> Any:
    """timm, which imports torchvision: one built for CUDA cannot load its operators beside a torch for CPUs.

    None of them is used here, so it is enough that those it looks for are declared.
    """
    try:
        import torchvision  # noqa: F401  # pyright: ignore[reportMissingImports]
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)  # declared as long as it lives
    import timm as library  # pyright: ignore[reportMissingImports]

    return library
