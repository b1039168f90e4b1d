"""The masked objective: the mean over hidden tokens alone, whatever way rows are laid out."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from descent.data.dataset import IGNORED, Batch
from descent.data.rows import Row, lay_out
from descent.models.bert import BERT, BERTConfig
from descent.objectives import Masked, MaskedConfig, build_objective, model_inputs
from descent.objectives.objective import Phase

PHASE = Phase()


def model(head: str = "masked", **options: Any) -> BERT:
    torch.manual_seed(0)
    config = {"depth": 2, "dim": 12, "heads": 2, "vocab_size": 37, "dropout": 0.0, **options}
    found = BERT(BERTConfig(head=head, **config))  # type: ignore[arg-type]
    for parameter in found.parameters():  # a new head is all alike
        torch.nn.init.normal_(parameter, std=0.3)
    return found


def rows(count: int = 9) -> list[Row]:
    generator = torch.Generator().manual_seed(3)
    found: list[Row] = []
    for _ in range(count):
        size = int(torch.randint(5, 14, (1,), generator=generator))
        tokens = torch.randint(5, 37, (size,), generator=generator)
        targets = torch.where(torch.rand(size, generator=generator) < 0.4, tokens, IGNORED)
        segments = (torch.arange(size) > size // 2).long()
        found.append({"tokens": tokens.numpy(), "targets": targets.numpy(), "segments": segments.numpy()})
    return found


def batch(packed: bool = True, pairs: bool = False) -> Batch:
    examples = rows()
    found = lay_out(examples, 16, pad=0, packed=packed)
    if pairs:
        asked = [{"tokens": one["tokens"], "answer": one["tokens"][0] % 2} for one in examples]
        found["next_targets"] = lay_out(asked, 16, pad=0, packed=packed)["targets"]
    return found


def gradients(found: BERT) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in found.named_parameters() if p.grad is not None}


def test_the_loss_is_the_mean_over_the_hidden_tokens():
    held, twin, one = model(), model(), batch()
    loss = Masked().loss(held, PHASE, one)
    logits = twin(**model_inputs(one))
    wanted = F.cross_entropy(logits.flatten(0, 1), one["targets"].flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    wanted.backward()
    expected = gradients(twin)
    assert {"tokens.weight", "masked.bias"} <= set(expected)
    for name, gradient in gradients(held).items():
        torch.testing.assert_close(gradient, expected[name])
    assert Masked().targets(PHASE, one) == int((one["targets"] != IGNORED).sum())


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_chunks_change_nothing(chunk: int):
    held, twin, one = model(), model(), batch()
    objective = build_objective(MaskedConfig(chunk=chunk))
    loss, wanted = objective.loss(held, PHASE, one), Masked().loss(twin, PHASE, one)
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    wanted.backward()
    expected = gradients(twin)
    for name, gradient in gradients(held).items():
        torch.testing.assert_close(gradient, expected[name])


@pytest.mark.parametrize("position", ["rotary", "learned"])
@pytest.mark.parametrize("head", ["masked", "pretraining"])
def test_packed_rows_are_padded_rows(head: str, position: str):
    held, twin = model(head, position=position), model(head, position=position)
    packed, padded = (batch(way, pairs=head == "pretraining") for way in (True, False))
    assert len(packed["tokens"]) < len(padded["tokens"])
    loss, wanted = Masked().loss(held, PHASE, packed), Masked().loss(twin, PHASE, padded)
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    wanted.backward()
    expected = gradients(twin)
    assert set(gradients(held)) == set(expected)
    for name, gradient in gradients(held).items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-5, rtol=1e-4)


def test_the_loss_of_pairs_is_added():
    held, one = model("pretraining"), batch(pairs=True)
    loss = Masked().loss(held, PHASE, one)
    logits, follows = held(**model_inputs(one))
    tokens = F.cross_entropy(logits.flatten(0, 1), one["targets"].flatten(), ignore_index=IGNORED)
    answers = F.cross_entropy(follows.flatten(0, 1), one["next_targets"].flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(loss, tokens + answers)
    loss.backward()
    assert all(name in gradients(held) for name in ("next.weight", "pooler.weight"))


def test_pairs_cannot_be_split_and_masks_alone_can():
    for head, splittable in (("masked", True), ("pretraining", False)):
        objective = Masked()
        assert objective.memory(model(head), 0) == {}
        assert objective.splittable == splittable


def test_parts_make_the_whole():
    held, one, objective = model(), batch(), Masked()
    total = 0.0
    objective.memory(held, 0)
    for part in (
        {name: value[:2] for name, value in one.items()},
        {name: value[2:] for name, value in one.items()},
    ):
        total += objective.loss(held, PHASE, part).item() * objective.targets(PHASE, part)
    wanted = objective.loss(held, PHASE, one).item() * objective.targets(PHASE, one)
    assert total == pytest.approx(wanted, rel=1e-5)


def test_a_batch_without_hidden_tokens():
    held, one = model(), batch()
    one["targets"] = torch.full_like(one["targets"], IGNORED)
    loss = Masked().loss(held, PHASE, one)
    assert loss.item() == 0.0
    loss.backward()


def test_documents_of_a_row_do_not_see_each_other():
    held, one = model(), batch()
    states: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, inputs: object, output: Any) -> None:
        states.append(output)

    held.tokens.register_forward_hook(keep)
    one["targets"][one["documents"] != 0] = IGNORED
    loss = Masked().loss(held, PHASE, one)
    (gradient,) = torch.autograd.grad(loss, states[0])
    other = one["documents"] != 0
    assert gradient[other].abs().max() == 0
    assert gradient[~other].abs().max() > 0
