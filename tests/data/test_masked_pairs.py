"""Pairs of pieces of text: how they are cut, which follow, and how long ones are shortened."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from masked_toys import ToyTokenizer, toy_texts

from descent.data import Batches, sweep
from descent.data.dataset import IGNORED, Batch
from descent.data.load import Documents
from descent.data.masked import tokenize_masked
from descent.data.masked_config import MaskedData
from descent.data.next_sentence import RANDOM, PairedSplit, sentences
from descent.errors import UserError

TOY = ToyTokenizer()
TEXTS = toy_texts(40, seed=1)


def split(texts: list[str] = TEXTS, **options: object) -> PairedSplit:
    config = MaskedData(path="x", next_sentence=True, **{"length": 64, **options})  # type: ignore[arg-type]
    held = tokenize_masked(Documents("toy", {"train": texts}, ""), config, TOY).splits["train"]
    assert isinstance(held, PairedSplit)
    return held


def examples(batch: Batch) -> list[tuple[list[int], list[int], int]]:
    """Both pieces of each example without marks, and whether the second follows."""
    text = torch.where(batch["targets"] == IGNORED, batch["tokens"], batch["targets"])
    found = []
    for n in range(len(text)):
        for k, start in enumerate(batch["starts"][n].tolist()):
            if (answer := int(batch["next_targets"][n, k])) == IGNORED:
                continue
            own = batch["documents"][n] == k
            assert int(own.nonzero()[0]) == start
            tokens, kinds = text[n][own], batch["segments"][n][own]
            first, second = tokens[kinds == 0].tolist(), tokens[kinds == 1].tolist()
            assert kinds.tolist() == sorted(kinds.tolist())
            assert (first[0], first[-1], second[-1]) == (TOY.begin, TOY.separator, TOY.separator)
            found.append((first[1:-1], second[:-1], answer))
    return found


def test_sentences():
    assert sentences("One. Two? 3.5 m (x!) And “so.” on") == [
        "One.",
        " Two?",
        " 3.5 m (x!)",
        " And “so.”",
        " on",
    ]
    assert sentences("山高。水长！“月明。”一\n二") == ["山高。", "水长！", "“月明。”", "一\n", "二"]
    assert sentences("a\n\n b\n") == ["a\n", "\n b\n"]
    assert sentences("a. \n ") == ["a. \n "]
    assert sentences(" ") == [" "]
    assert sentences("") == []


@given(st.text(alphabet='ab.!? \n。！”")', max_size=40))
def test_sentences_are_the_text(text: str):
    found = sentences(text)
    assert "".join(found) == text
    assert len(found) < 2 or all(sentence.strip() for sentence in found)


def test_pairs_cut_up_every_document():
    held = split()
    pairs = held._walk(5, 2)
    covered = [0] * int(held._firsts[-1])
    for first, cut, begin, stop, random in pairs.tolist():
        for sentence in range(first, stop if not random else cut):
            covered[sentence] += 1
        document = int(np.searchsorted(held._firsts, first, side="right"))
        other = int(np.searchsorted(held._firsts, begin, side="right"))
        assert first < cut
        assert begin < stop <= held._firsts[other]
        assert (other != document) if random else (begin == cut)
    assert covered == [1] * len(covered)


def test_half_of_the_second_pieces_are_random():
    long = toy_texts(60, seed=2, most=60)
    answers = np.concatenate([split(long)._walk(5, epoch)[:, 4] for epoch in range(20)])
    assert len(answers) > 5_000
    # a little more than half: the last sentence of a document has none to follow it
    assert 0.47 < np.mean(answers == RANDOM) < 0.6
    alone = split([*TEXTS[:2], *["one sentence"] * 30])._walk(5, 0)
    assert np.mean(alone[-30:, 4] == RANDOM) > 0.9


def test_pieces_are_gathered_until_they_fill_a_row():
    held = split(toy_texts(30, seed=2, most=60), short=0.0)
    sizes = held._places
    for first, cut, begin, stop, random in held._walk(5, 0).tolist():
        total = sizes[cut] - sizes[first] + sizes[stop] - sizes[begin]
        document = int(np.searchsorted(held._firsts, begin, side="right"))
        at_end = stop == held._firsts[document] if random else False
        document = int(np.searchsorted(held._firsts, first, side="right"))
        last = held._firsts[document] == (cut if random else stop)
        assert total >= 61 or at_end or last
        # without its last sentence it is not full
        assert total - (sizes[stop] - sizes[stop - 1]) < 61 or stop - begin == 1


def test_some_documents_are_cut_short():
    long = [text for text in toy_texts(80, seed=2, most=60) if len(text) > 800]
    for share, low, high in ((0.0, 0.0, 0.0), (0.1, 0.02, 0.25), (0.9, 0.7, 0.98)):
        held = split(long, short=share)
        firsts = []
        for epoch in range(3):
            pairs = held._walk(5, epoch)
            documents = np.searchsorted(held._firsts, pairs[:, 0], side="right")
            for number in set(documents.tolist()):
                first, cut, begin, stop, random = pairs[np.argmax(documents == number)].tolist()
                total = held._places[cut] - held._places[first] + held._places[stop] - held._places[begin]
                # a random second piece may be at the end of its document
                firsts += [] if random and stop in held._firsts else [total < 61]
        assert low <= np.mean(firsts) <= high


@pytest.mark.parametrize("packing", ["documents", "padded"])
def test_examples_are_marked_pieces_of_the_text(packing: str):
    held = split(packing=packing)
    told = [[TOY.encode_batch([one])[0] for one in sentences(text)] for text in TEXTS]
    joined = ["," + ",".join(str(token) for one in text for token in one) + "," for text in told]
    found: list[tuple[list[int], list[int], int]] = []
    for epoch in range(3):
        batch = held.gather(np.arange(len(held)), 5, epoch)
        assert batch["tokens"].shape[1] <= 64
        found = examples(batch)
        assert len(found) == len(held)
        for first, second, answer in found:
            one, two = ("," + ",".join(map(str, part)) + "," for part in (first, second))
            homes = [text for text in joined if one in text]
            assert homes
            assert any(two in text for text in joined)
            assert len(first) + len(second) <= 61
            if not answer:
                assert any(one[1:].rstrip(",") in text and two in text for text in homes)
    # a first piece that kept its end goes right on in a second that kept its beginning
    whole = [one + two for one, two, answer in found if not answer and len(one) + len(two) < 61]
    assert whole
    assert all(any("," + ",".join(map(str, both)) + "," in text for text in joined) for both in whole)


def test_long_pieces_lose_tokens_of_the_longer_from_both_ends():
    held = split(
        ["a b c d e f g h i j. " * 3] * 2, length=8
    )  # five tokens of two pieces, each sentence has 11
    found = examples(held.gather(np.arange(len(held)), 5, 0))
    assert {tuple(map(len, pair[:2])) for pair in found} == {(3, 2)}
    # the one that is cut an odd number of times more is the second, as both are as long
    held = split(toy_texts(50, seed=4), length=16)
    starts = ends = 0
    spans = [np.array([0, 40]), np.array([100, 130])]
    for number in range(300):
        (first, last), (begin, stop) = held._shortened(spans, number, 5, 0)
        assert (last - first, stop - begin) == (7, 6)
        assert 0 <= first <= last <= 40
        assert 100 <= begin <= stop <= 130
        starts, ends = starts + first, ends + 40 - last
    assert abs(starts / (starts + ends) - 0.5) < 0.02


def test_the_longer_piece_is_cut_one_token_at_a_time():
    held = split(toy_texts(50, seed=4), length=16)

    def slowly(sizes: list[int]) -> list[int]:
        while sum(sizes) > 13:
            sizes[0 if sizes[0] > sizes[1] else 1] -= 1
        return sizes

    for one in range(1, 30):
        for two in range(1, 30):
            spans = held._shortened([np.array([0, one]), np.array([0, two])], 0, 5, 0)
            assert [end - start for start, end in spans] == slowly([one, two])


def test_pairs_and_masks_are_a_function_of_seed_epoch_and_example():
    held, again = split(), split()
    index = np.array([3, 9, 4])
    batch, same = held.gather(index, 5, 1), again.gather(index, 5, 1)
    for name, value in batch.items():
        torch.testing.assert_close(value, same[name])
    assert examples(batch) != examples(held.gather(index, 5, 2))
    assert examples(batch) != examples(held.gather(index, 6, 1))
    first, second = ([one for part in sweep(held, size) for one in examples(part)] for size in (4, 7))
    assert first == second
    assert len(first) == len(held)


def test_every_number_of_an_epoch_has_a_pair():
    held = split()
    counts = {len(held._walk(5, epoch)) for epoch in range(6)}
    assert len(counts) > 1
    batches = Batches(held, len(held) - 3, 5)
    assert [len(examples(batches.batch(step))) for step in range(6)] == [len(held) - 3] * 6


def test_words_of_both_pieces_are_hidden_whole():
    held = split(whole_words=True, share=0.3)
    batch = held.gather(np.arange(20), 5, 1)
    plain = split(share=0.3).gather(np.arange(20), 5, 1)
    assert examples(batch) == examples(plain)
    # pieces of two letters: a word of three or more is hidden with its neighbour
    asked = (batch["targets"] != IGNORED).int()
    runs = (asked[:, 1:] & asked[:, :-1]).sum() / asked.sum()
    assert (
        runs
        > 1.3
        * ((plain["targets"] != IGNORED)[:, 1:] & (plain["targets"] != IGNORED)[:, :-1]).sum()
        / (plain["targets"] != IGNORED).sum()
    )


@pytest.mark.parametrize("texts", [["a. b. c. d."], ["one", "two", "three"]])
def test_text_without_pairs_is_refused(texts: list[str]):
    with pytest.raises(
        UserError, match=r"(?s)toy, train: too little text for pairs.*data.document=paragraph"
    ):
        split(texts)
