"""Weights under the names of torchvision and timm, made here from what those libraries are known to name."""

import json

import pytest
import torch
from PIL import Image

from descent.cli import main
from descent.errors import CorruptArtifact, UserError
from descent.models import build
from descent.models.resnet import ResNetConfig
from descent.runs.load import load
from descent.weights import published, safetensors_file
from descent.weights.folder import read_folder
from descent.weights.keymap import model_shapes
from descent.weights.names import published_file


def norm(name, width):
    vectors = {f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {**vectors, f"{name}.num_batches_tracked": ()}


def resnet_names(depths, bottleneck, classes=1000):
    shapes = {"conv1.weight": (64, 3, 7, 7), **norm("bn1", 64)}
    before = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        after = 4 * width if bottleneck else width
        for block in range(depth):
            at = f"layer{stage + 1}.{block}"
            if bottleneck:
                layers = [(width, before, 1), (width, width, 3), (after, width, 1)]
            else:
                layers = [(width, before, 3), (width, width, 3)]
            for number, (out, into, kernel) in enumerate(layers, 1):
                shapes[f"{at}.conv{number}.weight"] = (out, into, kernel, kernel)
                shapes |= norm(f"{at}.bn{number}", out)
            if block == 0 and (stage or bottleneck):
                shapes[f"{at}.downsample.0.weight"] = (after, before, 1, 1)
                shapes |= norm(f"{at}.downsample.1", after)
            before = after
    return {**shapes, "fc.weight": (classes, before), "fc.bias": (classes,)}


def linear(name, out, *into):
    return {f"{name}.weight": (out, *into), f"{name}.bias": (out,)}


def alexnet_names():
    convolutions = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    shapes = {}
    for place, (out, into, kernel) in convolutions.items():
        shapes |= linear(f"features.{place}", out, into, kernel, kernel)
    for place, (out, into) in {1: (4096, 256 * 6 * 6), 4: (4096, 4096), 6: (1000, 4096)}.items():
        shapes |= linear(f"classifier.{place}", out, into)
    return shapes


def torchvision_vit_names(first="mlp.0", second="mlp.3"):
    shapes = {"class_token": (1, 1, 768), "encoder.pos_embedding": (1, 197, 768)}
    shapes |= (
        linear("conv_proj", 768, 3, 16, 16) | linear("encoder.ln", 768) | linear("heads.head", 1000, 768)
    )
    for number in range(12):
        at = f"encoder.layers.encoder_layer_{number}"
        shapes |= linear(f"{at}.ln_1", 768) | linear(f"{at}.ln_2", 768)
        shapes[f"{at}.self_attention.in_proj_weight"] = (2304, 768)
        shapes[f"{at}.self_attention.in_proj_bias"] = (2304,)
        shapes |= linear(f"{at}.self_attention.out_proj", 768, 768)
        shapes |= linear(f"{at}.{first}", 3072, 768) | linear(f"{at}.{second}", 768, 3072)
    return shapes


def timm_vit_names():
    shapes = {"cls_token": (1, 1, 768), "pos_embed": (1, 197, 768)}
    shapes |= linear("patch_embed.proj", 768, 3, 16, 16) | linear("norm", 768) | linear("head", 1000, 768)
    for number in range(12):
        at = f"blocks.{number}"
        shapes |= linear(f"{at}.norm1", 768) | linear(f"{at}.norm2", 768)
        shapes |= linear(f"{at}.attn.qkv", 2304, 768) | linear(f"{at}.attn.proj", 768, 768)
        shapes |= linear(f"{at}.mlp.fc1", 3072, 768) | linear(f"{at}.mlp.fc2", 768, 3072)
    return shapes


KNOWN = {
    "torchvision/resnet18": resnet_names([2, 2, 2, 2], False),
    "torchvision/resnet50": resnet_names([3, 4, 6, 3], True),
    "torchvision/alexnet": alexnet_names(),
    "torchvision/vit_b_16": torchvision_vit_names(),
    "timm/resnet18": resnet_names([2, 2, 2, 2], False),
    "timm/resnet50": resnet_names([3, 4, 6, 3], True),
    "timm/vit_base_patch16_224": timm_vit_names(),
}
COUNTS = {"resnet18": 11_689_512, "resnet50": 25_557_032, "alexnet": 61_100_840, "vit_b": 86_567_656}
PAIRS = {  # one of every kind
    "torchvision/resnet50": {
        "conv1.weight": "stem.convolution.weight",
        "bn1.running_var": "stem.norm.running_var",
        "layer1.0.conv1.weight": "stages.0.0.layers.0.convolution.weight",
        "layer4.2.bn3.num_batches_tracked": "stages.3.2.layers.2.norm.num_batches_tracked",
        "layer3.0.downsample.0.weight": "stages.2.0.shortcut.projection.convolution.weight",
        "layer3.0.downsample.1.bias": "stages.2.0.shortcut.projection.norm.bias",
        "fc.bias": "head.bias",
    },
    "torchvision/alexnet": {
        "features.0.bias": "c1.bias",
        "features.3.weight": "c2.weight",
        "features.8.weight": "c4.weight",
        "features.10.bias": "c5.bias",
        "classifier.1.weight": "f6.weight",
        "classifier.4.bias": "f7.bias",
        "classifier.6.weight": "head.weight",
    },
    "torchvision/vit_b_16": {
        "class_token": "class_token",
        "encoder.pos_embedding": "positions",
        "conv_proj.weight": "embedding.weight",
        "encoder.layers.encoder_layer_11.ln_2.bias": "blocks.11.feedforward_norm.bias",
        "encoder.layers.encoder_layer_0.self_attention.in_proj_bias": "blocks.0.attention.qkv.bias",
        "encoder.layers.encoder_layer_3.mlp.0.weight": "blocks.3.feedforward.up.weight",
        "encoder.ln.weight": "norm.weight",
    },
    "timm/vit_base_patch16_224": {
        "blocks.10.norm1.weight": "blocks.10.attention_norm.weight",
        "blocks.1.attn.proj.weight": "blocks.1.attention.output.weight",
        "blocks.1.mlp.fc2.bias": "blocks.1.feedforward.down.bias",
        "norm.bias": "norm.bias",
        "head.weight": "head.weight",
    },
}


def numbered(shapes):
    """Tensors of these shapes, the n-th filled with n; all of one take the memory of one number."""
    types = {name: torch.int64 if "num_batches" in name else torch.float32 for name in shapes}
    return {
        name: torch.tensor(number, dtype=types[name]).expand(shape)
        for number, (name, shape) in enumerate(shapes.items())
    }


@pytest.mark.parametrize("name", KNOWN)
def test_the_published_names_and_shapes_are_covered_both_ways(name):
    theirs, entry = numbered(KNOWN[name]), published.NAMES[name]
    expected = next(count for size, count in COUNTS.items() if size in name.replace("vit_base", "vit_b"))
    learned = {key: value for key, value in theirs.items() if "running" not in key and "num_b" not in key}
    assert sum(tensor.numel() for tensor in learned.values()) == expected
    shapes = model_shapes(entry.config(), theirs, "here")
    ours = entry.keys.to_ours(theirs, shapes, "here")
    assert {key: tuple(tensor.shape) for key, tensor in ours.items()} == shapes
    for their_name, our_name in PAIRS.get(name, {}).items():
        assert ours[our_name].flatten()[0] == theirs[their_name].flatten()[0], our_name
    back = entry.keys.to_theirs(ours)
    assert back.keys() == theirs.keys()
    for key, tensor in theirs.items():
        assert back[key].shape == tensor.shape
        assert back[key].dtype == tensor.dtype
        assert back[key].flatten()[0] == tensor.flatten()[0], key


def test_older_names_of_torchvision_are_read_and_not_written():
    entry = published.NAMES["torchvision/vit_b_16"]
    old, new = numbered(torchvision_vit_names("mlp.linear_1", "mlp.linear_2")), torchvision_vit_names()
    ours = entry.keys.to_ours(old, model_shapes(entry.config(), old, "here"), "here")
    assert ours["blocks.4.feedforward.down.bias"].shape == (768,)
    assert entry.keys.to_theirs(ours).keys() == new.keys()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A ResNet-18 of five classes under torchvision's names."""
    path = tmp_path_factory.mktemp("published") / "resnet18.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in resnet_names([2, 2, 2, 2], False, classes=5).items():
        drawn = torch.randn(shape, generator=generator) * 0.05
        tensors[name] = torch.tensor(7) if "num_b" in name else drawn + ("var" in name)
    safetensors_file.write(path, tensors, {})
    return path


def test_a_file_becomes_a_model_and_goes_back_bit_for_bit(file):
    found = published.read(file, "torchvision/resnet18", labels=tuple("abcde"))
    assert found.config == ResNetConfig.published("18", inputs=(3, 224, 224), outputs=5)
    assert found.extra["labels"] == list("abcde")
    assert found.extra["loss"] == "cross_entropy"
    assert found.extra["preparation"]["mean"] == [0.485, 0.456, 0.406]
    model = found.model()
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, 40, 40)).shape == (2, 5)
    back, expected = published.tensors_of(model, "timm/resnet18"), safetensors_file.read(file)
    assert back.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(back[key], tensor, rtol=0, atol=0)


