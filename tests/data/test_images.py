"""Images: any size and mode from a folder, nothing that harms, and the same preparation for a new one."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch.testing import assert_close

from descent.data import Dataset, ImageData, ImageSplit, load_examples, prepare_image, prepare_row, sweep
from descent.data.pictures import open_image, to_array
from descent.errors import UserError

RNG = np.random.default_rng(0)


def noise(height: int = 10, width: int = 10, channels: int = 3) -> Image.Image:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8))


def folder(root: Path, per_class: int = 20, **save: object) -> Path:
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            noise().save(root / name / f"{number:03}.png", **save)
    return root


def load(path: Path, **options: object) -> Dataset:
    return load_examples(ImageData(path=str(path), **options))  # type: ignore[arg-type]


def split(dataset: Dataset, name: str = "train") -> ImageSplit:
    found = dataset.splits[name]
    assert isinstance(found, ImageSplit)
    return found


def test_a_folder_per_class(tmp_path: Path):
    dataset = load(folder(tmp_path))
    assert (dataset.labels, dataset.unit, dataset.skipped) == (("cat", "dog"), "images", ())
    assert dataset.sizes == {"inputs": (3, 10, 10), "outputs": 2}
    assert sum(len(part) for part in dataset.splits.values()) == 40
    batch = next(sweep(split(dataset), 100))
    assert_close(batch["inputs"].mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(batch["inputs"].std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


def test_every_image_keeps_its_label_and_a_new_one_is_prepared_alike(tmp_path: Path):
    dataset = load(folder(tmp_path))
    saved = json.loads(json.dumps(dataset.preparation))
    found = {}
    for name in dataset.splits:
        batch = next(sweep(split(dataset, name), 100))
        found |= {image.numpy().tobytes(): int(label) for image, label in zip(*batch.values(), strict=True)}
    for number, label in enumerate(dataset.labels or ()):
        for file in (tmp_path / label).iterdir():
            assert found[prepare_image(saved, file).numpy().tobytes()] == number
            assert found[prepare_image(saved, Image.open(file)).numpy().tobytes()] == number
    with pytest.raises(UserError, match="not trained on rows"):
        prepare_row(saved, {})


def test_official_folders_are_kept(tmp_path: Path):
    for part, count in (("train", 30), ("val", 7), ("test", 5)):
        folder(tmp_path / part, count)
    dataset = load(tmp_path)
    assert {name: len(part) for name, part in dataset.splits.items()} == {
        "train": 60,
        "validation": 14,
        "test": 10,
    }
    for file in (tmp_path / "val").rglob("*.png"):
        file.unlink()
    (tmp_path / "val" / "cat").rmdir()
    (tmp_path / "val" / "dog").rmdir()
    (tmp_path / "val").rmdir()
    sizes = {name: len(part) for name, part in load(tmp_path, validation=0.2).splits.items()}
    assert sizes["test"] == 10
    assert sizes["train"] + sizes["validation"] == 60
    assert 4 <= sizes["validation"] <= 22


def test_broken_images_are_listed_and_left_out(tmp_path: Path):
    folder(tmp_path)
    whole = (tmp_path / "cat" / "000.png").read_bytes()
    (tmp_path / "cat" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "dog" / "text.jpg").write_text("not an image")
    (tmp_path / "dog" / "empty.png").write_bytes(b"")
    (tmp_path / "dog" / "notes.txt").write_text("ignored")
    dataset = load(tmp_path)
    assert sum(len(part) for part in dataset.splits.values()) == 40
    assert len(dataset.skipped) == 3
    assert {
        name for name in ("cut.png", "text.jpg", "empty.png") if any(name in line for line in dataset.skipped)
    } == {
        "cut.png",
        "text.jpg",
        "empty.png",
    }
    assert "3 files left out" in dataset.summary()


def test_a_jpeg_cut_anywhere_is_refused_or_decoded_without_a_crash(tmp_path: Path):
    buffer = io.BytesIO()
    noise(40, 40).save(buffer, "JPEG")
    data = buffer.getvalue()
    for length in range(0, len(data), 13):
        (tmp_path / "x.jpg").write_bytes(data[:length])
        with pytest.raises(UserError, match=r"x\.jpg is (no|a broken) image"):
            open_image(tmp_path / "x.jpg")


def png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("width", "height"), [(60_000, 60_000), (10_000, 9_000), (2**31 - 1, 1), (50_000_001, 1)]
)
def test_a_huge_header_is_refused_before_a_pixel_is_made(tmp_path: Path, width: int, height: int):
    (tmp_path / "x.png").write_bytes(png_header(width, height))
    tracemalloc.start()
    with pytest.raises(UserError, match="too large"):
        open_image(tmp_path / "x.png")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["x.eps", "x.tiff", "x.psd", "x.svg", "x.png"])
def test_formats_off_the_list_are_refused_whatever_they_are_called(tmp_path: Path, name: str):
    buffer = io.BytesIO()
    noise().save(buffer, "EPS" if name == "x.eps" else "TIFF")
    (tmp_path / name).write_bytes(buffer.getvalue() if name != "x.svg" else b"<svg/>")
    with pytest.raises(UserError, match="no image of an accepted format"):
        open_image(tmp_path / name)


def test_modes_become_grey_or_colour(tmp_path: Path):
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    half = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    deep = Image.fromarray(np.full((4, 4), 257 * 100, dtype=np.uint16))
    cases = {
        "cmyk.jpg": (red.convert("CMYK"), (254, 0, 0)),
        "alpha.png": (half, (255, 255, 255)),
        "palette.png": (red.convert("P"), (255, 0, 0)),
        "grey alpha.png": (Image.new("LA", (4, 4), (80, 255)), (80, 80, 80)),
        "deep.png": (deep, (100, 100, 100)),
        "bits.png": (Image.new("1", (4, 4), 1), (255, 255, 255)),
        "grey.webp": (Image.new("RGB", (4, 4), (9, 9, 9)), (9, 9, 9)),
    }
    for name, (image, expected) in cases.items():
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        pixels = to_array(open_image(tmp_path / name), 3, (4, 4), "crop")
        assert pixels.shape == (3, 4, 4)
        np.testing.assert_allclose(pixels[:, 1, 1].astype(int), expected, atol=3, err_msg=name)
    see_through = red.convert("P")
    see_through.info["transparency"] = see_through.getpixel((0, 0))
    see_through.save(tmp_path / "clear.png", transparency=see_through.getpixel((0, 0)))
    assert to_array(open_image(tmp_path / "clear.png"), 1, (2, 2), "crop").min() == 255


def test_the_first_frame_of_an_animation_is_taken(tmp_path: Path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert to_array(open_image(tmp_path / "x.gif"), 3, (6, 6), "crop")[:, 3, 3].tolist() == [255, 0, 0]


def test_a_camera_that_was_held_upright(tmp_path: Path):
    image = Image.new("RGB", (20, 10))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "x.jpg", exif=exif)
    assert open_image(tmp_path / "x.jpg").size == (10, 20)


def test_mixed_sizes_and_modes_come_to_one_shape(tmp_path: Path):
    folder(tmp_path)
    noise(30, 20, 1).save(tmp_path / "cat" / "grey.png")
    noise(7, 50).save(tmp_path / "dog" / "wide.bmp")
    assert load(tmp_path).sizes["inputs"] == (3, 32, 32)
    assert load(tmp_path, size=[12, 8], channels=1).sizes["inputs"] == (1, 12, 8)
    for number in range(20):
        for name in ("cat", "dog"):
            noise(5, 6, 1).save(tmp_path / name / f"{number:03}.png")
    (tmp_path / "dog" / "wide.bmp").unlink()
    (tmp_path / "cat" / "grey.png").unlink()
    assert load(tmp_path).sizes["inputs"] == (1, 5, 6)


def test_how_an_image_fills_another_shape():
    image = Image.new("L", (40, 20), 0)
    ImageDraw.Draw(image).rectangle((10, 0, 29, 19), fill=200)
    crop, pad, stretch = (to_array(image, 1, (20, 20), fit)[0] for fit in ("crop", "pad", "stretch"))
    assert crop.min() == 200
    assert (pad[:4].max(), pad[-4:].max(), pad[10, 10], pad[10, 0]) == (0, 0, 200, 0)
    assert (stretch[0, 0], stretch[0, 10], stretch[19, 10]) == (0, 200, 200)


FAULTS = [
    (lambda root: root / "nothing", "no such file or folder"),
    (lambda root: root / "cat" / "000.png", "folder with one folder per class"),
    (
        lambda root: root / "cat",
        r"no folder of images by class\n.*0 folders with 0 images, and \d+ images in no",
    ),
]


@pytest.mark.parametrize(("path", "message"), FAULTS)
def test_a_folder_that_does_not_fit_is_explained(tmp_path: Path, path, message: str):
    with pytest.raises(UserError, match=message):
        load(path(folder(tmp_path, 3)))


def test_a_class_without_a_readable_image_is_explained(tmp_path: Path):
    folder(tmp_path, 3)
    (tmp_path / "owl").mkdir()
    (tmp_path / "owl" / "x.png").write_bytes(b"oops")
    with pytest.raises(UserError, match=r"no readable image in owl(.|\n)*x\.png"):
        load(tmp_path)


def test_npy_images(tmp_path: Path):
    labels = np.arange(60) % 3
    np.save(tmp_path / "y.npy", labels)
    for shape, inputs in (((60, 8, 9), (1, 8, 9)), ((60, 3, 8, 9), (3, 8, 9)), ((60, 8, 9, 3), (3, 8, 9))):
        np.save(tmp_path / "X.npy", RNG.integers(0, 256, shape, dtype=np.uint8))
        dataset = load(tmp_path / "X.npy")
        assert (dataset.sizes, dataset.labels) == ({"inputs": inputs, "outputs": 3}, ("0", "1", "2"))
    np.save(tmp_path / "X.npy", RNG.random((60, 8, 8)))
    assert split(load(tmp_path / "X.npy")).images.max() > 250
    assert load(tmp_path / "X.npy", classes=7).sizes["outputs"] == 7
    labels[17] = 3
    np.save(tmp_path / "y.npy", labels)
    with pytest.raises(UserError, match="label of sample 17"):
        load(tmp_path / "X.npy", classes=3)
    for bad in (
        RNG.normal(size=(60, 8, 8)),
        RNG.random((60, 8)),
        RNG.random((60, 8, 8, 5)),
        np.full((60, 8, 8), np.nan),
    ):
        np.save(tmp_path / "X.npy", bad)
        with pytest.raises(UserError, match=r"out of range|holds no images"):
            load(tmp_path / "X.npy")


def test_digits_are_whole_and_may_be_resized():
    dataset = load_examples(ImageData(source="digits"))
    assert sum(len(part) for part in dataset.splits.values()) == 1797
    assert dataset.sizes == {"inputs": (1, 8, 8), "outputs": 10}
    big = load_examples(ImageData(source="digits", size=(28, 28), channels=3))
    assert big.sizes["inputs"] == (3, 28, 28)
    assert torch.equal(split(big).labels, split(dataset).labels)


def test_mnist_as_published(local_data: Path):
    dataset = load_examples(ImageData(source="mnist"))
    assert {name: len(part) for name, part in dataset.splits.items()} == {
        "train": 55_000,
        "validation": 5_000,
        "test": 10_000,
    }
    assert torch.bincount(split(dataset, "test").labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    assert dataset.preparation["mean"][0] == pytest.approx(0.1307, abs=2e-4)
    assert dataset.preparation["std"][0] == pytest.approx(0.3081, abs=2e-4)
    assert "validation" not in load_examples(ImageData(source="mnist", validation=0.0)).splits
