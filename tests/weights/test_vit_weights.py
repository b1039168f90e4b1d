"""ViT both ways: transformers' ViTForImageClassification computes the same, gradients too."""

import json

import pytest
import torch
from torch.nn import functional as F

from descent.errors import UserError
from descent.models.vit import ViT, ViTConfig
from descent.weights import safetensors_file, vit
from descent.weights.export import export
from descent.weights.folder import read_folder

transformers = pytest.importorskip("transformers")

SIZES = {
    "odd": {"inputs": (3, 21, 35), "outputs": 5, "depth": 2, "dim": 21, "heads": 3, "patch": 7, "hidden": 50},
    "grey": {
        "inputs": (1, 8, 8),
        "outputs": 2,
        "depth": 1,
        "dim": 6,
        "heads": 1,
        "patch": 4,
        "norm_eps": 1e-3,
    },
    "Ti": ViTConfig.published("Ti", inputs=(3, 64, 64), outputs=1000, depth=4).model_dump(),
}


def theirs_of(config):
    table = {**vit.config_to(config), "num_labels": config.outputs}
    torch.manual_seed(0)
    theirs = transformers.ViTForImageClassification(transformers.ViTConfig(**table)).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return theirs


def ours_of(config):
    torch.manual_seed(1)
    ours = ViT(config).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return ours


def pictures(config, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3, *config.inputs, generator=generator).to(memory_format=layout)


@pytest.mark.parametrize("name", SIZES)
def test_a_folder_written_by_transformers_gives_the_same_logits(name, tmp_path):
    config = ViTConfig.read(SIZES[name])
    theirs = theirs_of(config)
    theirs.save_pretrained(tmp_path)
    found = read_folder(tmp_path)
    assert found.config.replace(hidden=config.hidden) == config
    assert found.config.hidden == (config.hidden or 4 * config.dim)
    ours, inputs = found.model(), pictures(config)
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs), theirs(inputs).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SIZES)
def test_transformers_loads_what_we_export_and_gives_the_same_logits(name, tmp_path):
    config = ViTConfig.read(SIZES[name])
    ours = ours_of(config)
    export(tmp_path / "out", ours)
    theirs, report = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report.values()), report
    inputs = pictures(config)
    with torch.no_grad():
        torch.testing.assert_close(theirs(inputs).logits, ours(inputs), rtol=1e-5, atol=1e-5)
    again = read_folder(tmp_path / "out").state
    assert again.keys() == ours.state_dict().keys()
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(again[key], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", SIZES)
def test_every_gradient_is_the_same(name, layout, tmp_path):
    config = ViTConfig.read(SIZES[name])
    theirs, inputs = theirs_of(config), pictures(config, layout).double()
    theirs.save_pretrained(tmp_path)
    ours, theirs = read_folder(tmp_path).model().double().train(), theirs.double().train()
    targets = torch.tensor([0, 1, 1])
    F.cross_entropy(ours(inputs), targets).backward()
    F.cross_entropy(theirs(inputs).logits, targets).backward()
    for model in (ours, theirs):
        with torch.no_grad():  # what is saved below are the gradients
            for parameter in model.parameters():
                parameter.copy_(parameter.grad)
    theirs.save_pretrained(tmp_path)
    found, expected = vit.state_to(ours.state_dict()), safetensors_file.read(tmp_path / "model.safetensors")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, msg=lambda text, key=key: f"{key}: {text}")


def test_what_a_classifier_does_not_use_is_left_out(tmp_path):
    config = ViTConfig.read(SIZES["grey"])
    theirs = vit.state_to(ViT(config).state_dict())
    more = {
        "vit.pooler.dense.weight": torch.ones(6, 6),
        "vit.pooler.dense.bias": torch.ones(6),
        "vit.embeddings.mask_token": torch.ones(1, 1, 6),
    }
    vit.state_from({**theirs, **more}, config, "here")
    with pytest.raises(UserError, match=r"vit\.pooler\.other: not expected"):
        vit.state_from({**theirs, "vit.pooler.other": torch.ones(6)}, config, "here")


@pytest.mark.parametrize(
    "changes", [{"pool": "mean"}, {"stem": (4, 6)}, {"pool": "mean", "stem": (6,)}], ids=str
)
def test_variants_that_transformers_lacks_are_exported_as_ours(changes, tmp_path):
    config = ViTConfig.read({**SIZES["grey"], **changes})
    ours = ours_of(config)
    export(tmp_path / "out", ours)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "descent"
    inputs = pictures(config)
    with torch.no_grad():
        torch.testing.assert_close(read_folder(tmp_path / "out").model()(inputs), ours(inputs))
