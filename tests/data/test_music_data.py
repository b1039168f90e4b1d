"""Pieces as rows of frames and of voices: what a row holds, how it is cut and moved, what a sweep gives."""

import json

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.data.batches import Batches
from descent.data.entry_types import Entry
from descent.data.music import load_music, rolls_of
from descent.data.music_config import MusicData
from descent.data.music_entries import MUSIC
from descent.data.music_splits import END, REST, FrameSplit, PieceSplit, VoiceSplit, pitches_of, tokens_of
from descent.errors import UserError

ENTRIES = {entry.name: entry for entry in MUSIC}


def random_rolls(*lengths, low=40, high=50):
    generator = np.random.default_rng(1)
    rolls = []
    for length in lengths:
        roll = np.zeros((length, 88), dtype=np.bool_)
        roll[:, low : high + 1] = generator.random((length, high + 1 - low)) < 0.4
        roll[0, low], roll[-1, high] = True, True
        rolls.append(roll)
    return rolls


def test_a_frame_is_predicted_from_the_one_before_it_and_the_first_from_silence():
    rolls = random_rolls(5, 3)
    batch = FrameSplit(rolls).gather(np.array([1, 0]))
    assert batch["lengths"].tolist() == [3, 5]
    assert batch["inputs"].shape == batch["targets"].shape == (2, 5, 88)
    for row, roll in zip((0, 1), (rolls[1], rolls[0]), strict=True):
        expected = torch.from_numpy(roll).float()
        assert_close(batch["targets"][row, : len(roll)], expected)
        assert_close(batch["inputs"][row, 1 : len(roll)], expected[:-1])
        assert not batch["inputs"][row, 0].any()
        assert not batch["targets"][row, len(roll) :].any()
        assert not batch["inputs"][row, len(roll) :].any()


def test_rows_of_an_epoch_are_together_every_frame_once_each_with_its_own_past():
    rolls = random_rolls(23, 7, 8)
    split = FrameSplit(rolls, length=8)
    assert len(split) == 3 + 1 + 1
    assert split.whole == 3
    starts = set()
    for epoch in range(6):
        batch = split.gather(np.arange(5), seed=3, epoch=epoch)
        assert batch["inputs"].shape == (5, 8, 88)
        rows = [batch["targets"][n, :length] for n, length in enumerate(batch["lengths"].tolist())]
        assert_close(torch.cat(rows[:3]), torch.from_numpy(rolls[0]).float())
        starts.add(len(rows[0]))
        for n in (1, 2):  # a row goes on from the last frame of the one before it
            assert_close(batch["inputs"][n, 0], rows[n - 1][-1])
            assert_close(batch["inputs"][n, 1 : len(rows[n])], rows[n][:-1])
    assert len(starts) > 1


def test_rows_are_a_function_of_seed_and_epoch():
    split = FrameSplit(random_rolls(23, 9), transpose=4, bounds=(30, 60), length=8)
    first = split.gather(np.arange(5), 3, 1)
    for name, tensor in split.gather(np.array([4, 2, 0]), 3, 1).items():
        assert_close(tensor, first[name][[4, 2, 0]])
    assert any(not torch.equal(split.gather(np.arange(5), 3, 2)[k], v) for k, v in first.items())
    assert any(not torch.equal(split.gather(np.arange(5), 4, 1)[k], v) for k, v in first.items())


def test_a_batch_may_reach_over_the_end_of_an_epoch():
    split = FrameSplit(random_rolls(9, 5))
    assert Batches(split, 3, seed=1).batch(0)["inputs"].shape == (3, 9, 88)


def test_transposed_frames_are_the_piece_moved_within_the_bounds():
    roll = random_rolls(6)[0]
    split = FrameSplit([roll], transpose=12, bounds=(38, 53))
    seen = set()
    for epoch in range(60):
        found = split.gather(np.array([0]), 5, epoch)["targets"][0].numpy() > 0
        shift = int(np.flatnonzero(found.any(0))[0]) - 40
        assert np.array_equal(found, np.roll(roll, shift, axis=1))
        seen.add(shift)
    assert seen == set(range(-2, 4))
    assert_close(split.gather(np.array([0]))["targets"][0], torch.from_numpy(roll).float())


PIECE = np.array([[70, 60], [-1, 61], [72, -1]])


def test_voices_become_tokens_step_by_step_between_two_ends():
    split = VoiceSplit([PIECE, PIECE[:1]], [(60, 80), (50, 65)], lowest=50)
    batch = split.gather(np.array([0, 1]))
    assert batch["tokens"].tolist() == [
        [END, 22, 12, REST, 13, 24, REST],
        [END, 22, 12, END, END, END, END],
    ]
    assert batch["targets"].tolist() == [
        [22, 12, REST, 13, 24, REST, END],
        [22, 12, END, -100, -100, -100, -100],
    ]


def test_tokens_and_pitches_are_each_others_inverse():
    assert np.array_equal(pitches_of(tokens_of(PIECE, 50), 50), PIECE)


def test_rows_of_voices_begin_with_the_token_before_them_and_the_first_voice_as_target():
    piece = np.stack([np.arange(60, 71), np.arange(40, 51)], axis=1)
    split = VoiceSplit([piece], [(60, 70), (40, 50)], lowest=40, length=4)
    for epoch in range(5):
        batch = split.gather(np.arange(3), 1, epoch)
        rows = [row[row != -100].tolist() for row in batch["targets"]]
        assert [token for row in rows for token in row] == [*tokens_of(piece, 40).reshape(-1).tolist(), END]
        assert batch["tokens"].shape == (3, 9)
        assert all(row[0] >= tokens_of(np.array(60), 40) for row in rows)
        for n in (1, 2):
            assert batch["tokens"][n, 0] == rows[n - 1][-1]


