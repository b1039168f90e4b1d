"""MIDI files: what they become in steps of time, what is refused, and that what is written is read back."""

import mido
import numpy as np
import pytest

from descent.data.midi import notes, read_midi, write_midi
from descent.data.music import load_music, read_frames, read_voices
from descent.data.music_config import MusicData
from descent.data.music_splits import PieceSplit
from descent.errors import UserError


def write(path, *tracks, ticks=96, kind=1):
    """A MIDI file; each track a list of (start, end, note[, channel]) in ticks."""
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks)
    for played in tracks:
        events = []
        for start, end, note, *channel in played:
            events.append((start, 1, "note_on", note, *(channel or [0])))
            events.append((end, 0, "note_off", note, *(channel or [0])))
        track, now = mido.MidiTrack(), 0
        for time, _, name, note, channel in sorted(events):
            track.append(mido.Message(name, note=note, channel=channel, velocity=64, time=time - now))
            now = time
        file.tracks.append(track)
    file.save(path)
    return path


def held(roll):
    return [(start, end, key + 21) for start, end, key in notes(roll)]


def test_notes_go_to_the_nearest_steps_and_last_one_at_least(tmp_path):
    path = write(tmp_path / "a.mid", [(0, 90, 60), (107, 190, 62), (192, 193, 64), (204, 288, 65)])
    assert held(read_midi(path, 4)[0]) == [(0, 4, 60), (4, 8, 62), (8, 9, 64), (9, 12, 65)]
    assert held(read_midi(path, 1)[0]) == [(0, 1, 60), (1, 2, 62), (2, 3, 64), (2, 3, 65)]


def test_parts_are_tracks_and_channels_without_drums_and_of_one_length(tmp_path):
    path = write(
        tmp_path / "a.mid",
        [(0, 96, 60, 0), (0, 96, 40, 9), (96, 192, 50, 3)],
        [],
        [(0, 384, 72, 0), (0, 96, 5, 0)],
    )
    parts = read_midi(path, 1)
    assert [held(roll) for roll in parts] == [[(0, 1, 60)], [(1, 2, 50)], [(0, 4, 72)]]
    assert {roll.shape for roll in parts} == {(4, 88)}
    assert held(read_frames(path, "quarter")) == [(0, 1, 60), (0, 4, 72), (1, 2, 50)]


def test_a_stroke_ends_the_note_before_it_and_velocity_nought_is_a_release(tmp_path):
    file = mido.MidiFile(ticks_per_beat=96)
    track = mido.MidiTrack()
    for kind, note, velocity, time in [
        ("note_off", 70, 0, 0),
        ("note_on", 60, 64, 0),
        ("note_on", 60, 64, 96),
        ("note_on", 60, 0, 96),
        ("note_on", 62, 64, 96),
        ("note_on", 64, 64, 96),
    ]:
        track.append(mido.Message(kind, note=note, velocity=velocity, time=time))
    track.append(mido.MetaMessage("end_of_track", time=96))
    file.tracks.append(track)
    file.save(tmp_path / "a.mid")
    assert held(read_midi(tmp_path / "a.mid", 1)[0]) == [(0, 2, 60), (3, 5, 62), (4, 5, 64)]


def test_voices_are_the_parts_from_high_to_low_and_of_a_chord_the_highest_note(tmp_path):
    path = write(tmp_path / "a.mid", [(0, 192, 40)], [(0, 96, 60), (0, 96, 64), (192, 288, 62)])
    assert read_voices(path, "quarter", 2).tolist() == [[64, 40], [-1, 40], [62, -1]]
    with pytest.raises(UserError, match="2 parts with notes"):
        read_voices(path, "quarter", 4)


@pytest.mark.parametrize("per_quarter", [1, 4])
def test_what_is_written_is_read_back(tmp_path, per_quarter):
    generator = np.random.default_rng(0)
    tracks = {f"voice {n}": generator.random((40, 88)) < 0.2 for n in range(12)}
    for roll in tracks.values():
        roll[-1, 0] = True
    path = write_midi(tmp_path / "new" / "a.mid", tracks, per_quarter, tempo=100)
    parts = read_midi(path, per_quarter)
    assert len(parts) == 12
    for roll, found in zip(tracks.values(), parts, strict=True):
        assert np.array_equal(roll, found)


def test_held_steps_are_one_long_note_with_tempo_and_name(tmp_path):
    roll = np.zeros((8, 88), dtype=np.bool_)
    roll[2:6, 39] = True
    file = mido.MidiFile(write_midi(tmp_path / "a.mid", {"alto": roll}, 4, tempo=120))
    played = [(message.type, message.time) for message in file.tracks[0] if message.type.startswith("note")]
    assert played == [("note_on", 240), ("note_off", 480)]
    assert file.tracks[0].name == "alto"
    assert file.tracks[0][1].tempo == 500_000
    assert file.length == pytest.approx(1.0)


