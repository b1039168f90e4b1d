"""Splits by hash: by content alone, in the asked shares, never the same content on two sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descent.data.splits import file_key, fingerprint, hash_split, keys, named, tails

contents = st.lists(st.binary(max_size=3), min_size=1, max_size=80)
share = st.sampled_from([0.0, 0.05, 0.1, 0.3, 0.45])


def many(count: int) -> np.ndarray:
    return keys(str(number).encode() for number in range(count))


@given(contents=contents, validation=share, test=share)
def test_every_content_is_in_one_split_with_its_equals(contents: list[bytes], validation: float, test: float):
    places = hash_split(keys(contents), validation, test)
    assert sorted(np.concatenate(list(places.values())).tolist()) == list(range(len(contents)))
    assert len(places["train"])
    sets = [{contents[place] for place in chosen} for chosen in places.values()]
    assert sum(map(len, sets)) == len(set(contents))
    assert not (validation == 0 and len(places["validation"]))
    assert not (test == 0 and len(places["test"]))
    assert all((np.diff(chosen) > 0).all() for chosen in places.values())


def test_shares_are_kept():
    places = hash_split(many(20_000), 0.1, 0.2)
    assert abs(len(places["validation"]) - 2000) < 150
    assert abs(len(places["test"]) - 4000) < 200


@given(seed=st.integers(0, 1000))
def test_nothing_moves_when_others_come_or_go(seed: int):
    hashes = many(500)
    kept = np.sort(np.random.default_rng(seed).permutation(500)[:300])
    whole, part = hash_split(hashes, 0.2, 0.2), hash_split(hashes[kept], 0.2, 0.2)
    for name, chosen in part.items():
        assert set(kept[chosen]) <= set(whole[name])


def test_a_count_is_exact_and_does_not_split_equals():
    assert len(hash_split(many(1000), 100, 0)["validation"]) == 100
    assert {name: len(chosen) for name, chosen in hash_split(many(1000), 100, 50).items()} == {
        "train": 850,
        "validation": 100,
        "test": 50,
    }
    twins = np.repeat(many(10), 2)
    assert len(hash_split(twins, 3, 0)["validation"]) == 2


@pytest.mark.parametrize("count", range(3, 30))
def test_a_few_contents_still_give_every_asked_split(count: int):
    places = hash_split(many(count), 0.05, 0.05)
    assert min(len(chosen) for chosen in places.values()) >= 1


def test_the_split_is_pinned():
    """Changing it would put last year's test rows into this year's training."""
    assert many(3).tolist() == [8493733112532773764, 8518482412311870710, 7813587015057732635]
    assert hash_split(many(40), 0.1, 0.1)["test"].tolist() == [3, 9, 16, 21, 38]


def test_the_split_of_files_is_pinned(tmp_path: Path):
    for number in range(3):
        (tmp_path / str(number)).write_bytes(str(number).encode())
    assert [file_key(tmp_path / str(number)) for number in range(3)] == many(3).tolist()


def test_tails_put_together_are_the_text():
    text = "".join(map(str, range(1000)))
    parts = tails(text, 0.1, 0.05)
    assert parts["train"] + parts["validation"] + parts["test"] == text
    assert (len(parts["validation"]), len(parts["test"])) == (round(len(text) * 0.1), round(len(text) * 0.05))


def test_names_of_splits():
    assert [named(name) for name in ("Train", "valid", "val", "dev", "TEST", "tests", "")] == [
        "train",
        "validation",
        "validation",
        "validation",
        "test",
        None,
        None,
    ]


def test_a_fingerprint_tells_parts_apart():
    assert fingerprint(["ab", "c"]) != fingerprint(["a", "bc"]) != fingerprint(["abc"])
    assert fingerprint(["a", b"b", memoryview(b"c")]) == fingerprint([b"a", "b", "c"])
