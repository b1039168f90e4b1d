"""Runs that start from trained weights: what is taken, what is drawn anew, what is refused, what is kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from run_tools import final_hash, tiny
from torch import Tensor
from torch.testing import assert_close

from descent import api
from descent.errors import UserError
from descent.models.lenet import LeNet
from descent.models.vit import ViT, ViTConfig
from descent.recipes import resolve
from descent.runs.assemble import assemble
from descent.runs.overrides import override
from descent.runs.recipe import read_recipe, recipe_toml
from descent.runs.run import Run
from descent.runs.train import fork, resume, train
from descent.runs.transfer import begin
from descent.weights import safetensors_file
from descent.weights.export import export
from descent.weights.published import NAMES, tensors_of

HEAD = {"output.weight", "output.bias"}


@pytest.fixture(scope="module", autouse=True)
def _without_plots():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "plot", lambda run: [])
        yield


@pytest.fixture(scope="module")
def lenet(tmp_path_factory) -> Run:
    """A source with channels that are not the defaults, and pixels of its own mean."""
    folder = tmp_path_factory.mktemp("source")
    return train(
        tiny("lenet", folder, "model.channels=[4, 8, 24]", "data.test=0.5"), out=folder / "run", quiet=True
    )


@pytest.fixture(scope="module")
def gpt(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("source")
    return train(tiny("gpt", folder, "tokenizer.kind=char"), out=folder / "run", quiet=True)


def weights_of(run: Run) -> dict[str, Tensor]:
    return run.load().model.state_dict()


def start(kind: str, folder: Path, source: object, *changes: str):
    return begin(tiny(kind, folder, f"model.weights={source}", *changes))


def pictures(folder: Path, classes: int = 3, side: int = 8, channels: int = 1) -> Path:
    draw = np.random.default_rng(0)
    np.save(folder / "X.npy", draw.integers(0, 255, (60, channels, side, side), dtype=np.uint8))
    np.save(folder / "y.npy", np.arange(60) % classes)
    return folder / "X.npy"


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {
        name for name in one if one[name].shape == other[name].shape and torch.equal(one[name], other[name])
    }


def test_the_shape_and_every_weight_come_from_the_source(lenet: Run, tmp_path: Path) -> None:
    parts, taken = start("lenet", tmp_path, lenet.folder, "average=0.9", "model.dropout=0.3")
    assert taken is not None
    assert parts.recipe.model.channels == (4, 8, 24)  # type: ignore[union-attr]
    assert parts.recipe.model.dropout == 0.3  # type: ignore[union-attr]
    held, own = weights_of(lenet), parts.state.model.state_dict()
    assert same(own, held) == set(held)
    assert (taken.taken, taken.head, taken.drawn, taken.unused) == (len(held), (), (), ())
    assert parts.state.average is not None
    assert same(parts.state.average.tensors, held) == set(held), "the average starts from them, too"


def test_a_new_head_is_neither_the_sources_nor_the_one_it_began_with(lenet: Run, tmp_path: Path) -> None:
    parts, taken = start("lenet", tmp_path, lenet.folder, "transfer.head=new")
    assert taken is not None
    own, held = parts.state.model.state_dict(), weights_of(lenet)
    assert same(own, held) == set(held) - HEAD
    assert set(taken.head) == HEAD
    began = assemble(tiny("lenet", tmp_path, "model.channels=[4, 8, 24]")).state.model.state_dict()
    assert not torch.allclose(own["output.weight"], began["output.weight"])
    again, _ = start("lenet", tmp_path, lenet.folder, "transfer.head=new")
    assert same(own, again.state.model.state_dict()) == set(own), "it is a function of the seed"


def test_other_classes_get_a_new_head(lenet: Run, tmp_path: Path) -> None:
    for classes in (3, 10):  # ten classes of the same names are the same
        parts, taken = start("lenet", tmp_path, lenet.folder, f"data.path={pictures(tmp_path, classes)}")
        assert taken is not None
        assert set(taken.head) == (HEAD if classes == 3 else set())
        assert parts.state.model.get_parameter("output.weight").shape == (classes, 84)
    with pytest.raises(
        UserError, match=r"cannot be kept(.|\n)*10x84 in the source, 3x84 here(.|\n)*head=new"
    ):
        start("lenet", tmp_path, lenet.folder, f"data.path={pictures(tmp_path)}", "transfer.head=keep")


def test_images_are_normalised_as_they_were_for_the_source(lenet: Run, tmp_path: Path) -> None:
    path = pictures(tmp_path)
    run = train(
        tiny("lenet", tmp_path, f"model.weights={lenet.folder}", f"data.path={path}"),
        out=tmp_path / "run",
        quiet=True,
    )
    known = lenet.load().preparation
    for parts in (run.parts(), assemble(run.recipe)):
        for name, split in parts.dataset.splits.items():
            assert_close(
                split.gather(np.arange(3))["inputs"],
                (split.images[:3] / 255 - known["mean"][0]) / known["std"][0],  # type: ignore[attr-defined]
                msg=name,
            )
    assert run.load().preparation["mean"] == known["mean"]
    assert run.recipe.transfer is not None
    assert run.recipe.transfer.std == tuple(known["std"])
    plain = assemble(tiny("lenet", tmp_path, f"data.path={path}")).dataset.preparation
    assert plain["mean"] != known["mean"]


@pytest.mark.parametrize("left", [0, 3])
def test_resumed_without_the_source_ends_with_the_same_bits(left: int, lenet: Run, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(lenet.folder, source)
    options = [
        "transfer.head=new",
        "transfer.thaw=2",
        "transfer.decay=0.5",
        "average=0.9",
        "checkpoints.keep=9",
    ]
    recipe = tiny("lenet", tmp_path, f"model.weights={source}", *options)
    whole = train(recipe, out=tmp_path / "whole", quiet=True)
    repeated = train(read_recipe(whole.folder / "recipe.toml"), out=tmp_path / "again", quiet=True)
    train(recipe, out=tmp_path / "parts", quiet=True)
    shutil.rmtree(source)
    for step, folder in Run(tmp_path / "parts").checkpoints:
        if step > left:
            shutil.rmtree(folder)
    assert Run(tmp_path / "parts").step == left
    resumed = resume(tmp_path / "parts", quiet=True)
    assert final_hash(whole) == final_hash(resumed) == final_hash(repeated)
    assert resumed.step == 7
    longer = api.train(
        "lenet-digits",
        [f"model.weights={source}", "budget.steps=9"],
        out=tmp_path / "parts",
        resume=True,
        quiet=True,
    )
    assert longer.step == 9
    forked = fork(
        tmp_path / "parts", ["budget.steps=12", "transfer.thaw=0"], out=tmp_path / "fork", quiet=True
    )
    assert forked.step == 12
    with pytest.raises(UserError, match=r"a fork starts from its parent's weights(.|\n)*descent train"):
        fork(tmp_path / "parts", [f"model.weights={lenet.folder}"], quiet=True)


def test_what_was_taken_is_on_record(lenet: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = train(
        tiny("lenet", tmp_path, f"model.weights={lenet.folder}", "transfer.head=new"), out=tmp_path / "run"
    )
    said = capsys.readouterr().err
    assert f"weights    8 tensors from {lenet.folder}" in said.replace("\n", "")
    assert "drawn anew output.weight, output.bias (the head)" in said
    kept = json.loads((run.folder / "env.json").read_text(encoding="utf-8"))["transfer"]
    assert set(kept["head"]) == HEAD
    assert len(kept["sha256"]) == 64
    event = next(line for line in run.metrics if line["event"] == "transfer")
    assert {key: event[key] for key in kept} == kept


def test_a_run_that_died_before_its_first_checkpoint_is_not_begun_from_scratch(
    lenet: Run, tmp_path: Path
) -> None:
    run = train(tiny("lenet", tmp_path, f"model.weights={lenet.folder}"), out=tmp_path / "run", quiet=True)
    shutil.rmtree(run.folder / "checkpoints")
    with pytest.raises(UserError, match=r"weights it was to start from(.|\n)*recipe\.toml"):
        resume(run.folder, quiet=True)


def test_frozen_trains_the_head_alone(lenet: Run, tmp_path: Path) -> None:
    recipe = tiny(
        "lenet", tmp_path, f"model.weights={lenet.folder}", "transfer.frozen=true", "evaluation.every=0"
    )
    run = train(recipe, out=tmp_path / "run", quiet=True)
    held = weights_of(lenet)
    assert same(run.load("last").model.state_dict(), held) == set(held) - HEAD


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            ["model.type=mlp"],
            r"another network(.|\n)*got:      'lenet'\n  expected: mlp\n(.|\n)*model\.type=lenet",
        ),
        (["model.hidden=20"], r"model\.hidden=20'\n  expected: model\.hidden=84\n(.|\n)*leave them out"),
        (["model.channels=[4, 8, 12]"], r"model\.channels=\[4, 8, 12\](.|\n)*model\.channels=\[4, 8, 24\]"),
        (["data.channels=3"], r"images of 1 channel\n(.|\n)*data\.channels=1"),
        (["transfer.frozen=true", "transfer.thaw=2"], "choose one of them"),
        (["transfer.decay=0.0"], r"transfer\.decay"),
        (["transfer.mean=[0.5]"], "a number a channel"),
    ],
)
def test_what_does_not_fit_is_refused(lenet: Run, tmp_path: Path, changes: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        start("lenet", tmp_path, lenet.folder, *changes)


def test_weights_that_are_nowhere_are_refused(
    lenet: Run, tmp_path: Path, network_attempts: list[str]
) -> None:
    with pytest.raises(UserError, match=r"does not exist|is no folder here|no such"):
        start("lenet", tmp_path, tmp_path / "nothing")
    with pytest.raises(UserError, match="cannot be read"):
        start("lenet", tmp_path, tmp_path / "nothing.safetensors")
    assert network_attempts == []


@pytest.mark.parametrize("width", [100, 200])
def test_less_than_half_of_the_weights_is_no_transfer(width: int, tmp_path: Path) -> None:
    """The first layer depends on the images' size; what share of an MLP that is, its widths decide."""
    hidden, data = f"model.hidden=[8, {width}]", f"data.path={pictures(tmp_path, side=12)}"
    kept = "data.size=[12, 12]"
    source = train(tiny("mlp", tmp_path, hidden), out=tmp_path / "run", quiet=True).folder
    if width == 200:
        _, taken = start("mlp", tmp_path, source, data, hidden, kept)
        assert taken is not None
        assert taken.drawn == ("layers.0.weight: 8x64 in the source, 8x144 here",)
        return
    with pytest.raises(UserError, match=r"does not fit the model: 908 of 2,060(.|\n)*data\.size=\[8, 8\]"):
        start("mlp", tmp_path, source, data, hidden, kept)
    _, taken = start("mlp", tmp_path, source, data, hidden)
    assert taken is not None
    assert (taken.taken, taken.drawn) == (4, ()), "left out, it is the size of the source's images"