def test_a_file_of_another_network_or_name_is_refused(file, tmp_path):
    with pytest.raises(UserError, match=r"does not fit the model: \d+ differences"):
        published.read(file, "torchvision/resnet50")
    with pytest.raises(UserError, match="no published network is called 'torchvision/resnet19'"):
        published.read(file, "torchvision/resnet19")
    with pytest.raises(UserError, match=r"has 5 classes\n  got: .*'2 labels'"):
        published.read(file, "torchvision/resnet18", labels=("a", "b"))
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "resnet18.pth")
    with pytest.raises(CorruptArtifact, match=r"zip archive, which torch\.save makes around a pickle"):
        published.read(tmp_path / "resnet18.pth", "torchvision/resnet18")


def test_a_model_is_not_written_under_the_name_of_another(file):
    model = build(ResNetConfig(inputs=(3, 32, 32), outputs=2, depths=(1, 1), widths=(4, 8), stem="small"))
    with pytest.raises(UserError, match=r"this model is not timm/resnet18") as error:
        published.tensors_of(model, "timm/resnet18")
    assert "depths=[1, 1], stem=small, widths=[4, 8]" in str(error.value)


def test_an_alexnet_whose_last_maps_torchvision_would_change_is_refused():
    def written(side):
        with torch.device("meta"):
            model = build(published.NAMES["torchvision/alexnet"].config(inputs=(3, side, side), outputs=2))
        return published.tensors_of(model, "torchvision/alexnet")["classifier.1.weight"].shape

    assert written(224) == written(227) == (4096, 256 * 6 * 6)
    with pytest.raises(UserError, match=r"(?s)not torchvision/alexnet.*'7 x 7'.*6 x 6, as of images of 224"):
        written(256)


