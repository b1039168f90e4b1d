"""The picture of a batch: the images as the network gets them, turned back to colours, under their labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from descent.cli import main
from descent.data import Batches, load_examples
from descent.data.config import ImageData
from descent.data.dataset import normalise, restored
from descent.errors import UserError
from descent.recipes import resolve
from descent.runs import batch_figure
from descent.runs.batch_figure import batch_labels, show_batch


def test_colours_come_back_from_normalised_ones():
    pixels = torch.randint(0, 256, (5, 3, 4, 6)).float()
    mean, std = [0.1, 0.5, 0.9], [0.2, 0.3, 0.4]
    seen = restored(normalise(pixels.clone(), mean, std), mean, std)
    assert_close(seen, pixels.permute(0, 2, 3, 1) / 255, atol=1e-5, rtol=0)
    assert restored(torch.full((1, 1, 2, 2), 99.0), [0.5], [0.2]).max() == 1


def test_labels_are_classes_or_the_two_largest_shares():
    names = ["cat", "dog", "owl"]
    assert batch_labels(torch.tensor([2, 0]), names) == [[("owl", 1.0)], [("cat", 1.0)]]
    mixed = torch.tensor([[0.25, 0.75, 0], [0, 0, 1], [0.3, 0.3, 0.4]])
    first, second, third = batch_labels(mixed, names)
    assert first == [("dog", 0.75), ("cat", 0.25)]
    assert second == [("owl", 1.0)]
    assert [name for name, _ in third] in (["owl", "cat"], ["owl", "dog"])


def test_what_is_drawn_is_the_batch_of_that_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    drawn = []

    def draw(pixels, labels, title, facts, path):
        drawn.append((pixels, labels, title, facts))
        return path

    monkeypatch.setattr(batch_figure, "_draw", draw)
    recipe = resolve("lenet-digits", ["budget.batch_size=10", "data.augment=shift"])
    show_batch(recipe, tmp_path / "x.png", step=200, images=4)
    dataset = load_examples(ImageData(source="digits", augment=recipe.data.augment))  # type: ignore[union-attr]
    batch = Batches(dataset.splits["train"], 10, recipe.seed).batch(200)
    mean, std = dataset.preparation["mean"][0], dataset.preparation["std"][0]
    pixels, labels, title, facts = drawn[0]
    assert_close(pixels[..., 0], (batch["inputs"][:4, 0] * std + mean).clamp(0, 1))
    assert labels == [[(str(label), 1.0)] for label in batch["targets"][:4].tolist()]
    assert (title, facts) == ("lenet-digits on digits", "step 200: a batch of 10, inputs of 1 x 8 x 8")


def test_a_png_of_each_kind_of_image(tmp_path: Path):
    random = np.random.default_rng(0)
    for name in ("red", "蓝"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(9):
            image = random.integers(0, 60, (20, 30, 3), dtype=np.uint8)
            image[..., 0 if name == "red" else 2] = 255
            Image.fromarray(image).save(tmp_path / "set" / name / f"{number}.png")
    changes = [f"data.path={tmp_path / 'set'}", "data.augment.cutmix=1", "budget.batch_size=0"]
    out = show_batch(resolve("lenet-digits", changes), tmp_path / "new" / "colour.png", images=4)
    with Image.open(out) as picture:
        assert picture.format == "PNG"
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    red, blue = (seen[:, 0] > 200) & (seen[:, 2] < 90), (seen[:, 2] > 200) & (seen[:, 0] < 90)
    assert red.sum() > 500
    assert blue.sum() > 500


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "batch", "lenet-digits", "budget.batch_size=4", "--step", "3"]) == 0
    assert capsys.readouterr().out == "lenet-digits-batch-3.png\n"
    assert Image.open("lenet-digits-batch-3.png").size[0] > 300
    assert main(["data", "batch", "linear-diabetes"]) == 2
    assert "linear-diabetes trains on no images" in capsys.readouterr().err
    assert main(["data", "batch", "lenet-digits", "--out", "x.jpg"]) == 2
    assert main(["data", "batch", "lenet-digit"]) == 2
    assert "did you mean 'lenet-digits'" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lenet-digits-batch-3.png"]


def test_a_batch_that_cannot_be_is_refused(tmp_path: Path):
    for options in ({"step": -1}, {"images": 0}):
        with pytest.raises(UserError, match="no such batch"):
            show_batch(resolve("lenet-digits"), tmp_path / "x.png", **options)
