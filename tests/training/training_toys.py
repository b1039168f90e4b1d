"""Tiny objectives and models that the loop is tried on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from descent.objectives import Batch, Objective, Phase


class Regression(Objective):
    """Mean squared error of `model(inputs)`; some targets may be left out (NaN in `targets`)."""

    def targets(self, phase: Phase, batch: Batch) -> int:
        return int(batch["targets"].isfinite().sum())

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        there = batch["targets"].isfinite()
        return F.mse_loss(model(batch["inputs"]).float()[there], batch["targets"][there])


class Unsplittable(Regression):
    splittable = False


class GAN(nn.Module):
    """A generator of points in the plane and a discriminator, as named parts of one model."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        middle = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.generator = nn.Sequential(nn.Linear(3, 8), middle, nn.Tanh(), nn.Linear(8, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


def discriminator_loss(model: GAN, real: Tensor) -> Tensor:
    fake = model.generator(torch.randn(len(real), 3))
    return F.softplus(-model.discriminator(real)).mean() + F.softplus(model.discriminator(fake)).mean()


def generator_loss(model: GAN, count: int) -> Tensor:
    return F.softplus(-model.discriminator(model.generator(torch.randn(count, 3)))).mean()


def gradient_penalty(model: GAN, real: Tensor) -> Tensor:
    points = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.discriminator(points).sum(), points, create_graph=True)
    return 5.0 * slope.square().sum(1).mean()


class Adversarial(Objective):
    phases = (
        Phase("discriminator", modules=("discriminator",)),
        Phase("penalty", modules=("discriminator",), every=4),
        Phase("generator", modules=("generator",)),
    )

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        assert isinstance(model, GAN)
        if phase.name == "discriminator":
            return discriminator_loss(model, batch["inputs"])
        if phase.name == "penalty":
            return gradient_penalty(model, batch["inputs"])
        return generator_loss(model, len(batch["inputs"]))


class Bandit(Objective):
    """REINFORCE with a mean baseline: pull arms with the live policy, reinforce what paid."""

    pays = torch.tensor([0.1, 0.9, 0.3, 0.5])

    def batches(self, model: nn.Module, batch: Batch) -> Batch:
        with torch.no_grad():
            policy = torch.distributions.Categorical(logits=model(batch["inputs"]))
            arms = policy.sample()
        reward = torch.bernoulli(self.pays[arms])
        return {**batch, "arms": arms, "advantage": reward - reward.mean()}

    def loss(self, model: nn.Module, phase: Phase, batch: Batch) -> Tensor:
        policy = torch.distributions.Categorical(logits=model(batch["inputs"]))
        return -(policy.log_prob(batch["arms"]) * batch["advantage"]).mean()


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def regression_batch(step: int, rows: int = 12) -> Batch:
    generator = torch.Generator().manual_seed(step)
    inputs = torch.randn(rows, 5, generator=generator)
    return {
        "inputs": inputs,
        "targets": inputs[:, :2].sin() + 0.1 * torch.randn(rows, 2, generator=generator),
    }
