"""Which of the user's own pictures is in which split, and what is decided for the user, and said."""

from __future__ import annotations

import ntpath
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from descent.cli.explain import _files
from descent.cli.inputs import images_of
from descent.data import Dataset, ImageData, ImageSplit, load_examples, prepare_image
from descent.data import listed as listed_module
from descent.data import pictures as pictures_module
from descent.data.picture_names import image_files
from descent.data.pictures import room
from descent.data.splits import file_key, keys
from descent.errors import UserError

COUNT = 60


def load(path: Path, **options: object) -> Dataset:
    return load_examples(ImageData(path=str(path), **options))  # type: ignore[arg-type]


def plain(path: Path, value: int | tuple[int, int, int], size: tuple[int, int] = (20, 20)) -> None:
    """A picture of one colour, which it keeps in any size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(value, int) else "RGB", size, value).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """60 grey pictures in two classes, each with a brightness of its own."""
    for number in range(COUNT):
        plain(tmp_path / "own" / "ab"[number % 2] / f"{number:02}.png", 4 * number)
    return tmp_path / "own"


def shown(dataset: Dataset) -> dict[str, set[int]]:
    """The brightnesses of each split's pictures."""
    found = {}
    for name, part in dataset.splits.items():
        assert isinstance(part, ImageSplit)
        found[name] = set(part.images[:, 0, 0, 0].tolist())
    return found


def test_a_picture_stays_in_its_split_whatever_is_made_of_it_and_comes_beside_it(folder: Path):
    wanted = shown(load(folder))
    assert sum(map(len, wanted.values())) == COUNT
    assert min(map(len, wanted.values())) > 2
    forms = [{"size": (side, side), "channels": channels} for side in (20, 32) for channels in (1, 3)]
    for form in forms:
        assert shown(load(folder, **form)) == wanted, form
    (folder / "a" / "broken.png").write_bytes((folder / "a" / "00.png").read_bytes()[:50])
    for form in ({}, *forms):
        found = load(folder, **form)
        assert (shown(found), len(found.skipped)) == (wanted, 1), form
    plain(folder / "b" / "colour.png", (255, 255, 10))
    for form in ({}, forms[1], forms[3]):
        found = shown(load(folder, **form))
        assert {name: values - {255} for name, values in found.items()} == wanted, form
        assert sum(map(len, found.values())) == COUNT + 1


def test_the_few_of_each_class_are_the_same_in_any_size(folder: Path):
    wanted = shown(load(folder, per_class=5))["train"]
    assert len(wanted) == 10
    for form in ({"size": (7, 9), "channels": 3}, {"size": (32, 32)}):
        assert shown(load(folder, per_class=5, **form))["train"] == wanted


def test_images_in_arrays_are_split_by_the_pixels_they_came_with(tmp_path: Path):
    np.save(tmp_path / "X.npy", np.random.default_rng(0).integers(0, 256, (COUNT, 8, 9), dtype=np.uint8))
    np.save(tmp_path / "y.npy", np.arange(COUNT))
    found = []
    for form in ({}, {"size": (12, 5)}, {"channels": 3}, {"size": (16, 18), "fit": "stretch"}):
        parts = load(tmp_path / "X.npy", **form).splits
        found.append([part.labels.tolist() for part in parts.values() if isinstance(part, ImageSplit)])
    assert len(found[0][2]) > 2
    assert all(labels == found[0] for labels in found)


def test_a_file_has_the_key_of_its_bytes(tmp_path: Path):
    for content in (b"", b"a", bytes(range(256)) * 5000):
        (tmp_path / "x").write_bytes(content)
        assert file_key(tmp_path / "x") == keys([content])[0]


@pytest.mark.parametrize(("side", "taken"), [(20, 20), (64, 64), (65, 32), (256, 32)])
def test_a_large_size_of_their_own_is_not_kept_and_that_is_said(tmp_path: Path, side: int, taken: int):
    for number in range(8):
        plain(tmp_path / "ab"[number % 2] / f"{number}.png", number, (side, side))
    found = load(tmp_path)
    assert found.sizes["inputs"] == (1, taken, taken)
    for text in (found.about, found.summary()):
        assert ("brought to 32 x 32, which data.size changes" in text) == (side > 64)
    asked = load(tmp_path, size=(70, 60))
    assert asked.sizes["inputs"] == (1, 70, 60)
    assert asked.notes == ()


