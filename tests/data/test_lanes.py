"""Lanes: pieces follow one another, what is carried is told, and a sweep predicts every token once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from descent.data import load_text, tokenize
from descent.data.batches import Batches, sweep
from descent.data.config import TextData
from descent.data.dataset import IGNORED
from descent.data.lanes import LaneSplit
from descent.data.load import SCORED_LANES
from descent.errors import UserError
from descent.text import TokenizerConfig, obtain


def counted(tokens: int, length: int, lanes: int) -> LaneSplit:
    """A text whose tokens are their own places."""
    return LaneSplit(np.arange(tokens), length, lanes)


@given(tokens=st.integers(2, 400), length=st.integers(1, 9), lanes=st.integers(1, 7), seed=st.integers(0, 50))
def test_batches_follow_one_another(tokens: int, length: int, lanes: int, seed: int) -> None:
    split = counted(tokens, length, lanes)
    if not len(split):
        with pytest.raises(UserError, match="too short for its lanes"):
            split.check_trainable("text")
        return
    batches, pieces = Batches(split, lanes, seed), len(split) // lanes
    for epoch in range(2):
        held = [batches.batch(epoch * pieces + step) for step in range(pieces)]
        for step, batch in enumerate(held):
            assert batch["tokens"].shape == batch["targets"].shape == (lanes, length)
            assert torch.equal(batch["targets"], batch["tokens"] + 1)
            assert batch["carried"].tolist() == [step > 0] * lanes
            if step:
                assert torch.equal(batch["tokens"][:, 0], held[step - 1]["targets"][:, -1])
        read = torch.cat([batch["tokens"] for batch in held], 1)
        assert torch.equal(read, read[:, :1] + torch.arange(pieces * length))
        assert len(torch.unique(read)) == read.numel()  # lanes do not overlap
        assert int(read.max()) + 1 < tokens
        left = tokens - 1 - read.numel()
        assert 0 <= int(read.min()) <= left < lanes * length


def test_epochs_start_at_other_places_and_again_at_the_same() -> None:
    split = counted(1000, 7, 3)
    starts = [int(split.gather(np.array([0]), seed=1, epoch=epoch)["tokens"][0, 0]) for epoch in range(40)]
    assert len(set(starts)) > 5
    assert starts == [int(split.gather(np.array([0]), 1, epoch)["tokens"][0, 0]) for epoch in range(40)]
    assert starts != [int(split.gather(np.array([0]), 2, epoch)["tokens"][0, 0]) for epoch in range(40)]
    assert int(split.gather(np.array([0]))["tokens"][0, 0]) == 0


@given(tokens=st.integers(2, 300), length=st.integers(1, 9), lanes=st.integers(1, 40))
def test_a_sweep_predicts_every_token_but_the_first_once(tokens: int, length: int, lanes: int) -> None:
    split = counted(tokens, length, lanes)
    seen: list[int] = []
    before: torch.Tensor | None = None
    for number, batch in enumerate(sweep(split, lanes)):
        asked = batch["targets"] != IGNORED
        assert len(asked) == lanes
        assert torch.equal(batch["targets"][asked], batch["tokens"][asked] + 1)
        assert batch["carried"].tolist() == [number > 0] * lanes
        for lane in range(lanes):
            if before is not None and asked[lane].any():  # a lane reads on where it was
                assert batch["tokens"][lane, 0] == before[lane, -1]
            assert not (asked[lane, 1:] & ~asked[lane, :-1]).any()  # nothing but padding after padding
        before = batch["targets"]
        seen += batch["targets"][asked].tolist()
    assert sorted(seen) == list(range(1, tokens))


def test_padding_is_the_mark() -> None:
    split = LaneSplit(np.arange(1, 12), 4, 3, pad=0)
    held = list(sweep(split, 3))
    padded = torch.cat([b["tokens"][b["targets"] == IGNORED] for b in held])
    assert len(padded)
    assert not padded.any()


def test_a_text_too_short_is_refused() -> None:
    with pytest.raises(UserError, match="the text is too short"):
        counted(1, 4, 1)
    with pytest.raises(UserError) as error:
        counted(24, 4, 6).check_trainable("a poem")
    for part in ("a poem: the text is too short for its lanes", "24 tokens", "at least 25: 6 lanes of 4"):
        assert part in str(error.value)
    assert "budget.batch_size (the number of lanes) or data.length" in str(error.value)
    counted(25, 4, 6).check_trainable("a poem")


@pytest.mark.parametrize("kind", ["byte", "char"])
def test_chinese_text_is_read_on(tmp_path: Path, kind: str) -> None:
    poem = "床前明月光，疑是地上霜。举头望明月，低头思故乡。🌙\n"
    (tmp_path / "poem.txt").write_text(poem * 40, encoding="utf-8")
    config = TextData(path=str(tmp_path / "poem.txt"), packing="lanes", length=6)
    documents = load_text(config)
    tokenizer = obtain(TokenizerConfig(kind=kind), documents.splits["train"])
    dataset = tokenize(documents, config, tokenizer, lanes=5)
    train, held = dataset.splits["train"], dataset.splits["validation"]
    assert isinstance(train, LaneSplit)
    assert isinstance(held, LaneSplit)
    assert (train.lanes, train.ordered) == (5, True)
    assert held.lanes == min(SCORED_LANES, len(held.tokens) - 1)
    assert train.describe() == f"{len(train.tokens):,} tokens in 5 lanes"
    text = "".join(documents.splits["train"])
    batches = Batches(train, 5, seed=1)
    read = torch.cat([batches.batch(step)["tokens"] for step in range(len(train) // 5)], 1)
    for lane in read:
        piece = tokenizer.decode(lane.tolist()).strip("�")
        assert piece in text
        assert len(piece) > 20
    validation = "".join(documents.splits["validation"])
    row = torch.full((held.lanes, 0), 0)
    for batch in sweep(held, held.lanes):
        row = torch.cat([row, batch["targets"]], 1)
    targets = [int(token) for lane in row for token in lane if token != IGNORED]
    first = tokenizer.encode(validation)[0]
    assert tokenizer.decode([first, *targets]) == validation
    assert held.bytes == len(validation.encode()) - len(tokenizer.token_bytes(first))


def test_few_tokens_are_scored_in_as_many_lanes(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("abcdefghij" * 12, encoding="utf-8")
    config = TextData(path=str(tmp_path / "short.txt"), packing="lanes", length=4, validation=0.05)
    documents = load_text(config)
    tokenizer = obtain(TokenizerConfig(kind="byte"), documents.splits["train"])
    split = tokenize(documents, config, tokenizer, lanes=3).splits["validation"]
    assert isinstance(split, LaneSplit)
    assert split.lanes == len(split.tokens) - 1 < SCORED_LANES
    targets = torch.cat([batch["targets"].flatten() for batch in sweep(split, split.lanes)])
    assert targets[targets != IGNORED].tolist() == split.tokens[1:].tolist()