def test_a_file_is_loaded_by_its_networks_name(file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(file.parent)
    image = Image.fromarray(torch.arange(300 * 300 * 3).reshape(300, 300, 3).to(torch.uint8).numpy())
    image.save(tmp_path / "x.png")
    expected = published.read(file, "torchvision/resnet18").model().state_dict()
    for where in (f"torchvision/resnet18:{file}", "torchvision/resnet18:resnet18.safetensors"):
        loaded = load(where)
        torch.testing.assert_close(loaded.model.state_dict(), expected, rtol=0, atol=0)
    (answer,) = loaded.predict(image)
    assert main(["predict", where, str(tmp_path / "x.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["label"] == answer["label"]
    with pytest.raises(UserError, match=r"(?s)no published network is called.*resnet18"):
        load(f"torchvision/resnet19:{file}")
    with pytest.raises(UserError, match="cannot be read"):
        load("timm/resnet18:absent.safetensors")


@pytest.mark.parametrize(
    "where", ["torchvision/resnet18", "torchvision/resnet18:", "owner/model:a", "a.safetensors"]
)
def test_other_names_are_no_published_files(where):
    assert published_file(where) is None


@pytest.fixture
def timm_folder(file, tmp_path):
    def make(**changes):
        table = {
            "architecture": "resnet18",
            "num_classes": 5,
            "num_features": 512,
            "global_pool": "avg",
            "model_args": {"num_classes": 5, "in_chans": 3},
            "pretrained_cfg": {"input_size": [3, 96, 64], "crop_mode": "squash", "mean": [0.1, 0.2, 0.3]},
        }
        (tmp_path / "model.safetensors").unlink(missing_ok=True)
        (tmp_path / "model.safetensors").symlink_to(file)
        (tmp_path / "config.json").write_text(json.dumps({**table, **changes}))
        return tmp_path

    return make


def test_a_folder_in_timms_layout(timm_folder, file):
    found = read_folder(timm_folder(label_names=["cat", "dog", "cat", "hen", "owl"]))
    assert found.config == ResNetConfig.published("18", inputs=(3, 96, 64), outputs=5)
    assert found.extra == {
        "labels": ["cat", "dog", "cat (2)", "hen", "owl"],
        "loss": "cross_entropy",
        "preparation": {
            "kind": "images",
            "shape": [3, 96, 64],
            "fit": "stretch",
            "mean": [0.1, 0.2, 0.3],
            "std": [0.229, 0.224, 0.225],
            "labels": ["cat", "dog", "cat (2)", "hen", "owl"],
        },
    }
    theirs = safetensors_file.read(file)
    torch.testing.assert_close(found.model().state_dict()["stem.convolution.weight"], theirs["conv1.weight"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "resnet18d"}, "this architecture is not known"),
        ({"architecture": "resnet34"}, "does not fit the model"),
        ({"architecture": ["resnet18"]}, "this architecture is not known"),
        ({"num_classes": 6}, r"fc\.weight: 5x512, expected 6x512"),
        ({"num_classes": 0}, "a model with a head"),
        ({"num_classes": 10**30}, "64 bits|num_classes|outputs"),
        ({"global_pool": "max"}, r"global_pool: got 'max', expected 'avg'"),
        ({"model_args": {"global_pool": "avgmax"}}, "global_pool: got 'avgmax'"),
        ({"model_args": {"stem_type": "deep", "aa_layer": 1}}, "not known here: aa_layer, stem_type"),
        ({"model_args": [1]}, "model_args"),
        ({"model_args": {"in_chans": 1}}, "image_mean"),
        ({"pretrained_cfg": {"input_size": [3, 10**9, 1]}}, "input_size"),
        ({"pretrained_cfg": {"crop_mode": "random"}}, "crop_mode"),
        ({"pretrained_cfg": {"std": [0, 1, 1]}}, "image_std"),
        ({"label_names": ["a"]}, "names 1 of 5 classes"),
        ({"label_names": "abcde"}, "label_names"),
    ],
    ids=str,
)
def test_what_a_timm_folder_may_not_say(timm_folder, changes, words):
    with pytest.raises(UserError, match=words):
        read_folder(timm_folder(**changes))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "vit_tiny_patch16_224"])
def test_timm_computes_the_same(name, tmp_path):
    timm = pytest.importorskip("timm")
    theirs = timm.create_model(name).eval()
    safetensors_file.write(tmp_path / "x.safetensors", theirs.state_dict(), {})
    ours, inputs = (
        published.read(tmp_path / "x.safetensors", f"timm/{name}").model(),
        torch.randn(2, 3, 224, 224),
    )
    with torch.inference_mode():
        torch.testing.assert_close(ours(inputs), theirs(inputs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "vit_b_16"])
def test_torchvision_computes_the_same(name, tmp_path):
    models = pytest.importorskip("torchvision").models
    theirs = getattr(models, name)().eval()
    safetensors_file.write(tmp_path / "x.safetensors", theirs.state_dict(), {})
    found, inputs = (
        published.read(tmp_path / "x.safetensors", f"torchvision/{name}"),
        torch.randn(1, 3, 224, 224),
    )
    with torch.inference_mode():
        torch.testing.assert_close(found.model()(inputs), theirs(inputs), rtol=1e-5, atol=1e-5)
