"""Pairs of texts that mean alike: what is taken, how it is split, and the rows that both of a pair become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from descent.data.batches import Batches, sweep
from descent.data.dataset import IGNORED
from descent.data.load import load_texts, tokenize_texts
from descent.data.similar import Similar, SimilarSplit
from descent.data.similar_config import SimilarData
from descent.errors import UserError
from descent.text import Tokenizer, train


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train("char", ["abcdefghij 0123456789"], marks="bert")


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder / name


def read(path: Path | None = None, **changes: object) -> Similar:
    where = {} if path is None else {"path": str(path)}
    found = load_texts(SimilarData.read({**where, **changes}), progress=False)
    assert isinstance(found, Similar)
    return found


def some(count: int = 40) -> str:
    return "".join(f"a{n % 10} b{n // 10}\tc{n}\n" for n in range(count))


def test_pairs_of_a_file_are_split_by_their_first_text(tmp_path: Path):
    found = read(write(tmp_path, "a.tsv", some() + "a0 b0\tagain\n"), validation=0.2, test=0.2)
    assert sum(map(len, found.splits.values())) == 41
    firsts = [{first for first, _ in pairs} for pairs in found.splits.values()]
    assert len(firsts) == 3
    assert len(set.union(*firsts)) == sum(map(len, firsts))
    assert found.texts("train") == list(dict.fromkeys(t for pair in found.splits["train"] for t in pair))


def test_two_files_line_by_line(tmp_path: Path):
    first = write(tmp_path, "a.txt", "a\nb\nc\n")
    second = write(tmp_path, "b.txt", "d\ne\nf\n")
    found = read(first, target_path=str(second), validation=0.0, test=0.0)
    assert found.splits == {"train": [("a", "d"), ("b", "e"), ("c", "f")]}


def test_texts_alone_are_beside_themselves_and_what_is_held_out_stays_pairs(tmp_path: Path):
    write(tmp_path, "train.txt", "a\nb\tc\na\n\nd\n")
    write(tmp_path, "test.txt", "e\tf\ng\n")
    write(tmp_path, "dev.txt", "h\ti\n")
    found = read(tmp_path, itself=True)
    assert found.splits["train"] == [("a", "a"), ("b", "b"), ("c", "c"), ("d", "d")]
    assert found.splits["validation"] == [("h", "i")]
    assert found.splits["test"] == [("e", "f"), ("g", "g")]
    alone = read(write(tmp_path, "all.text", "".join(f"text {n}\n" for n in range(50))), itself=True)
    assert sum(map(len, alone.splits.values())) == 50
    assert set(alone.splits) == {"train", "validation", "test"}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\n", {}, "line 1: no tab"),
        ("a\tb\n", {}, "too little to train on"),
        ("a\tb\tc\nd\n", {"itself": True}, "line 1: 3 columns"),
        ("\n \n", {"itself": True}, "is empty"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, text: str, options: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        read(write(tmp_path, "a.tsv", text), **options)


def test_sick_gives_the_pairs_that_follow(local_data: Path):
    found = read(source="sick2014")
    assert [len(found.splits[split]) for split in ("train", "validation", "test")] == [1299, 144, 1414]
    assert ("The young boys are playing outdoors and the man is smiling nearby",
            "The kids are playing outdoors near a man with a smile") in found.splits["train"]  # fmt: skip
    alone = read(source="sick2014", itself=True)
    assert alone.splits["validation"] == found.splits["validation"]
    assert all(first == second for first, second in alone.splits["train"])
    assert len(alone.splits["train"]) > 3000
    with pytest.raises(UserError, match=r"itself=true"):
        read(source="sst2")
    assert len(read(source="sst2", itself=True).splits["train"]) > 6000


def test_another_kind_of_data_is_refused():
    with pytest.raises(UserError, match="not pairs that mean alike"):
        read(source="tinyshakespeare")


@pytest.mark.parametrize("packing", ["documents", "padded"])
def test_both_of_a_pair_are_in_the_batch_and_known_by_their_turn(
    tmp_path: Path, tokenizer: Tokenizer, packing: str
):
    config = SimilarData.read({"path": str(write(tmp_path, "a.tsv", some())), "packing": packing})
    texts = load_texts(config, progress=False)
    assert isinstance(texts, Similar)
    dataset = tokenize_texts(texts, config, tokenizer)
    split = dataset.splits["train"]
    assert isinstance(split, SimilarSplit)
    assert dataset.preparation == {"kind": "similar", "length": 128}
    chosen = np.array([5, 2, 9])
    batch = split.gather(chosen, seed=1, epoch=2)
    found = texts_of(batch, tokenizer)
    pairs, count = texts.splits["train"], len(split)
    wanted = {
        2 * (2 * count + n) + side: pairs[n][side].replace(" ", "")
        for n in chosen.tolist()
        for side in (0, 1)
    }
    assert {turn: text.replace(" ", "") for turn, (text, _) in found.items()} == wanted
    distinct = texts.texts("train")
    assert all(distinct[number].replace(" ", "") == wanted[turn] for turn, (_, number) in found.items())


def texts_of(batch: dict[str, torch.Tensor], tokenizer: Tokenizer) -> dict[int, tuple[str, int]]:
    """The text of each example, and its number, by its turn."""
    found = {}
    for row, place in (batch["targets"][..., 0] != IGNORED).nonzero().tolist():
        ids = batch["tokens"][row][batch["documents"][row] == place].tolist()
        assert (ids[0], ids.index(tokenizer.separator)) == (tokenizer.begin, ids.index(tokenizer.separator))
        assert batch["tokens"][row, batch["starts"][row, place]] == tokenizer.begin
        text = tokenizer.decode(ids[1 : ids.index(tokenizer.separator)])
        turn, number = batch["targets"][row, place].tolist()
        found[turn] = (text, number)
    return found


def test_a_batch_over_two_epochs_tells_their_pairs_apart(tmp_path: Path, tokenizer: Tokenizer):
    config = SimilarData.read(
        {"path": str(write(tmp_path, "a.tsv", some(12))), "validation": 0.0, "test": 0.0}
    )
    split = tokenize_texts(load_texts(config, progress=False), config, tokenizer).splits["train"]
    batch = Batches(split, 8, seed=3).batch(1)  # the last 4 of an epoch and the first 4 of the next
    turns = batch["targets"][..., 0]
    asked = turns[turns != IGNORED]
    assert len(asked) == len(asked.unique()) == 16
    assert sorted((asked // 24).tolist()) == [0] * 8 + [1] * 8


def test_a_sweep_is_every_pair_once_in_order(tmp_path: Path, tokenizer: Tokenizer):
    config = SimilarData.read({"path": str(write(tmp_path, "a.tsv", some())), "length": 16})
    split = tokenize_texts(load_texts(config, progress=False), config, tokenizer).splits["train"]
    turns = [batch["targets"][..., 0] for batch in sweep(split, 7)]
    found = [turn for part in turns for turn in part[part != IGNORED].tolist()]
    assert found == list(range(2 * len(split)))
