"""Folders of image classifiers: names of classes, how pictures are prepared, and what is refused."""

import json

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from descent.cli import app
from descent.data.preparation import prepare_image
from descent.errors import UserError
from descent.explain import explain
from descent.models.resnet import ResNet, ResNetConfig
from descent.models.vit import ViT, ViTConfig
from descent.runs.load import load
from descent.verify import exchange
from descent.weights import safetensors_file
from descent.weights.export import export
from descent.weights.folder import read_folder

SMALL = ResNetConfig(inputs=(3, 24, 24), outputs=3, depths=(1, 2), widths=(4, 8))
VIT = ViTConfig(inputs=(3, 24, 24), outputs=3, depth=2, dim=8, heads=2, patch=8)
PREPARATION = {
    "kind": "images",
    "shape": [3, 24, 24],
    "fit": "crop",
    "mean": [0.1, 0.2, 0.3],
    "std": [0.5, 0.6, 0.7],
    "labels": ["cat", "dog", "owl"],
}
EXTRA = {"labels": ["cat", "dog", "owl"], "preparation": PREPARATION, "loss": "cross_entropy"}


@pytest.fixture(params=[SMALL, VIT], ids=["resnet", "vit"])
def folder(request, tmp_path):
    torch.manual_seed(0)
    model = (ResNet if request.param is SMALL else ViT)(request.param)
    torch.nn.init.normal_(model.head.weight)
    return export(tmp_path / "out", model.eval(), extra=EXTRA)


def change(folder, name="config.json", drop=(), **fields):
    path = folder / name
    table = json.loads(path.read_text()) if path.exists() else {}
    kept = {key: value for key, value in table.items() if key not in drop}
    path.write_text(json.dumps({**kept, **fields}))


def picture(width=31, height=50):
    pixels = torch.arange(3 * width * height).reshape(height, width, 3) * 7 % 256
    return Image.fromarray(pixels.to(torch.uint8).numpy())


def test_an_export_is_used_as_the_model_was(folder):
    loaded = load(folder)
    assert loaded.labels == ("cat", "dog", "owl")
    assert loaded.preparation == PREPARATION
    assert loaded.loss == "cross_entropy"
    (found,) = loaded.predict(picture())
    assert found["label"] in loaded.labels
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_what_other_libraries_write_is_used_alike(folder):
    """The same files without our own table."""
    own = load(folder).predict(picture())
    change(folder, drop=["descent"])
    loaded = load(folder)
    assert loaded.labels == ("cat", "dog", "owl")
    assert loaded.preparation == PREPARATION
    assert loaded.predict(picture()) == own


def test_classes_changed_by_another_library_count(folder):
    change(folder, id2label={"0": "ant", "1": "bee", "2": "bee"})
    assert load(folder).labels == ("ant", "bee", "bee (2)")
    change(folder, id2label={str(n): f"LABEL_{n}" for n in range(3)}, drop=["descent"])
    assert load(folder).labels is None


def test_without_a_word_on_pictures_none_is_guessed(folder):
    (folder / "preprocessor_config.json").unlink()
    change(folder, drop=["descent"])
    loaded = load(folder)
    assert loaded.preparation == {}
    assert loaded.labels == ("cat", "dog", "owl")
    said = r"(?s)does not say how pictures are prepared.*preprocessor_config\.json beside config\.json"
    with pytest.raises(UserError, match=said):
        loaded.predict(picture())
    with pytest.raises(UserError, match=said):
        explain(loaded, picture())


