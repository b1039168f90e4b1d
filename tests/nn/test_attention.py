"""The paths of `attend` against each other and the formula, masks, grouped heads, and the cache."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

import descent.nn.attention as attention_module
from descent.errors import UserError
from descent.nn.attention import Attention, attend, document_mask
from descent.nn.cache import KVCache
from descent.nn.position import Rotary

BATCH, HEADS, GROUPS, TIME, DIM = 2, 6, 2, 7, 5
PATHS = ("_fused", "_blocks", "_plain")


@pytest.fixture(autouse=True)
def _same_numbers_each_time():
    torch.manual_seed(3)


def through(path: str, monkeypatch: pytest.MonkeyPatch, *args: Tensor, **options) -> Tensor:
    """What `attend` gives when it takes the path named."""

    def chosen(q, k, v, rules, weights):
        found = getattr(attention_module, path)(q, k, v, rules)
        return found if isinstance(found, tuple) else (found, None)

    with monkeypatch.context() as patch:
        patch.setattr(attention_module, "_by_a_path", chosen)
        found = attend(*args, **options)
    return found[0] if isinstance(found, tuple) else found


def formula(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, bias: Tensor, scale: float) -> Tensor:
    """Attention one row, head and query at a time, in double precision."""
    out = torch.zeros_like(q, dtype=torch.float64)
    allowed, bias = (x.expand(*q.shape[:3], k.shape[2]) for x in (allowed, bias))
    for b, h, t in itertools.product(*(range(n) for n in q.shape[:3])):
        seen, group = allowed[b, h, t], h * k.shape[1] // q.shape[1]
        scores = k[b, group, seen].double() @ q[b, h, t].double() * scale + bias[b, h, t, seen].double()
        if seen.any():
            out[b, h, t] = scores.softmax(0) @ v[b, group, seen].double()
    return out.float()


def heads(groups: int = GROUPS, queries: int = TIME, keys: int = TIME) -> list[Tensor]:
    shapes = (BATCH, HEADS, queries, DIM), (BATCH, groups, keys, DIM), (BATCH, groups, keys, DIM)
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


def holed_mask(queries: int, keys: int) -> Tensor:
    mask = torch.rand(BATCH, 1, queries, keys) > 0.4
    mask[0, 0, 2] = False  # a query with nowhere to look
    return mask


CASES = [
    (groups, causal, queries, masked, biased)
    for groups in (HEADS, GROUPS, 1)
    for causal in (False, True)
    for queries in (TIME, 4, 9)
    for masked in (False, True)
    for biased in (False, True)
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(("groups", "causal", "queries", "masked", "biased"), CASES)
def test_every_path_is_the_formula(path, groups, causal, queries, masked, biased, monkeypatch):
    q, k, v = heads(groups, queries)
    mask = holed_mask(queries, TIME) if masked else None
    bias = torch.randn(1, HEADS, queries, TIME) if biased else None
    allowed = torch.ones(queries, TIME, dtype=torch.bool)
    allowed = allowed.tril(TIME - queries) if causal else allowed
    expected = formula(
        q, k, v, allowed if mask is None else allowed & mask, torch.zeros(()) if bias is None else bias, 0.3
    )
    found = through(path, monkeypatch, q, k, v, mask=mask, bias=bias, causal=causal, scale=0.3)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("time", [7, 300])
def test_paths_have_the_same_gradients(time, masked, monkeypatch):
    mask = holed_mask(time, time) if masked else None
    tensors = heads(GROUPS, time, time)
    bias = torch.randn(1, HEADS, time, time, requires_grad=True)
    target = torch.randn(BATCH, HEADS, time, DIM)
    found = []
    for path in PATHS:
        out = through(path, monkeypatch, *tensors, mask=mask, bias=bias, causal=True)
        found.append((out, *torch.autograd.grad((out * target).sum(), (*tensors, bias))))
    for other in found[1:]:
        for ours, theirs in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_blocks_of_queries_join_to_the_whole(monkeypatch):
    tensors = heads(GROUPS, 401, 401)
    blocks = through("_blocks", monkeypatch, *tensors, causal=True)
    torch.testing.assert_close(blocks, through("_fused", monkeypatch, *tensors, causal=True))


def test_weights_are_those_of_the_output():
    q, k, v = heads()
    mask = holed_mask(TIME, TIME)
    out, weights = attend(q, k, v, mask=mask, causal=True, weights=True)
    assert weights.shape == (BATCH, HEADS, TIME, TIME)
    allowed = (mask & torch.ones(TIME, TIME, dtype=torch.bool).tril()).expand_as(weights)
    assert (weights[~allowed] == 0).all()
    nowhere = ~allowed.any(-1)
    torch.testing.assert_close(weights.sum(-1), (~nowhere).float())
    torch.testing.assert_close(out, weights @ v.repeat_interleave(HEADS // GROUPS, dim=1))
    torch.testing.assert_close(out, attend(q, k, v, mask=mask, causal=True))


def test_bfloat16_takes_the_plain_path_on_a_cpu(monkeypatch):
    def refuse(*args):
        raise AssertionError("the fused path was taken")

    q, k, v = (x.bfloat16() for x in heads())
    expected = attend(q.float(), k.float(), v.float(), causal=True)
    monkeypatch.setattr(attention_module, "_fused", refuse)
    torch.testing.assert_close(attend(q, k, v, causal=True).float(), expected, rtol=0.05, atol=0.02)


def test_dropped_weights_keep_the_mean_of_the_output():
    q, k, v = (x.detach() for x in heads())
    drawn = torch.stack([attend(q, k, v, causal=True, dropout=0.5) for _ in range(800)])
    torch.testing.assert_close(drawn.mean(0), attend(q, k, v, causal=True), rtol=0, atol=0.25)
    assert drawn.std(0).min() > 0.01


def test_documents_of_a_packed_row_do_not_see_each_other():
    documents = torch.tensor([[0, 0, 0, 1, 1, 2, 2], [5, 5, 5, 5, 5, 5, 9]])
    for causal, width in itertools.product((False, True), (torch.float32, torch.bfloat16)):
        layer = Attention(HEADS * 2, HEADS, causal=causal).to(width)
        x = torch.randn(BATCH, TIME, HEADS * 2, dtype=width, requires_grad=True)
        out = layer(x, mask=document_mask(documents))
        for row, t in itertools.product(range(BATCH), range(TIME)):
            (gradient,) = torch.autograd.grad(out[row, t].sum(), x, retain_graph=True)
            reached = gradient.abs().sum(-1) > 0
            expected = torch.zeros_like(reached)
            expected[row] = documents[row] == documents[row, t]
            expected[row, t + 1 :] &= not causal
            torch.testing.assert_close(reached, expected)


@pytest.mark.parametrize("qk_norm", [False, True])
@pytest.mark.parametrize("groups", [HEADS, GROUPS])
def test_cached_equals_full(groups, qk_norm):
    layer = Attention(24, HEADS, groups=groups, qk_norm=qk_norm, causal=True).eval()
    rotary, x = Rotary(4), torch.randn(BATCH, TIME, 24)
    value = torch.randn(BATCH, TIME, groups * 4)
    expected = layer(x, rotation=rotary(torch.arange(TIME)), value=value)
    cache = KVCache(1, BATCH, groups, TIME, 4)
    outs = []
    for start, end in ((0, 3), (3, 4), (4, 7)):
        rotation, part = rotary(cache.positions(end - start)), slice(start, end)
        outs.append(layer(x[:, part], rotation=rotation, cache=cache.layer(0), value=value[:, part]))
        cache.advance(end - start)
    torch.testing.assert_close(torch.cat(outs, dim=1), expected)


def test_a_context_is_projected_once_when_cached():
    layer = Attention(24, HEADS, context_dim=10).eval()
    x, context = torch.randn(BATCH, TIME, 24), torch.randn(BATCH, 3, 10)
    cache = KVCache(1, BATCH, HEADS, TIME, 4)
    parts = [layer(x[:, :2], context, cache=cache.layer(0)), layer(x[:, 2:], cache=cache.layer(0))]
    torch.testing.assert_close(torch.cat(parts, dim=1), layer(x, context))
    with pytest.raises(ValueError, match="needs a context"):
        layer(x)


def test_value_embeddings_are_added_to_the_values():
    layer = Attention(24, HEADS, groups=GROUPS, bias=False)
    x, value = torch.zeros(BATCH, TIME, 24), torch.randn(BATCH, TIME, GROUPS * 4)
    expected = (
        value.mean(1, keepdim=True).unflatten(-1, (GROUPS, 1, 4)).expand(-1, TIME, -1, 3, -1).flatten(2)
    )
    torch.testing.assert_close(layer(x, value=value), layer.output(expected))


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(UserError, match="multiple of groups"):
        Attention(24, 6, groups=4)
    with pytest.raises(UserError, match="multiple of the number of heads"):
        Attention(25, 6)
