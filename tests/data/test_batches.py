"""batch(step) is a function: of the seed and the step, not of ranks, restarts or threads."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from descent.data import ArraySplit, Batch, Batches, ImageSplit, StreamSplit, prefetch, sweep
from descent.data.augment_config import PRESETS
from descent.data.dataset import Split
from descent.data.random import bits, permutation, uniform
from descent.errors import UserError


def numbered(count: int) -> ArraySplit:
    return ArraySplit({"inputs": torch.arange(count), "targets": torch.arange(count) * 2})


def visits(batches: Batches, start: int, stop: int) -> list[int]:
    return [number for step in range(start, stop) for number in batches.batch(step)["inputs"].tolist()]


@given(count=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(-5, 2**70))
def test_each_epoch_visits_everything_once_in_an_order_of_its_own(count: int, batch_size: int, seed: int):
    batches = Batches(numbered(count), batch_size, seed)
    steps = 3 * count
    run = visits(batches, 0, steps)
    epochs = [run[start : start + count] for start in range(0, len(run) - count + 1, count)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    if count >= 20:
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_a_step_is_the_same_whenever_and_wherever_it_is_computed():
    first = Batches(numbered(23), 7, seed=3)
    run = [first.batch(step)["inputs"].tolist() for step in range(40)]
    for step in (39, 0, 17, 3, 38):
        assert Batches(numbered(23), 7, seed=3).batch(step)["inputs"].tolist() == run[step]
    assert Batches(numbered(23), 7, seed=4).batch(0)["inputs"].tolist() != run[0]
    assert first.batch(10**12)["inputs"].shape == (7,)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 12])
def test_ranks_share_the_same_batch(ranks: int):
    whole = Batches(numbered(31), 12, seed=0)
    parts = [Batches(numbered(31), 12, seed=0, ranks=ranks, rank=rank) for rank in range(ranks)]
    for step in range(10):
        joined = torch.cat([part.batch(step)["targets"] for part in parts])
        assert_close(joined, whole.batch(step)["targets"])


@pytest.mark.parametrize(("batch_size", "ranks"), [(10, 3), (0, 1), (2, 4)])
def test_a_batch_that_cannot_be_shared_is_refused(batch_size: int, ranks: int):
    with pytest.raises(UserError, match=f"a batch of {batch_size} cannot be shared by {ranks} processes"):
        Batches(numbered(5), batch_size, 0, ranks=ranks)


def test_the_order_is_pinned():
    """The same on every machine, for every version of numpy: resuming a run depends on it."""
    assert permutation(0, 0, 10).tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert permutation(1234, 5, 10).tolist() == [4, 5, 1, 3, 2, 8, 7, 0, 9, 6]
    assert bits(0, 0, "offset", 2).tolist() == [6312158256571094726, 10634814581434429480]


def test_purposes_are_independent():
    assert bits(1, 2, "order", 4).tolist() != bits(1, 2, "offset", 4).tolist()
    numbers = uniform(7, 0, "affine", (10_000, 6))
    assert numbers.dtype == np.float32
    assert (numbers.min() >= 0) & (numbers.max() < 1)
    np.testing.assert_allclose(np.histogram(numbers, 10, (0, 1))[0], 6000, rtol=0.05)


def test_a_sweep_is_everything_once_in_order():
    batches = list(sweep(numbered(10), 4))
    assert [len(batch["inputs"]) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch["inputs"] for batch in batches]).tolist() == list(range(10))


@given(count=st.integers(2, 200), length=st.integers(1, 20))
def test_a_sweep_of_a_stream_predicts_every_token_but_the_first_once(count: int, length: int):
    tokens = np.arange(count, dtype=np.uint16) + 7
    split = StreamSplit(tokens, length, pad=0)
    assert split.whole == -(-(count - 1) // length)
    rows = list(sweep(split, 3))
    inputs = torch.cat([row["tokens"] for row in rows]).reshape(-1)
    targets = torch.cat([row["targets"] for row in rows]).reshape(-1)
    kept = targets != -100
    assert targets[kept].tolist() == tokens[1:].tolist()
    assert inputs[kept].tolist() == tokens[:-1].tolist()
    assert set(inputs[~kept].tolist()) <= {0, int(tokens[-1])}
    assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)


@given(count=st.integers(5, 300), length=st.integers(1, 12), seed=st.integers(0, 99), epoch=st.integers(0, 9))
def test_a_training_epoch_of_a_stream_is_whole_rows_without_overlap(
    count: int, length: int, seed: int, epoch: int
):
    if count <= length:
        return
    split = StreamSplit(np.arange(count, dtype=np.uint16), length)
    rows = split.gather(np.arange(len(split)), seed, epoch)
    assert_close(rows["tokens"] + 1, rows["targets"])
    seen = rows["tokens"].reshape(-1).tolist()
    assert seen == list(range(seen[0], seen[0] + len(split) * length))
    assert seen[0] == split.offset(seed, epoch) < max(length, count - length)
    assert len(split) >= (count - 1) // length - 1


def test_epochs_shift_a_stream_so_that_every_cut_is_tried():
    split = StreamSplit(np.arange(1000, dtype=np.uint16), 8)
    assert {split.offset(0, epoch) for epoch in range(200)} == set(range(8))
    assert split.offset(None, 5) == 0


def images(count: int = 12) -> ImageSplit:
    pixels = torch.randint(
        0, 256, (count, 1, 14, 14), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    return ImageSplit(pixels, torch.arange(count), [0.25], [0.5], PRESETS["affine"])


def test_augmentation_belongs_to_the_image_and_the_epoch_alone():
    split = images()
    alone = split.gather(np.array([5]), seed=1, epoch=2)["inputs"]
    among = split.gather(np.array([9, 5, 0]), seed=1, epoch=2)["inputs"]
    assert_close(among[1:2], alone)
    assert not torch.equal(split.gather(np.array([5]), seed=1, epoch=3)["inputs"], alone)
    assert not torch.equal(split.gather(np.array([5]), seed=2, epoch=2)["inputs"], alone)
    again = images()
    for epoch in (7, 2, 0, 2):
        again.gather(np.arange(12), seed=1, epoch=epoch)
    assert torch.equal(again.gather(np.array([5]), seed=1, epoch=2)["inputs"], alone)


def test_a_sweep_sees_images_as_they_are():
    split = images()
    expected = (split.images.float() / 255 - 0.25) / 0.5
    assert_close(next(sweep(split, 100))["inputs"], expected)
    assert_close(split.images, images().images)


def test_arrays_of_unequal_length_are_refused():
    with pytest.raises(UserError, match="differ in length"):
        ArraySplit({"inputs": torch.zeros(3), "targets": torch.zeros(4)})


def test_prefetched_batches_are_the_batches():
    batches = Batches(numbered(9), 4, seed=0)
    with prefetch(batches.batch, 5, 25) as ready:
        ahead = [batch["inputs"].tolist() for batch in ready]
    assert ahead == [batches.batch(step)["inputs"].tolist() for step in range(5, 25)]


def test_prefetch_keeps_only_so_many_ready():
    made: list[int] = []
    with prefetch(lambda step: made.append(step) or step, 0, 100, depth=2) as ready:
        iterator = iter(ready)
        assert next(iterator) == 0
        time.sleep(0.3)
        assert len(made) <= 4


def test_an_error_of_the_thread_comes_out_where_its_batch_would_have():
    def make(step: int) -> Batch:
        if step == 3:
            raise UserError("image 3 is broken")
        return {"step": torch.tensor(step)}

    seen = []
    with pytest.raises(UserError, match="image 3 is broken"), prefetch(make, 0, 10) as ready:
        seen.extend(int(batch["step"]) for batch in ready)
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("leave", ["break", "error", "never started"])
def test_leaving_early_ends_the_thread(leave: str):
    before = threading.active_count()
    ready = prefetch(lambda step: step, 0, 10**9)
    try:
        with ready:
            if leave != "never started":
                assert next(iter(ready)) == 0
            if leave == "error":
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert threading.active_count() == before


def test_nothing_to_do_ends_at_once():
    with prefetch(lambda step: step, 4, 4) as ready:
        assert list(ready) == []


ALL_CORES = """
import torch
from descent.data import prefetch

