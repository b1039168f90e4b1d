"""GPT-2 exactly, the dial and what it derives, the modern parts one by one, and the errors."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from descent.errors import UserError
from descent.models.gpt import GPT, SIZES, GPTConfig


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(11)


def small(**changes) -> GPTConfig:
    return GPTConfig.read({"depth": 2, "dim": 24, "heads": 3, "context": 16, "vocab_size": 11, **changes})


def drawn(config: GPTConfig) -> GPT:
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    return model.eval()


def reference_and_ours():
    """A tiny GPT-2 of the reference library, every parameter drawn, and ours with the same weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=24, n_head=3, n_layer=3, n_positions=16, vocab_size=37, attn_implementation="eager"
    )
    reference = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    ours = GPT(GPTConfig.gpt2(depth=3, dim=24, heads=3, context=16, vocab_size=37)).eval()
    theirs = reference.transformer.state_dict()
    names = {
        "attention_norm": "ln_1", "attention.qkv": "attn.c_attn", "attention.output": "attn.c_proj",
        "feedforward_norm": "ln_2", "feedforward.up": "mlp.c_fc", "feedforward.down": "mlp.c_proj",
    }  # fmt: skip
    state = {"tokens.weight": theirs["wte.weight"], "positions.weight": theirs["wpe.weight"]}
    for kind in ("weight", "bias"):
        state[f"norm.{kind}"] = theirs[f"ln_f.{kind}"]
        for layer in range(3):
            for name, source in names.items():
                tensor = theirs[f"h.{layer}.{source}.{kind}"]
                state[f"blocks.{layer}.{name}.{kind}"] = tensor.T if tensor.dim() == 2 else tensor
    ours.load_state_dict(state)
    return reference, ours


def test_gpt2_equals_its_reference():
    reference, ours = reference_and_ours()
    tokens = torch.randint(37, (2, 13))
    torch.testing.assert_close(ours(tokens), reference(tokens).logits)


def test_gpt2_has_the_gradients_of_its_reference():
    reference, ours = reference_and_ours()
    tokens = torch.randint(37, (2, 13))
    for logits in (ours(tokens), reference(tokens).logits):
        F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    for mine, theirs in (
        (ours.tokens.weight, reference.transformer.wte.weight),
        (ours.positions.weight, reference.transformer.wpe.weight),
        (ours.blocks[0].attention.qkv.weight, reference.transformer.h[0].attn.c_attn.weight),
        (ours.blocks[2].feedforward.up.bias, reference.transformer.h[2].mlp.c_fc.bias),
    ):
        theirs = theirs.grad.T if "c_attn" not in str(mine) and mine.shape != theirs.shape else theirs.grad
        torch.testing.assert_close(mine.grad, theirs)


@pytest.mark.parametrize("size", SIZES)
def test_published_sizes_have_the_published_number_of_parameters(size: str):
    with torch.device("meta"):
        count = sum(p.numel() for p in GPT(GPTConfig.gpt2(size)).parameters())
    assert (
        count == {"124M": 124_439_808, "355M": 354_823_168, "774M": 774_030_080, "1558M": 1_557_611_200}[size]
    )


def test_gpt2_starts_as_published():
    model = GPT(GPTConfig.gpt2(depth=4, dim=64, heads=2, vocab_size=500))
    state = model.state_dict()
    for name, std in {
        "tokens.weight": 0.02,
        "blocks.1.attention.qkv.weight": 0.02,
        "blocks.1.feedforward.up.weight": 0.02,
        "blocks.1.attention.output.weight": 0.02 / math.sqrt(8),
        "blocks.1.feedforward.down.weight": 0.02 / math.sqrt(8),
    }.items():
        assert float(state[name].std()) == pytest.approx(std, rel=0.1), name
    for name, tensor in state.items():
        if name.endswith("bias"):
            assert not tensor.any()
        elif "norm" in name:
            assert (tensor == 1).all()


def test_one_dial_derives_the_rest():
    derived = GPTConfig(depth=6)
    assert (derived.width, derived.head_count, derived.group_count, derived.hidden_width) == (384, 6, 6, 1536)
    gated = derived.replace(feedforward="swiglu", dim=100)
    assert (gated.width, gated.head_count, gated.hidden_width) == (100, 2, 288)
    assert GPTConfig(depth=1, dim=66).head_count == 3
    assert derived.replace(groups=2, hidden=10).hidden_width == 10


def test_a_modern_block_starts_as_the_identity():
    model = GPT(small(vocab_size=40)).eval()
    tokens = torch.randint(40, (2, 5))
    torch.testing.assert_close(model.features(tokens), model.norm(model.tokens(tokens)))


