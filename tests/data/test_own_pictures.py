"""The user's own pictures, of any size, mode and format, from a folder or a CSV to a prediction."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import descent
from descent.cli import main
from descent.data import Dataset, ImageData, ImageSplit, load_examples
from descent.data import imagefiles as imagefiles_module
from descent.errors import UserError

CLASSES = ("猫 cat", "dog.v2", "🐟 fish 👨‍👩‍👧")
MODES = {
    "png": ("1", "L", "P", "RGB", "RGBA", "I;16", "LA"),
    "jpg": ("L", "RGB", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "bmp": ("1", "L", "P", "RGB"),
    "gif": ("P", "L"),
    "ppm": ("RGB", "L"),
}


def picture(random: np.random.Generator, mode: str, height: int, width: int, number: int) -> Image.Image:
    """Noise whose colour and brightness tell the class."""
    base = np.full(3, 30 + 60 * number)
    base[number] += 60
    image = Image.fromarray((random.integers(0, 40, (height, width, 3)) + base).astype(np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.convert(mode)


ODD = (("JPEG", "CMYK"), ("PNG", "I;16"), ("PNG", "P"), ("PNG", "LA"), ("GIF", "P"), ("PNG", "1"))


def kind_of(file: Path) -> tuple[str | None, str]:
    with Image.open(file) as image:
        return image.format, image.mode


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 pictures of 1 to 500 pixels a side in three classes, and one that is cut short."""
    root, random = tmp_path_factory.mktemp("own") / "我的 pictures.v1", np.random.default_rng(5)
    for number in range(200):
        ending = list(MODES)[number % len(MODES)]
        mode = MODES[ending][number // len(MODES) % len(MODES[ending])]
        height, width = (1, 1 + number) if number % 20 == 0 else map(int, random.integers(1, 501, 2))
        folder = root / CLASSES[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        picture(random, mode, height, width, number % 3).save(folder / f"{number:03}.{ending}")
    whole = (root / CLASSES[1] / "001.jpg").read_bytes()
    (root / CLASSES[0] / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    return root


def load(path: Path, **options: object) -> Dataset:
    return load_examples(ImageData(path=str(path), **options))  # type: ignore[arg-type]


def count(dataset: Dataset) -> int:
    return sum(len(part) for part in dataset.splits.values())


def test_a_folder_of_odd_pictures_trains_predicts_and_explains_with_no_code(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    wanted = {"data.path": str(pictures), "budget.steps": 30, "budget.batch_size": 32}
    run = descent.train("lenet-digits", wanted, out=tmp_path / "run", quiet=True)
    found = load(pictures)
    assert count(found) == 200
    assert found.labels == tuple(sorted(CLASSES))
    assert [line for line in found.skipped if "broken.jpg is a broken image" in line] == list(found.skipped)
    files = sorted(pictures.rglob("*.*"))
    files = [file for file in files if file.is_file() and file.name != "broken.jpg"]
    loaded = descent.load(run.folder)
    guesses = loaded.predict(files)
    right = [guess["label"] == file.parent.name for guess, file in zip(guesses, files, strict=True)]
    assert sum(right) > 150
    assert set(guesses[0]["probabilities"]) == set(CLASSES)
    broken = pictures / CLASSES[0] / "broken.jpg"
    with pytest.raises(UserError, match=r"broken\.jpg is a broken image"):
        loaded.predict([broken])
    labels = {file: guess["label"] for file, guess in zip(files, guesses, strict=True)}
    odd = [next(file for file in files if kind_of(file) == kind) for kind in ODD]
    out = tmp_path / "explained.png"
    words = ["explain", run.folder, *odd, broken, "--method", "gradcam", "--out", out, "--json"]
    assert main(list(map(str, words))) == 1
    printed = capsys.readouterr()
    assert "broken.jpg is a broken image" in printed.err
    explained = json.loads(printed.out)["images"]
    assert {row["input"]: row["label"] for row in explained} == {file.name: labels[file] for file in odd}
    with Image.open(out) as figure:
        assert min(figure.size) > 100


def test_the_order_of_threads_changes_nothing(pictures: Path, monkeypatch: pytest.MonkeyPatch):
    prints = set()
    for threads in (1, 3, 8):
        monkeypatch.setattr(imagefiles_module, "_THREADS", threads)
        monkeypatch.setattr(os, "cpu_count", lambda: 8)
        before = threading.active_count()
        found = load(pictures, size=(24, 20))
        assert threading.active_count() == before
        prints.add((found.fingerprint, found.skipped))
    assert len(prints) == 1


def test_sizes_over_256_are_met_when_they_are_asked_for(pictures: Path):
    found = load(pictures, size=(300, 280), fit="pad")
    assert found.sizes["inputs"] == (3, 300, 280)


def csv(folder: Path, text: str, name: str = "labels.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with 12 images in a folder of its own, each with a brightness that is its number."""
    (tmp_path / "set" / "图 1").mkdir(parents=True)
    for number in range(12):
        Image.fromarray(np.full((5, 6), 10 * number, dtype=np.uint8)).save(
            tmp_path / "set" / "图 1" / f"{number}.png"
        )
    return tmp_path / "set"


def rows(numbers: range = range(12)) -> str:
    return "".join(f"图 1/{number}.png,{'odd' if number % 2 else 'even'}\n" for number in numbers)


def labelled(dataset: Dataset) -> dict[int, str]:
    """The label of each image, by its brightness."""
    assert dataset.labels is not None
    found = {}
    for part in dataset.splits.values():
        assert isinstance(part, ImageSplit)
        for image, label in zip(part.images, part.labels.tolist(), strict=True):
            found[int(image[0, 0, 0]) // 10] = dataset.labels[label]
    return found


EXPECTED = {number: "odd" if number % 2 else "even" for number in range(12)}


def test_a_csv_of_paths_and_labels_in_any_of_its_forms(images: Path):
    forms = {
        "named": "path,label\n" + rows(),
        "other names": "file,kind\n" + rows(),
        "a byte order mark": "\ufeffPath,Label\r\n" + rows().replace("\n", "\r\n"),
        "without a header": rows(),
        "quoted": '"path","label"\n' + rows().replace("图 1", '"图 1').replace(".png", '.png"'),
        "dots": "path,label\n" + rows().replace("图 1/", "./x/../图 1/"),
        "blanks around labels": "path,label\n" + rows().replace(",", ",  "),
        "absolute": "path,label\n" + rows().replace("图 1", str(images / "图 1")),
    }
    forms["the other way round"] = "label,path\n" + "".join(
        f"{EXPECTED[number]},图 1/{number}.png\n" for number in range(12)
    )
    prints = set()
    for form, text in forms.items():
        found = load(csv(images, text))
        assert labelled(found) == EXPECTED, form
        assert found.labels == ("even", "odd")
        prints.add(found.fingerprint)
    assert len(prints) == 1
    tabs = load(csv(images, "path\tlabel\n" + rows().replace(",", "\t"), "labels.tsv"))
    assert labelled(tabs) == EXPECTED
    named = "id,path,kind\n" + "".join(f"{n},{line}\n" for n, line in enumerate(rows().splitlines()))
    assert labelled(load(csv(images, named), target="kind")) == EXPECTED


def test_a_csv_holds_the_images_of_a_folder(images: Path, tmp_path: Path):
    for number in range(12):
        place = tmp_path / "folder" / EXPECTED[number]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes((images / "图 1" / f"{number}.png").read_bytes())
    listed, by_folder = load(csv(images, "path,label\n" + rows())), load(tmp_path / "folder")
    for name in ("train", "validation", "test"):
        assert len(listed.splits[name]) == len(by_folder.splits[name])
    assert listed.preparation == by_folder.preparation


def test_splits_named_in_a_csv_are_kept(images: Path):
    names = ["train"] * 7 + ["", "val", "dev", "test", "Test"]
    lines = [f"{line},{name}\n" for line, name in zip(rows().splitlines(), names, strict=True)]
    found = load(csv(images, "path,label,split\n" + "".join(lines)))
    assert {name: len(part) for name, part in found.splits.items()} == {
        "train": 8,
        "validation": 2,
        "test": 2,
    }
    only_test = "".join(
        f"{line},{'test' if n > 8 else 'train'}\n" for n, line in enumerate(rows().split("\n")[:12])
    )
    sizes = {
        name: len(part) for name, part in load(csv(images, "path,label,split\n" + only_test)).splits.items()
    }
    assert sizes["test"] == 3
    assert sizes["train"] + sizes["validation"] == 9


def test_images_that_are_not_there_or_broken_are_listed(images: Path):
    (images / "图 1" / "cut.png").write_bytes((images / "图 1" / "0.png").read_bytes()[:40])
    (images / "图 1" / "loop.png").symlink_to("loop.png")
    os.mkfifo(images / "图 1" / "pipe.png")
    extra = "nothing.png,odd\n图 1,odd\n图 1/cut.png,even\n*.png,odd\n图 1/loop.png,odd\n图 1/pipe.png,even\n"
    found = load(csv(images, "path,label\n" + extra + rows()))
    assert labelled(found) == EXPECTED
    assert len(found.skipped) == 6
    for name in ("nothing.png", "图 1", "cut.png", "*.png", "loop.png", "pipe.png"):
        assert any(name in line for line in found.skipped), name


WRONG = {
    "../secret.png,odd\n": "leads out of the CSV's folder",
    "图 1/../../set2/x.png,odd\n": "leads out of the CSV's folder",
    "/etc/x.png,odd\n": "leads out of the CSV's folder",
    "a\0b.png,odd\n": "leads out of the CSV's folder",
    "图 1/1.png,\n": "no label",
    "图 1/1.png,a\tb\n": "a class whose name is no text",
    "图 1/1.png\n": "a row of 1 cells",
    "图 1/1.png,third\nnothing.png,fourth\n": "no readable image in fourth",
}


@pytest.mark.parametrize("extra", WRONG)
def test_a_row_that_does_not_fit_is_explained(images: Path, extra: str):
    with pytest.raises(UserError, match=WRONG[extra]) as caught:
        load(csv(images, "path,label\n" + rows() + extra))
    if "leads out" in WRONG[extra] or "no label" in WRONG[extra]:
        assert "line 14: " in caught.value.what


TABLES = {
    "path,label\n": "no rows",
    "": "no rows",
    "path\n图 1/1.png\n": "has one column",
    "path,label\n图 1/1.png,odd\n": "only one label",
    "id,path,kind\n1,图 1/1.png,odd\n": "which column is the label",
    "path,label,split\n图 1/1.png,odd,half\n": "no such split",
    "path,label,split\n图 1/1.png,odd,test\n图 1/2.png,even,test\n": "no row is of the split train",
    "path;label\n图 1/1.png;odd\n": "not separated by",
}


@pytest.mark.parametrize("text", TABLES)
def test_a_csv_that_lists_no_classes_is_explained(images: Path, text: str):
    with pytest.raises(UserError, match=TABLES[text]):
        load(csv(images, text))
    with pytest.raises(UserError, match=r"no column 'kind'|no rows|not separated|one column"):
        load(csv(images, text.replace("kind", "label")), target="kind")


def test_labels_that_are_numbers_stand_in_their_order(images: Path, tmp_path: Path):
    text = "".join(f"图 1/{number}.png,{number}\n" for number in range(12))
    assert load(csv(images, text)).labels == tuple(map(str, range(12)))
    for number in range(12):
        (tmp_path / "folder" / str(number)).mkdir(parents=True)
        (images / "图 1" / f"{number}.png").rename(tmp_path / "folder" / str(number) / "x.png")
    assert load(tmp_path / "folder").labels == tuple(map(str, range(12)))


def test_hidden_files_and_folders_are_no_images(images: Path, tmp_path: Path):
    for name in ("a", "b"):
        for place in (
            f"{name}/x.png",
            f"{name}/deep/y.png",
            f"{name}/.thumbs/z.png",
            f"{name}/._x.png",
            f".git/{name}.png",
        ):
            (tmp_path / "set2" / place).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "set2" / place).write_bytes((images / "图 1" / "3.png").read_bytes())
        (tmp_path / "set2" / name / "folder.png").mkdir()
    found = load(tmp_path / "set2", validation=0.0, test=0.0)
    assert (found.labels, count(found), found.skipped) == (("a", "b"), 4, ())


def test_a_folder_whose_name_is_no_text_is_explained(images: Path, tmp_path: Path):
    for name in (b"cat\xff", b"dog\n", b"owl"):
        folder = os.fsencode(tmp_path / "set3") + b"/" + name
        os.makedirs(folder)
        with open(folder + b"/x.png", "wb") as file:
            file.write((images / "图 1" / "3.png").read_bytes())
    with pytest.raises(UserError, match="a class whose name is no text"):
        load(tmp_path / "set3")


def test_upright_and_lying_photographs_of_one_size_keep_it(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(4):
            image = Image.fromarray(np.full((10, 20), 20 * number, dtype=np.uint8))
            image.save(tmp_path / name / f"{number}.jpg", exif=exif)
    assert load(tmp_path).sizes["inputs"] == (1, 20, 10)


def test_nothing_of_a_picture_depends_on_others(pictures: Path):
    """The pixels of the images that come are the same whether or not others beside them are broken."""
    whole = load(pictures, size=(16, 16), channels=3)
    part = whole.splits["train"]
    assert isinstance(part, ImageSplit)
    first = {image.numpy().tobytes() for image in part.images}
    (pictures / CLASSES[2] / "000a.png").write_bytes(b"broken")
    again = load(pictures, size=(16, 16), channels=3).splits["train"]
    (pictures / CLASSES[2] / "000a.png").unlink()
    assert isinstance(again, ImageSplit)
    assert {image.numpy().tobytes() for image in again.images} == first
    assert torch.equal(again.labels, part.labels)
