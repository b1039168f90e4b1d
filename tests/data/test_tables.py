"""Tables: columns by type, blanks, classes, and the same preparation for a row that is new."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.data import (
    ArraySplit,
    Dataset,
    TableData,
    load_examples,
    prepare_image,
    prepare_row,
    restore_target,
)
from descent.data.tables import whole_labels
from descent.errors import UserError


def table(folder: Path, text: str, name: str = "t.csv", **options: object) -> Dataset:
    (folder / name).write_text(text, encoding="utf-8")
    return load_examples(TableData(path=str(folder / name), **options))  # type: ignore[arg-type]


def tensors(dataset: Dataset, split: str = "train") -> dict[str, torch.Tensor]:
    found = dataset.splits[split]
    assert isinstance(found, ArraySplit)
    return found.tensors


def rows(count: int = 60) -> str:
    lines = [f"{n},{n * n % 17},{'红绿蓝'[n % 3]},{3 * n + 1}" for n in range(count)]
    return "\n".join(["a,b,colour,price", *lines]) + "\n"


def test_columns_are_typed_encoded_and_standardised_by_the_training_rows(tmp_path: Path):
    dataset = table(tmp_path, rows(), target="price")
    inputs, targets = tensors(dataset)["inputs"], tensors(dataset)["targets"]
    assert dataset.sizes == {"inputs": (5,), "outputs": 1}
    assert (inputs.dtype, targets.dtype, targets.shape[1:]) == (torch.float32, torch.float32, (1,))
    assert_close(inputs.mean(0), torch.zeros(5), atol=1e-6, rtol=0)
    assert_close(inputs.std(0, correction=0), torch.ones(5))
    assert_close(targets.mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    # the other splits use the training rows' statistics: prices come back exactly
    for name in dataset.splits:
        prices = restore_target(dataset.preparation, tensors(dataset, name)["targets"])[:, 0]
        feature = tensors(dataset, name)["inputs"][:, 0]
        a = feature * dataset.preparation["std"][0] + dataset.preparation["mean"][0]
        assert_close(prices, 3 * a + 1, rtol=1e-4, atol=1e-3)
    assert restore_target(dataset.preparation, 0.0) == dataset.preparation["target_mean"]


def test_a_new_row_is_prepared_as_the_training_rows_were(tmp_path: Path):
    dataset = table(tmp_path, rows(), target="price")
    saved = json.loads(json.dumps(dataset.preparation))
    prices = restore_target(saved, tensors(dataset)["targets"])[:, 0].round().int().tolist()
    for place in (0, 7, 20):
        n = (prices[place] - 1) // 3
        row = {"b": str(n * n % 17), "a": n, "colour": "红绿蓝"[n % 3], "unused": None}
        assert_close(prepare_row(saved, row), tensors(dataset)["inputs"][place])


def test_a_new_row_that_does_not_fit_is_explained(tmp_path: Path):
    preparation = table(tmp_path, rows(), target="price").preparation
    good = {"a": 1, "b": 2, "colour": "红"}
    for change, message in (
        ({"colour": "黄"}, "colour is '黄' in row 1, which the data had nowhere"),
        ({"a": "many"}, "a is not a number"),
        ({"a": float("inf")}, "a is infinite"),
    ):
        with pytest.raises(UserError, match=message):
            prepare_row(preparation, {**good, **change})
    with pytest.raises(UserError, match=r"the row lacks 'colour'(.|\n)*did you mean 'colour' by 'color'"):
        prepare_row(preparation, {"a": 1, "b": 2, "color": "红"})
    with pytest.raises(UserError, match="not trained on images"):
        prepare_image(preparation, "x.png")


def test_a_word_or_class_that_occurs_once_is_no_matter(tmp_path: Path):
    words = [f"w{n}" if n % 10 == 0 else "often" for n in range(100)]
    text = "word,y\n" + "".join(f"{word},{word[:2]}\n" for word in words)
    dataset = table(tmp_path, text, target="y", validation=0.3, test=0.3)
    assert dataset.labels == tuple(sorted({word[:2] for word in words}))
    assert dataset.preparation["features"][0]["categories"] == sorted(set(words))


@pytest.mark.parametrize(
    ("header", "said"), [("a;b;y", "separated by ','"), (",a,y", "column 1 has no name")]
)
def test_tables_as_other_programs_write_them(tmp_path: Path, header: str, said: str):
    with pytest.raises(UserError, match=said):
        table(tmp_path, header + "\n1,2,3\n4,5,6\n7,8,9\n", target="y")


def test_a_folder_is_no_table(tmp_path: Path):
    with pytest.raises(UserError, match=r"is a folder(.|\n)*\.csv"):
        load_examples(TableData(path=str(tmp_path), target="y"))


def test_blank_cells_follow_the_policy(tmp_path: Path):
    text = "a,word,y\n" + "".join(
        f"{'' if n % 9 == 0 else n},{'' if n % 7 == 0 else 'w'},{n}.5\n" for n in range(45)
    )
    with pytest.raises(
        UserError, match=r"5 cells of 'a' are empty, the first in line 2(.|\n)*data\.blanks=mean"
    ):
        table(tmp_path, text, target="y", blanks="refuse")
    dropped = table(tmp_path, text, target="y", blanks="drop")
    assert sum(len(split) for split in dropped.splits.values()) == 40
    for policy, middle in (("mean", np.mean), ("median", np.median)):
        dataset = table(tmp_path, text, target="y", blanks=policy, validation=0.0, test=0.0)
        known = [n for n in range(45) if n % 9]
        assert dataset.preparation["features"][0]["fill"] == pytest.approx(middle(known))
        assert dataset.sizes["inputs"] == (3,)  # a blank word is a category of its own
        row = prepare_row(dataset.preparation, {"a": None, "word": ""})
        assert_close(row, tensors(dataset)["inputs"][0])
    with pytest.raises(UserError, match=r"cells of 'y' are empty(.|\n)*drop such rows"):
        table(tmp_path, text.replace("3.5\n", "\n", 1), target="y")


@pytest.mark.parametrize(
    ("targets", "task", "labels"),
    [
        (["yes", "no"], "auto", ("no", "yes")),
        (["2", "10", "7"], "auto", ("2", "7", "10")),
        (["0.5", "1.5"], "auto", None),
        (["0", "1"], "regression", None),
        ([str(n) for n in range(30)], "auto", None),
        ([str(n) for n in range(30)], "classification", tuple(str(n) for n in range(30))),
    ],
)
def test_a_target_is_classes_or_values(
    tmp_path: Path, targets: list[str], task: str, labels: tuple[str, ...] | None
):
    text = "x,y\n" + "".join(f"{n},{targets[n % len(targets)]}\n" for n in range(240))
    dataset = table(tmp_path, text, target="y", task=task)
    assert dataset.labels == labels
    assert dataset.sizes["outputs"] == (len(labels) if labels else 1)
    assert tensors(dataset)["targets"].dtype == (torch.int64 if labels else torch.float32)
    if labels:
        x = tensors(dataset)["inputs"][:, 0] * dataset.preparation["std"][0] + dataset.preparation["mean"][0]
        expected = [labels.index(targets[round(value) % len(targets)]) for value in x.tolist()]
        assert tensors(dataset)["targets"].tolist() == expected


FAULTS = [
    ("a,b\n1,2\n3,4\n5,6\n", {"target": "c"}, "there is no column 'c'"),
    ("price,b\n1,2\n3,4\n5,6\n", {"target": "prize"}, "did you mean 'price'"),
    ("a,b\n1,2\n3,4\n5,6\n", {"target": "a", "features": ["bb"]}, "did you mean 'b'"),
    ("a,b\n1,2\n3,4\n5,6\n", {"target": "a", "features": ["a"]}, "target 'a' is also a feature"),
    ("a,b\n1,2\n3,4\n5,6\n", {}, r"which column is to be predicted(.|\n)*data\.target=b"),
    ("a\n1\n2\n3\n", {"target": "a"}, "no column is left"),
    ("a,b\n1,2\n", {"target": "b"}, "too few rows"),
    ("a,b\n1,inf\n2,3\n4,5\n", {"target": "b"}, "line 2: b is infinite"),
    ("a,b\n,1\n,2\n,3\n", {"target": "b"}, "column 'a' is empty"),
    ("a,b\n1,x\n2,x\n3,x\n", {"target": "b"}, "has 1 classes"),
    ("a,b\n1,x\n2,y\n3,z\n", {"target": "b", "task": "regression"}, "holds words"),
    ("a,b\n" + "".join(f"w{n},{n}.5\n" for n in range(400)), {"target": "b"}, "different words"),
]


@pytest.mark.parametrize(("text", "options", "message"), FAULTS)
def test_a_faulty_table_is_explained(tmp_path: Path, text: str, options: dict, message: str):
    with pytest.raises(UserError, match=message):
        table(tmp_path, text, **options)


def test_splits_depend_on_a_rows_content_alone(tmp_path: Path):
    first = table(tmp_path, rows(200), target="price", standardise=False)
    lines = rows(200).splitlines()
    again = table(
        tmp_path,
        "\n".join([lines[0], *reversed(lines[1:])]),
        target="price",
        standardise=False,
        features=["a"],
    )
    for name in ("train", "validation", "test"):
        assert sorted(tensors(first, name)["inputs"][:, 0].tolist()) == sorted(
            tensors(again, name)["inputs"][:, 0].tolist()
        )
    assert 10 <= len(first.splits["validation"]) <= 32
    assert 25 <= len(first.splits["test"]) <= 56


def test_one_hot_may_leave_out_its_first_category(tmp_path: Path):
    dataset = table(tmp_path, rows(), target="price", drop_first=True, standardise=False)
    assert dataset.sizes["inputs"] == (4,)
    assert tensors(dataset)["inputs"][:, 2:].sum(1).max() == 1
    assert tensors(dataset)["inputs"][:, 2:].sum(1).min() == 0
    assert prepare_row(dataset.preparation, {"a": 1, "b": 2, "colour": "红"}).tolist() in (
        [1, 2, 1, 0],
        [1, 2, 0, 1],
        [1, 2, 0, 0],
    )


def test_tab_separated_and_npy_tables(tmp_path: Path):
    dataset = table(tmp_path, rows().replace(",", "\t"), "t.tsv", target="colour")
    assert dataset.labels == ("红", "绿", "蓝") or set(dataset.labels or ()) == set("红绿蓝")
    np.save(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(50, 3)))
    np.save(tmp_path / "y.npy", np.arange(50) % 2)
    dataset = load_examples(TableData(path=str(tmp_path / "X.npy")))
    assert dataset.sizes == {"inputs": (3,), "outputs": 2}
    np.save(tmp_path / "other.npy", np.linspace(0, 1, 50)[:, None])
    assert load_examples(TableData(path=str(tmp_path / "X.npy"), target="other.npy")).labels is None
    np.save(tmp_path / "y.npy", np.arange(49))
    with pytest.raises(UserError, match="do not fit together"):
        load_examples(TableData(path=str(tmp_path / "X.npy")))
    (tmp_path / "y.npy").unlink()
    with pytest.raises(UserError, match=r"targets that belong to X\.npy are not there"):
        load_examples(TableData(path=str(tmp_path / "X.npy")))


@pytest.mark.parametrize(
    ("labels", "classes", "sample", "limit"),
    [
        ([0, 9, 10, 3], 10, 2, "0 to 9"),
        ([0, 1, 2, -1], 0, 3, "0 to 99,999"),
        ([0.0, 1.5], 0, 1, "0 to 99,999"),
        ([float("nan"), 1.0], 5, 0, "0 to 4"),
        ([1, 10**9], 0, 1, "0 to 99,999"),
    ],
)
def test_a_label_out_of_range_names_its_sample(labels: list[float], classes: int, sample: int, limit: str):
    with pytest.raises(
        UserError, match=rf"y\.npy: the label of sample {sample} \(counting from 0\) is out of range"
    ) as caught:
        whole_labels(np.array(labels), classes, "y.npy")
    assert limit in str(caught.value.expected)


@pytest.mark.parametrize(
    ("name", "rows_in_all", "inputs", "labels"),
    [("iris", 149, 4, 3), ("wine", 178, 13, 3), ("breast-cancer", 569, 30, 2), ("diabetes", 442, 10, None)],
)
def test_bundled_tables(name: str, rows_in_all: int, inputs: int, labels: int | None):
    dataset = load_examples(TableData(source=name))
    assert abs(sum(len(split) for split in dataset.splits.values()) - rows_in_all) <= 1
    assert dataset.sizes == {"inputs": (inputs,), "outputs": labels or 1}
    assert (len(dataset.labels) if dataset.labels else None) == labels
    assert set(dataset.splits) == {"train", "validation", "test"}
    assert load_examples(TableData(source=name)).fingerprint == dataset.fingerprint


def test_housing_as_published(local_data: Path):
    dataset = load_examples(TableData(source="housing"))
    assert sum(len(split) for split in dataset.splits.values()) == 20_640
    assert dataset.sizes == {"inputs": (13,), "outputs": 1}
    names = [feature["name"] for feature in dataset.preparation["features"]]
    assert names[-1] == "ocean_proximity"
    assert len(dataset.preparation["features"][-1]["categories"]) == 5
    row = {
        "longitude": -122.23,
        "latitude": 37.88,
        "housing_median_age": 41,
        "total_rooms": 880,
        "total_bedrooms": "",
    }
    row |= {"population": 322, "households": 126, "median_income": 8.3252, "ocean_proximity": "NEAR BAY"}
    assert abs(prepare_row(dataset.preparation, row)[4]) < 1e-9  # a blank is the mean
