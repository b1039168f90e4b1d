"""The Transformer of 2017 against PyTorch's own layers; its positions, its sizes, where it starts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from descent.errors import UserError
from descent.models.transformer import Transformer, TransformerConfig
from descent.nn.position import sinusoidal, sinusoids

VOCAB = 13
SIZES = {"depth": 2, "dim": 12, "heads": 3, "hidden": 14, "vocab_size": VOCAB}
KINDS = {
    "2017": {},
    "norms first": {"order": "pre", "activation": "gelu"},
    "own head": {"tied": False, "head_bias": True, "norm_eps": 1e-3},
}
LENGTHS = torch.tensor([7, 2, 5])


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(3)


def drawn(**changes: object) -> Transformer:
    """A small model in evaluation mode, every parameter drawn at random."""
    model = Transformer(TransformerConfig.read({**SIZES, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model.eval()


def joined(cross: nn.Module) -> dict[str, Tensor]:
    """A cross-attention's maps as PyTorch keeps them, one below the other."""
    names = ("weight", "bias")
    return {f"in_proj_{n}": torch.cat((getattr(cross.query, n), getattr(cross.key_value, n))) for n in names}


def reference(model: Transformer, source: Tensor, tokens: Tensor, lengths: Tensor) -> Tensor:
    """The logits by PyTorch's `nn.Transformer`, given the weights of ours."""
    config = model.config
    first = config.order == "pre"
    theirs = nn.Transformer(
        config.dim,
        config.heads,
        config.depth,
        config.depth,
        config.hidden_width,
        0.0,
        config.activation,
        layer_norm_eps=config.norm_eps,
        batch_first=True,
        norm_first=first,
    ).eval()
    if not first:  # PyTorch's has norms at the ends in any order
        theirs.encoder.norm = theirs.decoder.norm = None
    state: dict[str, Tensor] = {}
    for side, stack in (("encoder", model.encoder), ("decoder", model.decoder)):
        for number, block in enumerate(stack):
            at = f"{side}.layers.{number}"
            parts = {"norm1": block.attention_norm, "self_attn.out_proj": block.attention.output}
            parts |= {"linear1": block.feedforward.up, "linear2": block.feedforward.down}
            parts |= {"norm2" if side == "encoder" else "norm3": block.feedforward_norm}
            if side == "decoder":
                parts |= {"norm2": block.cross_norm, "multihead_attn.out_proj": block.cross.output}
                state |= {f"{at}.multihead_attn.{n}": tensor for n, tensor in joined(block.cross).items()}
            qkv = block.attention.qkv
            state |= {f"{at}.self_attn.in_proj_weight": qkv.weight, f"{at}.self_attn.in_proj_bias": qkv.bias}
            state |= {f"{at}.{n}.weight": part.weight for n, part in parts.items()}
            state |= {f"{at}.{n}.bias": part.bias for n, part in parts.items()}
        if first:
            norm = getattr(model, f"{side}_norm")
            state |= {f"{side}.norm.weight": norm.weight, f"{side}.norm.bias": norm.bias}
    theirs.load_state_dict(state)
    table = model.tokens.weight
    x, y = (F.embedding(ids, table) * math.sqrt(config.dim) + positions(ids) for ids in (source, tokens))
    hidden = torch.arange(source.shape[1]) >= lengths[:, None]
    future = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool).triu(1)
    out = theirs(x, y, tgt_mask=future, src_key_padding_mask=hidden, memory_key_padding_mask=hidden)
    logits = out @ (table if model.head is None else model.head.weight).T
    return logits if model.head_bias is None else logits + model.head_bias


def positions(ids: Tensor) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i / d)), PE(pos, 2i + 1) = cos of the same."""
    dim = SIZES["dim"]
    rows = [
        [(math.cos if i % 2 else math.sin)(pos / 10000 ** ((i - i % 2) / dim)) for i in range(dim)]
        for pos in range(ids.shape[1])
    ]
    return torch.tensor(rows)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_pytorchs_layers_compute(kind: str):
    model = drawn(**KINDS[kind])
    source, tokens = torch.randint(VOCAB, (3, 7)), torch.randint(VOCAB, (3, 5))
    with torch.no_grad():
        found = model(source, tokens, source_lengths=LENGTHS)
        expected = reference(model, source, tokens, LENGTHS)
    assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert found.std() > 0.1


def test_sinusoids_of_chosen_places_are_rows_of_the_table():
    table = sinusoidal(9, 6)
    places = torch.tensor([[0, 3, 8], [5, 5, 1]])
    assert torch.equal(sinusoids(places, 6), table[places])


@pytest.mark.parametrize(("size", "count"), [("base", 63_082_496), ("big", 214_245_376)])
def test_the_published_sizes(size: str, count: int):
    """Table 3 of the paper says 65 and 213 million; its vocabulary of 37,000 is rounded."""
    with torch.device("meta"):
        model = Transformer(TransformerConfig.published(size, vocab_size=37_000))
    assert sum(parameter.numel() for parameter in model.parameters()) == count
    with pytest.raises(UserError, match="no Transformer is called 'bas'"):
        TransformerConfig.published("bas")


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="multiple of heads"):
        TransformerConfig.read({"dim": 12, "heads": 5})
    with pytest.raises(UserError, match="must be even"):
        TransformerConfig.read({"dim": 15, "heads": 5})


def test_every_map_starts_by_glorot_by_itself_though_three_are_kept_as_one():
    model = Transformer(TransformerConfig(depth=1, dim=64, heads=4, vocab_size=500))
    bounds = {
        "encoder.0.attention.qkv": math.sqrt(6 / 128),
        "decoder.0.cross.key_value": math.sqrt(6 / 128),
        "decoder.0.feedforward.up": math.sqrt(6 / (64 + 256)),
    }
    for name, bound in bounds.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        assert 0.97 * bound < float(layer.weight.detach().abs().max()) <= bound
        assert not layer.bias.any()
    assert float(model.tokens.weight.detach().std()) == pytest.approx(1 / 8, rel=0.05)
    logits = model.eval()(torch.randint(500, (2, 9)), torch.randint(500, (2, 9)))
    assert 0.5 < float(logits.detach().std()) < 2


def test_dropout_is_where_the_configuration_says():
    source = torch.randint(VOCAB, (2, 6))
    plain = drawn().train()
    assert torch.equal(plain(source, source), plain(source, source))
    for changes in ({"dropout": 0.5}, {"attention_dropout": 0.5}):
        model = drawn(**changes).train()
        assert not torch.equal(model(source, source), model(source, source))
