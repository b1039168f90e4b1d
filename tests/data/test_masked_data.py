"""Masked rows: which tokens are hidden, by what, and that seed, epoch and row alone decide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from masked_toys import ToyTokenizer, toy_texts

from descent.data import Batches, sweep
from descent.data.dataset import IGNORED, Batch
from descent.data.load import Documents
from descent.data.masked import MaskedSplit, tokenize_masked
from descent.data.masked_config import MaskedData
from descent.data.masking import Masking, joined, words
from descent.errors import UserError

TOY = ToyTokenizer()


def split(**options: object) -> MaskedSplit:
    texts = toy_texts(60)
    documents = Documents("toy", {"train": texts}, "")
    found = tokenize_masked(documents, MaskedData(path="x", **{"length": 32, **options}), TOY)  # type: ignore[arg-type]
    held = found.splits["train"]
    assert isinstance(held, MaskedSplit)
    return held


def whole(held: MaskedSplit, seed: int | None, epoch: int = 0) -> Batch:
    return held.gather(np.arange(len(held)), seed, epoch)


def as_it_was(batch: Batch) -> torch.Tensor:
    return torch.where(batch["targets"] == IGNORED, batch["tokens"], batch["targets"])


def pieces_of(batch: Batch) -> list[list[int]]:
    """The documents of all rows, between their marks."""
    found = []
    for row, numbers in zip(as_it_was(batch).tolist(), batch["documents"].tolist(), strict=True):
        for number in range(max(numbers) + 1):
            own = [token for token, place in zip(row, numbers, strict=True) if place == number]
            if own[0] != TOY.pad:
                found.append(own)
    return found


@pytest.mark.parametrize("packing", ["documents", "padded"])
def test_every_token_of_every_document_is_in_one_row(packing: str):
    batch = whole(split(packing=packing), 3)
    wanted = []
    for ids in TOY.encode_batch(toy_texts(60)):
        wanted += [[TOY.begin, *ids[at : at + 30], TOY.separator] for at in range(0, len(ids), 30)]
    assert sorted(pieces_of(batch)) == sorted(wanted)
    for numbers, places in zip(batch["documents"].tolist(), batch["positions"].tolist(), strict=True):
        assert numbers == sorted(numbers)
        assert places == [index - numbers.index(number) for index, number in enumerate(numbers)]


def test_packed_rows_are_all_but_full():
    held = split()
    batch = whole(held, 3)
    assert batch["tokens"].shape == (len(held), 32)
    assert (batch["tokens"] != TOY.pad).float().mean() > 0.95
    # padded, a batch is as wide as its longest document
    padded = split(packing="padded")
    short = np.array([int(padded._used_N.argmin())])
    assert padded.gather(short)["tokens"].shape == (1, int(padded._used_N.min()))


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_the_share_of_a_row_is_hidden_and_no_mark(share: float):
    batch = whole(split(share=share), 3)
    text = as_it_was(batch) > TOY.mask
    asked = batch["targets"] != IGNORED
    assert not (asked & ~text).any()
    wanted = [max(1, round(share * int(row.sum()))) for row in text]
    assert asked.sum(1).tolist() == wanted


def test_eight_in_ten_are_masked_one_is_another_and_one_stays():
    held = split()
    asked = masked = same = other = 0
    for epoch in range(50):
        batch = whole(held, 1, epoch)
        chosen = batch["targets"] != IGNORED
        tokens, targets = batch["tokens"][chosen], batch["targets"][chosen]
        assert not torch.isin(tokens[tokens != TOY.mask], torch.tensor([0, 1, 2, 3])).any()
        asked += len(tokens)
        masked += int((tokens == TOY.mask).sum())
        same += int((tokens == targets).sum())
        other += int(((tokens != TOY.mask) & (tokens != targets)).sum())
        rest = ~chosen
        torch.testing.assert_close(batch["tokens"][rest], as_it_was(batch)[rest])
    assert asked > 10_000
    assert abs(masked / asked - 0.8) < 0.015
    assert abs(same / asked - (0.1 + 0.1 / 100)) < 0.012  # one in a hundred random tokens is the token itself
    assert abs(other / asked - 0.1 * 0.99) < 0.012


def test_every_place_is_hidden_as_often():
    held = split(share=0.3)
    counts = (
        sum((held.gather(np.arange(5), 1, epoch)["targets"] != IGNORED).double() for epoch in range(800))
        / 800
    )
    assert isinstance(counts, torch.Tensor)
    text = as_it_was(whole(held, 1))[:5] > TOY.mask
    assert counts[~text].max() == 0
    assert counts[text].min() > 0.22
    assert counts[text].max() < 0.38


def test_masks_are_a_function_of_seed_epoch_and_row():
    held = split()
    batch = whole(held, 3, 1)
    for name, value in whole(held, 3, 1).items():
        torch.testing.assert_close(value, batch[name])
    for other in (whole(held, 3, 2), whole(held, 4, 1)):
        assert (other["targets"] != batch["targets"]).any(1).all()
        torch.testing.assert_close(as_it_was(other), as_it_was(batch))
    few = held.gather(np.array([7, 2]), 3, 1)
    torch.testing.assert_close(few["targets"], batch["targets"][[7, 2]])
    torch.testing.assert_close(few["tokens"], batch["tokens"][[7, 2]])
    places = batch["targets"] != IGNORED
    assert (places[0] != places[1]).any()


def test_an_evaluation_has_the_same_masks_each_time():
    held = split()
    first, again = (torch.cat([batch["targets"] for batch in sweep(held, size)]) for size in (4, 5))
    torch.testing.assert_close(first, again)
    assert (first != IGNORED).any()


def test_batches_over_the_end_of_an_epoch():
    held = split(packing="padded")
    batches = Batches(held, 50, 3)
    size = len(held)
    batch = batches.batch(size // 50)
    assert len(batch["tokens"]) == 50
    assert sorted(len(set(row)) for row in batch["documents"].tolist())[0] >= 1
    last = Batches(held, 1, 3).batch(size // 50 * 50)
    width = last["tokens"].shape[1]
    torch.testing.assert_close(batch["tokens"][:1, :width], last["tokens"])
    assert (batch["tokens"][0, width:] == TOY.pad).all()
    assert (batch["documents"][0, width:] == last["documents"].max() + 1).all()
    assert (batch["targets"][0, width:] == IGNORED).all()


def test_joined_rows_keep_to_their_own_width():
    def part(width: int) -> Batch:
        ones = torch.ones(2, width, dtype=torch.long)
        return {
            "tokens": ones * 9,
            "documents": ones,
            "targets": ones * 9,
            "next_targets": ones[:, : width // 2],
        }

    found = joined([part(2), part(4)], filling=0)
    assert found["tokens"].tolist() == [[9, 9, 0, 0]] * 2 + [[9] * 4] * 2
    assert found["documents"].tolist() == [[1, 1, 2, 2]] * 2 + [[1] * 4] * 2
    assert found["targets"].tolist() == [[9, 9, -100, -100]] * 2 + [[9] * 4] * 2
    assert found["next_targets"].tolist() == [[1, -100]] * 2 + [[1, 1]] * 2


def numbered(text: str, *spans: tuple[int, int]) -> list[int]:
    return words(text, spans).tolist()


def test_words_of_pieces():
    # pieces of bytes begin with the white space before them
    assert numbered("the river runs", (0, 3), (3, 7), (7, 9), (9, 11), (11, 14)) == [1, 2, 2, 3, 3]
    # others leave it out
    assert numbered("the river", (0, 3), (4, 7), (7, 9)) == [1, 2, 2]
    assert numbered("don't.", (0, 3), (3, 4), (4, 5), (5, 6)) == [1, 2, 3, 4]
    assert numbered("山水 im 月", (0, 1), (1, 2), (2, 4), (4, 5), (5, 7)) == [1, 2, 3, 3, 4]
    assert numbered("x山", (0, 1), (1, 2)) == [1, 2]
    # two pieces of the bytes of one character, and of one beyond letters
    assert numbered("a山b", (0, 1), (1, 2), (1, 2), (2, 3)) == [1, 2, 2, 3]
    assert numbered("é2", (0, 1), (0, 1), (1, 2)) == [1, 1, 1]


@pytest.mark.parametrize("share", [0.15, 0.3])
def test_whole_words_are_hidden_together(share: float):
    held = split(whole_words=True, share=share)
    torch.testing.assert_close(as_it_was(whole(held, 1)), as_it_was(whole(split(share=share), 1)))
    numbers = held._words_NT.astype(int)
    for epoch in range(5):
        batch = whole(held, 1, epoch)
        asked = (batch["targets"] != IGNORED).numpy()
        for row, chosen in zip(numbers, asked, strict=True):
            budget = max(1, round(share * int((row > 0).sum())))
            assert chosen.sum() <= budget or len(set(row[chosen])) == 1
            for word in set(row[chosen]):
                assert chosen[row == word].all()
            assert not chosen[row == 0].any()
    assert (np.unique(numbers[0][numbers[0] > 0], return_counts=True)[1] > 1).any()


def test_the_words_of_two_documents_in_a_row_differ():
    held = split(whole_words=True)
    batch = whole(held, 1)
    for row, numbers in zip(held._words_NT, batch["documents"].numpy(), strict=True):
        for word in set(row[row > 0].tolist()):
            assert len(set(numbers[row == word].tolist())) == 1


def test_a_long_word_alone_is_hidden_whole():
    masking = Masking(0.15, 4, np.arange(5, 9))
    read, targets = masking.apply(np.array([[5, 6, 7, 8]]), np.array([[1, 1, 1, 1]]), [0], 1, 0)
    assert (targets == [[5, 6, 7, 8]]).all()
    assert read.shape == (1, 4)


def test_rows_without_text_have_nothing_to_find():
    masking = Masking(0.15, 4, np.arange(5, 9))
    read, targets = masking.apply(np.array([[2, 3]]), np.array([[0, 0]]), [0], 1, 0)
    assert read.tolist() == [[2, 3]]
    assert targets.tolist() == [[IGNORED, IGNORED]]


def test_a_tokenizer_without_marks_is_refused():
    from descent.data.load import load_text
    from descent.text import train

    documents = load_text(MaskedData(source="python-docs"), False)
    with pytest.raises(UserError, match=r"(?s)no mark to hide a token.*tokenizer.marks=bert"):
        tokenize_masked(documents, MaskedData(source="python-docs"), train("byte", ["x"]))
    with pytest.raises(UserError, match="no text to mask"):
        tokenize_masked(Documents("toy", {"train": [" "]}, ""), MaskedData(path="x"), TOY)


def test_real_pieces_of_words():
    from descent.data.load import load_text
    from descent.text import train

    texts = load_text(MaskedData(source="python-docs"), False).texts("train")[:8]
    documents = Documents("docs", {"train": texts}, "")
    tokenizer = train("bpe", texts, 600, marks="bert")
    config = MaskedData(source="python-docs", whole_words=True, length=64, validation=0, test=0)
    held = tokenize_masked(documents, config, tokenizer).splits["train"]
    batch = held.gather(np.arange(12), 1, 0)
    text = tokenizer.decode(
        [token for token in as_it_was(batch)[0].tolist() if token not in tokenizer.special]
    )
    assert any(text.strip()[:40] in document for document in documents.texts("train"))
    hidden = batch["targets"][0].tolist()
    for place, token in enumerate(hidden[1:], 1):
        if token != IGNORED and tokenizer.decode([token])[:1].isalpha():
            # a piece that begins inside a word is hidden only with the piece before it
            assert (
                hidden[place - 1] != IGNORED
                or as_it_was(batch)[0, place - 1] in (tokenizer.begin,)
                or not (tokenizer.decode([int(as_it_was(batch)[0, place - 1])])[-1:].isalnum())
            )
