"""BERT: its sizes to the digit, its formulas written out, its heads, packed rows, and beside ModernBERT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from descent.data.rows import lay_out
from descent.errors import UserError
from descent.models.bert import BERT, BERTConfig
from descent.training.layers import head_of, layer_groups

VOCAB = 13
SIZES: dict[str, Any] = {"vocab_size": VOCAB, "depth": 2, "dim": 12, "heads": 3, "hidden": 14, "context": 9}
FORMS = {"2019": BERTConfig.published("tiny", **SIZES), "modern": BERTConfig.modern("tiny", **SIZES)}
HEADS = ("masked", "next", "pretraining", "classes", "tokens", "span", "vector", "none")
each_form = pytest.mark.parametrize("form", FORMS)


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(3)


def drawn(form: str, **changes: Any) -> BERT:
    """A small model in evaluation mode, every parameter drawn at random."""
    model = BERT(FORMS[form].replace(**changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    return model.eval()


def count(config: BERTConfig) -> int:
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in BERT(config).parameters())


@pytest.mark.parametrize(
    ("size", "encoder", "pretraining"),
    [
        ("tiny", 4_385_920, 4_433_468),
        ("mini", 11_170_560, 11_267_900),
        ("small", 28_763_648, 29_058_876),
        ("medium", 41_373_184, 41_668_412),
        ("base", 109_482_240, 110_106_428),
        ("large", 335_141_888, 336_226_108),
    ],
)
def test_the_published_sizes_have_the_published_numbers_of_parameters(
    size: str, encoder: int, pretraining: int
):
    assert count(BERTConfig.published(size, head="none")) == encoder
    assert count(BERTConfig.published(size)) == pretraining
    assert count(BERTConfig.published(size, head="classes", outputs=3)) == encoder + 3 * (
        BERTConfig.published(size).dim + 1
    )


def test_other_published_numbers_of_parameters():
    assert count(BERTConfig.published("base", head="masked")) == 109_514_298
    assert count(BERTConfig.published("base", vocab_size=21128, head="none")) == 102_267_648  # Chinese
    assert count(BERTConfig.roberta("base")) == 124_697_433
    assert count(BERTConfig.roberta("large")) == 355_412_057
    assert count(BERTConfig.roberta("base", head="classes", outputs=2)) == 124_647_170


def normed(x: Tensor, norm: torch.nn.Module, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * norm.weight
    return scaled if norm.bias is None else scaled + norm.bias


def turned(x: Tensor) -> Tensor:
    """The pairs (i, i + 2) of heads of 4 turned by the position times 10000^(-2i/4)."""
    angle = torch.arange(len(x))[:, None] * torch.tensor([1.0, 0.01])
    a, b = x[:, :2], x[:, 2:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)


def looked(layer: torch.nn.Module, x: Tensor, rotary: bool) -> Tensor:
    q, k, v = layer.qkv(x).split(12, -1)
    out = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        own = [turned(y[:, part]) if rotary else y[:, part] for y in (q, k)]
        out.append((own[0] @ own[1].T / 2).softmax(-1) @ v[:, part])
    return layer.output(torch.cat(out, -1))


def fed(part: torch.nn.Module, x: Tensor) -> Tensor:
    return part.down(F.gelu(part.gate(x)) * part.up(x) if hasattr(part, "gate") else F.gelu(part.up(x)))


@each_form
@torch.no_grad()
def test_the_forward_is_the_formulas_written_out(form: str):
    model = drawn(form, head="masked")
    eps, modern = model.config.norm_eps, form == "modern"
    tokens, segments = torch.randint(VOCAB, (1, 8)), torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1]])
    x = model.tokens.weight[tokens[0]] + model.segments.weight[segments[0]]
    x = normed(x if modern else x + model.positions.weight[:8], model.embedding_norm, eps)
    for number, block in enumerate(model.blocks):
        if modern:
            h = normed(x, block.attention_norm, eps) if number else x
            x = x + looked(block.attention, h, rotary=True)
            x = x + fed(block.feedforward, normed(x, block.feedforward_norm, eps))
        else:
            x = normed(x + looked(block.attention, x, rotary=False), block.attention_norm, eps)
            x = normed(x + fed(block.feedforward, x), block.feedforward_norm, eps)
    x = normed(x, model.norm, eps) if modern else x
    assert_close(model.features(tokens, segments=segments)[0], x, rtol=1e-4, atol=1e-4)
    guess = normed(F.gelu(model.masked.dense(x)), model.masked.norm, eps)
    logits = guess @ model.tokens.weight.T + model.masked.bias
    assert_close(model(tokens, segments=segments)[0], logits, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_without_a_norm_of_embeddings_the_first_block_has_its_own():
    model = drawn("modern", embedding_norm=False)
    tokens = torch.randint(VOCAB, (1, 8))
    seen: list[Tensor] = []
    model.blocks[0].attention.register_forward_hook(lambda *given: seen.append(given[1][0]))
    model(tokens)
    x = model.tokens.weight[tokens[0]] + model.segments.weight[0]
    assert_close(seen[0][0], normed(x, model.blocks[0].attention_norm, 1e-5), rtol=1e-4, atol=1e-4)


def test_the_parts_of_a_model_follow_from_its_head():
    for form, pools in (
        ("2019", {"next", "pretraining", "classes", "none"}),
        ("modern", {"next", "pretraining"}),
    ):
        trained = {name for name, _ in BERT(FORMS[form].replace(head="pretraining")).named_parameters()}
        for head in HEADS:
            model = BERT(FORMS[form].replace(head=head, outputs=3))
            names = {name for name, _ in model.named_parameters()}
            assert {name for name in names - trained if not name.startswith("head.")} == set()
            assert ("pooler.weight" in names) == (head in pools), (form, head)
            assert ("masked.bias" in names) == (head in ("masked", "pretraining"))
            assert ("next.weight" in names) == (head in ("next", "pretraining"))
            held = {name for name in names if name.startswith("head.")}
            dense = (
                {"head.dense.weight", "head.dense.bias"} if (form, head) == ("modern", "classes") else set()
            )
            own = {"head.weight", "head.bias"} if head in ("classes", "tokens", "span") else set()
            assert held == own | dense
            if own:
                assert head_of(model) == "head"
                assert layer_groups(model)[-1] == ("head",)


def packed_rows() -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Five examples, and the same as two packed rows with what fills them up."""
    generator = torch.Generator().manual_seed(9)
    rows = []
    for size in (5, 3, 7, 2, 6):
        tokens = torch.randint(VOCAB, (size,), generator=generator).numpy()
        rows.append({"tokens": tokens, "segments": (torch.arange(size) > 1).long().numpy()})
    return rows, lay_out(rows, 9, pad=0, ordered=True)


