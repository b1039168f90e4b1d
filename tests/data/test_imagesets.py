"""The named sets of images, from tiny files in their published layouts."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

from descent.data import Dataset, ImageData, ImageSplit, entry, load_examples, prepare_image
from descent.data.images import load_images
from descent.data.imagesets import SETS, Pictures
from descent.errors import CorruptArtifact, UserError

RNG = np.random.default_rng(2)
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def pixels(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def tar(path: Path, members: dict[str, bytes]) -> list[Path]:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return [path]


def cifar10(folder: Path, labels: list[np.ndarray], images: list[np.ndarray]) -> list[Path]:
    names = [*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]
    members = {"cifar-10-batches-bin/batches.meta.txt": ("\n".join(CIFAR) + "\n\n").encode()}
    for name, numbers, part in zip(names, labels, images, strict=True):
        records = np.concatenate([numbers[:, None].astype(np.uint8), part.reshape(len(part), -1)], axis=1)
        members[f"cifar-10-batches-bin/{name}"] = records.tobytes()
    return tar(folder / "cifar-10-binary.tar.gz", members)


def idx(path: Path, values: np.ndarray) -> Path:
    sides = b"".join(struct.pack(">I", side) for side in values.shape)
    path.write_bytes(gzip.compress(bytes([0, 0, 8, values.ndim]) + sides + values.tobytes()))
    return path


def mnist(folder: Path, labels: list[np.ndarray], images: list[np.ndarray]) -> list[Path]:
    return [
        idx(folder / f"{number}.gz", values)
        for number, values in enumerate(
            (images[0], labels[0].astype(np.uint8), images[1], labels[1].astype(np.uint8))
        )
    ]


def stl10(folder: Path, labels: list[np.ndarray], images: list[np.ndarray]) -> list[Path]:
    members = {}
    for name, numbers, part in zip(("test", "train"), labels[::-1], images[::-1], strict=True):
        members[f"stl10_binary/{name}_X.bin"] = part.transpose(0, 1, 3, 2).tobytes()
        members[f"stl10_binary/{name}_y.bin"] = numbers.astype(np.uint8).tobytes()
    return tar(folder / "stl10_binary.tar.gz", {**members, "stl10_binary/unlabeled_X.bin": bytes(10_000)})


def svhn(folder: Path, labels: list[np.ndarray], images: list[np.ndarray]) -> list[Path]:
    def part(kind: int, data: bytes) -> bytes:
        return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)

    def variable(name: str, array: np.ndarray) -> bytes:
        sides = np.array(array.shape, dtype="<i4").tobytes()
        flags, values = struct.pack("<II", 9, 0), array.astype(np.uint8).tobytes("F")
        return part(14, part(6, flags) + part(5, sides) + part(1, name.encode()) + part(2, values))

    paths = [folder / "train_32x32.mat", folder / "test_32x32.mat"]
    for path, numbers, part_of in zip(paths, labels, images, strict=True):
        columns = part_of.transpose(2, 3, 1, 0)
        body = variable("X", columns) + variable("y", numbers[:, None])
        path.write_bytes(b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + body)
    return paths


def medmnist(folder: Path, labels: list[np.ndarray], images: list[np.ndarray]) -> list[Path]:
    arrays = {}
    for name, numbers, part in zip(("train", "val", "test"), labels, images, strict=True):
        arrays |= {f"{name}_images": part, f"{name}_labels": numbers[:, None].astype(np.uint8)}
    np.savez_compressed(folder / "x.npz", **arrays)
    return [folder / "x.npz"]


def sheets(folder: Path, labels: list[np.ndarray], images: list[np.ndarray]) -> list[Path]:
    paths = []
    for number, part in enumerate(images):
        paths.append(folder / f"cifar10_batch_{number}.png")
        Image.fromarray(part.transpose(0, 2, 3, 1).reshape(1000, 1024, 3)).save(paths[-1], compress_level=1)
    (folder / "cifar10_labels.txt").write_text("".join(f"{label}\n" for label in np.concatenate(labels)))
    return [*paths, folder / "cifar10_labels.txt"]


Writer = Callable[[Path, list[np.ndarray], list[np.ndarray]], list[Path]]
# By the reader: who writes its files, how many images each part has, an image's shape, the first label.
LAYOUTS: dict[str, tuple[Writer, tuple[int, ...], tuple[int, ...], int, int]] = {
    "mnist": (mnist, (30, 11), (28, 28), 0, 10),
    "kmnist": (mnist, (30, 11), (28, 28), 0, 10),
    "fashion-mnist": (mnist, (30, 11), (28, 28), 0, 10),
    "cifar10": (cifar10, (6, 7, 5, 6, 6, 11), (3, 32, 32), 0, 10),
    "stl10": (stl10, (30, 11), (3, 96, 96), 1, 10),
    "svhn": (svhn, (30, 11), (3, 32, 32), 1, 10),
    "breastmnist": (medmnist, (30, 9, 11), (28, 28), 0, 2),
    "pneumoniamnist": (medmnist, (30, 9, 11), (28, 28), 0, 2),
    "cifar10-20k": (sheets, (1000, 1000), (3, 32, 32), 0, 10),
}


def made(name: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
    _, counts, shape, first, classes = LAYOUTS[name]
    labels = [np.arange(count) % classes + first for count in counts]
    random = np.random.default_rng(3)
    return labels, [random.integers(0, 256, (count, *shape), dtype=np.uint8) for count in counts]


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_image_of_a_set_keeps_its_label_and_its_split(tmp_path: Path, name: str):
    writer, counts, shape, _, classes = LAYOUTS[name]
    labels, images = made(name)
    found = SETS[name](writer(tmp_path, labels, images))
    whole = np.concatenate(images).reshape(sum(counts), -1, *shape[-2:])
    numbers = np.concatenate(labels)
    if name == "svhn":
        numbers = np.where(numbers == 10, 0, numbers)
    elif name == "stl10":
        numbers = numbers - 1
    assert_array_equal(found.images, whole)
    assert_array_equal(found.labels, numbers)
    assert len(found.classes) == len(set(found.classes)) == classes
    assert found.official is not None
    held = {"validation", "test"} if "breast" in name or "pneumonia" in name else {"test"}
    assert set(found.official) == {"train", *held}
    assert_array_equal(np.concatenate(list(found.official.values())), np.arange(sum(counts)))
    assert len(found.official["test"]) == counts[-1]


@pytest.mark.parametrize("wrong", [10, 11, 255, -1, 0])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_label_out_of_range_is_named_with_its_sample(tmp_path: Path, name: str, wrong: int):
    writer, _, _, first, classes = LAYOUTS[name]
    labels, images = made(name)
    labels[-1][4] = wrong
    if first <= wrong < first + classes:
        SETS[name](writer(tmp_path, labels, images))
        return
    place = 1004 if name == "cifar10-20k" else 4  # its labels stand in one file
    if wrong == -1 and name == "cifar10-20k":
        message = "does not hold whole numbers"
    else:
        message = rf"label of sample {place:,} \(counting from 0\) is out of range(.|\n)*{wrong % 256}"
    with pytest.raises(UserError, match=message):
        SETS[name](writer(tmp_path, labels, images))


def test_the_classes_of_cifar_sheets_may_be_a_part(tmp_path: Path):
    labels, images = made("cifar10-20k")
    files = sheets(tmp_path, labels, images)
    whole, numbers = np.concatenate(images), np.concatenate(labels)
    parts: dict[str, Pictures] = {name: SETS[name](files) for name in ("cats-dogs", "cifar10-20k-others")}
    pets, others = parts.values()
    assert pets.classes == ("cat", "dog")
    assert others.classes == tuple(name for name in CIFAR if name not in ("cat", "dog"))
    assert_array_equal(pets.images, whole[np.isin(numbers, (3, 5))])
    for part in parts.values():
        named = np.array(CIFAR)[numbers[np.isin(numbers, [CIFAR.index(name) for name in part.classes])]]
        assert_array_equal(np.array(part.classes)[part.labels], named)
        assert part.official is not None
        assert len(part.official["test"]) == 100 * len(part.classes)


BROKEN: dict[str, Callable[[Path], list[Path]]] = {
    "cifar10": lambda folder: cifar10(folder, [np.zeros(2)] * 6, [pixels(2, 3, 32, 31)] * 6),
    "mnist": lambda folder: mnist(folder, [np.zeros(5), np.zeros(5)], [pixels(6, 28, 28), pixels(5, 28, 28)]),
    "stl10": lambda folder: stl10(folder, [np.ones(5)] * 2, [pixels(4, 3, 96, 96)] * 2),
    "svhn": lambda folder: svhn(folder, [np.ones(5)] * 2, [pixels(4, 3, 32, 32)] * 2),
    "breastmnist": lambda folder: medmnist(folder, [np.ones(5)] * 3, [pixels(4, 28, 28)] * 3),
    "cifar10-20k": lambda folder: sheets(folder, [np.arange(9)], [pixels(1000, 3, 32, 32)]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_images_and_labels_that_do_not_fit_together_are_refused(tmp_path: Path, name: str):
    with pytest.raises(CorruptArtifact, match=r"fit|whole records"):
        SETS[name](BROKEN[name](tmp_path))


def test_a_sheet_of_another_shape_is_refused(tmp_path: Path):
    files = sheets(tmp_path, [np.zeros(1000, dtype=int)], [pixels(1000, 3, 32, 32)])
    Image.fromarray(pixels(32, 1024, 3)).save(files[0])
    with pytest.raises(CorruptArtifact, match="no sheet of images"):
        SETS["cifar10-20k"](files)


def dataset(folder: Path, name: str, backwards: bool = False, **options: object) -> Dataset:
    labels, images = made(name)
    if backwards:
        labels, images = ([part[::-1] for part in parts] for parts in (labels, images))
    files = LAYOUTS[name][0](folder, labels, images)
    return load_images(ImageData(source=name, **options), entry(name), files)  # type: ignore[arg-type]


def test_official_splits_stay_and_validation_is_taken_from_training(tmp_path: Path):
    sizes = {name: len(part) for name, part in dataset(tmp_path, "breastmnist").splits.items()}
    assert sizes == {"train": 30, "validation": 9, "test": 11}
    sizes = {name: len(part) for name, part in dataset(tmp_path, "svhn", validation=0.3).splits.items()}
    assert sizes["test"] == 11
    assert sizes["train"] + sizes["validation"] == 30
    assert 1 <= sizes["validation"] <= 18


def test_sets_come_in_the_asked_size_and_channels(tmp_path: Path):
    assert dataset(tmp_path, "kmnist", size=(224, 200), channels=3).sizes["inputs"] == (3, 224, 200)
    small = dataset(tmp_path, "stl10", size=(12, 12), channels=1)
    assert small.sizes == {"inputs": (1, 12, 12), "outputs": 10}


SHAPES = [
    ("mnist", {"size": (20, 31)}, "pad"),
    ("mnist", {"size": (20, 31), "fit": "stretch"}, "stretch"),
    ("mnist", {"size": (35, 35), "channels": 3}, "pad"),
    ("cifar10", {"size": (48, 21)}, "crop"),
    ("cifar10", {"size": (48, 21), "channels": 1, "fit": "pad"}, "pad"),
    ("cifar10", {"size": (40, 20), "fit": "stretch"}, "stretch"),
    ("cifar10", {"channels": 1}, "crop"),
]


@pytest.mark.parametrize(("name", "options", "fit"), SHAPES)
def test_a_picture_of_a_set_is_prepared_as_the_set_is(tmp_path: Path, name: str, options: dict, fit: str):
    found = dataset(tmp_path, name, **options)
    assert found.preparation["fit"] == fit
    test = found.splits["test"]
    assert isinstance(test, ImageSplit)
    labels, images = made(name)
    assert_array_equal(test.labels, labels[-1])
    originals = [
        Image.fromarray(image.transpose(1, 2, 0) if image.ndim == 3 else image) for image in images[-1]
    ]
    prepared = torch.stack([prepare_image(found.preparation, image) for image in originals])
    mean, std = (torch.tensor(found.preparation[key])[:, None, None] for key in ("mean", "std"))
    torch.testing.assert_close((prepared * std + mean) * 255, test.images.float(), atol=1.01, rtol=0)


def test_a_set_is_split_alike_in_any_shape(tmp_path: Path):
    own = dataset(tmp_path, "mnist", per_class=2)
    shapes: list[dict[str, Any]] = [{"size": (20, 31)}, {"size": (14, 14), "channels": 3}]
    for options in shapes:
        other = dataset(tmp_path, "mnist", per_class=2, **options)
        for name, part in own.splits.items():
            assert_array_equal(getattr(other.splits[name], "labels"), getattr(part, "labels"))  # noqa: B009


def test_a_share_that_has_no_effect_is_said_to_have_none(tmp_path: Path):
    assert "no effect" not in dataset(tmp_path, "breastmnist").about
    found = dataset(tmp_path, "breastmnist", validation=0.3)
    assert "data.validation has no effect" in found.about
    assert "data.validation has no effect" in found.summary()
    assert "no effect" not in dataset(tmp_path, "mnist", validation=0.3).about


def test_few_images_a_class_are_the_same_ones_among_more(tmp_path: Path):
    def shown(count: int, backwards: bool = False) -> list[set[bytes]]:
        split = dataset(tmp_path, "mnist", backwards, per_class=count, validation=0.0).splits["train"]
        assert isinstance(split, ImageSplit)
        rows = zip(split.images.numpy(), split.labels.tolist(), strict=True)
        groups: list[set[bytes]] = [set() for _ in range(10)]
        for image, label in rows:
            groups[label].add(image.tobytes())
        return groups

    two, three = shown(2), shown(3)
    assert [len(group) for group in two] == [2] * 10
    assert all(few < more for few, more in zip(two, three, strict=True))
    assert shown(100) == shown(3)
    assert shown(2, backwards=True) == two


def test_cifar10_20k_as_published(local_data: Path):
    found = load_examples(ImageData(source="cifar10-20k", validation=0.0))
    train, test = found.splits["train"], found.splits["test"]
    assert isinstance(train, ImageSplit)
    assert isinstance(test, ImageSplit)
    first = torch.bincount(train.labels[:10_000]).tolist()
    assert first == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert (len(train), len(test)) == (20_000, 1000)
    assert train.labels[:3].tolist() == [6, 9, 9]
    assert found.preparation["mean"] == pytest.approx([0.4914, 0.4822, 0.4465], abs=4e-3)
    sheet = np.asarray(Image.open(local_data / "cifar10-png" / "cifar10_batch_7.png"))
    assert_array_equal(train.images[7012].numpy(), sheet[12].reshape(32, 32, 3).transpose(2, 0, 1))
    pets = load_examples(ImageData(source="cats-dogs", validation=0.0)).splits["train"]
    assert isinstance(pets, ImageSplit)
    assert torch.bincount(pets.labels).tolist() == [2011, 1925]
