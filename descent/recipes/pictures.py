"""Recipes on photographs: the 20,000 first images of CIFAR-10, and any folder of one's own."""

from __future__ import annotations

from descent.data.augment_config import Augment
from descent.data.config import ImageData
from descent.models.airbench import AirbenchConfig
from descent.models.alexnet import AlexNetConfig
from descent.models.resnet import ResNetConfig
from descent.models.vit import ViTConfig
from descent.objectives import SupervisedConfig
from descent.runs.recipe import Budget, EvaluationPlan, Recipe
from descent.training.optimizers import MuonConfig
from descent.training.schedules import LinearScheduleConfig

AUGMENT = Augment(crop=0.0625, flip="alternating")


def airbench_cifar() -> Recipe:
    """The network of cifar10-airbench at half its width."""
    return Recipe(
        name="airbench-cifar",
        about="a fast small network on 20,000 CIFAR-10 images, 4 minutes",
        precision="auto",
        data=ImageData(source="cifar10-20k", augment=AUGMENT, validation=0.05),
        model=AirbenchConfig(widths=(32, 128, 128)),
        objective=SupervisedConfig(loss="cross_entropy", label_smoothing=0.2),
        optimizer=MuonConfig(learning_rate=0.24, momentum=0.6, iterations=3, adam_learning_rate=0.01),
        schedule=LinearScheduleConfig(warmup=0.2),
        budget=Budget(steps=320, batch_size=500),
        evaluation=EvaluationPlan(every=80, metric="accuracy", batch_size=500, tta="flip_shift"),
    )


def airbench_cifar_long() -> Recipe:
    """The network of cifar10-airbench at its own width."""
    return airbench_cifar().replace(
        name="airbench-cifar-long",
        about="cifar10-airbench's network on 20,000 CIFAR-10 images, longer",
        model=AirbenchConfig().table(),
        budget=Budget(steps=400, batch_size=500).table(),
        evaluation=EvaluationPlan(every=200, metric="accuracy", batch_size=500, tta="flip_shift").table(),
    )


def resnet_cifar() -> Recipe:
    """ResNet-20 with the FLOPs of `airbench-cifar`."""
    return airbench_cifar().replace(
        name="resnet-cifar",
        about="ResNet-20 on 20,000 CIFAR-10 images",
        data=ImageData(
            source="cifar10-20k", augment=Augment(crop=0.125, flip="alternating"), validation=0.05
        ).table(),
        model=ResNetConfig.published("20").table(),
        objective=SupervisedConfig(loss="cross_entropy", label_smoothing=0.1).table(),
        optimizer=MuonConfig(learning_rate=0.05, momentum=0.9, iterations=3, adam_learning_rate=0.01).table(),
        budget=Budget(steps=1017, batch_size=128).table(),
        evaluation=EvaluationPlan(every=250, metric="accuracy", batch_size=500).table(),
    )


def alexnet_cifar() -> Recipe:
    """AlexNet for small images with the FLOPs of `airbench-cifar`."""
    return resnet_cifar().replace(
        name="alexnet-cifar",
        about="AlexNet for 32 x 32 on 20,000 CIFAR-10 images",
        model=AlexNetConfig.published("32", dropout=0.2).table(),
        budget=Budget(steps=694, batch_size=128).table(),
        evaluation=EvaluationPlan(every=200, metric="accuracy", batch_size=500).table(),
    )


def vit_cifar() -> Recipe:
    """A compact ViT with the FLOPs of `airbench-cifar`."""
    return resnet_cifar().replace(
        name="vit-cifar",
        about="a compact ViT on 20,000 CIFAR-10 images",
        model=ViTConfig(dim=128, heads=4, depth=4, hidden=256, stem=(32, 128), pool="mean").table(),
        optimizer=MuonConfig(learning_rate=0.02, momentum=0.95, adam_learning_rate=2e-3).table(),
        budget=Budget(steps=943, batch_size=128).table(),
        evaluation=EvaluationPlan(every=250, metric="accuracy", batch_size=500).table(),
    )