def test_the_cap_bends_and_keeps_order():
    model, hidden = drawn(small(softcap=3.0)), torch.randn(2, 5, 24) * 9
    raw = F.linear(hidden, model.head.weight)
    torch.testing.assert_close(model.unembed(hidden), 3 * torch.tanh(raw / 3))
    assert model.unembed(hidden).abs().max() <= 3
    assert drawn(small(softcap=0.0)).unembed(hidden).abs().max() > 3


def test_a_tied_head_is_the_embedding():
    tied, hidden = drawn(small(tied=True, softcap=0.0)), torch.randn(2, 5, 24)
    assert tied.head is None
    torch.testing.assert_close(tied.unembed(hidden), hidden @ tied.tokens.weight.T)
    assert "head.weight" in GPT(small(tied=False)).state_dict()


def test_a_pair_has_an_embedding_of_its_own():
    model, plain = drawn(small(bigram=True)), GPT(small()).eval()
    plain.load_state_dict({name: t for name, t in model.state_dict().items() if not name.startswith("pairs")})
    tokens, pair = torch.tensor([[3, 4, 5], [5, 3, 4]]), (3, 4)
    model.pairs.weight.data.zero_()
    torch.testing.assert_close(model(tokens), plain(tokens))
    model.pairs.weight.data[pair[0] * 11 + pair[1]] = 1.0
    moved = (model(tokens) != plain(tokens)).any(-1)
    assert moved.tolist() == [[False, True, True], [False, False, True]]
    model.pairs.weight.data.zero_()
    model.pairs.weight.data[11 * 11 + 3] = 1.0  # 3 with nothing before it
    assert (model(tokens) != plain(tokens)).any(-1).tolist() == [[True] * 3, [False] * 3]


def test_documents_do_not_reach_each_other_by_gradient():
    model = drawn(small(bigram=True, value_embedding=True))
    documents = torch.tensor([[4, 4, 4, 2, 2, 2, 9]])
    embedded = []
    model.tokens.register_forward_hook(lambda _, args, out: embedded.append(out) or out.retain_grad())
    logits = model(torch.randint(11, (1, 7)), documents=documents)
    for t in range(7):
        embedded[0].grad = None
        logits[0, t].sum().backward(retain_graph=True)
        reached = embedded[0].grad[0].abs().sum(-1) > 0
        expected = (documents[0] == documents[0, t]) & (torch.arange(7) <= t)
        assert reached.tolist() == expected.tolist()


def test_a_wider_cache_serves_a_narrow_model():
    model, tokens = drawn(small()).bfloat16(), torch.randint(11, (2, 9))
    full = model(tokens)
    for dtype in (torch.bfloat16, torch.float32):
        cache = model.new_cache(2, dtype=dtype)
        parts = torch.cat([model(part, cache=cache) for part in tokens.split([5, 1, 3], dim=1)], dim=1)
        torch.testing.assert_close(parts, full, rtol=0.05, atol=0.05 * float(full.detach().abs().max()))


def test_rows_beyond_the_context():
    with pytest.raises(UserError, match="longer than the context") as error:
        GPT(GPTConfig.gpt2(depth=1, dim=24, heads=3, context=8, vocab_size=11))(
            torch.zeros(1, 9, dtype=torch.int64)
        )
    assert "at most 8 tokens" in str(error.value)
    learned = GPT(GPTConfig.gpt2(depth=1, dim=24, heads=3, context=8, vocab_size=11))
    cache = learned.new_cache(1, length=20)
    learned(torch.zeros(1, 7, dtype=torch.int64), cache=cache)
    with pytest.raises(UserError, match="longer than the context"):
        learned(torch.zeros(1, 2, dtype=torch.int64), cache=cache)
    rotary = GPT(small(context=8))
    assert rotary(torch.zeros(1, 9, dtype=torch.int64)).shape == (1, 9, 11)


def test_a_cache_and_packed_documents_exclude_each_other():
    model, tokens = GPT(small()), torch.zeros(1, 4, dtype=torch.int64)
    with pytest.raises(ValueError, match="documents or a cache"):
        model(tokens, documents=tokens, cache=model.new_cache(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dim": 25, "heads": 3}, "dim (25) must be a multiple of heads (3)"),
        ({"dim": 27, "heads": 3}, "dim / heads must be even"),
        ({"heads": 4, "groups": 3}, "heads (4) must be a multiple of groups (3)"),
        ({"bigram": True, "vocab_size": 513}, "vocab_size must be at most 512"),
        ({"dropout": 1.0}, "dropout"),
        ({"layers": 3}, "no such option"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict, message: str):
    with pytest.raises(UserError) as error:
        small(**changes)
    assert message in str(error.value)


def test_an_unknown_size_is_refused():
    with pytest.raises(UserError, match="no GPT-2 is called '125M'") as error:
        GPTConfig.gpt2("125M")
    assert "did you mean '124M'" in str(error.value)
