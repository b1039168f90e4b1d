"""Pairs that share a row: each is there once, on both sides under one number."""

from __future__ import annotations

import numpy as np
import torch

from descent.data.dataset import IGNORED, Batch
from descent.data.pair_rows import PairSplit

START, END = 1, 2


def pairs(count: int = 40, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    draw = np.random.default_rng(seed)

    def side() -> list[int]:
        return [*draw.integers(3, 90, int(draw.integers(1, 9))).tolist(), END]

    return [(side(), side()) for _ in range(count)]


def read_back(batch: Batch) -> list[tuple[list[int], list[int]]]:
    found = []
    for n in range(len(batch["tokens"])):
        for number in batch["documents"][n].unique().tolist():
            own = batch["documents"][n] == number
            target = batch["targets"][n][own].tolist()
            if target[0] == IGNORED:
                assert set(target) == {IGNORED}
                continue
            assert batch["tokens"][n][own].tolist() == [START, *target[:-1]]
            source = batch["source"][n][batch["source_documents"][n] == number].tolist()
            found.append((source, target))
    return found


def test_packed_pairs_are_all_there_in_fewer_rows() -> None:
    rows = pairs()
    split = PairSplit(rows, START, 100, room=24)
    batch = split.gather(np.arange(len(rows)), 1, 0)
    assert sorted(read_back(batch)) == sorted(rows)
    assert batch["source"].shape[1] <= 24
    assert batch["tokens"].shape[1] <= 24
    assert len(batch["tokens"]) < len(rows) / 2
    assert len({len(value) for value in batch.values()}) == 1


def test_an_evaluation_sees_a_pair_a_row() -> None:
    rows = pairs()
    packed, padded = (PairSplit(rows, START, 100, room=room) for room in (24, 0))
    one, other = (split.gather(np.arange(7)) for split in (packed, padded))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_pair_longer_than_the_room_has_a_row_of_its_own() -> None:
    rows = [*pairs(5), ([*range(3, 60), END], [4, END])]
    batch = PairSplit(rows, START, 100, room=24).gather(np.arange(6), 1, 0)
    assert sorted(read_back(batch)) == sorted(rows)


def test_joined_parts_hold_the_pairs_of_all() -> None:
    rows = pairs()
    split = PairSplit(rows, START, 100, room=24)
    parts = [split.gather(np.arange(start, start + 9), 1, 0) for start in (0, 9, 18)]
    joined = split.join(parts)
    assert sorted(read_back(joined)) == sorted(rows[:27])
    for n in range(len(joined["tokens"])):
        real = set(joined["documents"][n][joined["targets"][n] != IGNORED].tolist())
        filled = joined["documents"][n][joined["targets"][n] == IGNORED].tolist()
        assert not real & set(filled)
        assert not real & set(joined["source_documents"][n][joined["source"][n] == 0].tolist())