@each_form
@pytest.mark.parametrize("head", HEADS)
def test_packed_examples_answer_as_each_alone_and_have_its_gradients(form: str, head: str):
    model = drawn(form, head=head, outputs=3)
    rows, batch = packed_rows()
    found = listed(model(**batch))
    given = {name: value for name, value in batch.items() if name != "positions"}
    for one, other in zip(found, listed(model(**given)), strict=True):
        assert_close(one, other, rtol=0, atol=0)
    alone = [
        listed(model(**{name: torch.from_numpy(array)[None] for name, array in example.items()}))
        for example in rows
    ]
    begun = [1 + int((starts > 0).sum()) for starts in batch["starts"]]
    places = [(row, number) for row, count in enumerate(begun) for number in range(count)]
    sums: tuple[list[Tensor], list[Tensor]] = ([], [])
    for part, answers in enumerate(found):
        by_token = part == 0 and head in ("masked", "pretraining", "tokens", "span", "none")
        for (row, number), example in zip(places, alone, strict=True):
            mine = batch["documents"][row] == number
            ours, expected = answers[row][mine if by_token else number], example[part][0]
            assert_close(ours, expected, rtol=1e-4, atol=1e-5)
            draw = torch.randn_like(expected)
            for side, answer in zip(sums, (ours, expected), strict=True):
                side.append((answer * draw).sum())
    names, held = zip(*model.named_parameters(), strict=True)
    both = [torch.autograd.grad(torch.stack(side).sum(), held, allow_unused=True) for side in sums]
    for name, one, other in zip(names, *both, strict=True):
        if other is None:
            assert (head, name.partition(".")[0]) == ("none", "pooler")
            continue
        assert_close(one, other, rtol=1e-3, atol=1e-4 * max(1.0, float(other.abs().max())), msg=name)


