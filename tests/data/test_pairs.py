"""Pairs of texts as padded rows: what a batch holds, splits, sides turned, and what is too long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from descent.data.batches import sweep
from descent.data.pair_rows import PairSplit
from descent.data.pairs import Pairs, load_pairs, source_ids, tokenize_pairs
from descent.data.pairs_config import PairsData
from descent.errors import UserError
from descent.text import train

PAIRS = [("a cat", "un chat"), ("two", "deux"), ("dogs bark", "x"), ("猫", "chat noir")]


@pytest.fixture(scope="module")
def tokenizer():
    return train("char", [side for pair in PAIRS for side in pair])


def config(**changes: object) -> PairsData:
    return PairsData.read({"path": "pairs.tsv", **changes})


def dataset(tokenizer, **changes: object):
    return tokenize_pairs(Pairs("own", {"train": PAIRS}), config(**changes), tokenizer)


def test_a_batch_holds_the_texts_their_marks_and_padding(tokenizer):
    split = dataset(tokenizer).splits["train"]
    batch = split.gather(np.array([1, 3, 2]))
    end, encode = tokenizer.end, tokenizer.encode
    assert batch["source_lengths"].tolist() == [4, 2, 10]
    assert batch["source"].tolist() == [
        [*encode("two"), end, *[0] * 6],
        [*encode("猫"), end, *[0] * 8],
        [*encode("dogs bark"), end],
    ]
    assert batch["tokens"].tolist() == [
        [end, *encode("deux"), *[0] * 5],
        [end, *encode("chat noir")],
        [end, *encode("x"), *[0] * 8],
    ]
    assert batch["targets"].tolist() == [
        [*encode("deux"), end, *[-100] * 5],
        [*encode("chat noir"), end],
        [*encode("x"), end, *[-100] * 8],
    ]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
    assert source_ids("two", tokenizer) == batch["source"][0, :4].tolist()


def test_a_batch_is_no_wider_than_its_longest_rows(tokenizer):
    batch = dataset(tokenizer).splits["train"].gather(np.array([1, 2]))
    assert (batch["source"].shape, batch["tokens"].shape) == ((2, 10), (2, 5))


def test_every_pair_comes_once_in_a_sweep(tokenizer):
    split, end = dataset(tokenizer).splits["train"], tokenizer.end
    seen = []
    for batch in sweep(split, 3):
        for source, length, targets in zip(
            batch["source"], batch["source_lengths"], batch["targets"], strict=True
        ):
            written = [index for index in targets.tolist() if index >= 0]
            assert (source[length - 1], written[-1]) == (end, end)
            seen.append((tokenizer.decode(source[: length - 1].tolist()), tokenizer.decode(written[:-1])))
    assert seen == PAIRS
    assert split.describe() == "4 pairs"


def test_parts_of_a_batch_are_joined_to_the_batch_of_all(tokenizer):
    split = dataset(tokenizer).splits["train"]
    assert isinstance(split, PairSplit)
    parts = [split.gather(np.array(part)) for part in ([1], [3, 2], [0])]
    whole, joined = split.gather(np.array([1, 3, 2, 0])), split.join(parts)
    assert whole.keys() == joined.keys()
    assert all(torch.equal(whole[name], joined[name]) for name in whole)


def test_pairs_that_are_too_long_are_left_out_and_counted(tokenizer):
    pairs = Pairs("own", {"train": PAIRS, "test": PAIRS[:2]})
    found = tokenize_pairs(pairs, config(length=6), tokenizer)
    assert [len(found.splits[name]) for name in ("train", "test")] == [1, 1]
    assert found.notes == ("left out as longer than 6 tokens: train 3 of 4, test 1 of 2",)
    assert "train 3 of 4" in found.summary()
    assert not dataset(tokenizer, length=10).notes, "a side of 9 characters and its mark fits 10"


def test_a_split_of_which_nothing_is_left_is_refused(tokenizer):
    with pytest.raises(UserError, match="every pair of the train split is too long") as error:
        dataset(tokenizer, length=4)
    assert "the shortest has 5 tokens" in str(error.value)


def test_what_a_model_and_a_later_translation_must_know(tokenizer):
    found = dataset(tokenizer)
    assert found.sizes == {"vocab_size": tokenizer.vocab_size}
    assert found.preparation == {"kind": "pairs", "start": [tokenizer.end], "length": 256}
    assert found.unit == "tokens"
    assert found.fingerprint == dataset(tokenizer).fingerprint


@pytest.mark.parametrize("packing", ["padded", "documents"])
def test_a_decoder_begins_as_that_of_t5(packing):
    tokenizer = train("char", [side for pair in PAIRS for side in pair], marks="t5")
    pad, end = (tokenizer.marks.special[name] for name in ("<pad>", "</s>"))
    found = dataset(tokenizer, packing=packing)
    batch = found.splits["train"].gather(np.array([1]), 0)
    count = len(tokenizer.encode("deux")) + 1
    assert batch["tokens"][0, :count].tolist() == [pad, *tokenizer.encode("deux")]
    assert batch["targets"][0, :count].tolist() == [*tokenizer.encode("deux"), end]
    assert found.preparation["start"] == [pad]
    assert found.fingerprint != dataset(tokenizer, length=40).fingerprint


def test_one_tokenizer_is_trained_on_both_sides():
    assert Pairs("own", {"train": PAIRS[:2]}).texts("train") == ["a cat", "un chat", "two", "deux"]


def test_reversed_the_sides_change_places(tmp_path: Path):
    file = tmp_path / "pairs.tsv"
    file.write_text("one\t一\ntwo\t二\nthree\t三\n", "utf-8")
    found = [
        load_pairs(config(path=str(file), reverse=turned, validation=0, test=0), None, []).splits["train"]
        for turned in (False, True)
    ]
    assert found[0] == [("one", "一"), ("two", "二"), ("three", "三")]
    assert found[1] == [(target, source) for source, target in found[0]]


def test_pairs_of_one_source_are_in_one_split(tmp_path: Path):
    file = tmp_path / "pairs.tsv"
    lines = [f"source {number % 100}\ttarget {number}" for number in range(400)]
    file.write_text("\n".join(lines) + "\n", "utf-8")
    found = load_pairs(config(path=str(file), validation=0.2, test=0.2), None, [])
    sources = {name: {source for source, _ in pairs} for name, pairs in found.splits.items()}
    assert set(sources) == {"train", "validation", "test"}
    assert sum(map(len, sources.values())) == len(set().union(*sources.values())) == 100
    assert sum(map(len, found.splits.values())) == 400


@pytest.mark.parametrize(
    "changes",
    [
        {"path": None, "source": "dates", "target_path": "b.txt"},
        {"source": "dates"},
        {"length": 1},
        {"validation": 0.5, "test": 0.5},
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict[str, object]):
    with pytest.raises(UserError):
        PairsData.read({"path": "a.txt", **changes})
