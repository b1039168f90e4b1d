"""Examples laid out in rows: packed or padded, each is there once, whole, with its answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from descent.data.dataset import IGNORED
from descent.data.rows import Row, RowSplit, in_order, lay_out

PAD = 99


def examples(kind: str, count: int = 23, seed: int = 0) -> list[Row]:
    draw = np.random.default_rng(seed)
    found: list[Row] = []
    for number in range(count):
        size = int(draw.integers(2, 12))
        row: Row = {
            "tokens": draw.integers(0, 90, size),
            "segments": (np.arange(size) > size // 2).astype(np.int64),
        }
        answers: dict[str, Any] = {
            "targets": draw.integers(0, 5, size),
            "answer": np.array(number),
            "span": np.sort(draw.integers(0, size, 2)),
        }
        found.append({**row, kind: answers[kind]})
    return found


def read_back(batch: dict[str, torch.Tensor], kind: str) -> list[dict[str, list[int]]]:
    """The examples that a batch holds, row after row."""
    found = []
    for n in range(len(batch["tokens"])):
        for k in range(batch["starts"].shape[1]):
            own = batch["documents"][n] == k
            start = int(batch["starts"][n, k])
            if not own.any() or (k and not start) or not own[start]:
                continue
            if kind != "targets" and (batch["targets"][n, k] == IGNORED).all():
                continue
            if kind == "targets" and (batch["targets"][n][own] == IGNORED).all():
                continue
            assert batch["positions"][n][own].tolist() == list(range(int(own.sum())))
            assert int(own.nonzero()[0]) == start
            one = {name: batch[name][n][own].tolist() for name in ("tokens", "segments")}
            targets = batch["targets"][n]
            if kind == "targets":
                one[kind] = targets[own].tolist()
            else:
                one[kind] = (targets[k] - (start if kind == "span" else 0)).tolist()
            found.append(one)
    return found


def plain(rows: list[Row]) -> list[dict[str, Any]]:
    return [{name: array.tolist() for name, array in row.items()} for row in rows]


@pytest.mark.parametrize("kind", ["targets", "answer", "span"])
@pytest.mark.parametrize(("packed", "ordered"), [(True, True), (True, False), (False, False)])
def test_every_example_is_there_once(kind: str, packed: bool, ordered: bool) -> None:
    rows = examples(kind)
    batch = lay_out(rows, 16, pad=PAD, packed=packed, ordered=ordered)
    found, wanted = read_back(batch, kind), plain(rows)
    if ordered or not packed:
        assert found == wanted
    else:
        assert sorted(map(str, found)) == sorted(map(str, wanted))
    assert len({len(tensor) for tensor in batch.values()}) == 1
    real = sum(len(row["tokens"]) for row in rows)
    assert int((batch["tokens"] != PAD).sum()) == real
    if packed and not ordered:
        assert batch["tokens"].numel() < 1.1 * real + 16
        assert batch["tokens"].shape[1] <= 16


def test_padding_is_a_document_of_its_own() -> None:
    batch = lay_out(examples("answer"), 16, pad=PAD)
    padding = batch["tokens"] == PAD
    for n in range(len(padding)):
        numbers = set(batch["documents"][n][padding[n]].tolist())
        assert len(numbers) <= 1
        assert not numbers & set(batch["documents"][n][~padding[n]].tolist())


def test_a_longer_example_has_a_row_of_its_own() -> None:
    rows = [{"tokens": np.arange(30), "answer": np.array(1)}, *examples("answer", 3)]
    rows = [{"tokens": row["tokens"], "answer": row["answer"]} for row in rows]
    batch = lay_out(rows, 16, pad=PAD)
    assert batch["tokens"].shape[1] == 30
    assert "segments" not in batch


def test_in_order_keeps_the_order() -> None:
    assert in_order([5, 5, 7, 1, 10], 10) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("kind", ["targets", "answer", "span"])
@pytest.mark.parametrize("packing", ["documents", "padded"])
def test_a_split_gives_its_examples_and_joins_batches(kind: str, packing: Any) -> None:
    rows = examples(kind)
    split = RowSplit(rows, 16, pad=PAD, vocab_size=100, packing=packing)
    assert len(split) == split.whole == len(rows)
    batch = split.gather(np.arange(len(rows)))
    assert read_back(batch, kind) == plain(rows)
    assert "23 texts" in split.describe()
    parts = [split.gather(np.array([1, 2, 3]), 1, 0), split.gather(np.array([9, 4]), 1, 1)]
    joined = split.join(parts)
    assert sorted(map(str, read_back(joined, kind))) == sorted(
        str(row) for place, row in enumerate(plain(rows)) if place in (1, 2, 3, 4, 9)
    )
    outside = joined["documents"].clone()
    for n, row in enumerate(outside):
        padding = joined["tokens"][n] == PAD
        assert not set(row[padding].tolist()) & set(row[~padding].tolist())


def test_an_epoch_may_alter_its_examples() -> None:
    rows = examples("targets")

    def alter(number: int, example: Row, seed: int, epoch: int) -> Row:
        return {
            **example,
            "tokens": example["tokens"] * 0 + epoch,
            "targets": example["targets"] * 0 + number,
        }

    split = RowSplit(rows, 16, pad=PAD, vocab_size=100, alter=alter)
    assert read_back(split.gather(np.arange(5)), "targets") == plain(rows[:5])
    changed = split.gather(np.array([7]), 3, 2)
    assert set(changed["tokens"].flatten().tolist()) == {2, PAD}
    assert set(changed["targets"].flatten().tolist()) == {7, IGNORED}
