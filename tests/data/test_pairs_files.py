"""The user's own pairs: what is read from files, what is refused, and how the refusal reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from descent.data.pairs import load_pairs
from descent.data.pairs_config import PairsData
from descent.errors import UserError


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        place = folder / name.replace("_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(path: Path | str, other: Path | str | None = None, **changes: object):
    values = {"path": str(path), "validation": 0.0, "test": 0.0, **changes}
    config = PairsData.read({**values, **({} if other is None else {"target_path": str(other)})})
    return load_pairs(config, None, [])


def refused(path: Path | str, other: Path | str | None = None) -> str:
    with pytest.raises(UserError) as error:
        read(path, other)
    return str(error.value)


def test_two_columns(tmp_path: Path):
    text = "\ufeffone\t一\r\n\r\n  two words \t 二 \r\n\t\r\nthree\t三"
    found = read(write(tmp_path, a_tsv=text) / "a.tsv")
    assert found.splits == {"train": [("one", "一"), ("two words", "二"), ("three", "三")]}
    assert found.name == "a.tsv"


def test_two_files_line_by_line(tmp_path: Path):
    write(tmp_path, a_en="one\n\ntwo\u2028lines\nthree\n", a_zh="一\n  \n二\n三")
    found = read(tmp_path / "a.en", tmp_path / "a.zh")
    assert found.splits == {"train": [("one", "一"), ("two\u2028lines", "二"), ("three", "三")]}


def test_files_named_for_splits_keep_them(tmp_path: Path):
    write(
        tmp_path, train_en="a\nb\nc\nd\n", val_en="e\n", test_en="f\n", train_de="A\nB\nC\nD\n", val_de="E\n"
    )
    write(tmp_path, test_de="F\n")
    found = read(tmp_path / "*.en", tmp_path / "*.de")
    assert found.splits["validation"] == [("e", "E")]
    assert found.splits["test"] == [("f", "F")]
    assert len(found.splits["train"]) == 4


def test_a_folder_of_columns_takes_its_validation_from_training_where_it_has_none(tmp_path: Path):
    lines = "".join(f"{number}\t{-number}\n" for number in range(50))
    found = read(write(tmp_path, train_tsv=lines, test_tsv="x\ty\n"), validation=0.3)
    assert found.splits["test"] == [("x", "y")]
    assert 5 < len(found.splits["validation"]) < 25
    assert len(found.splits["train"]) + len(found.splits["validation"]) == 50


def test_a_line_without_a_tab(tmp_path: Path):
    message = refused(write(tmp_path, a_txt="one\t一\ntwo 二\n") / "a.txt")
    assert "a.txt, line 2: no tab" in message
    assert "two 二" in message
    assert "data.target_path" in message


def test_a_line_of_three_columns(tmp_path: Path):
    message = refused(write(tmp_path, a_tsv="one\t一\tCC-BY\n") / "a.tsv")
    assert "a.tsv, line 1: 3 columns" in message
    assert "cut -f1,2" in message


@pytest.mark.parametrize(("line", "side"), [("two\t", "target"), ("\t二", "source"), ("two\t  ", "target")])
def test_an_empty_side(tmp_path: Path, line: str, side: str):
    message = refused(write(tmp_path, a_tsv=f"one\t一\n\n{line}\n") / "a.tsv")
    assert f"a.tsv, line 3: the {side} is empty" in message


def test_an_empty_side_of_two_files(tmp_path: Path):
    write(tmp_path, a_en="one\n\nthree\n", a_zh="一\n二\n三\n")
    message = refused(tmp_path / "a.en", tmp_path / "a.zh")
    assert "line 2: the source is empty" in message
    assert "二" in message


def test_different_numbers_of_lines_are_both_said(tmp_path: Path):
    write(tmp_path, a_en="one\ntwo\nthree\n", a_zh="一\n二\n")
    message = refused(tmp_path / "a.en", tmp_path / "a.zh")
    assert "different numbers of lines" in message
    assert "a.en: 3 lines" in message
    assert "a.zh: 2 lines" in message


def test_what_is_not_utf_8(tmp_path: Path):
    write(tmp_path, a_tsv="one\tzwölf\ntwo\tzwanzig\n".encode("latin-1"))
    assert "a.tsv is not UTF-8: byte 6 (line 1)" in refused(tmp_path / "a.tsv")
    write(tmp_path, b_tsv="one\t一\n".encode("utf-16"))
    assert "b.tsv is UTF-16" in refused(tmp_path / "b.tsv")


@pytest.mark.parametrize("text", ["", "\n\n", "\t\n"])
def test_a_file_without_pairs(tmp_path: Path, text: str):
    assert "a.tsv holds no pairs" in refused(write(tmp_path, a_tsv=text) / "a.tsv")


def test_a_file_that_is_not_there_names_the_nearest(tmp_path: Path):
    write(tmp_path, pairs_tsv="one\t一\n")
    assert "pairs.tsv" in refused(tmp_path / "pair.tsv")


def test_sides_of_other_splits(tmp_path: Path):
    write(tmp_path, train_en="a\n", val_en="b\n", train_de="A\n", test_de="B\n")
    message = refused(tmp_path / "*.en", tmp_path / "*.de")
    assert "do not hold the same splits" in message
    assert "train, validation and test, train" in message


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train.tsv", "more.tsv"), "more.tsv names no split"),
        (("train.tsv", "training.tsv"), "two files are named for train"),
        (("val.tsv", "test.tsv"), "no file is named train"),
    ],
)
def test_several_files_must_be_one_a_split(tmp_path: Path, names: tuple[str, ...], message: str):
    for name in names:
        (tmp_path / name).write_text("a\tb\n")
    assert message in refused(tmp_path)
