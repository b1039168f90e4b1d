"""The recurrent model: its assemblies, padding and documents, its state as a cache, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.rnn import RNN, RNNConfig
from descent.nn.cells import GATES
from descent.nn.recurrent import Recurrent

B, T, F, VOCAB = 3, 9, 4, 11
LENGTHS = torch.tensor([9, 2, 6])
POOLS = ["none", "last", "mean", "max"]

each_cell = pytest.mark.parametrize("cell", GATES)
each_way = pytest.mark.parametrize("both", [False, True], ids=["forwards", "both ways"])


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(3)


def rnn(**changes: Any) -> RNN:
    """A small model of tokens in evaluation mode, every parameter drawn at random."""
    sizes: dict[str, Any] = {"depth": 2, "dim": 8, "vocab_size": VOCAB}
    if "inputs" in changes:
        sizes = {"depth": 2, "dim": 8, "outputs": 5}
    model = RNN(RNNConfig.read({**sizes, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    return model.eval()


def tokens(time: int = T) -> Tensor:
    return torch.randint(VOCAB, (B, time))


def test_the_parts_are_an_embedding_the_layers_and_a_linear_head():
    model, ids = rnn(cell="gru", embedding=6), tokens()
    assert model.tokens is not None
    assert model.head is not None
    library = nn.GRU(6, 8, 2, batch_first=True)
    library.load_state_dict(model.recurrent.state_dict())
    expected = model.head(library(model.tokens(ids))[0])
    assert_close(model(ids), expected)
    features = torch.randn(B, T, F)
    model = rnn(cell="lstm", inputs=[F], bidirectional=True, outputs=7)
    assert model.head is not None
    library = nn.LSTM(F, 8, 2, batch_first=True, bidirectional=True)
    library.load_state_dict(model.recurrent.state_dict())
    assert_close(model(features), model.head(library(features)[0]))
    assert model(features).shape == (B, T, 7)


def test_a_tied_head_is_the_embedding():
    model, ids = rnn(tied=True), tokens()
    assert model.head is None
    assert model.tokens is not None
    assert_close(model(ids), model.features(ids) @ model.tokens.weight.t())


def test_the_last_states_of_both_directions_are_pooled():
    model, x = rnn(inputs=[F], pool="last", bidirectional=True), torch.randn(B, T, F)
    hidden, state = model.recurrent(x)
    assert_close(model.features(x), torch.cat([hidden[:, -1, :8], hidden[:, 0, 8:]], dim=1))
    assert_close(model.features(x), torch.cat([state["hidden"][:, 2], state["hidden"][:, 3]], dim=1))


@each_way
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("kind", ["features", "tokens"])
def test_padding_never_matters(pool: str, both: bool, kind: str):
    model = rnn(pool=pool, bidirectional=both, **({"inputs": [F]} if kind == "features" else {}))
    x = torch.randn(B, T, F, requires_grad=True) if kind == "features" else tokens()
    found = model(x, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        alone = model(x[row : row + 1, :length])[0]
        assert_close(found[row, :length] if pool == "none" else found[row], alone)
        assert_close(alone, model(x[row : row + 1, :length], lengths=LENGTHS[row : row + 1])[0])
    if kind == "features":
        counted = found[1, :2] if pool == "none" else found[1]
        (by_inputs,) = torch.autograd.grad(counted.square().sum(), [x])
        assert by_inputs[1, :2].any(-1).all() or pool == "max"
        by_inputs[1, :2] = 0
        assert not by_inputs.any()


@each_cell
@each_way
def test_documents_that_share_a_row_are_as_if_padded_and_as_if_alone(cell: str, both: bool):
    model, ids = rnn(cell=cell, bidirectional=both), tokens()
    documents = torch.tensor([[0, 0, 0, 0, 1, 2, 2, 2, 2]] * B)
    together = model(ids, documents=documents)
    parts = ids.split([4, 1, 4], dim=1)
    assert_close(together, torch.cat([model(part) for part in parts], dim=1))
    padded = [nn.functional.pad(part, (0, T - part.shape[1])) for part in parts]
    shown = [
        model(row, lengths=torch.full((B,), part.shape[1]))[:, : part.shape[1]]
        for row, part in zip(padded, parts, strict=True)
    ]
    assert_close(together, torch.cat(shown, dim=1))


@each_cell
@each_way
def test_documents_never_see_each_other(cell: str, both: bool):
    model = rnn(cell=cell, bidirectional=both, inputs=[F])
    x = torch.randn(B, T, F, requires_grad=True)
    documents = torch.tensor([[0, 0, 0, 0, 1, 2, 2, 2, 2]] * B)
    found = model(x, documents=documents)
    for number in range(3):
        own = documents[0] == number
        (seen,) = torch.autograd.grad(found[:, own].square().sum(), [x], retain_graph=True)
        assert seen[:, own].any(-1).all()
        assert not seen[:, ~own].any()


@each_cell
@pytest.mark.parametrize("peephole", [False, True])
def test_token_by_token_equals_the_full_forward(cell: str, peephole: bool):
    if peephole and cell != "lstm":
        pytest.skip("peepholes belong to the LSTM")
    model, ids = rnn(cell=cell, peephole=peephole), tokens()
    whole = model(ids)
    for steps in ([1] * T, [5, 1, 1, 2], [T]):
        cache = model.new_cache(B)
        parts = [model(part, cache=cache) for part in ids.split(steps, dim=1)]
        assert_close(torch.cat(parts, dim=1), whole)
        assert cache.length == T
        names = ["hidden", "cell"] if cell == "lstm" else ["hidden"]
        assert {name: value.shape for name, value in cache.state.items()} == dict.fromkeys(names, (B, 2, 8))


@each_cell
@pytest.mark.parametrize("steps", [[T], [4, 1, 1, 3], [1] * T])
def test_rows_padded_on_the_left_are_as_if_alone(cell: str, steps: list[int]):
    model, ids = rnn(cell=cell), tokens()
    start = torch.tensor([0, 7, 3])
    cache = model.new_cache(B, start=start)
    found = torch.cat([model(part, cache=cache) for part in ids.split(steps, dim=1)], dim=1)
    for row in range(B):
        assert_close(found[row, start[row] :], model(ids[row : row + 1, start[row] :])[0])


def test_rows_of_a_cache_can_be_taken_and_repeated():
    model, ids = rnn(cell="lstm"), tokens()
    cache = model.new_cache(B, start=torch.tensor([0, 4, 2]))
    model(ids[:, :3], cache=cache)  # the second row has not begun yet
    rows = torch.tensor([1, 1, 2, 0])
    cache.reorder(rows)
    found = model(ids[rows, 3:], cache=cache)
    for place, row in enumerate(rows.tolist()):
        begins = [0, 4, 2][row]
        alone = model(ids[row : row + 1, begins:])[0]
        assert_close(found[place, max(0, begins - 3) :], alone[max(0, 3 - begins) :])


def test_a_cache_holds_one_document_a_row():
    model, ids = rnn(), tokens()
    for known in ({"documents": torch.zeros(B, T, dtype=torch.long)}, {"lengths": LENGTHS}):
        with pytest.raises(ValueError, match="a cache holds one document a row: give it alone"):
            model(ids, cache=model.new_cache(B), **known)


@pytest.mark.parametrize(
    "changes",
    [{"bidirectional": True}, {"pool": "last"}, {"pool": "mean"}, {"pool": "max", "bidirectional": True}],
)
def test_a_model_that_sees_what_comes_or_answers_once_has_no_state_to_go_on_from(changes: dict[str, Any]):
    with pytest.raises(UserError, match="only a model that reads forwards and answers every step") as error:
        rnn(**changes).new_cache(2)
    pool = changes.get("pool", "none")
    assert f"bidirectional={changes.get('bidirectional', False)}, pool={pool}" in str(error.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"inputs": [4, 4]}, "inputs is the shape of one step: one number, the features"),
        ({"inputs": [4], "vocab_size": 9}, "features (inputs) or tokens (vocab_size), not both"),
        ({"cell": "gru", "peephole": True}, "peepholes belong to the LSTM"),
        ({"cell": "tanh", "peephole": True}, "peepholes belong to the LSTM"),
        ({"tied": True, "embedding": 5}, "a tied head needs embeddings as wide as the hidden state"),
        ({"tied": True, "bidirectional": True}, "a tied head needs embeddings as wide"),
        ({"tied": True, "inputs": [8], "dim": 8, "outputs": 3}, "a tied head is the token embedding"),
        ({"tied": True, "outputs": 3, "vocab_size": 9}, "leave inputs and outputs empty"),
        ({"cell": "rnn"}, "cell"),
        ({"dim": 0}, "dim"),
        ({"depth": 0}, "depth"),
        ({"dropout": 1.0}, "dropout"),
        ({"inputs": [0]}, "inputs"),
        ({"pool": "first"}, "pool"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], why: str):
    with pytest.raises(UserError) as error:
        RNNConfig.read(changes, where="model")
    assert why in str(error.value)


@pytest.mark.parametrize(("changes", "missing"), [({}, "vocab_size"), ({"inputs": [4]}, "outputs")])
def test_sizes_left_to_the_data_must_be_filled(changes: dict[str, Any], missing: str):
    with pytest.raises(UserError, match=f"the sizes of the rnn model are not complete: {missing}"):
        RNN(RNNConfig.read(changes))


def test_forget_gates_start_with_their_bias_and_dropout_is_outside_the_recurrence():
    model = RNN(RNNConfig(vocab_size=VOCAB, dim=8, forget_bias=2.0, dropout=0.5))
    assert_close(model.recurrent.bias_ih_l1[8:16], torch.full((8,), 2.0))
    assert model.recurrent.dropout == 0.5
    ids = tokens()
    assert not torch.equal(model(ids), model(ids))
    assert torch.equal(model.eval()(ids), model(ids))
    assert model.head is not None
    assert not model.head.bias.any()


def test_a_layer_of_the_library_loads_into_a_model_and_back():
    library = nn.LSTM(6, 8, 2, batch_first=True)
    model = rnn(cell="lstm", embedding=6)
    assert isinstance(model.recurrent, Recurrent)
    model.recurrent.load_state_dict(library.state_dict())
    other = nn.LSTM(6, 8, 2, batch_first=True)
    other.load_state_dict(model.recurrent.state_dict())
    x = torch.randn(B, T, 6)
    assert torch.equal(library(x)[0], other(x)[0])
    assert_close(model.recurrent(x)[0], library(x)[0])
