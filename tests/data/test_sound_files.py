"""Sound files of every rate, width and format that is read, and those that are refused."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sound_toys import tone, wav

from descent.data.soundfiles import look, read_sound, sound_files, to_samples
from descent.errors import UserError


def _save(folder: Path, data: bytes, name: str = "a.wav") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_sixteen_bits_come_as_they_are(tmp_path: Path) -> None:
    values = np.array([0, 1, -1, 32767, -32768, 12345], dtype=np.int16)
    path = _save(tmp_path, wav(values))
    samples, cut = read_sound(path, 8000, 10)
    assert_array_equal(samples, values)
    assert not cut
    assert look(path) == 8000


@pytest.mark.parametrize(
    ("kind", "subtype", "off"),
    [
        ("WAV", "PCM_U8", 256),
        ("WAV", "PCM_24", 1),
        ("WAV", "PCM_32", 1),
        ("WAV", "FLOAT", 1),
        ("WAV", "DOUBLE", 1),
        ("WAV", "ULAW", 1024),
        ("WAVEX", "PCM_16", 1),
        ("AIFF", "PCM_16", 1),
        ("FLAC", "PCM_16", 1),
        ("FLAC", "PCM_24", 1),
    ],
)
def test_other_widths_and_formats_are_brought_to_sixteen_bits(kind: str, subtype: str, off: int) -> None:
    values = tone(440)
    samples, _ = read_sound(wav(values, 8000, kind, subtype), 8000, 10, "a")
    assert samples.dtype == np.int16
    assert_allclose(samples, values * 32768, atol=off)


@pytest.mark.parametrize(("kind", "subtype"), [("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_formats_are_read(kind: str, subtype: str) -> None:
    values = tone(440, 1.0, 16000)
    samples, _ = read_sound(wav(values, 16000, kind, subtype), 16000, 10, "a")
    spectrum = np.abs(np.fft.rfft(samples, 16000))
    assert abs(int(spectrum.argmax()) - 440) <= 2


@pytest.mark.parametrize("rate", [11025, 16000, 44100, 48000, 96000])
def test_other_rates_are_resampled(rate: int) -> None:
    """The tone at its pitch and loudness, and nothing of one that the new rate cannot hold."""
    values = tone(440, 0.5, rate) + (tone(5000, 0.5, rate) if rate > 11025 else 0)
    samples, _ = read_sound(wav(values * 0.9, rate, subtype="FLOAT"), 8000, 10, "a")
    assert len(samples) == pytest.approx(4000, abs=1)
    expected = tone(440, 0.5, 8000) * 0.9 * 32768
    assert_allclose(samples[50:3950], expected[50:3950], atol=60)


def test_channels_are_mixed_down() -> None:
    left, right = tone(300), tone(700)
    samples, _ = read_sound(wav(np.stack([left, right], 1), subtype="FLOAT"), 8000, 10, "a")
    assert_allclose(samples, (left + right) / 2 * 32768, atol=1)


def test_louder_than_the_loudest_is_cut_off() -> None:
    samples, _ = read_sound(wav(np.array([0.0, 1.5, -1.5, 0.5]), subtype="FLOAT"), 8000, 10, "a")
    assert samples.tolist() == [0, 32767, -32768, 16384]


def test_a_long_recording_is_cut_to_its_beginning() -> None:
    values = tone(440, 2.0)
    samples, cut = read_sound(wav(values), 8000, 0.5, "a")
    assert cut
    assert_allclose(samples, values[:4000] * 32768, atol=1)
    _, cut = read_sound(wav(values[:4000]), 8000, 0.5, "a")
    assert not cut


def test_what_is_no_sound_is_refused_with_its_name(tmp_path: Path) -> None:
    whole = wav(tone(440))
    for name, data, words in (
        ("empty.wav", b"", "it has no byte"),
        ("bare.wav", wav(np.zeros(0)), "it has no sample"),
        ("text.wav", b"these are words, and no sound at all" * 20, "is no sound that can be read"),
        ("head.wav", whole[:20], "is no sound that can be read"),
        ("cut.wav", whole[:2000], "is cut short"),
    ):
        path = _save(tmp_path, data, name)
        with pytest.raises(UserError, match=words) as caught:
            read_sound(path, 8000, 10)
        assert str(path) in caught.value.what
    with pytest.raises(UserError, match="there is no such file"):
        read_sound(tmp_path / "absent.wav", 8000, 10)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
@pytest.mark.parametrize(
    ("kind", "subtype"), [(kind, "PCM_16") for kind in ("WAV", "AIFF", "FLAC")] + [("MP3", "MPEG_LAYER_III")]
)
def test_what_is_cut_anywhere_is_refused(kind: str, subtype: str, share: float) -> None:
    random = np.random.default_rng(0).normal(0, 0.1, 30_000)  # many blocks
    data = wav(random, 8000, kind, subtype)
    assert len(read_sound(data, 8000, 10, "a")[0]) == 30_000
    with pytest.raises(UserError, match=r"cut short|no sound that can be read"):
        read_sound(data[: int(len(data) * share)], 8000, 10, "a")


def test_samples_that_are_no_numbers_are_refused() -> None:
    for value in (np.nan, np.inf):
        with pytest.raises(UserError, match="infinite or no numbers"):
            read_sound(wav(np.array([0.0, value]), subtype="FLOAT"), 8000, 10, "a")


def test_a_header_that_claims_much_costs_nothing() -> None:
    data = bytearray(wav(tone(440)))
    place = data.index(b"data") + 4
    data[place : place + 4] = struct.pack("<I", 0x7FFFFFF0)
    with pytest.raises(UserError, match="is cut short"):
        read_sound(bytes(data), 8000, 60, "a")
    data[place : place + 4] = struct.pack("<I", 0xFFFFFFFF)  # written to a pipe: what is there is all
    assert len(read_sound(bytes(data), 8000, 60, "a")[0]) == 2400


@pytest.mark.parametrize(("rate", "channels"), [(500, 1), (8000, 9)])
def test_odd_rates_and_many_channels_are_refused(rate: int, channels: int) -> None:
    with pytest.raises(UserError, match="that is not read"):
        read_sound(wav(np.zeros((100, channels)), rate), 8000, 10, "a")


def test_formats_that_are_not_listed_are_refused() -> None:
    with pytest.raises(UserError, match="of a format that is not read"):
        read_sound(wav(tone(440), kind="AU"), 8000, 10, "a")


def test_hidden_files_are_no_recordings(tmp_path: Path) -> None:
    for name in ("b.wav", "a.FLAC", ".c.wav", ".git/d.wav", "in/e.mp3", "f.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.wav").mkdir()
    names = [str(path.relative_to(tmp_path)) for path in sound_files(tmp_path)]
    assert names == ["a.FLAC", "b.wav", "in/e.mp3"]


def test_without_soundfile_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match="which is not installed") as caught:
        read_sound(wav(tone(440)), 8000, 10, "a")
    assert "descent[sound]" in str(caught.value)


def test_arrays_are_taken_as_files_are() -> None:
    values = tone(440, 0.2, 16000)
    assert_array_equal(
        to_samples(values, 16000, 8000, "a"),
        read_sound(wav(values, 16000, subtype="DOUBLE"), 8000, 10, "a")[0],
    )
