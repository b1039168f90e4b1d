"""What stands beside weights and is not believed: preparations, classes and losses that would mislead."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from run_tools import tiny

from descent.data import prepare_row
from descent.errors import CorruptArtifact
from descent.models import build
from descent.models.gpt import GPTConfig
from descent.models.linear import LinearConfig
from descent.models.resnet import ResNetConfig
from descent.models.vit import ViTConfig
from descent.runs.load import load
from descent.runs.noted import checked_preparation
from descent.runs.run import Run
from descent.runs.train import train
from descent.weights.export import export

VIT = ViTConfig(inputs=(3, 16, 16), outputs=2, depth=1, dim=8, heads=2, patch=8)
OWN = ResNetConfig(inputs=(3, 16, 16), outputs=2, depths=(1,), widths=(4,), stem="small")
IMAGES = {"kind": "images", "shape": [3, 16, 16], "fit": "crop", "mean": [0.5] * 3, "std": [0.5] * 3}
TABLE = {
    "kind": "table",
    "features": [{"name": "age", "fill": 3.0}, {"name": "town", "categories": ["a", "b", "c"]}],
    "drop_first": True,
    "target": "price",
    "target_mean": 2.0,
    "target_std": 3.0,
    "mean": [1.0, 0.0, 0.0],
    "std": [1.0, 1.0, 1.0],
}
GONE = object()


def changed(table: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {key: new for key, new in {**table, name: value}.items() if new is not GONE}


@pytest.mark.parametrize("config", [VIT, OWN], ids=["published", "own"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", GONE),
        ("shape", "abc"),
        ("shape", [3, 16]),
        ("shape", [3, 200_000, 200_000]),
        ("shape", [3, 0, 16]),
        ("shape", [1, 16, 16]),
        ("std", [0, 0, 0]),
        ("std", [0.5, -0.5, 0.5]),
        ("std", [0.5, 1e999, 0.5]),
        ("mean", [0.5, 0.5]),
        ("mean", ["a", "b", "c"]),
        ("mean", GONE),
        ("fit", "zzz"),
        ("fit", ["crop"]),
        ("kind", "odour"),
        ("kind", ["images"]),
        ("kind", GONE),
        ("extra", 1),
        ("labels", [1, 2]),
    ],
    ids=str,
)
def test_a_folder_whose_preparation_lies_is_corrupt(
    config: Any, name: str, value: Any, tmp_path: Path
) -> None:
    model, extra = build(config), {"preparation": IMAGES, "loss": "cross_entropy"}
    file = export(tmp_path / "out", model, extra=extra) / "config.json"
    assert load(tmp_path / "out").preparation == IMAGES
    whole = json.loads(file.read_text())
    whole["descent"]["preparation"] = changed(IMAGES, name, value)
    file.write_text(json.dumps(whole).replace("Infinity", "1e999"))
    said = rf"config\.json(.|\n)*preparation(.|\n)*({name}|mean and std)"
    with pytest.raises(CorruptArtifact, match=said):
        load(tmp_path / "out")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"preparation": ["x"]}, "preparation"),
        ({"preparation": 3}, "preparation"),
        ({"loss": ["x"]}, "loss"),
        ({"loss": "hinge"}, "loss"),
        ({"loss": "binary"}, "loss does not fit"),
        ({"labels": ["a", "b", "c"]}, "labels does not fit"),
        ({"labels": "ab"}, "labels"),
    ],
    ids=str,
)
def test_so_is_one_that_lies_of_classes_and_loss(table: dict[str, Any], said: str, tmp_path: Path) -> None:
    folder = export(tmp_path / "out", build(OWN), extra={"preparation": IMAGES, **table})
    with pytest.raises(CorruptArtifact, match=rf"config\.json(.|\n)*{said}"):
        load(folder)


def test_only_a_network_of_any_size_takes_images_of_another(tmp_path: Path) -> None:
    other = {"preparation": {**IMAGES, "shape": [3, 24, 8]}}
    folder = export(tmp_path / "out", build(OWN), extra={**other, "loss": "cross_entropy"})
    (found,) = load(folder).predict(Image.new("RGB", (40, 40)))
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    with pytest.raises(CorruptArtifact, match=r"(?s)preparation\.shape does not fit.*24.*\[3, 16, 16\]"):
        checked_preparation(other, VIT, "x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features", GONE),
        ("features", []),
        ("features", ["age", "town"]),
        ("features", [{"fill": 1.0}]),
        ("features", [{"name": "age"}]),
        ("features", TABLE["features"][:1]),
        ("mean", [0.0]),
        ("std", [1.0, 0.0, 1.0]),
        ("drop_first", "no"),
        ("target_std", 0.0),
        ("target_std", GONE),
    ],
    ids=str,
)
def test_a_table_that_lies(name: str, value: Any) -> None:
    config = LinearConfig(inputs=(3,), outputs=1)
    assert checked_preparation({"preparation": TABLE, "loss": "mse"}, config, "x") == TABLE
    torch.testing.assert_close(
        prepare_row(TABLE, {"age": 5, "town": "c"}), torch.tensor([4.0, 0.0, 1.0]), rtol=0, atol=0
    )
    with pytest.raises(CorruptArtifact, match=r"data\.json(.|\n)*(features|mean|std|drop_first|target_std)"):
        checked_preparation({"preparation": changed(TABLE, name, value)}, config, "data.json")
    with pytest.raises(CorruptArtifact, match=r"preparation\.features does not fit"):
        checked_preparation({"preparation": TABLE}, config.replace(inputs=[4]), "data.json")


@pytest.mark.parametrize("start", ["ab", [-1], [256], [1.5], 7], ids=str)
def test_a_start_that_is_no_token(start: Any) -> None:
    config = GPTConfig(vocab_size=256)
    sound = {"kind": "text", "start": [255], "marked": True}
    assert checked_preparation({"preparation": sound}, config, "x") == sound
    with pytest.raises(CorruptArtifact, match=r"(?s)data\.json.*start"):
        checked_preparation({"preparation": {**sound, "start": start}}, config, "data.json")
    with pytest.raises(CorruptArtifact, match="does not fit"):
        checked_preparation({"preparation": sound}, VIT, "data.json")
    with pytest.raises(CorruptArtifact, match="does not fit"):
        checked_preparation({"preparation": IMAGES}, config, "data.json")


def test_a_run_is_not_believed_either(tmp_path: Path) -> None:
    run = train(tiny("mlp", tmp_path), out=tmp_path / "run", quiet=True)
    file = run.folder / "data.json"
    whole = json.loads(file.read_text(encoding="utf-8"))
    for name, value in {"std": [0], "shape": [1, 9, 9], "fit": 1}.items():
        preparation = {**whole["preparation"], name: value}
        file.write_text(json.dumps({**whole, "preparation": preparation}), encoding="utf-8")
        with pytest.raises(CorruptArtifact, match=rf"(?s)data\.json.*preparation.*{name}"):
            Run(run.folder).load()
    file.write_text(json.dumps({**whole, "labels": 3}), encoding="utf-8")
    with pytest.raises(CorruptArtifact, match=r"(?s)data\.json.*labels"):
        Run(run.folder).load()
    shutil.rmtree(run.folder)
