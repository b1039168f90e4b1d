"""`[data.augment]` as a whole: what may be written, and that a change belongs to the image and the epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.data import Batches, ImageData, ImageSplit
from descent.data.augment_config import PRESETS, Augment
from descent.errors import UserError
from descent.recipes import get, resolve
from descent.runs.assemble import assemble
from descent.runs.recipe import Recipe, recipe_toml
from descent.training.loop import StepReport, train

EACH: dict[str, dict[str, Any]] = {
    **{name: {"preset": name} for name in PRESETS},
    "crop": {"crop": 3, "border": "zero"},
    "resized crop": {"resized_crop": [0.2, 1.0]},
    "flip": {"flip": "random"},
    "alternating": {"flip": "alternating"},
    "rotate": {"rotate": 90, "border": "reflect"},
    "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2},
    "randaugment": {"randaugment": 3, "magnitude": 7},
    "cutout": {"cutout": 3},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
}
EACH["everything"] = {key: value for change in EACH.values() for key, value in change.items()} | {
    "preset": "affine",
    "crop": 0,
}
SIZES = [(1, 8, 8), (3, 32, 32), (3, 9, 15)]


def split(config: dict[str, Any], shape: tuple[int, int, int] = (3, 9, 15), count: int = 27) -> ImageSplit:
    channels = shape[0]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=generator)
    mean, std = [0.5, 0.4, 0.3][:channels], [0.2, 0.3, 0.25][:channels]
    return ImageSplit(pixels, torch.arange(count) % 5, mean, std, Augment.read(config), 5)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("shape", SIZES)
def test_an_image_is_the_same_in_any_batch(name: str, shape: tuple[int, int, int]):
    whole = split(EACH[name], shape)
    before = whole.images.clone()
    indices = np.random.default_rng(0).permutation(27)
    batch = whole.gather(indices, seed=1, epoch=2)
    assert torch.equal(whole.images, before)
    for place, index in enumerate(indices):
        alone = split(EACH[name], shape).gather(np.array([index]), seed=1, epoch=2)
        assert torch.equal(batch["inputs"][place], alone["inputs"][0]), index
        assert torch.equal(batch["targets"][place], alone["targets"][0])
    assert batch["inputs"].dtype == torch.float32
    assert batch["inputs"].shape == (27, *shape)
    assert batch["inputs"].isfinite().all()


@pytest.mark.parametrize("name", [name for name in EACH if name != "none"])
def test_epochs_and_seeds_differ_and_come_again(name: str):
    first, indices = split(EACH[name]), np.arange(27)
    at = {key: first.gather(indices, *key)["inputs"] for key in [(1, 0), (1, 1), (2, 1), (1, 7)]}
    for key in [(1, 1), (2, 1)]:
        assert not torch.equal(at[key], at[1, 0])
    for key in [(1, 7), (1, 0), (2, 1), (1, 1)]:
        assert torch.equal(first.gather(indices, *key)["inputs"], at[key])


def test_steps_and_ranks_and_restarts_give_the_same_batch():
    whole = Batches(split(EACH["everything"]), 12, seed=4)
    run = [whole.batch(step) for step in range(7)]
    for step in (6, 2, 0):
        again = Batches(split(EACH["everything"]), 12, seed=4).batch(step)
        assert_close(again, run[step], atol=0, rtol=0)
    for ranks in (2, 4):
        parts = [Batches(split(EACH["everything"]), 12, 4, ranks=ranks, rank=rank) for rank in range(ranks)]
        for step in range(7):
            joined = torch.cat([part.batch(step)["inputs"] for part in parts])
            assert_close(joined, run[step]["inputs"], atol=0, rtol=0)


def test_a_change_leaves_the_draws_of_the_others():
    crop, both = split({"crop": 3}), split({"crop": 3, "flip": "random", "cutout": 3})
    first, second = (one._augmentation.epoch(1, 2).numbers["crop"] for one in (crop, both))
    np.testing.assert_array_equal(first, second)


def test_evaluation_sees_images_as_they_are():
    plain, changed = (split(EACH[name]).gather(np.arange(27)) for name in ("none", "everything"))
    assert_close(changed, plain, atol=0, rtol=0)
    images = split({}).images
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.5, 0.4, 0.3], [0.2, 0.3, 0.25]))
    assert_close(plain["inputs"], (images.float() / 255 - mean) / std)
    assert_close(split({}).gather(np.arange(27), 1, 1), plain, atol=0, rtol=0)


def test_colour_has_its_channels_innermost():
    for shape in SIZES:
        for seed in (None, 1):
            inputs = split(EACH["standard"], shape).gather(np.arange(4), seed)["inputs"]
            assert inputs.is_contiguous(
                memory_format=torch.channels_last if shape[0] == 3 else torch.contiguous_format
            )


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.augment=none"], Augment()),
        (["data.augment=standard"], PRESETS["standard"]),
        (["data.augment=affine", "data.augment=shift"], PRESETS["shift"]),
        (["data.augment.cutout=8"], PRESETS["shift"].replace(cutout=8)),
        (["data.augment.cutout=8", "data.augment=standard"], PRESETS["standard"].replace(cutout=8)),
        (
            ["data.augment=standard", "data.augment.crop=0", "data.augment.resized_crop=[0.3, 1]"],
            Augment(flip="random", resized_crop=(0.3, 1.0)),
        ),
        (["data.augment={mixup = 0.2}"], PRESETS["shift"].replace(mixup=0.2)),
        ({"data.augment.crop": 4, "data.augment": "none"}, Augment(crop=4)),
        ({"data.augment": {"preset": "standard", "cutout": 8}}, PRESETS["standard"].replace(cutout=8)),
        ({"data.augment": PRESETS["affine"].model_dump()}, PRESETS["affine"]),
    ],
)
def test_overrides(overrides: Any, expected: Augment):
    recipe = resolve("lenet-digits", overrides)
    assert isinstance(recipe.data, ImageData)
    assert recipe.data.augment == expected
    assert Recipe.read(recipe.table()) == recipe


@pytest.mark.parametrize(
    ("lines", "overrides", "expected"),
    [
        ('[data]\naugment = "standard"', [], PRESETS["standard"]),
        ('[data]\naugment = "standard"', ["data.augment.cutout=8"], PRESETS["standard"].replace(cutout=8)),
        ('[data.augment]\npreset = "standard"\ncutmix = 1.0', [], PRESETS["standard"].replace(cutmix=1)),
        ("[data.augment]\ncutmix = 1.0", [], PRESETS["affine"].replace(cutmix=1)),
        ("[data.augment]\ncutmix = 1.0", ["data.augment=none"], Augment()),
    ],
)
def test_recipe_files(tmp_path: Path, lines: str, overrides: list[str], expected: Augment):
    mine = tmp_path / "mine.toml"
    mine.write_text(f'base = "lenet-mnist"\n{lines}\n', encoding="utf-8")
    recipe = resolve(mine, overrides)
    assert isinstance(recipe.data, ImageData)
    assert recipe.data.augment == expected
    mine.write_text(recipe_toml(recipe), encoding="utf-8")
    assert resolve(mine) == recipe


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.augment=afine"], "data.augment: no such preset, expected one of none, shift"),
        (["data.augment=afine"], "did you mean 'affine'?, got 'afine'"),
        (["data.augment.flp=random"], "did you mean data.augment.flip?"),
        (["data.augment=standard", "data.augment.resized_crop=[0.3, 1.0]"], "crop or resized_crop"),
        (["data.augment.resized_crop=[1.0, 0.3]"], "two shares of the area in order"),
        (["data.augment.resized_crop=[0.3]"], "two shares of the area in order"),
        (["data.augment.magnitude=11"], "data.augment.magnitude: should be less than or equal to 10"),
        (["data.augment.mixup=-1"], "data.augment.mixup"),
        (["data.augment.flip=sometimes"], "'none', 'random' or 'alternating'"),
        ({"data.augment": 3}, "data.augment: should be a table of options"),
        ({"data.augment": {"preset": 3}}, "data.augment: no such preset"),
    ],
)
def test_what_is_wrong_is_said(overrides: Any, said: str):
    with pytest.raises(UserError) as caught:
        resolve("lenet-digits", overrides)
    assert said in str(caught.value)


def test_a_crop_as_wide_as_the_image_is_refused():
    with pytest.raises(UserError, match=r"data\.augment\.crop must be less"):
        split({"crop": 9})


@pytest.mark.parametrize("loss", ["cross_entropy", "binary"])
def test_a_model_trains_on_mixed_images(loss: str, tmp_path: Path):
    rng = np.random.default_rng(0)
    images = np.stack([rng.integers(0, 120, (40, 8, 8)), rng.integers(130, 256, (40, 8, 8))], axis=1)
    np.save(tmp_path / "X.npy", images.reshape(80, 8, 8).astype(np.uint8))
    np.save(tmp_path / "y.npy", np.arange(80) % 2)
    changes = [f"data.path={tmp_path / 'X.npy'}", "data.augment=standard", "data.augment.mixup=0.2"]
    changes += ["data.augment.cutmix=1", f"objective.loss={loss}", "budget.steps=40", "budget.batch_size=16"]
    parts = assemble(resolve("mlp-digits", changes))
    assert parts.batches.batch(0)["targets"].shape == (16, 2)
    losses: list[float] = []

    def record(report: StepReport) -> None:
        losses.append(report.losses["train"])

    train(parts.state, parts.objective, parts.batches.batch, settings=parts.settings, after_step=record)
    assert sum(losses[-5:]) < sum(losses[:5])
    assert parts.evaluate("validation").metrics["accuracy"] > 0.8


def test_recipes_name_their_presets():
    for name, preset in (("lenet-mnist", "affine"), ("mlp-mnist", "shift"), ("mlp-digits", "none")):
        data = get(name).data
        assert isinstance(data, ImageData)
        assert data.augment == PRESETS[preset]
