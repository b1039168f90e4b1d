"""A tune as files: what the MIDI file holds, what the picture is, what is refused."""

import mido
import numpy as np
import pytest
import torch
from PIL import Image

from descent.data.dataset import Dataset
from descent.data.midi import read_midi, write_midi
from descent.data.music import read_voices
from descent.data.music_splits import FrameSplit
from descent.errors import UserError
from descent.models.rnn import RNN, RNNConfig
from descent.runs.piano_roll import compose, draw_roll, opening, opening_of

FRAMES = {"kind": "frames", "grid": "quarter", "keys": [30, 50], "most": 4}
VOICES = {
    "kind": "voices",
    "grid": "16th",
    "voices": ["soprano", "alto"],
    "ranges": [[60, 70], [50, 59]],
    "rests": [True, True],
    "lowest": 50,
    "highest": 70,
}


@pytest.fixture(name="frames_model")
def _frames_model():
    torch.manual_seed(0)
    return RNN(RNNConfig(cell="gru", depth=1, dim=8, inputs=(88,), outputs=88))


@pytest.fixture(name="voices_model")
def _voices_model():
    torch.manual_seed(0)
    return RNN(RNNConfig(cell="lstm", depth=1, dim=8, vocab_size=23))


def test_frames_become_one_track_and_a_picture(tmp_path, frames_model):
    tune = compose(frames_model, FRAMES, tmp_path / "new" / "tune.mid", bars=3, tempo=60, seed=1)
    file = mido.MidiFile(tune.midi)
    assert len(file.tracks) == 1
    assert file.length == pytest.approx(12.0)
    assert (tune.steps, tune.prompt) == (12, 0)
    assert sum(message.type == "note_on" for message in file.tracks[0]) == tune.notes > 0
    assert tune.picture == tmp_path / "new" / "tune.png"
    assert Image.open(tune.picture).size[0] > 600


def test_voices_become_a_track_each_and_go_on_from_a_midi_file(tmp_path, voices_model):
    lines = np.array([[65, 55]] * 8 + [[67, -1]] * 8 + [[60, 50]] * 16)
    tracks = {name: line[:, None] == np.arange(21, 109) for name, line in zip("ab", lines.T, strict=True)}
    given = write_midi(tmp_path / "given.mid", tracks, 4, 90)
    prompt = opening(given, VOICES, bars=1)
    assert np.array_equal(prompt, lines[:16])
    tune = compose(voices_model, VOICES, tmp_path / "tune.mid", bars=2, prompt=prompt, top_p=0.9, seed=2)
    file = mido.MidiFile(tune.midi)
    assert [track.name for track in file.tracks] == ["soprano", "alto"]
    assert tune.prompt == 16
    assert 16 < tune.steps <= 48
    found = read_voices(tune.midi, "16th", 2)
    assert np.array_equal(found[:16], lines[:16])
    first = [message for message in file.tracks[0] if message.type.startswith("note")][:2]
    assert [(message.type, message.note, message.time) for message in first] == [
        ("note_on", 65, 0),
        ("note_off", 65, 960),
    ]


def test_the_beginning_of_a_piece_of_the_data_can_be_gone_on_from(tmp_path, frames_model):
    roll = np.zeros((20, 88), dtype=np.bool_)
    roll[:, 40] = True
    data = Dataset("set", {"test": FrameSplit([roll[:3], roll])}, {}, "frames", "", preparation=FRAMES)
    prompt = opening_of(data, "test", 1, bars=2)
    assert np.array_equal(prompt, roll[:8])
    tune = compose(frames_model, FRAMES, tmp_path / "tune.mid", bars=1, prompt=prompt, temperature=0)
    assert np.array_equal(read_midi(tune.midi, 1)[0][:8], roll[:8])
    for split, number in (("test", 2), ("test", -1), ("train", 0)):
        with pytest.raises(UserError, match=r"no such piece|no split"):
            opening_of(data, split, number)


@pytest.mark.parametrize(
    ("out", "options", "message"),
    [
        ("tune.wav", {}, "MIDI file"),
        ("tune.mid", {"bars": 0}, "bars"),
        ("tune.mid", {"tempo": 0.0}, "tempo"),
        ("tune.mid", {"top_p": 0.9}, "top_p"),
        ("tune.mid", {"temperature": -1.0}, "temperature"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_written(
    tmp_path, frames_model, out, options, message
):
    with pytest.raises(UserError, match=message):
        compose(frames_model, FRAMES, tmp_path / out, **options)
    assert not list(tmp_path.iterdir())


def test_a_model_of_something_else_writes_no_music(tmp_path, frames_model):
    with pytest.raises(UserError, match="not trained on music"):
        compose(frames_model, {"kind": "images"}, tmp_path / "tune.mid")


def test_the_picture_has_the_tracks_colours_where_their_notes_are(tmp_path):
    rolls = {name: np.zeros((16, 88), dtype=np.bool_) for name in ("high", "low", "silent")}
    rolls["high"][:, 60], rolls["low"][8:, 40] = True, True
    path = draw_roll(rolls, tmp_path / "roll.png", 4, "title", "facts", begun=4)
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)

    def places(color):
        return np.argwhere(np.abs(pixels - color).max(axis=2) < 6)

    high, low = places((0xD9, 0x62, 0x2B)), places((0x2F, 0x6F, 0xB5))
    key = pixels.shape[1] * 7 // 8  # the legend stands to the right of everything else
    high, low = (found[found[:, 1] < key] for found in (high, low))
    assert high[:, 0].max() < low[:, 0].min()
    across = [np.ptp(found[:, 1]) for found in (high, low)]  # 12 steps after those given, and 8
    assert 1.45 < across[0] / across[1] < 1.55
    silent = {name: np.zeros((4, 88), dtype=np.bool_) for name in ("a",)}
    assert draw_roll(silent, tmp_path / "silent.png", 1, "title", "facts").is_file()
