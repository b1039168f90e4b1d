"""Rules read in both directions: several numbers, numbers counted from 1, parts joined, tensors left out."""

import pytest
import torch

from descent.errors import UserError
from descent.models.resnet import ResNetConfig
from descent.models.vit import ViTConfig
from descent.weights.keymap import KeyMap, Rule, model_shapes

KEYS = KeyMap(
    [
        Rule("stage{n+1}.{m}.conv{k+1}.w", "stages.{n}.{m}.layers.{k}.weight"),
        Rule(("b{n}.query", "b{n}.key", "b{n}.value"), "blocks.{n}.qkv"),
        Rule(("b{n}.up", "b{n}.gate"), "blocks.{n}.wide", transpose=True),
        Rule("new.{n}", "norm.{n}"),
        Rule("old.{n}", "norm.{n}"),
        Rule("count.{n}", "counts.{n}", absent=torch.int64),
        Rule("mask", None),
    ]
)
SHAPES = {
    "stages.0.2.layers.1.weight": (2, 3),
    "stages.12.0.layers.0.weight": (3,),
    "blocks.7.qkv": (6, 5),
    "blocks.7.wide": (4, 3),
    "norm.0": (2,),
    "counts.0": (),
}


def ours():
    generator = torch.Generator().manual_seed(0)
    numbers = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    return {**numbers, "counts.0": torch.tensor(9)}


def test_names_and_layouts():
    state = ours()
    theirs = KEYS.to_theirs(state)
    assert {name: tuple(tensor.shape) for name, tensor in theirs.items()} == {
        "stage1.2.conv2.w": (2, 3),
        "stage13.0.conv1.w": (3,),
        "b7.query": (2, 5),
        "b7.key": (2, 5),
        "b7.value": (2, 5),
        "b7.up": (3, 2),
        "b7.gate": (3, 2),
        "new.0": (2,),
        "count.0": (),
    }
    torch.testing.assert_close(theirs["b7.key"], state["blocks.7.qkv"][2:4], rtol=0, atol=0)
    torch.testing.assert_close(theirs["b7.gate"], state["blocks.7.wide"][2:].T, rtol=0, atol=0)


def test_there_and_back_is_bit_identical_whatever_the_order():
    state = ours()
    theirs = KEYS.to_theirs(state)
    back = KEYS.to_ours(dict(reversed(theirs.items())), SHAPES, "here")
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(back[name], tensor, rtol=0, atol=0)
    assert all(tensor.is_contiguous() for tensor in back.values())


def test_what_a_file_may_lack_or_name_otherwise():
    theirs = KEYS.to_theirs(ours())
    theirs["old.0"] = theirs.pop("new.0")
    del theirs["count.0"]
    back = KEYS.to_ours({**theirs, "mask": torch.ones(3)}, SHAPES, "here")
    torch.testing.assert_close(back["norm.0"], ours()["norm.0"], rtol=0, atol=0)
    assert back["counts.0"].dtype == torch.int64
    assert back["counts.0"].item() == 0


def test_every_difference_is_named_at_once():
    theirs = KEYS.to_theirs(ours())
    del theirs["b7.key"], theirs["stage1.2.conv2.w"]
    theirs |= {
        "stage0.2.conv2.w": torch.zeros(2, 3),
        "stage1.02.conv2.w": torch.zeros(2, 3),
        "stage1.9.conv1.w": torch.zeros(2, 3),
        "b7.query": torch.zeros(6, 5),
        "b7.up": torch.zeros(2, 3),
        "old.0": torch.zeros(2),
    }
    with pytest.raises(UserError) as error:
        KEYS.to_ours(theirs, SHAPES, "FILE")
    assert str(error.value).splitlines() == [
        "FILE does not fit the model: 8 differences",
        "  b7.key: missing",
        "  b7.query: 6x5, expected 2x5",
        "  b7.up: 2x3, expected 3x2",
        "  old.0: stands there twice, also as new.0",
        "  stage0.2.conv2.w: not expected",
        "  stage1.02.conv2.w: not expected",
        "  stage1.2.conv2.w: missing",
        "  stage1.9.conv1.w: not expected (the model has no stages.0.9.layers.0.weight)",
    ]


def test_a_long_list_of_differences_is_cut():
    with pytest.raises(UserError) as error:
        KEYS.to_ours({f"x{number}": torch.zeros(1) for number in range(100)}, {}, "FILE")
    lines = str(error.value).splitlines()
    assert lines[0].endswith("100 differences")
    assert lines[-1] == "  ... and 80 more"
    assert len(lines) == 22


def test_a_name_of_ours_without_a_rule_is_refused():
    with pytest.raises(UserError, match=r"the model does not fit.*\n  other: no published name is known"):
        KEYS.to_theirs({"other": torch.zeros(1)})


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (ResNetConfig(inputs=(3, 8, 8), outputs=2, depths=(10**9, 1), widths=(4, 8)), "1,000,000,001 layers"),
        (ViTConfig(inputs=(3, 16, 16), outputs=2, depth=10**12), "1,000,000,000,000 layers"),
        (ViTConfig(inputs=(3, 16, 16), outputs=2, depth=1, dim=3 * 2**40), "sizes that no tensor can have"),
        (ResNetConfig(inputs=(3, 8, 8), outputs=2, depths=(1,), widths=(2**60,)), "no tensor can have"),
    ],
)
def test_a_hostile_configuration_is_refused_before_anything_is_allocated(config, words):
    with pytest.raises(UserError, match=words):
        model_shapes(config, {str(number): torch.zeros(1) for number in range(100)}, "here")