@pytest.mark.parametrize(
    ("table", "fit", "shape"),
    [
        ({"size": 32}, "stretch", (32, 32)),
        ({"size": {"height": 32, "width": 40}}, "stretch", (32, 40)),
        ({"size": 32, "feature_extractor_type": "ConvNextFeatureExtractor"}, "crop", (32, 32)),
        ({"size": {"shortest_edge": 32}, "crop_pct": 0.875}, "crop", (32, 32)),
        ({"size": {"shortest_edge": 384}, "crop_pct": 1}, "stretch", (384, 384)),
        ({"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 30}}, "crop", (32, 30)),
        ({"size": 36, "crop_size": 32, "do_center_crop": True}, "crop", (32, 32)),
        ({"size": 36, "crop_size": 32, "do_center_crop": False}, "stretch", (36, 36)),
    ],
    ids=str,
)
def test_forms_of_a_size(table, fit, shape, tmp_path):
    export(tmp_path / "out", ResNet(SMALL))
    change(tmp_path / "out", drop=["image_size"])
    values = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, **table}
    (tmp_path / "out" / "preprocessor_config.json").write_text(json.dumps(values))
    found = read_folder(tmp_path / "out")
    assert found.config.inputs == (3, *shape)
    assert found.extra["preparation"]["fit"] == fit
    assert found.extra["preparation"]["shape"] == [3, *shape]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, lambda x: (x / 255 - 0.1) / 0.5),
        ({"rescale_factor": 1 / 127.5}, lambda x: (x / 127.5 - 0.1) / 0.5),
        ({"do_rescale": False}, lambda x: (x - 0.1) / 0.5),
        ({"do_normalize": False}, lambda x: x / 255),
    ],
    ids=str,
)
def test_pixels_are_scaled_as_the_file_says(table, expected, tmp_path):
    export(tmp_path / "out", ResNet(SMALL))
    values = {"size": 24, "image_mean": [0.1] * 3, "image_std": 0.5, **table}
    (tmp_path / "out" / "preprocessor_config.json").write_text(json.dumps(values))
    image = picture(24, 24)
    found = prepare_image(load(tmp_path / "out").preparation, image)
    pixels = torch.tensor(list(image.getdata())).reshape(24, 24, 3).permute(2, 0, 1).float()
    torch.testing.assert_close(found, expected(pixels), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_transformers_prepares_pictures_alike(fit, tmp_path):
    """To a few steps of brightness: what it crops, it has scaled to whole pixels before."""
    transformers = pytest.importorskip("transformers")
    preparation = {**PREPARATION, "fit": fit}
    export(tmp_path / "out", ResNet(SMALL), extra={**EXTRA, "preparation": preparation})
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out", backend="pil")
    for width, height in ((24, 24), (31, 50), (70, 24)):
        rows, columns = torch.linspace(0, 120, height), torch.linspace(0, 120, width)
        pixels = torch.stack(
            [rows[:, None] + columns, rows[:, None] + 0 * columns, 0 * rows[:, None] + columns], 2
        )
        image = Image.fromarray(pixels.to(torch.uint8).numpy())
        theirs = torch.as_tensor(processor(image, return_tensors="pt")["pixel_values"][0])
        near = 0 if (width, height) == (24, 24) or fit == "stretch" else 5 / 255 / 0.5
        torch.testing.assert_close(prepare_image(preparation, image), theirs, rtol=0, atol=near + 1e-5)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"size": {"longest_edge": 24}}, "size"),
        ({"size": {"shortest_edge": 24}}, "nothing says what is cropped"),
        ({"size": 10**9}, "from 1 to 8,192"),
        ({"size": True}, "size"),
        ({"image_mean": [0.5]}, "image_mean"),
        ({"image_mean": None}, "image_mean"),
        ({"image_mean": ["a"] * 3}, "image_mean"),
        ({"image_std": [0.5, 0, 0.5]}, "image_std"),
        ({"rescale_factor": 0}, "rescale_factor"),
        ({"rescale_factor": "1"}, "rescale_factor"),
    ],
    ids=str,
)
def test_what_a_preprocessor_may_not_say(table, words, tmp_path):
    export(tmp_path / "out", ResNet(SMALL))
    values = {"size": 24, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, **table}
    (tmp_path / "out" / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(UserError, match=words):
        read_folder(tmp_path / "out")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_act": "silu"}, r"hidden_act: got 'silu', expected 'relu'"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage: got True, expected False"),
        ({"downsample_in_bottleneck": True}, "downsample_in_bottleneck"),
        ({"layer_type": "wide"}, "layer_type"),
        ({"embedding_size": 64}, "embedding_size: got 64, expected 4"),
        ({"depths": [1, 3]}, r"stages\.1\.layers\.2\..*: missing"),
        ({"depths": [1, 1]}, r"stages\.1\.layers\.1\..*: not expected \(the model has no"),
        ({"depths": [1, 10**15]}, "1,000,000,000,000,001 layers"),
        ({"depths": [10**30, 1]}, "64 bits|depths"),
        ({"depths": 3}, "depths"),
        ({"hidden_sizes": [4, 2**61]}, "sizes that no tensor can have"),
        ({"hidden_sizes": [4, 9]}, r"classifier\.1\.weight: 3x8, expected 3x9"),
        ({"num_channels": 1}, "expected 4x1x7x7"),
        ({"num_labels": 4}, "num_labels is 4, but id2label names 3"),
        ({"id2label": {"0": "a", "1": "b"}}, r"classifier\.1\.bias: 3, expected 2"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, "id2label"),
        ({"id2label": {"0": "a", "1": "b", "2": 3}}, "id2label"),
        ({"id2label": []}, "id2label"),
        ({"image_size": 10**8}, "image_size"),
        ({"architectures": ["ResNetBackbone"]}, "this architecture is not known"),
    ],
    ids=str,
)
def test_a_resnet_that_lies_is_refused(fields, words, tmp_path):
    folder = export(tmp_path / "out", ResNet(SMALL), extra=EXTRA)
    change(folder, **fields)
    with pytest.raises(UserError, match=words):
        read_folder(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_act": "gelu_new"}, "hidden_act: got 'gelu_new', expected 'gelu'"),
        ({"qkv_bias": False}, "qkv_bias: got False, expected True"),
        ({"attention_probs_dropout_prob": 0.1}, "attention_probs_dropout_prob"),
        ({"patch_size": [8, 4]}, "patch_size"),
        ({"patch_size": 5}, "multiples of 5"),
        ({"image_size": 32}, r"position_embeddings: 1x10x8, expected 1x17x8"),
        ({"num_attention_heads": 3}, "multiple of heads"),
        ({"intermediate_size": 31}, "expected 31x8"),
        ({"num_hidden_layers": 3}, r"layer\.2\.attention\.attention\.key\.bias: missing"),
        ({"num_hidden_layers": 1}, r"layer\.1\..*: not expected"),
        ({"num_hidden_layers": 10**12}, "1,000,000,000,000 layers"),
        ({"hidden_size": 2**60}, "sizes that no tensor can have"),
        ({"layer_norm_eps": "1e-6"}, "norm_eps"),
        ({"hidden_dropout_prob": "0"}, "dropout"),
        ({"architectures": ["ViTModel"]}, "this architecture is not known"),
    ],
    ids=str,
)
def test_a_vit_that_lies_is_refused(fields, words, tmp_path):
    folder = export(tmp_path / "out", ViT(VIT), extra=EXTRA)
    change(folder, **fields)
    with pytest.raises(UserError, match=words):
        read_folder(folder)