def test_voices_are_moved_together_each_within_its_range():
    piece = np.array([[70, 50], [72, -1]])
    split = VoiceSplit([piece], [(60, 75), (48, 60)], lowest=40, transpose=6)
    seen = set()
    for epoch in range(60):
        ids = split.gather(np.array([0]), 2, epoch)["targets"][0, :4].numpy()
        moved = pitches_of(ids, 40)
        seen.add(int(moved[0]) - 70)
        assert np.array_equal(moved, [70 + moved[0] - 70, 50 + moved[0] - 70, 72 + moved[0] - 70, -1])
    assert seen == {-2, -1, 0, 1, 2, 3}


def _entry(tmp_path, name, content):
    file = tmp_path / ENTRIES[name].files[0].name
    file.write_text(json.dumps(content))
    return ENTRIES[name], [file]


CHORDS = {"train": [[[60, 64.0], [], [62]], [[43]]], "valid": [[[60], [61]]], "test": [[[96], [50, 50]]]}


def test_published_chords_become_frames_with_their_splits(tmp_path):
    data = load_music(
        MusicData(source="jsb-chorales-quarter"), *_entry(tmp_path, "jsb-chorales-quarter", CHORDS)
    )
    assert {name: split.whole for name, split in data.splits.items()} == {
        "train": 2,
        "validation": 1,
        "test": 1,
    }
    assert data.sizes == {"inputs": (88,), "outputs": 88}
    assert data.unit == "frames"
    assert data.preparation == {"kind": "frames", "grid": "quarter", "keys": [22, 43], "most": 2}
    targets = data.splits["train"].gather(np.array([0]))["targets"][0]
    assert [frame.nonzero()[:, 0].tolist() for frame in targets] == [[39, 43], [], [41]]
    json.dumps(data.preparation)


VOICES = {
    "train": [[[70, 65, 60, 50], [72, 65, -1, 48]]],
    "valid": [[[70, 65, 60, 36]]],
    "test": [[[80, 65, 60, 50]]],
}


def test_published_voices_keep_the_ranges_of_the_training_part(tmp_path):
    config = MusicData(source="jsb-chorales-voices", form="voices")
    data = load_music(config, *_entry(tmp_path, "jsb-chorales-voices", VOICES))
    assert data.preparation["ranges"] == [[70, 72], [65, 65], [60, 60], [48, 50]]
    assert data.preparation["rests"] == [False, False, True, False]
    assert data.sizes == {"vocab_size": 2 + 80 - 36 + 1}
    assert data.splits["test"].gather(np.array([0]))["tokens"].max() == data.sizes["vocab_size"] - 1
    tracks = rolls_of(np.array(VOICES["train"][0]), data.preparation)
    assert list(tracks) == ["soprano", "alto", "tenor", "bass"]
    assert np.argwhere(tracks["tenor"]).tolist() == [[0, 60 - 21]]


def test_voices_can_be_taken_as_frames_and_chords_not_as_voices(tmp_path):
    data = load_music(
        MusicData(source="jsb-chorales-voices"), *_entry(tmp_path, "jsb-chorales-voices", VOICES)
    )
    assert data.splits["train"].gather(np.array([0]))["targets"].sum() == 7
    with pytest.raises(UserError, match="does not tell the voices apart"):
        load_music(
            MusicData(source="jsb-chorales-quarter", form="voices"),
            *_entry(tmp_path, "jsb-chorales-quarter", CHORDS),
        )


def test_the_fingerprint_tells_contents_splits_and_options_apart(tmp_path):
    def mark(content, **options):
        config = MusicData(source="jsb-chorales-quarter", **options)
        return load_music(config, *_entry(tmp_path, "jsb-chorales-quarter", content)).fingerprint

    other = {**CHORDS, "train": [[[60, 65], [], [62]], [[43]]]}
    swapped = {**CHORDS, "valid": CHORDS["test"], "test": CHORDS["valid"]}
    marks = [mark(CHORDS), mark(other), mark(swapped), mark(CHORDS, transpose=1), mark(CHORDS, length=2)]
    assert len(set(marks)) == 5
    assert mark(CHORDS) == marks[0]


def test_the_entries_are_named_files_with_full_sums():
    for entry in MUSIC:
        assert isinstance(entry, Entry)
        assert entry.kind == "music"
        assert len(entry.files[0].sha256) == 64
        assert entry.files[0].url.endswith(f"JSB-Chorales-dataset/master/{entry.files[0].name}")


@pytest.mark.parametrize(
    ("name", "form", "steps"),
    [
        ("jsb-chorales-quarter", "frames", {"train": 13807, "validation": 4602, "test": 4725}),
        ("jsb-chorales-16th", "frames", {"train": 55228, "validation": 18408, "test": 18900}),
        ("jsb-chorales-voices", "voices", {"train": 55228, "validation": 18408, "test": 18900}),
    ],
)
def test_the_chorales_are_as_published(local_data, name, form, steps):
    entry = ENTRIES[name]
    file = local_data / entry.folder / entry.files[0].name
    assert file.stat().st_size == entry.files[0].bytes
    data = load_music(MusicData(source=name, form=form), entry, [file])
    assert {part: split.whole for part, split in data.splits.items()} == {
        "train": 229,
        "validation": 76,
        "test": 77,
    }
    assert {
        part: sum(map(len, split.pieces))
        for part, split in data.splits.items()
        if isinstance(split, PieceSplit)
    } == steps
    if form == "voices":
        assert data.preparation["ranges"] == [[60, 81], [52, 74], [46, 69], [36, 66]]