def listed(found: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


@each_form
def test_no_example_of_a_row_sees_another(form: str):
    model = drawn(form, head="none")
    _, batch = packed_rows()
    x, draw = torch.randn(3, 9, 12, requires_grad=True), torch.randn(12)
    model.tokens.register_forward_hook(lambda *given: x)
    for place in range(9):
        (slope,) = torch.autograd.grad(model(**batch)[0, place] @ draw, x)
        assert torch.equal(slope[0].abs().sum(-1) > 0, batch["documents"][0] == batch["documents"][0, place])
        assert not slope[1:].any()


@torch.no_grad()
def test_answers_of_one_example_a_row_lack_the_axis_of_examples():
    tokens, starts = torch.randint(VOCAB, (4, 6)), torch.zeros(4, 1, dtype=torch.long)
    for head in ("next", "classes", "vector"):
        model = drawn("2019", head=head, outputs=3)
        assert_close(model(tokens, starts=starts)[:, 0], model(tokens), rtol=0, atol=0)
    documents = torch.tensor([[0, 0, 0, 0, 1, 1]] * 4)
    vectors = model(tokens, documents=documents)
    assert_close(vectors, model(tokens[:, :4]), rtol=1e-5, atol=1e-5)
    assert_close(vectors, model.features(tokens[:, :4]).mean(1), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_rows_wider_than_the_context_hold_shorter_examples():
    model = drawn("2019", head="none")
    tokens = torch.randint(VOCAB, (1, 20))
    documents = torch.tensor([[0] * 4 + [1] * 5 + [2] * 11])
    found = model(tokens, documents=documents)
    assert_close(found[:, 4:9], model(tokens[:, 4:9]), rtol=1e-5, atol=1e-5)
    for wrong in (None, torch.zeros(1, 20, dtype=torch.long), torch.tensor([[0] * 11 + [1] * 9])):
        with pytest.raises(UserError, match=r"longer than the context of the model\n(.|\n)*at most 9 tokens"):
            model(tokens, documents=wrong)
    assert drawn("modern", head="none")(tokens).shape == (1, 20, 12)


def test_it_starts_as_published_and_drops_where_the_paper_does():
    model = BERT(BERTConfig.published("tiny", vocab_size=500))
    for name, parameter in model.named_parameters():
        weights = parameter.detach()
        if name.endswith("bias"):
            assert not weights.any()
        elif "norm" in name:
            assert (weights == 1).all()
        else:
            assert float(weights.abs().max()) <= 0.04
            assert float(weights.std()) == pytest.approx(0.02 * 0.88, rel=0.1), (
                name
            )  # cut off at two deviations
    assert (
        {block.dropout for block in model.blocks}
        == {block.attention.dropout for block in model.blocks}
        == {0.1}
    )
    whole = BERT(
        BERTConfig.published("tiny", **{**SIZES, "dropout": 0.5, "depth": 1, "head": "none"})
    ).train()
    seen: list[Tensor] = []
    whole.blocks[0].register_forward_hook(lambda *given: seen.append(given[1][0]))
    whole(torch.randint(VOCAB, (8, 9)))
    assert 0.4 < float((seen[0] == 0).float().mean()) < 0.6


def test_what_a_head_lacks_and_sizes_that_do_not_fit_are_refused():
    hidden = torch.zeros(1, 4, 12)
    with pytest.raises(UserError, match=r"no head for hidden words\n(.|\n)*model\.head=classes"):
        drawn("modern", head="classes", outputs=2).unembed(hidden)
    with pytest.raises(UserError, match="no head for next sentences"):
        drawn("modern", head="masked").follows(hidden)
    with pytest.raises(UserError, match="no BERT is called 'bas'"):
        BERTConfig.published("bas")
    with pytest.raises(UserError, match="not complete: outputs"):
        BERT(FORMS["modern"].replace(head="tokens"))
    for changes, said in (
        ({"heads": 5}, "multiple of heads"),
        ({"dim": 9}, "must be even"),
        ({"position_offset": 2}, "belongs to position=learned"),
    ):
        with pytest.raises(UserError, match=said):
            BERTConfig.modern("tiny", **{**SIZES, **changes})


@torch.no_grad()
def test_the_modern_form_is_modernbert_where_all_its_layers_see_everything():
    transformers = pytest.importorskip("transformers")
    config = BERTConfig.modern("tiny", **{**SIZES, "depth": 3, "segments": 0, "rotary_base": 500.0})
    ours = BERT(config).eval()
    rope = {"full_attention": {"rope_type": "default", "rope_theta": 500.0}}
    sizes = {"vocab_size": VOCAB, "hidden_size": 12, "intermediate_size": 14, "num_attention_heads": 3}
    rest = {"num_hidden_layers": 3, "max_position_embeddings": 9, "pad_token_id": 0, "rope_parameters": rope}
    table = transformers.ModernBertConfig(**sizes, **rest, layer_types=["full_attention"] * 3)
    theirs = transformers.ModernBertForMaskedLM(table).eval()
    for parameter in ours.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    names = {
        "embedding_norm": "model.embeddings.norm",
        "norm": "model.final_norm",
        "masked.dense": "head.dense",
    }
    names |= {"masked.norm": "head.norm", "tokens": "model.embeddings.tok_embeddings"}
    own = ours.state_dict()
    state = {f"{their}.weight": own[f"{name}.weight"] for name, their in names.items()}
    state |= {"decoder.weight": own["tokens.weight"], "decoder.bias": own["masked.bias"]}
    for number in range(3):
        block, layer = f"blocks.{number}.", f"model.layers.{number}."
        gate, up = own[f"{block}feedforward.gate.weight"], own[f"{block}feedforward.up.weight"]
        state[f"{layer}mlp.Wi.weight"] = torch.cat((gate, up))
        parts = {"attention.qkv": "attn.Wqkv", "attention.output": "attn.Wo", "feedforward.down": "mlp.Wo"}
        parts |= {"feedforward_norm": "mlp_norm"} | ({"attention_norm": "attn_norm"} if number else {})
        state |= {f"{layer}{b}.weight": own[f"{block}{a}.weight"] for a, b in parts.items()}
    theirs.load_state_dict(state)
    tokens = torch.randint(VOCAB, (3, 9))
    real = torch.arange(9) < torch.tensor([9, 4, 1])[:, None]
    expected = theirs(input_ids=tokens, attention_mask=real.long()).logits
    found = ours(tokens, documents=(~real).long())
    assert expected.std() > 0.3
    assert_close(found[real], expected[real], rtol=1e-4, atol=1e-5)


def test_with_one_kind_of_segment_both_texts_of_a_pair_are_of_it():
    """As RoBERTa, which reads the pairs that every set of pairs gives: 0, then 1."""
    config = BERTConfig.roberta("tiny", **{**SIZES, "head": "classes", "outputs": 3})
    model = BERT(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.4)
    assert model.segments is not None
    tokens, segments = torch.randint(VOCAB, (3, 7)), (torch.arange(7) > 3).long().expand(3, 7)
    expected = model(tokens)
    assert_close(model(tokens, segments=segments), expected, rtol=0, atol=0)
    model(tokens, segments=segments).square().sum().backward()
    assert model.segments.weight.grad is not None
    assert model.segments.weight.grad.any()
    with torch.no_grad():
        model.segments.weight += torch.linspace(0, 1, 12)
    assert (model(tokens, segments=segments) - expected).abs().amin(0).max() > 1e-3
