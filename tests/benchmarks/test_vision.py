"""The networks of the vision benchmark are those it names, and its tables hold what was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import vision, vision_systems
from benchmarks.contest import Result
from benchmarks.vision_systems import SHAPES, Shape
from descent.models.resnet import ResNetConfig

# Forward, in multiplications and additions of two operations each: 0.56, 4.1 and 4.6 thousand million; timm's
# documentation counts 4.1 and 4.6 for the last two.
FLOPS = {"resnet18": 0.56, "resnet50": 4.1, "vit-s": 4.6}


@pytest.mark.parametrize("name", SHAPES)
def test_the_networks_have_the_arithmetic_of_the_published_ones(name: str) -> None:
    forward = SHAPES[name].flops(training=False)
    assert forward / 2e9 == pytest.approx(FLOPS[name], rel=0.015)
    # Backward takes twice as much, less the first layer's gradient of the image.
    assert 0.96 * 3 * forward < SHAPES[name].flops(training=True) <= 3 * forward


def small(**sizes) -> ResNetConfig:
    return ResNetConfig(depths=(1,), widths=(8,), stem="small", **sizes)


@pytest.mark.parametrize("task", vision.TASKS)
def test_every_task_runs_the_network(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "resnet18", Shape(small, "small", 4, 32, 10, "sgd"))
    monkeypatch.setattr(vision_systems, "tune_allocator", lambda: True)
    monkeypatch.setattr(vision_systems, "_timm_model", lambda shape: shape.model())
    works = [
        vision_systems.descent("resnet18", task),
        vision_systems.timm("resnet18", task, best=True),
        vision_systems.timm("resnet18", task, best=False),
    ]
    ours, best, default = (torch.tensor(work()) for work in works)
    # The same seed gives the same weights: the same loss, or the same logits of the same images.
    tolerance = {"rtol": 0.05, "atol": 0.05}
    torch.testing.assert_close(ours, default, **tolerance)
    torch.testing.assert_close(best, default, **tolerance)


def test_a_summary_has_rates_and_ratios_by_round() -> None:
    seconds = {"descent": [1.0, 2.0], "timm best": [1.5, 2.0], "timm default": [4.0, 4.0]}
    values: dict[str, list[float | None]] = {name: [0.0, 0.0] for name in seconds}
    ceiling = {"bf16 ceiling": [1.0, 1.0]}, {"bf16 ceiling": [100.0, 90.0]}
    found = vision._summary("resnet18", "training", Result(seconds | ceiling[0], values | ceiling[1]))
    assert found["ceiling_gflops"] == 100.0
    rate = found["systems"]["descent"]["images_per_second"]
    assert rate == {"median": 48.0, "least": 32.0, "greatest": 64.0}
    assert found["systems"]["timm default"]["times"] == {"median": 3.0, "least": 2.0, "greatest": 4.0}
    entries = vision._entries("resnet18", "training", found, 1.0)
    assert [entry["value"] for entry in entries] == [1.25, 3.0]
