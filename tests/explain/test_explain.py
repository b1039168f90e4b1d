"""From a loaded run and files to explanations and figures, in Python and by the command."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from explain_toys import images, small_vit
from PIL import Image

import descent
from descent.errors import UserError
from descent.explain.attribution import Attribution
from descent.explain.figure import overlay
from descent.explain.names import METHODS, that
from descent.explain.sanity import Sanity
from descent.runs.loaded import Loaded

FITTING = ["saliency", "smoothgrad", "integrated-gradients", "gradcam", "occlusion"]


@pytest.fixture(scope="module")
def vit() -> Loaded:
    model = small_vit()
    labels = ("猫", "dog", "\U0001f98a")
    preparation = {
        "kind": "images",
        "shape": [3, 12, 8],
        "fit": "stretch",
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.25, 0.3],
    }
    return Loaded(model, model.config, None, labels, preparation, "cross_entropy", "vit")


def is_png(path) -> bool:
    with Image.open(path) as image:
        image.load()
        return image.format == "PNG" and min(image.size) > 100


def test_python_and_the_command_see_the_same(lenet_run, pictures, command):
    loaded = descent.load(lenet_run)
    found = descent.explain.explain(loaded, pictures, "integrated-gradients", target="3")
    predicted = loaded.predict(pictures)
    assert [found.labels[number] for number in found.predicted] == [row["label"] for row in predicted]
    assert found.probability == pytest.approx([row["probability"] for row in predicted])
    result = found.found["integrated-gradients"]
    assert isinstance(result, Attribution)
    assert result.target.tolist() == [3, 3, 3]
    facts = command(
        lenet_run, *pictures, "--method", "integrated-gradients", "--target", 3, "--out", "a/x.png", "--json"
    )
    assert facts.json["out"] == "a/x.png"
    for image, path, row, residual in zip(
        facts.json["images"], pictures, predicted, result.residual.tolist(), strict=True
    ):
        assert image["input"] == path.name
        assert (image["label"], image["target"]) == (row["label"], "3")
        assert image["probability"] == pytest.approx(row["probability"])
        assert image["residual"] == pytest.approx(residual, abs=1e-6)
    assert is_png("a/x.png")


def test_the_baseline_is_black_and_the_pictures_are_what_the_model_sees(vit):
    pixels = np.random.default_rng(0).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    found = descent.explain.explain(vit, Image.fromarray(pixels), "integrated-gradients")
    np.testing.assert_allclose(found.pictures[0], pixels / 255, atol=1e-6)
    mean, std = (torch.tensor(vit.preparation[name]).view(-1, 1, 1) for name in ("mean", "std"))
    inputs = (torch.from_numpy(pixels / 255).permute(2, 0, 1)[None].float() - mean) / std
    expected = descent.explain.integrated_gradients(vit.model, inputs, baseline=-mean / std)
    torch.testing.assert_close(found.found["integrated-gradients"].maps, expected.maps, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_a_figure(vit, tmp_path, method):
    options = {"steps": 3} if method == "maximise" else {}
    needs = () if method in ("filters", "maximise") else images(2, (3, 12, 8))
    found = descent.explain.explain(vit, needs, method, **options)
    assert found.unfit == {}
    assert is_png(found.draw(tmp_path / "inner" / f"{method}.png"))
    if method == "all":
        assert list(found.found) == [*FITTING, "attention", "rollout"]


def test_classes_are_named_or_numbered(vit):
    by_name = descent.explain.explain(vit, images(1, (3, 12, 8)), target="dog")
    assert by_name.found["gradcam"].target.tolist() == [1]
    with pytest.raises(UserError, match="no class is called 'dgo'") as caught:
        descent.explain.explain(vit, images(1, (3, 12, 8)), target="dgo")
    assert "did you mean 'dog'?" in str(caught.value)
    with pytest.raises(UserError, match="no such class"):
        descent.explain.explain(vit, images(1, (3, 12, 8)), target=3)


def test_one_output_for_two_classes_is_explained(lenet_run):
    loaded = descent.load(lenet_run)
    head = torch.nn.Linear(84, 1)
    loaded.model.output = head
    two = replace(loaded, labels=("no", "yes"), loss="binary")
    found = descent.explain.explain(two, images(2, (1, 8, 8)), "saliency")
    assert found.predicted == tuple(
        int(share > 0) for share in two.model(images(2, (1, 8, 8)))[:, 0].tolist()
    )
    assert all(0.5 <= share <= 1 for share in found.probability)


def test_an_overlay_is_warm_for_and_cold_against():
    picture = np.full((4, 4, 3), 0.5)
    values = np.zeros((4, 4))
    values[0, 0], values[3, 3] = 2, -2
    drawn = overlay(picture, values)
    assert drawn[0, 0, 0] > drawn[0, 0, 2]
    assert drawn[3, 3, 2] > drawn[3, 3, 0]
    np.testing.assert_allclose(drawn[1, 1], drawn[1, 1, 0])
    assert np.isfinite(overlay(picture, np.zeros((4, 4)))).all()


def test_the_command_draws_all_that_fits_and_says_what_does_not(lenet_run, mlp_run, pictures, command):
    ended = command(lenet_run, *pictures, "--method", "all")
    assert ended.out.strip() == "explain-all.png"
    assert is_png("explain-all.png")
    assert "left out attention: a LeNet has no attention" in ended.err
    facts = command(mlp_run, pictures[0].parent, "--method", "all", "--json").json
    assert facts["methods"] == ["saliency", "smoothgrad", "integrated-gradients", "occlusion"]
    assert set(facts["left_out"]) == {"gradcam", "attention", "rollout"}
    assert len(facts["images"]) == 3


def test_an_example_of_the_data_is_explained_by_its_number(lenet_run, command):
    facts = command(lenet_run, "test:4", "validation:0", "--method", "saliency", "--json").json
    dataset = descent.Run(lenet_run).parts().dataset
    loaded = descent.load(lenet_run)
    for image, split, number in zip(facts["images"], ("test", "validation"), (4, 0), strict=True):
        example = dataset.splits[split].gather(np.array([number]))
        assert image["input"] == f"{split}:{number}: {dataset.labels[int(example['targets'][0])]}"
        with torch.no_grad():
            shares = loaded.model(example["inputs"]).softmax(1)[0]
        assert image["label"] == dataset.labels[int(shares.argmax())]
        assert image["probability"] == pytest.approx(float(shares.max()), rel=1e-4)
    assert "test:0 to" in command(lenet_run, "test:99999", code=2).err
    assert "one kind at a time" in command(lenet_run, "test:1", "x.png", code=2).err


def test_layers_are_listed(lenet_run, command):
    lines = command(lenet_run, "--list").out.splitlines()
    assert lines[0].split() == ["layer", "kind", "output"]
    assert "c3.convolution  Conv2d" in "\n".join(lines)
    found = command(lenet_run, "--list", "--json").json
    assert found[-1] == {"name": "output", "kind": "Linear", "shape": [10]}


def test_the_sanity_check_by_the_command(lenet_run, pictures, command, monkeypatch):
    found = command(lenet_run, *pictures, "--method", "gradcam", "--sanity", "--json").json
    assert found["out"] == "explain-sanity.png"
    assert is_png("explain-sanity.png")
    (curve,) = found["methods"]
    assert curve["method"] == "gradcam"
    assert curve["layers"][:2] == ["none", "output"]
    assert curve["similarity"][0] == 1
    assert curve["passed"] == (curve["similarity"][-1] < 0.5)
    bad = Sanity("saliency", ("none", "output"), (1.0, 0.97))
    monkeypatch.setattr("descent.explain.check", lambda *given, **options: [bad])
    ended = command(lenet_run, pictures[0], "--sanity", code=1)
    assert ended.out.splitlines()[1].split() == ["STAYS", "saliency", "0.97"]


def test_mistakes_are_answered(lenet_run, mlp_run, pictures, command):
    image = pictures[0]
    assert "did you mean 'gradcam'?" in command(lenet_run, image, "--method", "gradcm", code=2).err
    assert "c3.convolution" in command(lenet_run, image, "--layer", "c3.convolutio", code=2).err
    assert "keeps no maps" in command(mlp_run, image, code=2).err
    assert "no image to explain" in command(lenet_run, code=2).err
    assert "takes no layer" in command(lenet_run, image, "--method", "saliency", "--layer", "c1", code=2).err
    assert "must be a PNG" in command(lenet_run, image, "--out", "x.pdf", code=2).err
    assert "no class is called" in command(lenet_run, image, "--target", "ten", code=2).err
    assert "missing.png" in command(lenet_run, "missing.png", code=2).err
    empty = image.parent.parent / "empty"
    empty.mkdir()
    assert "there is no image in" in command(lenet_run, empty, code=2).err
    assert "sanity check" in command(lenet_run, image, "--sanity", "--method", "filters", code=2).err


def test_a_broken_image_is_left_out_and_the_others_are_drawn(lenet_run, pictures, command):
    broken = pictures[0].parent / "cut.png"
    broken.write_bytes(pictures[0].read_bytes()[:40])
    found = command(lenet_run, pictures[0].parent, "--json")
    assert "left out: " in found.err
    assert "cut.png is no image" in found.err
    assert [image["input"] for image in found.json["images"]] == [path.name for path in pictures]
    named = command(lenet_run, pictures[1], broken, pictures[2], "--json", code=1)
    assert [image["input"] for image in named.json["images"]] == ["digit1.png", "digit2.png"]
    assert is_png(named.json["out"])
    assert "cut.png is no image" in command(lenet_run, broken, code=2).err
    assert "none of 2 images could be read" in command(lenet_run, broken, broken, code=2).err


def test_the_first_twelve_that_can_be_read_are_drawn(lenet_run, pictures, command):
    folder = pictures[0].parent
    (folder / "a.png").write_bytes(b"broken")
    for number in range(11):
        (folder / f"more{number:02}.png").write_bytes(pictures[0].read_bytes())
    found = command(lenet_run, folder, "--method", "saliency", "--json")
    names = [path.name for path in sorted(folder.iterdir())]
    assert [image["input"] for image in found.json["images"]] == names[1:13]
    assert "the first 12 of 15 images" in found.err


def test_what_would_be_of_no_use_is_refused(lenet_run, vit, pictures, command, tmp_path):
    assert "filters takes no images" in command(lenet_run, pictures[0], "--method", "filters", code=2).err
    assert "maximise takes no images" in command(lenet_run, pictures[0], "--method", "maximise", code=2).err
    features = ("--method", "features", "--target", 3)
    assert "features takes no target" in command(lenet_run, pictures[0], *features, code=2).err
    with pytest.raises(UserError, match="rollout takes no target"):
        descent.explain.explain(vit, images(1, (3, 12, 8)), "rollout", target=1)
    sanity = ("--sanity", "--method", "gradcam", "--layer", "c1")
    assert "--sanity takes no --layer" in command(lenet_run, pictures[0], *sanity, code=2).err
    exported = descent.load(lenet_run).export(tmp_path / "exported")
    assert is_png(command(exported, pictures[0]).out.strip())
    refused = command(exported, pictures[0], "--checkpoint", "last", code=2)
    assert "exported is no run: it has no checkpoints" in refused.err


def test_a_layer_of_few_channels_is_climbed_whole(lenet_run, vit, command):
    assert is_png(command(lenet_run, "--method", "maximise", "--layer", "c1").out.strip())
    loaded = descent.load(lenet_run)
    for layer, count in (("c1", 6), ("output", 10)):
        found = descent.explain.explain(loaded, method="maximise", layer=layer, steps=1).found["maximise"]
        assert found.targets == tuple(range(count))
    tokens = descent.explain.explain(vit, method="maximise", layer="blocks.0", steps=1).found["maximise"]
    assert tokens.targets == tuple(range(10)), "the first of 12"


def test_attention_says_which_layers_and_explains_no_class(vit, pictures, command, monkeypatch):
    monkeypatch.setattr("descent.cli.explain._load", lambda run, checkpoint: vit)
    names = descent.explain.attention_maps(vit.model, images(1, (3, 12, 8))).layers
    (alone,) = command("vit", pictures[0], "--method", "attention", "--json").json["images"]
    assert (alone["layers"], alone["target"]) == ({"attention": list(names)}, None)
    (rolled,) = command("vit", pictures[0], "--method", "rollout", "--json").json["images"]
    assert rolled["target"] is None
    (beside,) = command("vit", pictures[0], "--method", "all", "--target", "dog", "--json").json["images"]
    assert beside["layers"]["attention"] == names[-1]
    assert beside["target"] == "dog"


def test_the_table_of_names_is_that_of_the_methods():
    assert that("is_map") == tuple(descent.explain.ATTRIBUTIONS)
    for name in descent.explain.__all__:
        assert hasattr(descent.explain, name)
    light = "import sys, descent.explain.names; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
