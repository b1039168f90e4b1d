"""T5: its sizes to the digit, its parts against the formulas, padding, packed rows, where it starts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.t5 import T5, T5Config

VOCAB = 13
SIZES = {"depth": 2, "dim": 12, "heads": 3, "head_dim": 5, "hidden": 14, "vocab_size": VOCAB, "buckets": 8}
KINDS = {
    "1.0": {"feedforward": "relu", "tied": True},
    "1.1": {"feedforward": "gated_gelu", "tied": False},
}
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(3)


def drawn(kind: str = "1.1", **changes: object) -> T5:
    """A small model in evaluation mode, every parameter drawn at random."""
    model = T5(T5Config.read({**SIZES, "max_distance": 9, **KINDS[kind], **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model.eval()


@pytest.mark.parametrize(
    ("version", "size", "count"),
    [
        ("1.0", "small", 60_506_624),
        ("1.0", "base", 222_903_552),
        ("1.0", "large", 737_668_096),
        ("1.0", "3B", 2_851_598_336),
        ("1.0", "11B", 11_307_321_344),
        ("1.1", "small", 76_961_152),
        ("1.1", "base", 247_577_856),
        ("1.1", "large", 783_150_080),
        ("1.1", "3B", 2_849_757_184),
        ("1.1", "11B", 11_135_332_352),
    ],
)
def test_the_published_sizes_have_the_published_numbers_of_parameters(version: str, size: str, count: int):
    with torch.device("meta"):
        model = T5(T5Config.published(size, version))
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_sizes_and_versions_that_are_not_published_are_refused():
    with pytest.raises(UserError, match=r"no T5 1\.1 is called 'smal'"):
        T5Config.published("smal")
    with pytest.raises(UserError, match=r"no version of T5 is called '1\.2'"):
        T5Config.published("small", "1.2")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"heads": 5}, "multiple of heads"), ({"max_distance": 16, "head_dim": 4}, "over half of buckets")],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, int], said: str):
    with pytest.raises(UserError, match=said):
        T5Config.read({"dim": 24, "vocab_size": 5, **changes})


def normed(x: Tensor, gain: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * gain


def looked(layer: torch.nn.Module, x: Tensor, context: Tensor, bias: Tensor | float) -> Tensor:
    """Attention head by head, without a scale, of one row."""
    size = layer.head_dim
    inner = layer.heads * size
    q, k, v = (
        (x @ layer.query.weight.T, *(context @ layer.key_value.weight.T).split(inner, -1))
        if layer.is_cross
        else (x @ layer.qkv.weight.T).split(inner, -1)
    )
    out = []
    for head in range(layer.heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T + (bias if isinstance(bias, float) else bias[head])
        out.append(scores.softmax(-1) @ v[:, part])
    return torch.cat(out, -1) @ layer.output.weight.T


def fed(part: torch.nn.Module, x: Tensor) -> Tensor:
    up = x @ part.up.weight.T
    hidden = F.gelu(x @ part.gate.weight.T, approximate="tanh") * up if hasattr(part, "gate") else up.relu()
    return hidden @ part.down.weight.T


def distances(size: int, weight: Tensor, causal: bool) -> Tensor:
    """The bias of every pair, by the words of the paper: exact up to a few, then by logarithm."""
    bias = torch.full((weight.shape[1], size, size), -torch.inf if causal else 0.0)
    for query in range(size):
        for key in range(size):
            away = query - key
            if causal and away < 0:
                continue
            buckets, first = (8, 0) if causal else (4, 4 if away < 0 else 0)
            exact, away = buckets // 2, abs(away)
            if away >= exact:
                share = torch.log(torch.tensor(away / exact)) / torch.log(torch.tensor(9 / exact))
                away = min(exact + int(share * (buckets - exact)), buckets - 1)
            bias[:, query, key] = weight[first + away]
    return bias


@each_kind
@torch.no_grad()
def test_the_forward_is_the_formulas_written_out(kind: str):
    model = drawn(kind)
    source, tokens = torch.randint(VOCAB, (1, 14)), torch.randint(VOCAB, (1, 11))
    x = model.tokens.weight[source[0]]
    bias = distances(14, model.encoder_bias.weight, causal=False)
    for block in model.encoder:
        h = normed(x, block.attention_norm.weight)
        x = x + looked(block.attention, h, h, bias)
        x = x + fed(block.feedforward, normed(x, block.feedforward_norm.weight))
    memory, x = normed(x, model.encoder_norm.weight), model.tokens.weight[tokens[0]]
    bias = distances(11, model.decoder_bias.weight, causal=True)
    for block in model.decoder:
        h = normed(x, block.attention_norm.weight)
        x = x + looked(block.attention, h, h, bias)
        x = x + looked(block.cross, normed(x, block.cross_norm.weight), memory, 0.0)
        x = x + fed(block.feedforward, normed(x, block.feedforward_norm.weight))
    x = normed(x, model.decoder_norm.weight)
    expected = x @ model.tokens.weight.T / 12**0.5 if model.head is None else x @ model.head.weight.T
    assert_close(model(source, tokens)[0], expected, rtol=1e-4, atol=1e-4)


def test_it_starts_as_the_authors_do_with_logits_of_about_one():
    torch.manual_seed(0)
    for version in ("1.0", "1.1"):
        config = T5Config.published("small", version, vocab_size=3000, depth=2)
        model = T5(config)
        spreads = {
            "tokens.weight": 1.0,
            "encoder_bias.weight": 512**-0.5,
            "decoder.1.cross.key_value.weight": 512**-0.5,
            "encoder.0.attention.output.weight": (64 * config.heads) ** -0.5,
            "decoder.1.feedforward.down.weight": config.hidden**-0.5,
            "decoder.1.cross.query.weight": (512 * 64) ** -0.5,
        }
        for name, spread in spreads.items():
            assert float(model.get_parameter(name).detach().std()) == pytest.approx(spread, rel=0.1), name
        queries, rest = (
            model.encoder[0]
            .attention.qkv.weight.detach()
            .split((64 * config.heads,) * 2 + (64 * config.heads,))[:2]
        )
        assert float(queries.std()) == pytest.approx((512 * 64) ** -0.5, rel=0.05)
        assert float(rest.std()) == pytest.approx(512**-0.5, rel=0.05)
        logits = model.eval()(torch.randint(3000, (2, 20)), torch.randint(3000, (2, 20)))
        assert 0.5 < float(logits.detach().std()) < 2


def test_a_wider_head_than_the_width_gives_it_and_other_depths():
    model = drawn(heads=2, head_dim=9, decoder_depth=3)
    assert (len(model.encoder), len(model.decoder)) == (2, 3)
    assert model.encoder[0].attention.qkv.weight.shape == (54, 12)
    assert model(torch.ones(1, 3, dtype=torch.long), torch.ones(1, 2, dtype=torch.long)).shape == (
        1,
        2,
        VOCAB,
    )


def test_dropout_falls_on_every_place_of_the_paper():
    model = drawn("1.0", dropout=0.5).train()
    source = torch.randint(VOCAB, (1, 6))
    hidden = model.features(source, source)
    assert (hidden == 0).float().mean() > 0.25  # after the last norm
    assert all(
        block.attention.dropout == block.feedforward.dropout == block.dropout == 0.5
        for block in model.decoder
    )
