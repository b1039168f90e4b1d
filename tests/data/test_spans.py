"""Spans cut out of text: how many, where, and that nothing of the text is lost."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from masked_toys import ToyTokenizer, toy_texts

from descent.data import Batches, sweep
from descent.data.load import Documents
from descent.data.masked_config import SpansData
from descent.data.random import bits
from descent.data.spans import Cut, SpanSplit, corrupted, noise_mask, tokenize_spans
from descent.errors import UserError

END, FIRST = 1, 200


class Sentinelled(ToyTokenizer):
    end = END
    sentinels = tuple(range(FIRST + 99, FIRST - 1, -1))  # as published: downwards
    vocab_size = 300


TOY = Sentinelled()


def split(texts: list[str] | None = None, **options: object) -> SpanSplit:
    documents = Documents("toy", {"train": toy_texts(60) if texts is None else texts}, "")
    config = SpansData(path="x", **{"length": 64, **options})  # type: ignore[arg-type]
    held = tokenize_spans(documents, config, TOY).splits["train"]
    assert isinstance(held, SpanSplit)
    return held


def test_lengths_are_those_of_the_paper():
    cut = Cut.filling(512, 0.15, 3.0)
    assert (cut.text, cut.noise, cut.spans, cut.source, cut.target) == (568, 85, 28, 512, 114)
    # the next token of text would make the source longer
    assert Cut.of(569, 0.15, 3.0).source == 513


@pytest.mark.parametrize("share", [0.1, 0.15, 0.3, 0.5])
@pytest.mark.parametrize("mean", [1.0, 3.0, 10.0])
@pytest.mark.parametrize("source", [8, 9, 64, 255])
def test_a_source_is_filled_exactly(source: int, share: float, mean: float):
    cut = Cut.filling(source, share, mean)
    assert cut.source == source - (share == 0.5 and mean == 1 and source % 2 == 0)
    assert 1 <= cut.spans <= min(cut.noise, cut.text - cut.noise)
    assert cut.target == cut.noise + cut.spans + 1


def test_masks_have_the_number_of_tokens_and_of_spans():
    cut = Cut.filling(64, 0.15, 3.0)
    for row in range(200):
        mask = noise_mask(cut, bits(1, 0, "spans", cut.text, row))
        assert len(mask) == cut.text
        assert mask.sum() == cut.noise
        assert not mask[0]
        assert mask[-1]
        assert (np.diff(mask.astype(int)) == 1).sum() == cut.spans


def test_every_division_is_as_likely():
    cut = Cut(6, 3, 2)
    counts = Counter(tuple(noise_mask(cut, bits(1, 0, "spans", 6, row)).tolist()) for row in range(4000))
    # three kept tokens in two spans: 1 + 2 or 2 + 1, and likewise of those cut out
    assert len(counts) == 4
    assert max(counts.values()) < 1.15 * 1000
    assert min(counts.values()) > 0.85 * 1000


def test_a_row_by_hand():
    text = np.array([11, 12, 13, 14, 15, 16, 17, 18])
    mask = np.array([0, 0, 1, 1, 0, 0, 0, 1], dtype=bool)
    source, target = corrupted(text, mask, np.array([90, 91]), end=1)
    assert source.tolist() == [11, 12, 90, 15, 16, 17, 91, 1]
    assert target.tolist() == [90, 13, 14, 91, 18, 1]


def restored(source: list[int], target: list[int]) -> list[int]:
    """The text of both sides put together."""
    spans: dict[int, list[int]] = {}
    held: list[int] = []
    for token in target[:-1]:
        if token >= FIRST:
            spans[token] = held = []
        else:
            held.append(token)
    assert source[-1] == target[-1] == END
    return [token for one in source[:-1] for token in (spans[one] if one >= FIRST else [one])]


def test_both_sides_put_together_are_the_text():
    held = split()
    ids = [token for one in TOY.encode_batch(toy_texts(60)) for token in (*one, END)]
    batch = held.gather(np.arange(held.whole))
    text = [token for row in zip(*sides(batch), strict=True) for token in restored(*row)]
    assert text == ids[: held.whole * held.cut.text]
    sentinels = [token for token in batch["source"][0].tolist() if token >= FIRST]
    assert sentinels == list(TOY.sentinels[: held.cut.spans])
    assert sentinels == [token for token in batch["targets"][0].tolist() if token >= FIRST]


def sides(batch: dict[str, torch.Tensor]) -> tuple[list[list[int]], list[list[int]]]:
    return batch["source"].tolist(), batch["targets"].tolist()


def test_no_row_is_padded_and_the_decoder_reads_what_it_wrote():
    held = split()
    batch = Batches(held, 9, 3).batch(2)
    assert batch["source"].shape == (9, 64)
    assert batch["source_lengths"].tolist() == [64] * 9
    assert batch["targets"].shape == batch["tokens"].shape == (9, held.cut.target)
    assert batch["tokens"][:, 0].tolist() == [TOY.pad] * 9
    torch.testing.assert_close(batch["tokens"][:, 1:], batch["targets"][:, :-1])


def test_every_epoch_shifts_the_rows_and_cuts_anew():
    held = split()
    index = np.arange(5)
    batch, same = held.gather(index, 3, 1), held.gather(index, 3, 1)
    torch.testing.assert_close(batch["source"], same["source"])
    assert not torch.equal(batch["source"], held.gather(index, 3, 2)["source"])
    assert not torch.equal(batch["source"], held.gather(index, 4, 1)["source"])
    texts = {
        tuple(restored(*row)) for e in range(30) for row in zip(*sides(held.gather(index, 3, e)), strict=True)
    }
    assert len(texts) > 60
    # one place of the text is cut out in some epochs and kept in others
    whole = [restored(*row) for row in zip(*sides(held.gather(np.arange(len(held)), 3, 1)), strict=True)]
    assert len({tuple(row) for row in whole}) == len(held)
    first, again = (torch.cat([batch["source"] for batch in sweep(held, size)]) for size in (4, 5))
    torch.testing.assert_close(first, again)
    assert len(first) == held.whole


def test_a_text_of_one_row():
    size = Cut.filling(64, 0.15, 3.0).text
    held = split([("a " * (size - 1)).strip()])
    assert (len(held), held.whole) == (1, 1)
    assert held.gather(np.array([0]), 3, 7)["source"].shape == (1, 64)
    with pytest.raises(
        UserError, match=r"(?s)toy: the train text is shorter than a row.*69 tokens.*at least 70"
    ):
        split([("a " * (size - 2)).strip()])


def test_too_few_sentinels_are_refused():
    documents = Documents("toy", {"train": toy_texts(60)}, "")
    with pytest.raises(UserError, match=r"(?s)too few sentinels.*tokenizer.marks=t5"):
        tokenize_spans(documents, SpansData(path="x", length=64), ToyTokenizer())
    with pytest.raises(UserError, match=r"(?s)100 sentinels, 114 spans a row.*smaller data.length"):
        tokenize_spans(documents, SpansData(path="x", length=2048), TOY)
    with pytest.raises(UserError, match="share is at most"):
        SpansData.read({"path": "x", "share": 0.6}, where="data")
