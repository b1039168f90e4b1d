"""Every model passes the same battery (battery.py says on which specimens)."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from battery import BATCH, SPECIMENS, TIME, Specimen
from safetensors.torch import load_file, save_file
from torch import nn

from descent.errors import UserError
from descent.models import MODELS, build, config_class

each = pytest.mark.parametrize("specimen", SPECIMENS.values(), ids=SPECIMENS)
each_decoder = pytest.mark.parametrize(
    "specimen",
    [s for s in SPECIMENS.values() if s.decodes],
    ids=[name for name, s in SPECIMENS.items() if s.decodes],
)


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(5)


def test_every_model_has_a_specimen():
    assert {specimen.model for specimen in SPECIMENS.values()} == set(MODELS)


@each
def test_shape_and_type_are_those_it_claims(specimen: Specimen):
    model = specimen.build()
    out = model(*specimen.inputs())
    assert (out.shape, out.dtype) == (specimen.shape, torch.float32)
    assert out.isfinite().all()


@each
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_other_widths_agree(specimen: Specimen, dtype: torch.dtype):
    model, inputs = specimen.build(), specimen.inputs()
    expected = model(*inputs)
    tolerance = 1e-4 if dtype == torch.float64 else 0.05
    found = model.to(dtype)(*(x.to(dtype) if x.is_floating_point() else x for x in inputs)).float()
    torch.testing.assert_close(
        found, expected, rtol=tolerance, atol=tolerance * float(expected.detach().abs().max())
    )


@each
def test_autocast_agrees(specimen: Specimen):
    model, inputs = specimen.build(), specimen.inputs()
    expected = model(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        found = model(*inputs).float()
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05 * float(expected.detach().abs().max()))


@each
def test_every_parameter_gets_a_gradient(specimen: Specimen):
    model = specimen.build().train()
    model(*specimen.inputs()).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@each
def test_a_fresh_model_starts_sound(specimen: Specimen):
    model = build(config_class(specimen.model).read(specimen.sizes)).eval()
    out = model(*specimen.inputs())
    assert out.isfinite().all()
    if specimen.model == "gpt":  # no opinion yet: close to the uniform distribution
        uniform = torch.full_like(out, -math.log(out.shape[-1]))
        torch.testing.assert_close(out.log_softmax(-1), uniform, rtol=0, atol=1.0)


@each
def test_saved_and_loaded_gives_the_same_output(specimen: Specimen, tmp_path: Path):
    model, inputs = specimen.build(), specimen.inputs()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = specimen.build()
    assert not torch.equal(other(*inputs), model(*inputs))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(*inputs), model(*inputs))


@each
def test_a_config_survives_a_round_trip_and_builds_the_same_model(specimen: Specimen):
    kind = config_class(specimen.model)
    config = kind.read(specimen.sizes)
    again = kind.read(config.table())
    assert again == config
    drawn = []
    for source in (config, again):
        torch.manual_seed(1)
        drawn.append(build(source).state_dict())
    assert all(torch.equal(drawn[0][name], drawn[1][name]) for name in drawn[0])


@each
def test_a_batch_equals_its_rows(specimen: Specimen):
    model, inputs = specimen.build(), specimen.inputs()
    rows = torch.cat([model(*(x[row : row + 1] for x in inputs)) for row in range(BATCH)])
    torch.testing.assert_close(
        model(*inputs), rows, rtol=1e-5, atol=1e-5
    )  # sums over channels change their order


@each
def test_training_mode_differs_only_by_dropout_and_batch_norm(specimen: Specimen):
    model, inputs = specimen.build(), specimen.inputs()
    expected = model(*inputs)
    same = torch.equal(model.train()(*inputs), expected)
    normed = any(isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)) for module in model.modules())
    assert same == (getattr(model.config, "dropout", 0.0) == 0.0 and not normed)


@each_decoder
@pytest.mark.parametrize("steps", [[3, 1, 1, 2], [1] * TIME, [TIME]])
def test_cached_equals_full(specimen: Specimen, steps: list[int]):
    model, (tokens,) = specimen.build(), specimen.inputs()
    cache = model.new_cache(BATCH)
    parts = [model(part, cache=cache) for part in tokens.split(steps, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(tokens))
    assert cache.length == TIME


@each_decoder
def test_left_padded_rows_equal_rows_alone(specimen: Specimen):
    model, (tokens,) = specimen.build(), specimen.inputs()
    start = torch.tensor([0, 3, 5])
    cache = model.new_cache(BATCH, start=start)
    found = torch.cat([model(part, cache=cache) for part in tokens.split([4, 1, 2], dim=1)], dim=1)
    for row in range(BATCH):
        alone = model(tokens[row : row + 1, start[row] :])
        torch.testing.assert_close(found[row : row + 1, start[row] :], alone)


@each_decoder
def test_packed_documents_equal_rows_alone(specimen: Specimen):
    model, (tokens,) = specimen.build(), specimen.inputs()
    documents = torch.tensor([[0, 0, 0, 1, 1, 1, 1]] * BATCH)
    alone = torch.cat((model(tokens[:, :3]), model(tokens[:, 3:])), dim=1)
    torch.testing.assert_close(model(tokens, documents=documents), alone)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3]] * BATCH)
    torch.testing.assert_close(model(tokens, documents=documents, positions=positions), alone)


@each_decoder
def test_the_future_changes_nothing_before_it(specimen: Specimen):
    model, (tokens,) = specimen.build(), specimen.inputs()
    changed = tokens.clone()
    changed[:, 4] = (changed[:, 4] + 1) % 11
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert (before[:, 4:] != after[:, 4:]).any(-1).all()


@pytest.mark.parametrize("name", MODELS)
def test_sizes_left_to_the_data_must_be_filled(name: str):
    with pytest.raises(UserError, match=f"the sizes of the {name} model are not complete"):
        build(config_class(name)())


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(UserError, match="no model is called 'lenett'") as error:
        config_class("lenett")
    assert "did you mean 'lenet'" in str(error.value)
