"""Sets of recordings: the named one in both of its forms, and the user's own folders and tables."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sound_toys import tone, wav, write_folder

from descent.data import download, soundsets
from descent.data.registry import entry, locate
from descent.data.sound import load_sound
from descent.data.sound_config import SoundData
from descent.data.soundsets import SETS, read_own
from descent.errors import CorruptArtifact, UserError

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
Alter = Callable[[dict[str, bytes]], None]


@pytest.fixture(scope="module")
def recordings() -> dict[str, bytes]:
    """Files named as the published ones, 25 ms each, no two alike."""
    random = np.random.default_rng(0)
    return {
        f"recordings/{digit}_{speaker}_{number}.wav": wav(random.normal(0, 0.1, 200))
        for digit in range(10)
        for speaker in SPEAKERS
        for number in range(50)
    }


@pytest.fixture
def published(recordings: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """These recordings, taken for the published ones; to be altered by a test."""
    content = hashlib.sha256()
    for name in sorted(recordings):
        content.update(hashlib.sha256(recordings[name]).digest())
    monkeypatch.setattr(soundsets, "_FSDD_CONTENT", content.hexdigest())
    return dict(recordings)


def _pack(
    path: Path, members: dict[str, bytes], folder: str = "", links: dict[str, str] | None = None
) -> Path:
    """A tar, packed where everything lies in a folder of its own, as a server packs a repository."""
    with (
        tarfile.open(path, "w:gz" if folder else "w", compresslevel=1)
        if folder
        else tarfile.open(path, "w") as tar
    ):
        if folder:
            tar.pax_headers = {"comment": "a commit"}
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(folder + name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
        for name, data in members.items():
            info = tarfile.TarInfo(folder + name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("folder", ["", "free-spoken-digit-dataset-1a2b3c/"])
def test_both_forms_of_the_archive_hold_the_official_splits(
    tmp_path: Path, published: dict[str, bytes], folder: str
) -> None:
    extra = {"README.md": b"x" * 5000, "recordings/readme.txt": b"no sound"}
    path = _pack(tmp_path / "recordings.tar", {**extra, **published}, folder)
    found = SETS["fsdd"]([path], SoundData(source="fsdd"))
    assert found.rate == 8000
    assert found.classes == tuple("0123456789")
    assert found.official is not None
    assert found.speakers is not None
    names = list(published)
    for split, numbers in (("train", range(10, 50)), ("validation", range(5, 10)), ("test", range(5))):
        places = found.official[split]
        assert len(places) == 60 * len(numbers)
        assert {int(names[place].split("_")[2][:-4]) for place in places} == set(numbers)
    for place in (0, 777, 2999):
        digit, speaker, _ = names[place].removeprefix("recordings/").split("_")
        assert (str(found.labels[place]), found.speakers[place]) == (digit, speaker)
        assert len(found.clips[place]) == 200


def test_what_an_archive_holds_beside_the_recordings_leads_nowhere(
    tmp_path: Path, published: dict[str, bytes]
) -> None:
    hostile = {"../../outside.wav": b"x", "/etc/outside.wav": b"x", "recordings/../../outside.wav": b"x"}
    path = _pack(tmp_path / "recordings.tar", {**hostile, **published}, links={"recordings": "/etc"})
    assert len(SETS["fsdd"]([path], SoundData(source="fsdd")).clips) == 3000
    assert [item.name for item in tmp_path.iterdir()] == ["recordings.tar"]


NAME = "recordings/3_theo_7.wav"


def _drop(files: dict[str, bytes]) -> None:
    del files[NAME]


def _alter(files: dict[str, bytes]) -> None:
    files[NAME] = files[NAME][:-1] + b"\x01"


def _swell(files: dict[str, bytes]) -> None:
    files[NAME] = wav(np.zeros(90_000))


@pytest.mark.parametrize(
    ("alter", "words"), [(_drop, "lacks"), (_alter, "not the published ones"), (_swell, "too large")]
)
def test_other_recordings_are_refused(
    tmp_path: Path, published: dict[str, bytes], alter: Alter, words: str
) -> None:
    alter(published)
    with pytest.raises(CorruptArtifact, match=words):
        SETS["fsdd"]([_pack(tmp_path / "recordings.tar", published)], SoundData(source="fsdd"))


def test_only_the_published_recordings_stay_in_the_cache(
    tmp_path: Path, published: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = _pack(tmp_path / "good", published, "folder-1a2b3c/").read_bytes()
    _alter(published)
    other = _pack(tmp_path / "other", published, "folder-1a2b3c/").read_bytes()
    sent: list[bytes] = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("DESCENT_DATA", raising=False)
    monkeypatch.setattr(download, "_stream", lambda url, output, *_: output.write_bytes(sent.pop()))
    for bad in (other, good[:-5000], b"not found"):
        sent.append(bad)
        with pytest.raises(UserError, match=r"recordings\.tar could not be downloaded"):
            locate("fsdd", False)
        assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    sent.append(good)
    (path,) = locate("fsdd", False)
    assert locate("fsdd", False, download=False) == [path]
    path.write_bytes(other)  # as an earlier version may have left it there
    sent.append(good)
    assert locate("fsdd", False)[0].read_bytes() == good
    own = tmp_path / "own" / "fsdd" / "recordings.tar"
    own.parent.mkdir(parents=True)
    own.write_bytes(other)
    monkeypatch.setenv("DESCENT_DATA", str(tmp_path / "own"))
    with pytest.raises(CorruptArtifact, match="not the published ones"):
        locate("fsdd", False)
    assert sent == []


def test_links_bombs_and_cut_archives_are_refused(tmp_path: Path, published: dict[str, bytes]) -> None:
    config = SoundData(source="fsdd")
    _drop(published)
    linked = _pack(tmp_path / "linked.tar", published, links={NAME: "/etc/passwd"})
    with pytest.raises(CorruptArtifact, match="no plain file"):
        SETS["fsdd"]([linked], config)
    bomb = _pack(tmp_path / "bomb.tar", {"zeros": bytes(120_000_000), **published}, "folder/")
    assert bomb.stat().st_size < 10_000_000
    with pytest.raises(CorruptArtifact, match="unpacks to more than it should"):
        SETS["fsdd"]([bomb], config)
    cut = tmp_path / "cut.tar"
    cut.write_bytes(linked.read_bytes()[:100_000])
    with pytest.raises(CorruptArtifact):
        SETS["fsdd"]([cut], config)


def test_the_published_set(local_data: Path) -> None:
    dataset = load_sound(SoundData(source="fsdd"), entry("fsdd"), [local_data / "fsdd" / "recordings.tar"])
    sizes = {name: len(split) for name, split in dataset.splits.items()}
    assert sizes == {"train": 2400, "validation": 300, "test": 300}
    batch = dataset.splits["test"].gather(np.arange(300))
    assert np.bincount(batch["targets"].numpy()).tolist() == [30] * 10


def test_a_folder_per_class(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "我的 sounds", 12, 16_000)
    (root / "low" / "broken.wav").write_bytes(b"no sound")
    (root / "high" / "stereo.flac").write_bytes(wav(np.stack([tone(1500)] * 2, 1), kind="FLAC"))
    found = read_own(root, SoundData(path=str(root)))
    assert found.rate == 16_000  # as most are
    assert found.classes == ("high", "low")
    assert np.bincount(found.labels).tolist() == [13, 12]
    assert len(found.clips[12]) == 4800  # 0.3 s of the stereo one, resampled
    assert len(found.skipped) == 1
    assert "broken.wav is no sound" in found.skipped[0]
    splits = load_sound(SoundData(path=str(root), validation=0.2, test=0.2), None, []).splits
    assert set(splits) == {"train", "validation", "test"}
    assert sum(map(len, splits.values())) == 25


def test_rates_of_studios_are_brought_down(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", 3, 48_000)
    assert read_own(root, SoundData(path=str(root))).rate == 16_000
    assert read_own(root, SoundData(path=str(root), rate=48_000)).rate == 48_000


def test_folders_named_for_splits_are_the_splits(tmp_path: Path) -> None:
    for split, count in (("train", 6), ("valid", 2), ("test", 3)):
        write_folder(tmp_path / "own" / split, count)
    dataset = load_sound(SoundData(path=str(tmp_path / "own")), None, [])
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 12,
        "validation": 4,
        "test": 6,
    }


def test_long_recordings_are_cut_and_it_is_said(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", 4)
    (root / "low" / "long.wav").write_bytes(wav(tone(300, 3.0)))
    found = read_own(root, SoundData(path=str(root), longest=1.0))
    assert max(map(len, found.clips)) == 8000
    assert found.notes == ("1 recordings cut to their first 1 seconds (data.longest)",)


def test_a_table_of_paths_labels_and_speakers(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", 6)
    lines = [
        f"{name}/{n}.wav,{name},{'ann' if n < 2 else 'bob' if n < 4 else 'eve'}"
        for name in ("low", "high")
        for n in range(6)
    ]
    table = root / "list.csv"
    table.write_text("\n".join(["path,label,speaker", *lines]), "utf-8")
    config = SoundData(path=str(table), held_out="ann", held_out_validation="eve")
    dataset = load_sound(config, None, [])
    assert {name: len(split) for name, split in dataset.splits.items()} == {
        "train": 4,
        "validation": 4,
        "test": 4,
    }
    found = read_own(table, config)
    assert found.speakers is not None
    ann = [clip for clip, speaker in zip(found.clips, found.speakers, strict=True) if speaker == "ann"]
    test = dataset.splits["test"]
    for place, clip in enumerate(ann):
        start, end = test.clips.starts[place : place + 2]
        assert_array_equal(test.clips.samples[start:end], clip)
    with pytest.raises(UserError, match="no such speaker") as caught:
        load_sound(config.replace(held_out="anne"), None, [])
    assert "did you mean 'ann'?" in str(caught.value)


def test_a_speaker_held_out_needs_speakers(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "own", 4)
    with pytest.raises(UserError, match="do not say who speaks"):
        load_sound(SoundData(path=str(root), held_out="ann"), None, [])


def test_what_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        load_sound(SoundData(path=str(tmp_path / "absent")), None, [])
    alone = tmp_path / "one.wav"
    alone.write_bytes(wav(tone(300)))
    with pytest.raises(UserError, match="given as a folder"):
        load_sound(SoundData(path=str(alone)), None, [])
    (tmp_path / "own" / "low").mkdir(parents=True)
    with pytest.raises(UserError, match="no folder of recordings by class"):
        load_sound(SoundData(path=str(tmp_path / "own")), None, [])
    for name in ("a.wav", "b.wav"):
        (tmp_path / "own" / name).write_bytes(wav(tone(300)))
    with pytest.raises(UserError, match=r"1 folder with 0 recordings, and 2 recordings in no folder"):
        load_sound(SoundData(path=str(tmp_path / "own")), None, [])
    root = write_folder(tmp_path / "whole", 4)
    (root / "broken").mkdir()
    (root / "broken" / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match="no readable recording in broken"):
        load_sound(SoundData(path=str(root)), None, [])
    (tmp_path / "out.csv").write_text("path,label\n../a.wav,low\n", "utf-8")
    with pytest.raises(UserError, match="leads out of the CSV's folder"):
        load_sound(SoundData(path=str(tmp_path / "out.csv")), None, [])