def test_missing_extra_and_misshapen_tensors_are_named(folder):
    path = folder / "model.safetensors"
    tensors = safetensors_file.read(path)
    bias = next(name for name in tensors if name.startswith("classifier") and name.endswith("bias"))
    del tensors[bias]
    weight = bias.replace("bias", "weight")
    tensors |= {weight: torch.zeros(3, 9), "classifier.5.weight": torch.zeros(2)}
    path.unlink()
    safetensors_file.write(path, tensors, {})
    with pytest.raises(UserError) as error:
        read_folder(folder)
    assert str(error.value).splitlines()[1:] == sorted(
        [
            f"  {bias}: missing",
            f"  {weight}: 3x9, expected 3x8",
            "  classifier.5.weight: not expected",
        ]
    )


@pytest.mark.parametrize("labels", [3, ["a", 2, "c"], {"0": "a"}], ids=str)
def test_labels_of_our_own_table_are_not_believed(labels, tmp_path):
    model = ResNet(SMALL.replace(stem="small"))
    folder = export(tmp_path / "out", model, extra={**EXTRA, "labels": labels})
    with pytest.raises(UserError, match=r"config\.json: 1 error[^\n]*\n  labels"):
        load(folder)
    folder = export(tmp_path / "out", model, extra={**EXTRA, "labels": ["a"]}, overwrite=True)
    with pytest.raises(UserError, match=r"(?s)labels does not fit.*1 names of classes.*expected: 3"):
        load(folder)


def test_two_classes_with_one_output(tmp_path):
    """Transformers has no names for them; our own table keeps both."""
    extra = {**EXTRA, "labels": ["cat", "dog"], "loss": "binary"}
    folder = export(tmp_path / "out", ResNet(SMALL.replace(outputs=1)), extra=extra)
    assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "LABEL_0"}
    loaded = load(folder)
    (found,) = loaded.predict(picture())
    assert set(found["probabilities"]) == {"cat", "dog"}
    assert sum(found["probabilities"].values()) == pytest.approx(1)
    explained = explain(loaded, picture(), "saliency")
    assert loaded.labels[explained.predicted[0]] == found["label"]
    assert explained.probability[0] == pytest.approx(found["probability"], rel=1e-4)


def test_the_contract_compares_with_the_class_there(folder, tmp_path):
    pytest.importorskip("transformers")
    loaded = load(folder)
    batch = {"inputs": torch.randn(4, 3, 24, 24), "targets": torch.zeros(4, dtype=torch.int64)}
    worst, note = exchange.reference(loaded, batch, tmp_path)
    assert worst < 1e-5
    assert note.endswith("ForImageClassification")
    with torch.no_grad():
        loaded.model.head.bias += 0.5
    batch["inputs"] = torch.randn(4, 3, 24, 24)
    assert exchange.exported(loaded, batch, tmp_path)[0] == 0


def test_the_command_line_predicts_with_a_published_folder(folder, tmp_path):
    change(folder, drop=["descent"])
    picture().save(tmp_path / "x.png")
    result = CliRunner().invoke(app, ["predict", str(folder), str(tmp_path / "x.png"), "--json"])
    assert result.exit_code == 0, result.output
    expected = load(folder).predict(tmp_path / "x.png")[0]["label"]
    assert expected in result.stdout
