"""Causal language modelling: chunks change neither loss nor gradients, and bound the logits held."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from descent.models.gpt import GPT, GPTConfig
from descent.objectives import Causal, CausalConfig, Phase
from descent.objectives.causal import causal_loss

VOCABULARY, ROWS, TIME = 37, 3, 11


def model(**changes: object) -> GPT:
    torch.manual_seed(0)
    values = {"depth": 1, "dim": 16, "heads": 2, "context": 16, "vocab_size": VOCABULARY, "zero_init": False}
    return GPT(GPTConfig.read({**values, **changes}))


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(VOCABULARY, (ROWS, TIME + 1), generator=generator)
    targets = tokens[:, 1:].clone()
    targets[0, :4] = -100
    return {"tokens": tokens[:, :-1], "targets": targets}


def gradients(network: GPT, chunk: int) -> tuple[Tensor, dict[str, Tensor]]:
    network.zero_grad()
    loss = Causal(CausalConfig(chunk=chunk)).loss(network, Phase(), batch())
    loss.backward()
    return loss.detach(), {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def test_the_loss_is_the_mean_cross_entropy_of_the_targets_that_count() -> None:
    network, data = model(), batch()
    logits = network(data["tokens"]).flatten(0, 1)
    expected = torch.nn.functional.cross_entropy(logits, data["targets"].flatten())
    assert_close(Causal().loss(network, Phase(), data), expected)
    assert Causal().targets(Phase(), data) == ROWS * TIME - 4


@pytest.mark.parametrize("chunk", [1, 4, 5, 32])
@pytest.mark.parametrize(
    "changes", [{"tied": True, "softcap": 0.0}, {"tied": False, "softcap": 3.0}, {"bigram": True}]
)
def test_chunks_give_the_same_loss_and_gradients(chunk: int, changes: dict[str, object]) -> None:
    network = model(**changes)
    loss, whole = gradients(network, ROWS * TIME)
    found, parts = gradients(network, chunk)
    assert_close(found, loss)
    assert parts.keys() == whole.keys()
    for name, gradient in whole.items():
        assert_close(parts[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_chunks_under_autocast_stay_near() -> None:
    network = model()
    _, whole = gradients(network, ROWS * TIME)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = Causal(CausalConfig(chunk=5)).loss(network, Phase(), batch())
    network.zero_grad()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None
        largest = whole[name].abs().max()
        assert (parameter.grad - whole[name]).abs().max() <= 0.05 * largest + 1e-5, name


def test_no_more_than_a_chunk_of_logits_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = model(), []
    own = network.unembed

    def watched(hidden: Tensor) -> Tensor:
        seen.append(len(hidden))
        return own(hidden)

    monkeypatch.setattr(network, "unembed", watched)
    gradients(network, 4)
    with torch.no_grad():
        total, count = causal_loss(network, batch(), 4)
    assert max(seen) <= 4
    assert_close(total / count, gradients(network, ROWS * TIME)[0])


def test_a_frozen_head_gets_no_gradient() -> None:
    network = model(tied=False)
    assert network.head is not None
    network.head.weight.requires_grad_(False)
    _, found = gradients(network, 4)
    assert "head.weight" not in found
    assert "tokens.weight" in found


def test_documents_reach_the_model() -> None:
    network, data = model(), batch()
    documents = torch.zeros(ROWS, TIME, dtype=torch.long)
    documents[:, 5:] = 1
    with torch.no_grad():
        apart = Causal().loss(network, Phase(), {**data, "documents": documents})
        together = Causal().loss(network, Phase(), data)
    assert (apart - together).abs() > 1e-6