with prefetch(lambda step: step, 0, 3) as batches:
    coming = iter(batches)
    next(coming)
    torch.ones(64, 64) @ torch.ones(64, 64)  # the first computation of this thread
    print(torch.get_num_threads())
"""


def test_prefetching_leaves_all_cores_to_the_training():
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", ALL_CORES], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "2"


class Ragged(Split):
    """Rows of different lengths, padded to the longest of those asked for."""

    def __len__(self):
        return 5

    def gather(self, indices, seed=None, epoch=0):
        longest = max(int(index) + 2 for index in indices)
        rows = torch.zeros(len(indices), longest, 3)
        targets = torch.full((len(indices), longest), -100)
        for place, index in enumerate(indices.tolist()):
            rows[place, : index + 2], targets[place, : index + 2] = index + 1, index
        lengths = torch.from_numpy(indices) + 2
        return {"inputs": rows, "lengths": lengths, "targets": targets, "scores": rows[:, :, 0].clone()}

    def describe(self):
        return "rows"


def test_a_batch_of_two_epochs_is_padded_to_its_longest_row():
    batches = Batches(Ragged(), 3, seed=1)
    for step in range(10):
        batch = batches.batch(step)
        longest = int(batch["lengths"].max())
        assert batch["inputs"].shape == (3, longest, 3)
        for row, length in enumerate(batch["lengths"].tolist()):
            assert (batch["inputs"][row, :length] == length - 1).all()
            assert not batch["inputs"][row, length:].any()
            assert not batch["scores"][row, length:].any()
            assert batch["targets"][row].tolist() == [length - 2] * length + [-100] * (longest - length)
