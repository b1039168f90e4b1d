"""The encoder-decoder against its equations written out row by row, padding, gradients and refusals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.seq2seq import Seq2Seq, Seq2SeqConfig

VOCAB, DIM, WIDTH = 11, 8, 6
LENGTHS = [7, 1, 4]
KINDS = [
    {"attention": attention, "cell": cell, **more}
    for attention, more in (
        ("bahdanau", {}),
        ("luong", {}),
        ("luong", {"score": "dot"}),
        ("none", {}),
    )
    for cell in ("lstm", "gru")
]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: "-".join(kind.values()))


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(3)


def drawn(**changes: object) -> Seq2Seq:
    """A small model in evaluation mode, every parameter drawn at random."""
    sizes = {"vocab_size": VOCAB, "dim": DIM, "embedding": WIDTH, "depth": 2}
    model = Seq2Seq(Seq2SeqConfig.read({**sizes, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model.eval()


def batch() -> dict[str, Tensor]:
    """Three rows, padded with tokens that could be taken for real ones."""
    return {
        "source": torch.randint(VOCAB, (3, max(LENGTHS))),
        "source_lengths": torch.tensor(LENGTHS),
        "tokens": torch.randint(VOCAB, (3, 5)),
    }


def row(data: dict[str, Tensor], number: int) -> dict[str, Tensor]:
    """One row without its padding."""
    length = LENGTHS[number]
    found = {name: tensor[number : number + 1] for name, tensor in data.items()}
    return {**found, "source": found["source"][:, :length]}


def encoded_by_torch(model: Seq2Seq, source: Tensor) -> tuple[Tensor, list[tuple[Tensor, ...]]]:
    """The annotations of one source, and (hidden[, cell]) of each layer, by the library's layers."""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}[model.config.cell]
    layers = kind(WIDTH, DIM // 2, num_layers=2, bidirectional=True, batch_first=True)
    layers.load_state_dict(model.encoder.state_dict())
    annotations, ends = layers(model.tokens(source))
    ends = ends if isinstance(ends, tuple) else (ends,)
    return annotations[0], [
        tuple(end[2 * layer : 2 * layer + 2].reshape(1, DIM) for end in ends) for layer in (0, 1)
    ]


def cells_by_torch(model: Seq2Seq) -> list[nn.Module]:
    kind = {"lstm": nn.LSTMCell, "gru": nn.GRUCell}[model.config.cell]
    held, made = model.decoder.state_dict(), []
    for layer in (0, 1):
        weights = {
            name.removesuffix(f"_l{layer}"): held[name] for name in held if name.endswith(f"_l{layer}")
        }
        made.append(kind(weights["weight_ih"].shape[1], DIM))
        made[-1].load_state_dict(weights)
    return made


def by_hand(model: Seq2Seq, source: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and attention of one row, by the equations of the papers, a step and a layer at a time."""
    annotations_SD, state = encoded_by_torch(model, source)
    cells, kind, fed = cells_by_torch(model), model.config.attention, torch.zeros(1, DIM)
    held = model.state_dict()

    def look(asking: Tensor) -> tuple[Tensor, Tensor]:
        scores = []
        for h in annotations_SD:
            if kind == "bahdanau":
                key = held["attention.key.weight"] @ h + held["attention.key.bias"]
                inner = torch.tanh(held["attention.query.weight"] @ asking[0] + key)
                scores.append(held["attention.score.weight"][0] @ inner)
            else:
                general = model.config.score == "general"
                scores.append(asking[0] @ (held["attention.key.weight"] @ h if general else h))
        weights = torch.stack(scores).exp() / torch.stack(scores).exp().sum()
        return (weights[:, None] * annotations_SD).sum(0, keepdim=True), weights

    logits, looked = [], []
    for token in tokens[0]:
        y = model.tokens.weight[token][None]
        context, weights = look(state[-1][0]) if kind == "bahdanau" else (torch.zeros(1, DIM), None)
        x = {"bahdanau": [y, context], "luong": [y, fed], "none": [y]}[kind]
        x = torch.cat(x, dim=1)
        for layer, cell in enumerate(cells):
            after = cell(x, state[layer] if len(state[layer]) > 1 else state[layer][0])
            state[layer] = after if isinstance(after, tuple) else (after,)
            x = state[layer][0]
        if kind == "luong":
            context, weights = look(x)
        if kind != "none":
            gathered = [x, context, y] if kind == "bahdanau" else [context, x]
            x = torch.tanh(torch.cat(gathered, 1) @ held["readout.weight"].T + held["readout.bias"])
        fed = x
        logits.append(x @ held["head.weight"].T + held["head.bias"])
        looked.append(weights if weights is not None else torch.zeros(0))
    return torch.cat(logits)[None], torch.stack(looked)[None]


@each_kind
def test_a_row_equals_the_equations_and_the_librarys_cells(kind: dict[str, str]):
    model, data = drawn(**kind), batch()
    for number in range(3):
        alone = row(data, number)
        logits, weights = by_hand(model, alone["source"], alone["tokens"])
        assert_close(model(**alone), logits)
        if kind["attention"] != "none":
            assert_close(model.attention_weights(**alone), weights)


@each_kind
def test_padding_never_matters(kind: dict[str, str]):
    model, data = drawn(**kind), batch()
    together = model(**data)
    assert together.shape == (3, 5, VOCAB)
    for number in range(3):
        assert_close(together[number : number + 1], model(**row(data, number)))
    behind = torch.arange(max(LENGTHS)) >= data["source_lengths"][:, None]
    other = {**data, "source": torch.where(behind, (data["source"] + 1) % VOCAB, data["source"])}
    assert torch.equal(model(**other), together)


@each_kind
def test_every_parameter_gets_a_gradient(kind: dict[str, str]):
    model = drawn(**kind, dropout=0.2).train()
    model(**batch()).square().sum().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@each_kind
def test_the_future_changes_nothing_before_it(kind: dict[str, str]):
    model, data = drawn(**kind), batch()
    changed = data["tokens"].clone()
    changed[:, 3] = (changed[:, 3] + 1) % VOCAB
    before, after = model(**data), model(**{**data, "tokens": changed})
    assert_close(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).any(-1).all()


@each_kind
def test_the_source_is_read_to_its_end_and_no_further(kind: dict[str, str]):
    model, data = drawn(**kind), batch()
    changed = data["source"].clone()
    last = data["source_lengths"] - 1
    changed[torch.arange(3), last] = (changed[torch.arange(3), last] + 1) % VOCAB
    assert (model(**data) != model(**{**data, "source": changed})).any(-1).all()


@pytest.mark.parametrize("attention", ["bahdanau", "luong"])
def test_attention_is_a_distribution_over_the_real_source(attention: str):
    model, data = drawn(attention=attention), batch()
    weights = model.attention_weights(**data)
    assert weights.shape == (3, 5, max(LENGTHS))
    assert_close(weights.sum(2), torch.ones(3, 5))
    behind = torch.arange(max(LENGTHS)) >= data["source_lengths"][:, None]
    assert not weights[behind[:, None].expand_as(weights)].any()
    assert (weights[~behind[:, None].expand_as(weights)] > 0).all()


def test_without_attention_there_are_no_weights():
    with pytest.raises(UserError, match="has no attention"):
        drawn(attention="none").attention_weights(**batch())


def test_dropout_is_only_for_training():
    model, data = drawn(dropout=0.5), batch()
    assert torch.equal(model(**data), model(**data))
    model.train()
    assert not torch.equal(model(**data), model(**data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 9}, "must be even"),
        ({"score": "dot"}, "belongs to attention=luong"),
        ({"attention": "none", "score": "dot"}, "belongs to attention=luong"),
        ({"cell": "tanh"}, "cell"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        Seq2SeqConfig.read({"vocab_size": VOCAB, **changes})


def test_a_decoder_takes_sources_or_a_cache_that_holds_them():
    model, data = drawn(), batch()
    encoded = model.encode(data["source"], data["source_lengths"])
    with pytest.raises(ValueError, match="what was encoded, or a cache"):
        model.decode(data["tokens"])
    with pytest.raises(ValueError, match="one source for each row"):
        model.new_cache(2, encoded=encoded)
