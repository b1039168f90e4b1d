"""Documents packed into rows: every token once, inside its own document, with its own positions."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from descent.data import PackedSplit, sweep
from descent.data.packing import pack

END = 0
documents_of_ids = st.lists(st.lists(st.integers(1, 90), max_size=30), min_size=1, max_size=25)


def whole(split: PackedSplit) -> dict[str, torch.Tensor]:
    rows = list(sweep(split, 4))
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


@given(documents=documents_of_ids, length=st.integers(1, 12))
def test_every_document_is_predicted_once_from_mark_to_mark(documents: list[list[int]], length: int):
    split = PackedSplit(documents, length, END, 91)
    batch = whole(split)
    assert batch["tokens"].shape == (len(split), length)
    found = []
    for row in range(len(split)):
        for number in range(int(batch["documents"][row].max()) + 1):
            inside = (batch["documents"][row] == number) & (batch["targets"][row] != -100)
            if inside.any():
                assert batch["positions"][row][inside].tolist() == list(range(int(inside.sum())))
                found.append((batch["tokens"][row][inside].tolist(), batch["targets"][row][inside].tolist()))
    expected = []
    for ids in documents:
        inputs, targets = [END, *ids], [*ids, END]
        expected += [
            (inputs[at : at + length], targets[at : at + length]) for at in range(0, len(inputs), length)
        ]
    assert sorted(found) == sorted(expected)


@given(documents=documents_of_ids, length=st.integers(1, 12))
def test_what_is_left_of_a_row_is_one_more_document_without_targets(documents: list[list[int]], length: int):
    batch = whole(PackedSplit(documents, length, END, 91))
    padding = batch["targets"] == -100
    assert int((~padding).sum()) == sum(len(ids) + 1 for ids in documents)
    assert (batch["tokens"][padding] == END).all()
    for row in range(len(padding)):
        numbers = batch["documents"][row]
        assert set(numbers[padding[row]].tolist()).isdisjoint(numbers[~padding[row]].tolist())
        assert (numbers.diff() >= 0).all()


def test_a_row_reads_as_drawn():
    batch = whole(PackedSplit([[5, 6], [7]], 6, END, 10))
    assert batch["tokens"].tolist() == [[0, 5, 6, 0, 7, 0]]
    assert batch["targets"].tolist() == [[5, 6, 0, 7, 0, -100]]
    assert batch["documents"].tolist() == [[0, 0, 0, 1, 1, 2]]
    assert batch["positions"].tolist() == [[0, 1, 2, 0, 1, 0]]


def test_a_long_document_is_cut_into_pieces_that_miss_nothing():
    batch = whole(PackedSplit([[1, 2, 3, 4, 5, 6, 7]], 3, END, 10))
    assert batch["tokens"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 0]]
    assert batch["targets"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 0, -100]]
    assert batch["positions"].tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 0]]


def test_gather_is_the_same_in_every_epoch():
    split = PackedSplit([[1], [2, 3], [4, 5, 6]], 4, END, 10)
    for seed, epoch in ((None, 0), (1, 0), (1, 9)):
        assert (
            split.gather(np.array([1, 0]), seed, epoch)["tokens"].tolist()
            == whole(split)["tokens"][[1, 0]].tolist()
        )


@given(sizes=st.lists(st.integers(1, 16), max_size=60))
def test_packing_puts_every_piece_in_one_row_that_holds_it(sizes: list[int]):
    rows = pack(sizes, 16)
    assert sorted(piece for row in rows for piece in row) == list(range(len(sizes)))
    assert all(sum(sizes[piece] for piece in row) <= 16 for row in rows)
    # at most one row is half empty, so twice the fewest rows is never passed
    assert sum(sum(sizes[piece] for piece in row) <= 8 for row in rows) <= 1
    assert pack(sizes, 16) == rows


def test_packing_fills_rows():
    rng = np.random.default_rng(0)
    sizes = rng.integers(2, 40, 3000).tolist()
    assert len(pack(sizes, 128)) <= -(-sum(sizes) // 128) * 1.02


def test_the_description_counts():
    split = PackedSplit([[1, 2, 3], [4]], 8, END, 10, bytes=4)
    assert split.describe() == "2 documents, 6 tokens in 1 rows (75% filled)"
    assert split.bytes == 4
