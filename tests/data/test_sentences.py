"""Texts with a class: how they are split, and what rows of tokens they become."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from descent.data.dataset import IGNORED
from descent.data.registry import entry, locate
from descent.data.sentence_files import Example
from descent.data.sentences import few_of_each, load_sentences, sentence_rows, tokenize_sentences
from descent.data.sentences_config import SentencesData
from descent.text import Tokenizer, train


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train("char", ["abcdefghij 一二三"], marks="bert")


def read(path: Path, **changes: object):
    return load_sentences(SentencesData.read({"path": str(path), **changes}), None, [])


def write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text, encoding="utf-8", newline="")
    return folder / name


def shown(tokenizer: Tokenizer, ids: list[int]) -> str:
    return "".join(tokenizer.token(index) for index in ids)


def test_a_row_is_a_text_between_marks(tokenizer: Tokenizer):
    rows, cut = sentence_rows([("ab",), ("abcdefghij",)], tokenizer, 8)
    assert [shown(tokenizer, row["tokens"].tolist()) for row in rows] == ["[CLS]ab[SEP]", "[CLS]abcdef[SEP]"]
    assert cut == 1
    assert all("segments" not in row for row in rows)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("abc", "def", ("abc", "def")),
        ("abcdefghij", "ab", ("abcdefg", "ab")),
        ("a", "abcdefghij", ("a", "abcdefgh")),
        ("abcdefghij", "abcdefghij", ("abcde", "abcd")),
        ("abcde", "abcdefghij", ("abcde", "abcd")),
    ],
)
def test_of_two_texts_the_longer_one_is_cut_first(
    tokenizer: Tokenizer, first: str, second: str, kept: tuple[str, str]
):
    (row,), cut = sentence_rows([(first, second)], tokenizer, 12)
    assert shown(tokenizer, row["tokens"].tolist()) == f"[CLS]{kept[0]}[SEP]{kept[1]}[SEP]"
    assert row["segments"].tolist() == [0] * (len(kept[0]) + 2) + [1] * (len(kept[1]) + 1)
    assert cut == (kept != (first, second))


def test_classes_are_numbered_in_order_and_laid_out_by_example(tmp_path: Path, tokenizer: Tokenizer):
    lines = [f"{letter}{other},{10 if other > letter else 9}" for letter in "abcdef" for other in "abcdefgh"]
    config = SentencesData.read({"path": str(write(tmp_path, "a.csv", "\n".join(["text,label", *lines])))})
    texts = load_sentences(config, None, [])
    assert texts.labels == ("9", "10")  # by size, not by letters
    found = tokenize_sentences(texts, config, tokenizer)
    assert found.sizes == {"vocab_size": tokenizer.vocab_size, "outputs": 2}
    assert found.preparation["columns"] == ["text"]
    split = found.splits["train"]
    batch = split.gather(np.arange(len(split)))
    said = batch["targets"][batch["targets"] != IGNORED]
    assert said.tolist() == [int(one.label == "10") for one in texts.splits["train"]]
    rows, places = (batch["targets"] != IGNORED).nonzero(as_tuple=True)
    starts = batch["starts"][rows, places]
    assert batch["tokens"][rows, starts].unique().tolist() == [tokenizer.begin]
    torch.testing.assert_close(batch["positions"][rows, starts], torch.zeros_like(starts))


def test_equal_texts_are_in_one_split(tmp_path: Path):
    lines = [f"text {number % 40}\t{'yn'[number % 2]}" for number in range(200)]
    found = read(write(tmp_path, "a.tsv", "\n".join(lines)), validation=0.2, test=0.2)
    sets = [{one.text for one in examples} for examples in found.splits.values()]
    assert len(sets) == 3
    assert not (sets[0] & sets[1])
    assert not (sets[0] & sets[2])
    assert not (sets[1] & sets[2])
    assert sum(len(examples) for examples in found.splits.values()) == 200


def test_few_of_each_class_are_the_same_ones_and_others():
    examples = [Example(f"t{n}", "", "ab"[n % 3 == 0], f"line {n}") for n in range(60)]
    few, more = few_of_each(examples, 4), few_of_each(examples, 9)
    assert Counter(one.label for one in few) == {"a": 4, "b": 4}
    assert set(few) <= set(more)
    assert few_of_each(examples[::-1], 4) == few[::-1]
    assert few_of_each(examples, 1000) == examples


def test_per_class_thins_the_training_texts_alone(tmp_path: Path):
    lines = [f"text {number}\t{'yn'[number % 2]}" for number in range(200)]
    path = write(tmp_path, "a.tsv", "\n".join(lines))
    whole, few = read(path), read(path, per_class=5)
    assert Counter(one.label for one in few.splits["train"]) == {"y": 5, "n": 5}
    assert few.splits["test"] == whole.splits["test"]
    assert f"10 of {len(whole.splits['train'])} training texts" in few.notes


def test_what_the_model_sees_does_not_depend_on_packing(tmp_path: Path, tokenizer: Tokenizer):
    from descent.models.bert import BERT, BERTConfig
    from descent.objectives import Supervised, SupervisedConfig

    lines = [f"{'abcdefgh'[: 1 + n % 7]} {n % 10},{'xyz'[n % 3]}" for n in range(30)]
    path = write(tmp_path, "a.csv", "\n".join(["text,label", *lines]))
    torch.manual_seed(0)
    config = {"depth": 1, "dim": 16, "heads": 2, "dropout": 0.0, "head": "classes", "outputs": 3}
    model = BERT(BERTConfig(vocab_size=tokenizer.vocab_size, **config)).double()
    losses, objective = [], Supervised(SupervisedConfig())
    for packing in ("documents", "padded"):
        data = SentencesData.read(
            {"path": str(path), "packing": packing, "validation": 0, "test": 0, "length": 32}
        )
        split = tokenize_sentences(load_sentences(data, None, []), data, tokenizer).splits["train"]
        batch = split.gather(np.arange(len(split)))
        assert objective.targets(objective.phases[0], batch) == 30
        losses.append(objective.loss(model, objective.phases[0], batch))
    torch.testing.assert_close(*losses)


def test_a_megabyte_in_one_line_costs_no_more_than_what_is_kept(tmp_path: Path, tokenizer: Tokenizer):
    class Counting:
        def __getattr__(self, name: str):
            return getattr(tokenizer, name)

        def encode_batch(self, texts: list[str]) -> list[list[int]]:
            read.append(sum(map(len, texts)))
            return tokenizer.encode_batch(texts)

    read: list[int] = []
    (row,), cut = sentence_rows([("ab" * 500_000,)], Counting(), 16)  # type: ignore[arg-type]
    assert (len(row["tokens"]), cut) == (16, 1)
    assert sum(read) <= 16 * 64


@pytest.mark.parametrize(
    ("name", "sizes", "labels"),
    [
        ("sst2", (6920, 872, 1821), ("negative", "positive")),
        ("chnsenticorp-hotel", (6261, 721, 783), ("negative", "positive")),
        ("sick2014", (4500, 500, 4927), ("contradiction", "entailment", "neutral")),
        ("ocnli", (2689, 305, 2950), ("contradiction", "entailment", "neutral")),
    ],
)
def test_named_sets(local_data: Path, name: str, sizes: tuple[int, ...], labels: tuple[str, ...]):
    found = load_sentences(SentencesData(source=name), entry(name), locate(name, False, download=False))
    assert tuple(map(len, found.splits.values())) == sizes
    assert found.labels == labels
    assert found.double == (name in ("sick2014", "ocnli"))
    sets = [{one.text for one in examples} for examples in found.splits.values()]
    if name != "sick2014":  # whose official parts share sentences
        assert not (sets[0] & sets[1])
