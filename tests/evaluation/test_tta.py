"""Answers averaged over views, against a loop over views made by index."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from descent.data.dataset import ArraySplit, StreamSplit
from descent.errors import UserError
from descent.evaluation import averaged_logits, evaluate
from descent.evaluation.tta import views
from descent.models.gpt import GPT, GPTConfig
from descent.objectives import Causal, Supervised, SupervisedConfig

torch.manual_seed(1)
IMAGES = torch.randn(9, 3, 5, 6)
CLASSES = torch.randint(4, (9,))


@pytest.fixture
def model() -> nn.Module:
    """Weighs every pixel otherwise, and bends the sum, so that no two views give one answer."""
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(90, 8), nn.Tanh(), nn.Linear(8, 4)).eval()


def moved(images: Tensor, rows: list[int], columns: list[int]) -> Tensor:
    return images[:, :, rows][:, :, :, columns]


def views_by_hand(images: Tensor, kind: str) -> list[tuple[float, Tensor]]:
    mirror = [5, 4, 3, 2, 1, 0]
    if kind == "flip":
        return [(1 / 2, images), (1 / 2, images[:, :, :, mirror])]
    up_left = moved(images, [1, 0, 1, 2, 3], [1, 0, 1, 2, 3, 4])
    down_right = moved(images, [1, 2, 3, 4, 3], [1, 2, 3, 4, 5, 4])
    shares = [(1 / 4, images), (1 / 8, up_left), (1 / 8, down_right)]
    return [(share, view) for share, image in shares for view in (image, image[:, :, :, mirror])]


@pytest.mark.parametrize("kind", ["flip", "flip_shift"])
def test_logits_are_averaged_over_the_views(model: nn.Module, kind) -> None:
    with torch.inference_mode():
        expected = sum(share * model(view) for share, view in views_by_hand(IMAGES, kind))
        found = averaged_logits(model, IMAGES, kind)
        plain = model(IMAGES)
    assert_close(found, expected, rtol=1e-6, atol=1e-6)
    assert (found - plain).abs().max() > 0.05
    assert sum(share for share, _ in views(IMAGES, kind)) == 1


def test_without_views_the_answer_is_the_models_own(model: nn.Module) -> None:
    with torch.inference_mode():
        assert torch.equal(averaged_logits(model, IMAGES), model(IMAGES))
        assert averaged_logits(model.bfloat16(), IMAGES.bfloat16(), "flip").dtype == torch.float32


@pytest.mark.parametrize("batch_size", [2, 100])
@pytest.mark.parametrize("kind", ["flip", "flip_shift"])
def test_evaluate_scores_the_average(model: nn.Module, kind, batch_size: int) -> None:
    split = ArraySplit({"inputs": IMAGES, "targets": CLASSES})
    objective = Supervised(SupervisedConfig())
    found = evaluate(model, objective, split, batch_size=batch_size, tta=kind)
    with torch.inference_mode():
        logits = torch.stack([share * model(view) for share, view in views_by_hand(IMAGES, kind)]).sum(0)
    assert found.metrics["loss"] == pytest.approx(
        nn.functional.cross_entropy(logits, CLASSES).item(), rel=1e-5
    )
    assert found.predictions is not None
    assert_close(torch.tensor(found.predictions.probabilities), logits.double().softmax(1), rtol=1e-5, atol=0)
    assert evaluate(model, objective, split).metrics["loss"] != pytest.approx(found.metrics["loss"], rel=1e-3)


def test_views_are_of_images_alone(model: nn.Module) -> None:
    rows = ArraySplit({"inputs": torch.randn(4, 90), "targets": torch.zeros(4, dtype=torch.long)})
    with pytest.raises(UserError, match=r"(?s)for images.*\(4, 90\).*evaluation\.tta=none"):
        evaluate(model.train(), Supervised(SupervisedConfig()), rows, tta="flip")
    assert model.training
    gpt = GPT(GPTConfig(depth=1, dim=16, heads=2, context=8, vocab_size=5))
    tokens = torch.arange(30).numpy() % 5
    with pytest.raises(UserError, match="for images"):
        evaluate(gpt, Causal(), StreamSplit(tokens, 8, bytes=30), tta="flip")


def test_an_image_of_one_pixel_has_no_border_to_reflect(model: nn.Module) -> None:
    with pytest.raises(UserError, match=r"(?s)2 x 2.*1 x 6"):
        averaged_logits(model, IMAGES[:, :, :1], "flip_shift")