def test_two_folders_for_one_split_are_refused(folder: Path):
    root = folder.parent / "set"
    root.mkdir()
    folder.rename(root / "train")
    plain(root / "valid" / "a" / "x.png", 241)
    found = load(root)
    assert (len(found.splits["validation"]), found.notes) == (1, ())
    plain(root / "dev" / "b" / "y.png", 242)
    with pytest.raises(UserError, match=r"two folders for the split validation(.|\n)*dev and valid"):
        load(root)


def test_folders_beside_train_that_are_not_used_are_named(folder: Path):
    root = folder.parent / "set"
    root.mkdir()
    folder.rename(root / "train")
    for name in ("extra", "unlabelled"):
        plain(root / name / "a" / "x.png", 250)
    found = load(root)
    assert sum(map(len, shown(found).values())) == COUNT
    for text in (found.about, found.summary()):
        assert "not used, as it is no split: 'extra', 'unlabelled'" in text


def test_a_size_that_memory_does_not_hold_is_explained(folder: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match=r"1,000,000,000 images(.|\n)*50,331,648\.0 GB(.|\n)*data\.size"):
        room(10**9, 3, (4096, 4096))
    np.save(folder / "X.npy", np.zeros((9, 8, 8), dtype=np.uint8))
    np.save(folder / "y.npy", np.arange(9))
    empty = np.empty

    def too_much(shape: object, *more: object, **named: object) -> object:
        if isinstance(shape, tuple) and shape[-1] == 4096:
            raise MemoryError
        return empty(shape, *more, **named)  # type: ignore[arg-type, call-overload]

    monkeypatch.setattr(np, "empty", too_much)
    for path in (folder, folder / "X.npy"):
        with pytest.raises(UserError, match=r"1 x 4096 x 4096 do not fit into memory(.|\n)*data\.size"):
            load(path, size=(4096, 4096))


def test_a_picture_that_cannot_be_converted_is_listed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    plain(folder / "a" / "odd.png", 250, (21, 20))
    convert = pictures_module.to_array

    def fragile(image: Image.Image, *more: object) -> object:
        if image.width == 21:
            raise MemoryError("no more")
        return convert(image, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(pictures_module, "to_array", fragile)
    found = load(folder, size=(20, 20))
    assert sum(map(len, shown(found).values())) == COUNT
    assert [line.split("/")[-1] for line in found.skipped] == ["odd.png is a broken image: no more"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_that_are_no_numbers_are_a_broken_image(folder: Path, value: float):
    pixels = np.full((20, 20), 0.98, dtype="<f4")
    (folder / "a" / "whole.pgm").write_bytes(b"Pf\n20 20\n-1.0\n" + pixels.tobytes())
    pixels[3, 4] = value
    (folder / "a" / "odd.pgm").write_bytes(b"Pf\n20 20\n-1.0\n" + pixels.tobytes())
    found = load(folder)
    assert sum(map(len, shown(found).values())) == COUNT + 1
    assert len(found.skipped) == 1
    assert "odd.pgm is a broken image: it has pixels that are infinite or no numbers" in found.skipped[0]
    for image in (folder / "a" / "odd.pgm", Image.fromarray(pixels)):
        with pytest.raises(UserError, match="infinite or no numbers"):
            prepare_image(found.preparation, image)


def test_a_path_on_another_drive_leads_out_of_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "labels.csv").write_text("path,label\nE:/x.png,a\n", encoding="utf-8")
    monkeypatch.setattr(listed_module, "os", SimpleNamespace(path=ntpath))
    with pytest.raises(UserError, match=r"leads out of the CSV's folder(.|\n)*E:/x\.png"):
        load(folder / "labels.csv")


def test_every_command_finds_the_same_image_files(tmp_path: Path):
    names = ("b.PNG", "a.jpg", "deep/er/c.webp")
    hidden = ("._a.png", ".git/d.png", "deep/.thumbs/e.png", "notes.txt")
    for name in (*names, *hidden):
        (tmp_path / ".root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".root" / name).write_bytes(b"")
    root = tmp_path / ".root"
    (root / "folder.png").mkdir()
    for found in (image_files(root), images_of(root), _files(root)):
        assert found == sorted(root / name for name in names)


def test_looking_for_image_files_imports_nothing_heavy():
    program = (
        "import sys, descent.data.picture_names\n"
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")