def _bad_files(folder):
    good = write(folder / "good.mid", [(96 * n, 96 * n + 96, 60 + n) for n in range(12)]).read_bytes()
    bad = folder / "bad"
    bad.mkdir()
    (bad / "text.mid").write_text("these are words")
    (bad / "empty.mid").write_bytes(b"")
    (bad / "cut.mid").write_bytes(good[: len(good) // 2])
    (bad / "endless.mid").write_bytes(good[:22] + b"\xff" * 300_000)
    (bad / "film.mid").write_bytes(good[:12] + b"\xe7\x28" + good[14:])
    (bad / "apart.mid").write_bytes(good[:8] + b"\x00\x02" + good[10:])
    write(bad / "silent.mid", [])
    write(bad / "drums.mid", [(0, 96, 40, 9)])
    write(bad / "long.mid", [(0, 0x0FFFFFFF, 60)], ticks=1)
    return bad


def test_broken_files_are_left_out_each_with_its_reason(tmp_path):
    bad = _bad_files(tmp_path)
    data = load_music(MusicData(path=str(tmp_path), grid="quarter", validation=0.0, test=0.0), None, [])
    assert data.splits["train"].whole == 1
    reasons = {line.split(": ")[0].rpartition("/")[2]: line for line in data.skipped}
    assert set(reasons) == {file.name for file in bad.iterdir()}
    assert "Probably not a MIDI file" in reasons["text.mid"]
    assert "ends too early" in reasons["cut.mid"]
    assert "without an end" in reasons["endless.mid"]
    assert "film" in reasons["film.mid"]
    assert "type 2" in reasons["apart.mid"]
    assert "no notes" in reasons["silent.mid"]
    assert "no notes" in reasons["drums.mid"]
    assert "too long" in reasons["long.mid"]
    assert all("\n" not in line for line in data.skipped)


def test_every_cut_of_a_file_is_read_or_refused_with_a_word(tmp_path):
    content = write(tmp_path / "a.mid", [(0, 96, 60), (96, 200, 64)], [(0, 96, 40)]).read_bytes()
    file = tmp_path / "cut.mid"
    generator, refused = np.random.default_rng(4), []
    for number in range(300):
        altered = bytearray(content)
        altered[generator.integers(len(altered))] = generator.integers(256)
        file.write_bytes(bytes(altered) if number >= len(content) else content[:number])
        try:
            assert read_midi(file, 4)
        except UserError as error:
            refused.append(error.what)
    assert all("cut.mid" in what for what in refused)
    assert len(refused) > 100


def test_folders_without_music_are_refused(tmp_path):
    with pytest.raises(UserError, match="no MIDI files"):
        load_music(MusicData(path=str(tmp_path)), None, [])
    (tmp_path / "a.mid").write_text("no music at all")
    with pytest.raises(UserError, match="no MIDI file can be used") as caught:
        load_music(MusicData(path=str(tmp_path)), None, [])
    assert "Probably not a MIDI file" in str(caught.value)
    with pytest.raises(UserError, match="no such file"):
        load_music(MusicData(path=str(tmp_path / "b.mid")), None, [])


def test_own_files_are_split_by_the_hash_of_their_notes(tmp_path):
    for n in range(30):
        write(tmp_path / f"{n}.mid", [(0, 96, 60), (96, 192, 40 + n)], [(0, 192, 30 + n)])
    data = load_music(MusicData(path=str(tmp_path), grid="8th", validation=0.2, test=0.2), None, [])
    counts = {name: split.whole for name, split in data.splits.items()}
    assert sum(counts.values()) == 30
    assert min(counts.values()) > 0
    assert data.preparation["grid"] == "8th"
    write(tmp_path / "0b.mid", [(0, 96, 60), (96, 192, 40)], [(0, 192, 30)])
    again = load_music(MusicData(path=str(tmp_path), grid="8th", validation=0.2, test=0.2), None, [])
    twins = [
        name
        for name, split in again.splits.items()
        if isinstance(split, PieceSplit)
        for piece in split.pieces
        if np.array_equal(piece, read_frames(tmp_path / "0.mid", "8th"))
    ]
    assert len(twins) == 2
    assert len(set(twins)) == 1
    voices = load_music(MusicData(path=str(tmp_path), form="voices", voices=2, transpose=3), None, [])
    assert voices.preparation["voices"] == ["voice 1", "voice 2"]
