"""The key/value cache: what it holds, positions of padded rows, re-ordering, its limit."""

from __future__ import annotations

import pytest
import torch

from descent.errors import UserError
from descent.nn.cache import KVCache

LAYERS, BATCH, GROUPS, CAPACITY, DIM = 2, 3, 2, 6, 4


def filled(count: int = 4) -> KVCache:
    torch.manual_seed(0)
    cache = KVCache(LAYERS, BATCH, GROUPS, CAPACITY, DIM)
    for layer in range(LAYERS):
        cache.layer(layer).update(*torch.randn(2, BATCH, GROUPS, count, DIM).unbind())
    cache.advance(count)
    return cache


def test_update_gives_all_that_was_written_without_a_copy():
    cache = KVCache(LAYERS, BATCH, GROUPS, CAPACITY, DIM)
    k, v = torch.randn(2, BATCH, GROUPS, 5, DIM).unbind()
    for start, end in ((0, 2), (2, 5)):
        all_k, all_v = cache.layer(1).update(k[:, :, start:end], v[:, :, start:end])
        cache.advance(end - start)
    torch.testing.assert_close(all_k, k)
    torch.testing.assert_close(all_v, v)
    assert all_k.untyped_storage().data_ptr() == cache.keys_LBGSD.untyped_storage().data_ptr()
    assert cache.keys_LBGSD[0].count_nonzero() == 0
    assert (cache.length, cache.capacity, cache.batch) == (5, CAPACITY, BATCH)


def test_positions_and_mask_of_padded_rows_count_from_their_start():
    cache = KVCache(LAYERS, BATCH, GROUPS, CAPACITY, DIM, start=torch.tensor([0, 2, 3]))
    assert cache.positions(4).tolist() == [[0, 1, 2, 3], [0, 0, 0, 1], [0, 0, 0, 0]]
    mask = cache.mask(4)
    assert mask is not None
    assert mask[:, 0, 0].tolist() == [[True] * 4, [False, False, True, True], [False, False, False, True]]
    cache.advance(4)
    assert cache.positions(1).tolist() == [[4], [2], [1]]
    assert KVCache(1, 1, 1, 3, 1).mask(2) is None
    assert KVCache(1, 1, 1, 3, 1).positions(2).tolist() == [0, 1]


@pytest.mark.parametrize("rows", [[2, 0, 1], [1, 1, 0], [0, 0, 1, 1, 2, 2], [2]])
def test_reorder_moves_whole_rows(rows):
    cache = filled()
    cache.start, cache.memory["previous"] = torch.tensor([0, 1, 2]), torch.tensor([[7], [8], [9]])
    cache.layer(1).once(
        lambda: (torch.arange(BATCH).view(-1, 1, 1, 1), torch.arange(BATCH).view(-1, 1, 1, 1))
    )
    keys, values = cache.keys_LBGSD.clone(), cache.values_LBGSD.clone()
    cache.reorder(torch.tensor(rows))
    torch.testing.assert_close(cache.keys_LBGSD, keys[:, rows])
    torch.testing.assert_close(cache.values_LBGSD, values[:, rows])
    assert cache.start.tolist() == rows
    assert cache.memory["previous"].flatten().tolist() == [7 + row for row in rows]
    assert cache.layer(1).once(lambda: pytest.fail("made again"))[0].flatten().tolist() == rows
    assert cache.batch == len(rows)


def test_a_full_cache_says_so():
    with pytest.raises(UserError, match="key/value cache is full") as error:
        filled().layer(0).update(*torch.zeros(2, BATCH, GROUPS, 3, DIM).unbind())
    assert "got:      7" in str(error.value)
    assert "at most 6 tokens" in str(error.value)
