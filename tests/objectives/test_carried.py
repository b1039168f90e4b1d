"""A state carried from batch to batch: the loss is that of one long forward, the gradient stops between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from descent.data.batches import Batches
from descent.data.lanes import LaneSplit
from descent.errors import UserError
from descent.models.gpt import GPT, GPTConfig
from descent.models.rnn import RNN, RNNConfig
from descent.objectives import Causal, CausalConfig, Phase
from descent.objectives.causal import Carried
from descent.training.loop import Settings, check
from descent.training.state import State

VOCABULARY, LANES, TIME = 13, 3, 5
PHASE = Phase()

each_cell = pytest.mark.parametrize("cell", ["tanh", "lstm", "gru"])


def rnn(cell: str = "lstm", **changes: Any) -> RNN:
    torch.manual_seed(0)
    config = {"cell": cell, "depth": 2, "dim": 8, "vocab_size": VOCABULARY, **changes}
    model = RNN(RNNConfig.read(config))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model


def lanes(tokens: int = 200) -> Batches:
    ids = np.random.default_rng(0).integers(0, VOCABULARY, tokens)
    return Batches(LaneSplit(ids, TIME, LANES), LANES, seed=1)


def losses_of(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="mean")


@each_cell
@pytest.mark.parametrize("chunk", [0, 4])
def test_the_losses_are_those_of_one_long_forward(cell: str, chunk: int) -> None:
    model, batches = rnn(cell), lanes()
    objective = Causal(CausalConfig(chunk=chunk))
    objective.memory(model, LANES)
    pieces = [batches.batch(step) for step in range(6)]
    with torch.no_grad():
        found = [objective.loss(model, PHASE, piece) for piece in pieces]
        whole = model(torch.cat([piece["tokens"] for piece in pieces], 1)).split(TIME, dim=1)
    for loss, logits, piece in zip(found, whole, pieces, strict=True):
        assert_close(loss, losses_of(logits, piece["targets"]))


@each_cell
def test_the_gradient_is_that_of_a_piece_from_a_state_that_is_held(cell: str) -> None:
    model, batches = rnn(cell), lanes()
    objective = Causal()
    memory = objective.memory(model, LANES)
    before = [batches.batch(step) for step in range(3)]
    for piece in before:
        objective.loss(model, PHASE, piece).backward()
    with torch.no_grad():
        cache = model.new_cache(LANES)
        model(torch.cat([piece["tokens"] for piece in before], 1), cache=cache)
    assert {k: v.shape for k, v in memory.items()} == dict.fromkeys(memory, (LANES, 2, 8))
    for name, value in cache.state.items():
        assert_close(memory[name], value)
        assert not memory[name].requires_grad
    piece = batches.batch(3)
    model.zero_grad()
    objective.loss(model, PHASE, piece).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    losses_of(model(piece["tokens"], cache=cache), piece["targets"]).backward()
    for name, parameter in model.named_parameters():
        assert_close(found[name], parameter.grad, msg=lambda text, name=name: f"{name}: {text}")


def test_only_rows_that_go_on_keep_their_state() -> None:
    model, batches = rnn(), lanes()
    objective = Causal()
    objective.memory(model, LANES)
    first, second = batches.batch(0), batches.batch(1)
    second["carried"] = torch.tensor([True, False, True])
    with torch.no_grad():
        objective.loss(model, PHASE, first)
        loss = objective.loss(model, PHASE, second)
        on = model(torch.cat([first["tokens"], second["tokens"]], 1))[:, TIME:]
        logits = torch.where(second["carried"][:, None, None], on, model(second["tokens"]))
    assert_close(loss, losses_of(logits, second["targets"]))


def test_an_epoch_begins_from_nothing() -> None:
    model, batches = rnn(), lanes()
    objective = Causal()
    memory = objective.memory(model, LANES)
    pieces = len(batches.split) // LANES
    with torch.no_grad():
        for step in range(pieces):
            objective.loss(model, PHASE, batches.batch(step))
        assert all(value.any() for value in memory.values())
        piece = batches.batch(pieces)
        assert_close(objective.loss(model, PHASE, piece), losses_of(model(piece["tokens"]), piece["targets"]))


def test_without_lanes_nothing_is_remembered() -> None:
    model, batches = rnn(), lanes()
    objective = Causal()
    assert objective.memory(model, 0) == {}
    assert objective.splittable
    piece = batches.batch(1)
    with torch.no_grad():
        found = [objective.loss(model, PHASE, piece) for _ in range(2)]
    assert_close(found[0], losses_of(model(piece["tokens"]), piece["targets"]))
    assert torch.equal(found[0], found[1])


def test_the_memory_is_the_very_tensors_that_a_checkpoint_fills() -> None:
    model, batches = rnn(), lanes()
    objective = Causal()
    memory = objective.memory(model, LANES)
    assert memory["hidden"].data_ptr() != memory["cell"].data_ptr()
    torch.manual_seed(4)
    for value in memory.values():
        value.copy_(torch.randn_like(value))
    cache = model.new_cache(LANES)
    cache.state = {name: value.clone() for name, value in memory.items()}
    piece = batches.batch(1)
    with torch.no_grad():
        expected = losses_of(model(piece["tokens"], cache=cache), piece["targets"])
        assert_close(objective.loss(model, PHASE, piece), expected)
    assert all(torch.equal(memory[name], cache.state[name]) for name in memory)


def test_parts_of_a_batch_are_no_parts_of_the_lanes() -> None:
    model, objective = rnn(), Causal()
    state = State(model, {"train": [torch.optim.SGD(model.parameters(), lr=0.1)]})
    check(state, objective, Settings(steps=1, accumulate=2))
    state.memory = objective.memory(model, LANES)
    with pytest.raises(UserError, match="cannot be accumulated"):
        check(state, objective, Settings(steps=1, accumulate=2))


def test_a_model_without_a_state_is_refused() -> None:
    gpt = GPT(GPTConfig(depth=1, dim=16, heads=2, context=8, vocab_size=VOCABULARY))
    with pytest.raises(UserError, match="only a recurrent model carries its state") as error:
        Causal().memory(gpt, LANES)
    assert "data.packing=lanes with a gpt" in str(error.value)
    with pytest.raises(UserError, match="only a model that reads forwards"):
        Carried(rnn(bidirectional=True), LANES)
