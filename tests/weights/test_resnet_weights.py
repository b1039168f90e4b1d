"""ResNet both ways: transformers' ResNetForImageClassification computes the same, in training mode too."""

import json

import pytest
import torch
from torch.nn import functional as F

from descent.models.resnet import ResNet, ResNetConfig
from descent.weights import resnet
from descent.weights.architectures import of
from descent.weights.export import export
from descent.weights.folder import read_folder

transformers = pytest.importorskip("transformers")

TINY = {
    "basic": {"depths": (2, 1, 1), "widths": (4, 6, 10)},
    "bottleneck": {"depths": (1, 2), "widths": (8, 20), "block": "bottleneck"},
    "a narrow middle": {"depths": (1, 1, 2), "widths": (8, 8, 4)},
}
SIZES = {
    **{name: {"inputs": (3, 37, 50), "outputs": 7, **sizes} for name, sizes in TINY.items()},
    "18": ResNetConfig.published("18", inputs=(3, 64, 64), outputs=1000).model_dump(),
    "50": ResNetConfig.published("50", inputs=(3, 64, 64), outputs=1000).model_dump(),
}


def drawn(model, seed=0):
    """Every parameter and every statistic drawn at random, so that none can be lost unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if "num_batches" in name:
                tensor.fill_(5)
            elif "running_var" in name or (tensor.dim() == 1 and "weight" in name):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.dim() == 1:
                tensor.normal_(0, 0.1, generator=generator)
    return model


def theirs_of(config, seed=0):
    # Theirs fill in two classes unless they are told how many.
    table = {**resnet.config_to(config), "num_labels": config.outputs}
    torch.manual_seed(seed)
    return drawn(transformers.ResNetForImageClassification(transformers.ResNetConfig(**table)))


def pictures(config, layout=torch.contiguous_format):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3, *config.inputs, generator=generator).to(memory_format=layout)


@pytest.mark.parametrize("name", SIZES)
def test_a_folder_written_by_transformers_gives_the_same_logits(name, tmp_path):
    config = ResNetConfig.read(SIZES[name])
    theirs = theirs_of(config).eval()
    theirs.save_pretrained(tmp_path)
    found = read_folder(tmp_path)
    assert found.config.table() == config.table()
    ours, inputs = found.model(), pictures(config)
    with torch.no_grad():
        torch.testing.assert_close(ours(inputs), theirs(inputs).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", SIZES)
def test_transformers_loads_what_we_export_and_gives_the_same_logits(name, tmp_path):
    config = ResNetConfig.read(SIZES[name])
    ours = drawn(ResNet(config)).eval()
    export(tmp_path / "out", ours)
    theirs, report = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not any(report.values()), report
    assert type(theirs).__name__ == "ResNetForImageClassification"
    assert not theirs.training
    inputs = pictures(config)
    with torch.no_grad():
        torch.testing.assert_close(theirs(inputs).logits, ours(inputs), rtol=1e-5, atol=1e-5)
    assert read_folder(tmp_path / "out").config == config
    again = read_folder(tmp_path / "out").state
    assert again.keys() == ours.state_dict().keys()
    for key, tensor in ours.state_dict().items():
        torch.testing.assert_close(again[key], tensor, rtol=0, atol=0)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("name", ["basic", "bottleneck", "18"])
def test_one_step_of_training_is_the_same(name, layout):
    """Loss, every gradient, every parameter after a step of SGD, every statistic of every norm."""
    config = ResNetConfig.read(SIZES[name])
    theirs = theirs_of(config).train()
    ours = ResNet(config).train()
    ours.load_state_dict(resnet.state_from(theirs.state_dict(), config, "transformers"))
    theirs, ours = theirs.to(memory_format=layout), ours.to(memory_format=layout)
    inputs, targets = pictures(config, layout), torch.tensor([0, 6, 3])
    for model in (ours, theirs):
        logits = model(inputs)
        loss = F.cross_entropy(logits if model is ours else logits.logits, targets)
        loss.backward()
    gradients = [{n: p.grad for n, p in model.named_parameters()} for model in (ours, theirs)]
    translated = resnet.state_to(gradients[0])
    assert translated.keys() == gradients[1].keys()
    for key, value in gradients[1].items():
        torch.testing.assert_close(translated[key], value, msg=lambda text, key=key: f"{key}: {text}")
    for model in (ours, theirs):
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    after = resnet.state_to(ours.state_dict())
    assert after.keys() == theirs.state_dict().keys()
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(after[key], value, msg=lambda text, key=key: f"{key}: {text}")
    assert after["resnet.embedder.embedder.normalization.num_batches_tracked"] == 6


def test_the_count_of_batches_may_be_missing(tmp_path):
    config = ResNetConfig.read(SIZES["basic"])
    theirs = {k: v for k, v in theirs_of(config).state_dict().items() if "num_batches" not in k}
    state = resnet.state_from(theirs, config, "here")
    counts = {key: value for key, value in state.items() if key.endswith("num_batches_tracked")}
    assert counts
    assert all(value.item() == 0 and value.dtype == torch.int64 for value in counts.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"preactivation": True},
        {"stem": "small"},
        {"shortcut": "padded"},
    ],
    ids=str,
)
def test_variants_that_transformers_lacks_are_exported_as_ours(changes, tmp_path):
    config = ResNetConfig.read({**SIZES["basic"], **changes})
    assert of(config) is None
    ours = drawn(ResNet(config)).eval()
    export(tmp_path / "out", ours)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "descent"
    inputs = pictures(config)
    with torch.no_grad():
        torch.testing.assert_close(read_folder(tmp_path / "out").model()(inputs), ours(inputs))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_dtype_is_kept(dtype, tmp_path):
    config = ResNetConfig.read(SIZES["basic"])
    export(tmp_path / "out", ResNet(config).to(dtype))
    again = read_folder(tmp_path / "out").model()
    assert {t.dtype for t in again.state_dict().values() if t.is_floating_point()} == {dtype}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == str(dtype)[6:]