def photos(folder: Path) -> Path:
    draw = np.random.default_rng(0)
    for number in range(12):
        (folder / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(0, 255, (40 + number, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / "ab"[number % 2] / f"{number}.png")
    return folder / "photos"


def test_own_photos_are_brought_to_the_size_of_the_sources(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = ViTConfig(inputs=(3, 16, 24), outputs=3, depth=1, dim=8, heads=2, patch=4)
    prepared = {"kind": "images", "shape": [3, 16, 24], "fit": "crop", "mean": [0.5] * 3, "std": [0.5] * 3}
    source = export(tmp_path / "vit", ViT(config), extra={"preparation": prepared, "loss": "cross_entropy"})
    options = ["model.type=vit", f"data.path={photos(tmp_path)}"]
    parts, taken = start("lenet", tmp_path, source, *options)
    assert taken is not None
    assert taken.drawn == ()
    assert (parts.recipe.data.size, parts.recipe.model.inputs) == ((16, 24), (3, 16, 24))  # type: ignore[union-attr]
    assert "size = [\n    16,\n    24,\n]" in recipe_toml(parts.recipe)
    wide, _ = start("lenet", tmp_path, source, *options, "data.size=[24, 16]")
    assert wide.recipe.model.inputs == (3, 24, 16)  # type: ignore[union-attr]
    own, held = wide.state.model, parts.state.model
    assert torch.equal(own.get_parameter("positions")[:, 0], held.get_parameter("positions")[:, 0])
    assert not torch.equal(own.get_parameter("positions"), held.get_parameter("positions")), (
        "moved: 4 x 6 to 6 x 4"
    )


def test_a_published_file_is_a_source_under_its_networks_name(tmp_path: Path) -> None:
    name = "timm/vit_tiny_patch16_224"
    model = ViT(NAMES[name].config(outputs=2))
    safetensors_file.write(tmp_path / "vit.safetensors", tensors_of(model, name), {})
    recipe = tiny("lenet", tmp_path, "model.type=vit", "model.depth=3", f"data.path={photos(tmp_path)}")
    parts, taken = begin(override(recipe, [f"model.weights={name}:{tmp_path / 'vit.safetensors'}"]))
    assert taken is not None
    assert taken.drawn == ()
    assert parts.recipe.model.depth == 12, "the network is that of the name"  # type: ignore[union-attr]
    assert parts.dataset.preparation["shape"] == [3, 224, 224]
    assert parts.dataset.preparation["mean"] == [0.5, 0.5, 0.5]


def test_a_bare_file_of_weights_fills_the_recipes_own_model(lenet: Run, tmp_path: Path) -> None:
    file = lenet.checkpoint() / "model.safetensors"
    parts, taken = start("lenet", tmp_path, file, "model.channels=[4, 8, 24]", "transfer.head=keep")
    assert taken is not None
    assert same(parts.state.model.state_dict(), safetensors_file.read(file)) == set(
        parts.state.model.state_dict()
    )
    _, taken = start("lenet", tmp_path, file, "model.channels=[4, 8, 24]")
    assert taken is not None
    assert set(taken.head) == HEAD, "nobody knows what its classes were"
    with pytest.raises(
        UserError, match=r"does not fit the model(.|\n)*c1\.convolution\.weight: 4x1x5x5 in the source"
    ):
        start("lenet", tmp_path, file)


def test_an_exported_folder_is_a_source(lenet: Run, tmp_path: Path) -> None:
    folder = api.export(lenet, tmp_path / "export")
    parts, taken = start("lenet", tmp_path, folder)
    assert taken is not None
    assert taken.head == ()
    assert same(parts.state.model.state_dict(), weights_of(lenet)) == set(weights_of(lenet))


def test_a_language_model_brings_its_tokenizer(gpt: Run, tmp_path: Path) -> None:
    run = train(tiny("gpt", tmp_path, f"model.weights={gpt.folder}"), out=tmp_path / "run", quiet=True)
    assert gpt.tokenizer is not None
    assert run.tokenizer is not None
    assert run.tokenizer.fingerprint == gpt.tokenizer.fingerprint
    assert (run.recipe.tokenizer, run.recipe.model) == (gpt.recipe.tokenizer, gpt.recipe.model)
    parts, taken = start("gpt", tmp_path, gpt.folder)
    assert taken is not None
    assert taken.head == ()
    assert same(parts.state.model.state_dict(), weights_of(gpt)) == set(weights_of(gpt))
    with pytest.raises(UserError, match="has no tokenizer"):
        start("gpt", tmp_path, gpt.checkpoint() / "model.safetensors")


def test_a_model_may_adapt_weights_to_its_own_size(
    lenet: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def adapt(self: LeNet, state: dict[str, Tensor], grid: tuple[int, int] | None) -> dict[str, Tensor]:
        return {**state, "f6.bias": torch.full_like(state["f6.bias"], 7.0)}

    monkeypatch.setattr(LeNet, "adapt", adapt, raising=False)
    parts, _ = start("lenet", tmp_path, lenet.folder)
    assert parts.state.model.get_parameter("f6.bias").tolist() == [7.0] * 84


@pytest.mark.parametrize("way", ["command line", "mapping", "whole file", "file with a base", "transfer"])
def test_model_weights_means_transfer_weights(way: str, tmp_path: Path) -> None:
    base, file = "lenet-digits", tmp_path / "mine.toml"
    changes: list[str] | dict[str, object] = ["model.weights=runs/1e-3", "model.dropout=0.5"]
    if way == "mapping":
        changes = {"model.weights": Path("runs/1e-3"), "model.dropout": 0.5}
    elif way == "transfer":
        changes = ["transfer.weights=runs/1e-3", "model.dropout=0.5"]
    elif way == "file with a base":
        file.write_text(
            'base = "lenet-digits"\n[model]\nweights = "runs/1e-3"\ndropout = 0.5\n', encoding="utf-8"
        )
        base, changes = str(file), []
    elif way == "whole file":
        tables = [
            'name="a"',
            "[data]",
            'type="images"',
            'source="digits"',
            "[objective]",
            'type="supervised"',
        ]
        tables += [
            "[optimizer]",
            'type="adamw"',
            "[budget]",
            "steps=1",
            "batch_size=1",
            "[model]",
            'type="lenet"',
        ]
        text = "\n".join([*tables, 'weights="runs/1e-3"', "dropout=0.5"])
        file.write_text(text, encoding="utf-8")
        base, changes = str(file), []
    recipe = resolve(base, changes)
    for found in (recipe, override(recipe, {}), override(recipe, ["seed=3"])):
        assert found.transfer is not None
        assert found.transfer.weights == "runs/1e-3"
        assert found.model.model_fields_set == {"type", "dropout"}, "only what was asked for binds the source"
    assert recipe.claim is None


def test_the_weights_of_a_file_keep_the_models_options() -> None:
    recipe = resolve("lenet-digits", ["model.hidden=20"])
    assert override(recipe, ["model.weights=a.safetensors"]).model == recipe.model
    assert override(recipe, ["model.weights=a"]).model.model_fields_set == {"type"}
