"""Generated rows: what each task asks, that chance is what is said, and that every row is a function."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.config import Config
from descent.data.batches import Batches
from descent.data.dataset import IGNORED, Batch, Dataset
from descent.data.generated import Draws, GeneratedSplit, load_generated
from descent.data.generated_config import TASKS, GeneratedData
from descent.errors import UserError


def rows(count: int, part: str = "train", seed: int | None = 1, epoch: int = 0, **settings: object) -> Batch:
    config = GeneratedData.read(settings)
    return GeneratedSplit(config, part, count).gather(np.arange(count), seed, epoch)


def loaded(**settings: object) -> Dataset:
    return load_generated(GeneratedData.read(settings))


def asked(batch: Batch) -> torch.Tensor:
    return batch["targets"] != IGNORED


def test_copying_asks_for_the_symbols_in_order_after_the_gap():
    batch = rows(50, task="copy", symbols=3, length=4, gap=6)
    tokens, targets = batch["tokens"], batch["targets"]
    assert tokens.shape == targets.shape == (50, 14)
    assert tokens[:, :4].max() == 2
    assert (tokens[:, 4:9] == 3).all()
    assert (tokens[:, 9] == 4).all()
    assert (tokens[:, 10:] == 3).all()
    assert_close(targets[:, 10:], tokens[:, :4])
    assert (targets[:, :10] == IGNORED).all()


@pytest.mark.parametrize("gap", [1, 2, 17])
def test_recall_asks_gap_steps_after_the_symbol(gap: int):
    batch = rows(200, task="recall", symbols=5, gap=gap)
    tokens, targets = batch["tokens"], batch["targets"]
    assert tokens.shape == (200, gap + 1)
    assert set(tokens[:, 0].tolist()) == set(range(5))
    assert ((tokens[:, 1:-1] >= 5) & (tokens[:, 1:-1] < 10)).all()
    assert (tokens[:, -1] == 10).all()
    assert asked(batch).nonzero().tolist() == [[row, gap] for row in range(200)]
    assert_close(targets[:, gap], tokens[:, 0])


@pytest.mark.parametrize("length", [2, 7, 50])
def test_adding_marks_one_number_of_each_half(length: int):
    batch = rows(300, task="adding", length=length)
    inputs, half = batch["inputs"], length // 2
    assert inputs.shape == (300, length, 2)
    assert inputs.dtype == batch["targets"].dtype == torch.float32
    assert batch["lengths"].tolist() == [length] * 300
    marks = inputs[:, :, 1]
    assert set(marks.unique().tolist()) <= {0.0, 1.0}
    assert (marks[:, :half].sum(1) == 1).all()
    assert (marks[:, half:].sum(1) == 1).all()
    assert marks.sum(0).min() > 0  # every step is marked in some row
    assert_close(batch["targets"], (inputs[:, :, 0] * marks).sum(1))


def test_the_sum_has_the_variance_that_is_given_as_chance():
    targets = rows(50_000, task="adding", length=4)["targets"].double()
    assert abs(((targets - 1) ** 2).mean() - 1 / 6) < 0.003
    assert loaded(task="adding").notes == ("chance: loss 0.1667 (always saying 1)",)


def test_parity_is_of_the_bits_so_far():
    every, end = (rows(100, task="parity", length=9, ask=ask) for ask in ("every", "end"))
    assert_close(every["tokens"], end["tokens"])
    for tokens, targets in zip(every["tokens"].tolist(), every["targets"].tolist(), strict=True):
        assert targets == [sum(tokens[: step + 1]) % 2 for step in range(9)]
    assert_close(end["targets"][:, -1], every["targets"][:, -1])
    assert asked(end).sum() == 100


def closed(tokens: list[int], kinds: int) -> list[int] | None:
    """The closing bracket wanted before each token, or None where the row is not balanced: the slow way."""
    stack: list[int] = []
    wanted = []
    for token in tokens:
        wanted.append(stack[-1] + kinds if stack else -1)
        if token < kinds:
            stack.append(token)
        elif not stack or stack.pop() != token - kinds:
            return None
    return None if stack else wanted


@pytest.mark.parametrize("kinds", [1, 2, 5])
def test_brackets_are_balanced_and_the_next_one_that_closes_is_asked_for(kinds: int):
    batch = rows(200, task="dyck", symbols=kinds, length=24)
    for tokens, targets in zip(batch["tokens"].tolist(), batch["targets"].tolist(), strict=True):
        wanted = closed(tokens, kinds)
        assert wanted is not None
        after = [*tokens[1:], -1]
        right = zip([*wanted[1:], -1], after, strict=True)
        assert targets == [want if following >= kinds else IGNORED for want, following in right]
    opening = batch["tokens"][batch["tokens"] < kinds]
    assert set(opening.tolist()) == set(range(kinds))


def test_every_balanced_row_is_as_likely():
    tokens = rows(28_000, task="dyck", symbols=1, length=8)["tokens"].tolist()
    possible = [row for row in itertools.product((0, 1), repeat=8) if closed(list(row), 1)]
    counts = [sum(tuple(row) == one for row in tokens) for one in possible]
    assert len(possible) == 14
    assert sum(counts) == 28_000
    assert max(abs(count - 2000) for count in counts) < 5 * math.sqrt(2000)


@pytest.mark.parametrize("kinds", [1, 3])
def test_half_of_the_rows_asked_at_the_end_have_one_wrong_bracket(kinds: int):
    batch = rows(1000, task="dyck", symbols=kinds, length=10, ask="end")
    assert asked(batch).nonzero()[:, 1].tolist() == [9] * 1000
    for tokens, answer in zip(batch["tokens"].tolist(), batch["targets"][:, -1].tolist(), strict=True):
        assert answer == 2 * kinds + (closed(tokens, kinds) is not None)
        assert max(tokens) < 2 * kinds
    assert 0.45 < (batch["targets"][:, -1] == 2 * kinds).float().mean() < 0.55


@pytest.mark.parametrize(
    ("task", "ask"),
    [(task, "every") for task in ("copy", "recall", "parity", "dyck")] + [("parity", "end"), ("dyck", "end")],
)
def test_the_most_common_answer_is_right_as_often_as_chance(task: str, ask: str):
    settings = {"task": task, "ask": ask, **({"gap": 3} if task in ("copy", "recall") else {})}
    dataset = loaded(**settings, validation=4000)
    batch = dataset.splits["validation"].gather(np.arange(4000))
    answers = batch["targets"][asked(batch)]
    chance = float(dataset.notes[0].split("accuracy ")[1].split(",")[0])
    assert abs(answers.bincount().max() / len(answers) - chance) < 0.03
    assert f"loss {-math.log(chance):.4f}" in dataset.notes[0]
    assert max(int(batch["tokens"].max()), int(answers.max())) < dataset.sizes["vocab_size"]
    assert dataset.splits["validation"].answers


@pytest.mark.parametrize("task", TASKS)
def test_a_row_is_a_function_of_seed_epoch_and_number(task: str):
    split = GeneratedSplit(GeneratedData.read({"task": task}), "train", 1000)
    whole = split.gather(np.arange(40), 3, 2)
    again = GeneratedSplit(split.config, "train", 1000).gather(np.array([31, 7, 7]), 3, 2)
    for name, values in again.items():
        assert_close(values, whole[name][[31, 7, 7]], rtol=0, atol=0)
    name = next(iter(whole))
    for seed, epoch in ((4, 2), (3, 3), (2, 3), (None, 2)):
        assert not torch.equal(split.gather(np.arange(40), seed, epoch)[name], whole[name])


def test_batches_go_on_without_end_and_never_repeat():
    batches = Batches(GeneratedSplit(GeneratedData(task="recall", gap=20), "train", 10), 8, seed=1)
    seen = {tuple(row) for step in range(100) for row in batches.batch(step)["tokens"].tolist()}
    assert len(seen) == 800


def test_held_out_rows_are_fixed_and_stand_in_no_other_part():
    splits = loaded(task="recall", gap=20).splits
    parts = {
        name: {tuple(row) for row in split.gather(np.arange(1000))["tokens"].tolist()}
        for name, split in splits.items()
    }
    trained = {
        tuple(row)
        for seed, epoch in itertools.product((1, 2), (0, 1))
        for row in splits["train"].gather(np.arange(1000), seed, epoch)["tokens"].tolist()
    }
    assert len(trained) == 4000
    for one, other in itertools.combinations([*parts.values(), trained], 2):
        assert not one & other
    for part in ("validation", "test"):
        with_seed = splits[part].gather(np.arange(5), 1, 3)
        assert_close(with_seed["tokens"], splits[part].gather(np.arange(5))["tokens"])


def test_rows_are_pinned():
    """The same on every machine, for every version of numpy: resuming a run depends on it."""
    assert Draws(np.uint64(1), np.array([0, 2**20])).words(2).tolist() == [
        [10451216379200822465, 13757245211066428519],
        [2390134888557550635, 14557015107163794514],
    ]
    assert rows(2, task="recall", gap=6)["tokens"].tolist() == [
        [2, 14, 8, 14, 12, 8, 16],
        [2, 14, 14, 8, 11, 8, 16],
    ]


def test_draws_are_even_and_independent_between_rows_and_places():
    numbers = Draws(np.uint64(7), np.arange(20_000)).unit(16)
    np.testing.assert_allclose(np.histogram(numbers, 10, (0, 1))[0], 32_000, rtol=0.03)
    assert np.abs(np.corrcoef(numbers.T) - np.eye(16)).max() < 0.035
    for distance in (1, 2, 256):
        pairs = np.corrcoef(numbers[:-distance].ravel(), numbers[distance:].ravel())
        assert abs(pairs[0, 1]) < 0.01
    draws = Draws(np.uint64(7), np.arange(3))
    assert (draws.unit(2) == numbers[:3, :2]).all()
    assert (draws.unit(14) == numbers[:3, 2:]).all()


def test_the_dataset_says_what_a_model_needs():
    adding = loaded(task="adding", length=6, examples=7)
    assert adding.sizes == {"inputs": (2,), "outputs": 1}
    assert not adding.splits["train"].answers
    assert len(adding.splits["train"]) == 7
    recall = loaded(task="recall", symbols=4, gap=3, validation=2, test=3)
    assert recall.sizes == {"vocab_size": 9}
    assert recall.summary() == (
        "recall: train 10,000 rows of 4 steps, validation 2 rows of 4 steps, test 3 rows of 4 steps; "
        "chance: accuracy 0.25, loss 1.3863 nats (4 answers)"
    )
    assert recall.fingerprint == loaded(task="recall", symbols=4, gap=3, validation=2, test=3).fingerprint
    assert recall.fingerprint != loaded(task="recall", symbols=4, gap=4, validation=2, test=3).fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "adding", "gap": 5}, "gap has no meaning in the task adding"),
        ({"task": "recall", "length": 5}, "length has no meaning in the task recall"),
        ({"task": "parity", "symbols": 2}, "symbols has no meaning in the task parity"),
        ({"task": "copy", "symbols": 1}, "symbols must be at least 2 in the task copy"),
        ({"task": "adding", "length": 1}, "length must be at least 2 in the task adding"),
        ({"task": "dyck", "length": 7}, "length must be even in the task dyck"),
        ({"task": "recall", "ask": "end"}, "ask=end has no meaning in the task recall"),
        ({"task": "sorting"}, "sorting"),
        ({"task": "recall", "path": "x"}, "path"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], message: str):
    with pytest.raises(UserError, match=message):
        GeneratedData.read(settings)


def test_sizes_that_are_not_given_are_the_tasks_own():
    assert issubclass(GeneratedData, Config)
    assert GeneratedData(task="copy", gap=7).sizes == {**TASKS["copy"], "gap": 7}
    assert GeneratedData(task="dyck", symbols=1).sizes == {"symbols": 1, "length": 40}
