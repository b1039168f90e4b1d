"""Probes give what a layer computed; every method leaves the model as it was."""

from __future__ import annotations

import pytest
import torch
from explain_toys import Toy, assert_as_before, condition, images, small_vit
from torch.nn import functional as F

from descent import explain
from descent.errors import UserError
from descent.explain.attribution import score

METHODS = {
    **explain.ATTRIBUTIONS,
    "features": lambda model, inputs: explain.feature_maps(model, inputs),
    "attention_maps": lambda model, inputs: explain.attention_maps(model, inputs),
    "layers": lambda model, inputs: explain.layers(model, inputs),
    "maximise": lambda model, inputs: explain.maximise(model, [0, 1], steps=2),
    "filters": lambda model, inputs: explain.filters(model),
    "sanity": lambda model, inputs: explain.sanity_check(model, inputs, explain.saliency, points=2),
}
OF_TOKENS = ("attention", "rollout", "attention_maps")


def test_a_probe_gives_the_activation_and_its_graph():
    model, x = Toy().eval(), images()
    with explain.probe(model, ["norm", "second"]) as seen:
        outputs = model(x)
    torch.testing.assert_close(seen["norm"], model.norm(model.first(x)), rtol=0, atol=0)
    torch.testing.assert_close(outputs, model.head(F.relu(seen["second"]).mean((2, 3))), rtol=0, atol=0)
    assert seen["second"].requires_grad


def test_a_probe_is_gone_after_an_error():
    model = Toy()
    before = condition(model)
    with pytest.raises(RuntimeError), explain.probe(model, ["first"]):
        model(torch.zeros(1, 7, 8, 9))
    assert_as_before(model, before)


def test_a_wrong_layer_is_answered_with_the_nearest():
    with (
        pytest.raises(UserError, match=r"no layer is called 'secnd'") as caught,
        explain.probe(Toy(), ["secnd"]),
    ):
        pass
    assert "one such as second" in str(caught.value)
    assert "--list" in str(caught.value)


def test_layers_are_listed_with_their_shapes():
    found = [(layer.name, layer.kind, layer.shape) for layer in explain.layers(Toy(), images())]
    assert found == [
        ("first", "Conv2d", (5, 8, 9)),
        ("norm", "BatchNorm2d", (5, 8, 9)),
        ("second", "Conv2d", (4, 4, 4)),
        ("head", "Linear", (3,)),
    ]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_leaves_the_model_as_it_was(name):
    """In training mode but for one part, one parameter frozen, one with a gradient: all of it stays."""
    model, x = (small_vit(), images(2, (3, 12, 8))) if name in OF_TOKENS else (Toy(), images(2))
    model.train()
    last = list(model.children())[-1].eval()
    first, *_, final = model.parameters()
    first.requires_grad_(False)
    final.grad = torch.ones_like(final)
    before, kept = condition(model), x.clone()
    METHODS[name](model, x)
    assert_as_before(model, before)
    assert last.training is False
    torch.testing.assert_close(x, kept, rtol=0, atol=0)
    assert not x.requires_grad


@pytest.mark.parametrize("name", ["saliency", "gradcam", "occlusion", "integrated-gradients"])
def test_the_model_comes_back_after_an_error_and_from_inference_mode(name):
    model, x = Toy().train(), images(2)
    before = condition(model)
    with pytest.raises(UserError, match="no such class"):
        METHODS[name](model, x, 3)
    assert_as_before(model, before)
    expected = METHODS[name](model, x).maps
    with torch.inference_mode():
        found = METHODS[name](model, x).maps
    with torch.no_grad():
        torch.testing.assert_close(METHODS[name](model, x).maps, expected)
    torch.testing.assert_close(found.clone(), expected)


def test_autocast_outside_changes_nothing():
    model, x = Toy(), images(2)
    expected = explain.saliency(model, x).values
    with torch.autocast("cpu", torch.bfloat16):
        found = explain.saliency(model, x).values
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_targets_are_one_for_all_or_one_each():
    model, x = Toy(), images(3)
    one = explain.saliency(model, x, 2)
    each = explain.saliency(model, x, [2, 0, 1])
    assert one.target.tolist() == [2, 2, 2]
    torch.testing.assert_close(each.maps[0], one.maps[0])
    torch.testing.assert_close(each.maps[1], explain.saliency(model, x, 0).maps[1])
    assert explain.saliency(model, x).target.tolist() == Toy().eval()(x).argmax(1).tolist()
    with pytest.raises(UserError, match="targets do not fit"):
        explain.saliency(model, x, [0, 1])


def test_one_output_is_the_logit_of_the_second_of_two_classes():
    outputs, target = torch.tensor([[2.0], [-3.0]]), torch.tensor([0, 1])
    assert score(outputs, target).tolist() == [-2.0, -3.0]
    model, x = Toy(outputs=1), images(2)
    with torch.no_grad():
        assert explain.saliency(model, x).target.tolist() == (model.eval()(x)[:, 0] > 0).long().tolist()
    found = [explain.saliency(model, x, target).values for target in (0, 1)]
    torch.testing.assert_close(found[0], -found[1])
