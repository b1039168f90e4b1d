"""What can be wrong with a file of times and numbers, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from descent.data.dataset import Dataset
from descent.data.series import SeriesSplit, load_series
from descent.data.series_config import SeriesData
from descent.errors import UserError


def rows(count: int = 60, start: str = "2026-03-02T00", step: str = "h") -> list[str]:
    times = np.datetime64(start, "m") + np.arange(count).astype(f"timedelta64[{step}]")
    return [f"{time},{n},{7 * n % 13}" for n, time in enumerate(times)]


def load(folder: Path, lines: list[str], header: str = "when,a,b", **options: object) -> Dataset:
    path = folder / "s.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    given = {"path": str(path), "history": 6, "horizon": 2, **options}
    return load_series(SeriesData(**given), None, [])  # type: ignore[arg-type]


def series(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Times and the first target's own values."""
    split = dataset.splits["train"]
    assert isinstance(split, SeriesSplit)
    held = split.series
    return held.times, held.values[:, 0] * held.std[0] + held.mean[0]


def test_unsorted_times_are_sorted_and_that_is_said(tmp_path: Path):
    lines = rows()
    mixed = load(tmp_path, lines[::-1])
    assert "rows sorted by time" in mixed.notes
    assert mixed.fingerprint == load(tmp_path, lines).fingerprint
    assert "rows sorted by time" not in load(tmp_path, lines).notes


def test_duplicated_times_are_refused_by_name_or_settled_as_asked(tmp_path: Path):
    lines = [*rows(), "2026-03-02T05:00,105,1", "2026-03-02T09:00,,1", "2026-03-02T05:00,90,1"]
    with pytest.raises(
        UserError, match=r"2 times stand in more than one row: 2026-03-02 05:00, 2026-03-02 09:00"
    ):
        load(tmp_path, lines)
    for policy, expected in (("first", 5), ("last", 90), ("mean", 200 / 3)):
        dataset = load(tmp_path, lines, duplicates=policy)
        times, values = series(dataset)
        assert (len(times), values[5]) == (60, pytest.approx(expected, rel=1e-5))
        assert f"3 rows of times that stand twice: {policy} kept" in dataset.notes
    assert series(load(tmp_path, lines, duplicates="mean"))[1][9] == pytest.approx(9, rel=1e-5)


def test_one_time_that_stands_twice_is_said_of_one(tmp_path: Path):
    with pytest.raises(UserError, match=r"one time stands in more than one row: 2026-03-02 05:00\n"):
        load(tmp_path, [*rows(), "2026-03-02T05:00,105,1"])


def test_a_mistake_in_a_column_of_times_is_named_with_its_line(tmp_path: Path):
    """Whichever row it is in, and also where lines were left blank or a cell holds a line's end."""
    for place in (9, 45):
        lines = rows()
        lines[place] = "2026-13-99," + lines[place].split(",", 1)[1]
        with pytest.raises(UserError, match=rf"s.csv: when: no time in line {place + 2}\n.*'2026-13-99'"):
            load(tmp_path, lines)
    lines[3] = lines[3] + "\n"
    lines[7] = lines[7].rsplit(",", 1)[0] + ',"\n5"'
    with pytest.raises(UserError, match=r"when: no time in line 49\n"):
        load(tmp_path, lines)
    with pytest.raises(UserError, match=r"line 49: a row of 1 cells"):
        load(tmp_path, [*lines[:45], "torn"])
    with pytest.raises(UserError, match="no column holds times"):  # a third are mistakes: these are no times
        load(tmp_path, [line if n % 3 else f"n{line}" for n, line in enumerate(rows())])


def test_gaps_are_filled_ignored_or_refused(tmp_path: Path):
    lines = [line for n, line in enumerate(rows()) if n not in (10, 11, 40)]
    dataset = load(tmp_path, lines)
    times, values = series(dataset)
    assert (len(times), str(times[11])[:16]) == (60, "2026-03-02T11:00")
    np.testing.assert_allclose(values[8:14], [8, 9, 9, 9, 12, 13], rtol=1e-5)
    assert "3 steps of an hour are missing, the first after 2026-03-02 09:00" in dataset.notes
    ignored = series(load(tmp_path, lines, gaps="ignore"))[1]
    np.testing.assert_allclose(ignored[8:12], [8, 9, 12, 13], rtol=1e-5)
    with pytest.raises(UserError, match="3 steps of an hour are missing"):
        load(tmp_path, lines, gaps="refuse")
    far = [*rows(30), *rows(30, "2036-03-02T00")]
    with pytest.raises(UserError, match=r"more than the 60 that are there(.|\n)*data.gaps=ignore"):
        load(tmp_path, far)


def test_uneven_times_are_named(tmp_path: Path):
    lines = rows()
    lines[20] = lines[20].replace("20:00", "20:17")
    with pytest.raises(UserError, match=r"s.csv: the times are not evenly spaced(.|\n)*2026-03-02 20:17"):
        load(tmp_path, lines)
    assert len(series(load(tmp_path, lines, gaps="ignore"))[0]) == 60


def test_text_in_a_column_of_numbers_is_named_with_its_row_and_value(tmp_path: Path):
    lines = rows()
    lines[17] = "2026-03-02T17:00,about 17,3"
    lines[30] = "2026-03-03T06:00,?,3"
    with pytest.raises(
        UserError, match=r"a: line 19 \(2026-03-02 17:00\) is no number; nor is one other\n.*'about 17'"
    ):
        load(tmp_path, lines)
    with pytest.raises(UserError, match=r"b: line 2 \(2026-03-02\) is no number\n.*'inf'"):
        load(tmp_path, ["2026-03-02T00:00,0,inf", *rows()[1:]])
    with pytest.raises(UserError, match=r"b: line 2 \(2026-03-02\) is no number; nor are 59 others"):
        load(tmp_path, [line.rsplit(",", 1)[0] + ",north" for line in rows()], targets=("b",))


def test_a_constant_column_is_kept_unscaled(tmp_path: Path):
    dataset = load(tmp_path, [line.rsplit(",", 1)[0] + ",4.5" for line in rows()])
    assert dataset.preparation["std"]["b"] == 1.0
    assert dataset.preparation["mean"]["b"] == 4.5
    assert "constant in the training part, not scaled: b" in dataset.notes


def test_of_a_series_that_never_changes_it_is_said(tmp_path: Path):
    """It may change later: a model sees the training part alone."""
    lines = [f"{line.split(',')[0]},{7 if n < 50 else n},4.5" for n, line in enumerate(rows())]
    said = "no target changes in the training part"
    assert any(note.startswith(said) for note in load(tmp_path, lines).notes)
    changing = load(tmp_path, [lines[0].replace(",7,", ",8,"), *lines[1:]])
    assert not any(note.startswith(said) for note in changing.notes)


def test_an_empty_column_is_left_out_or_refused_when_named(tmp_path: Path):
    lines = [line.rsplit(",", 1)[0] + "," for line in rows()]
    assert load(tmp_path, lines).preparation["targets"] == ["a"]
    with pytest.raises(UserError, match=r"the columns to forecast are empty"):
        load(tmp_path, lines, targets=("b",))
    with pytest.raises(UserError, match=r"b: the column is empty"):
        load(tmp_path, lines, targets=("a",), inputs=("b",))


def test_too_short_says_what_is_needed_and_what_was_found(tmp_path: Path):
    with pytest.raises(UserError, match=r"training part is too short(.|\n)*43 steps of 60(.|\n)*at least 52"):
        load(tmp_path, rows(), history=50)
    with pytest.raises(UserError, match=r"validation part is shorter(.|\n)*5 steps of 60(.|\n)*at least 8"):
        load(tmp_path, rows(), horizon=8)
    assert list(load(tmp_path, rows(), horizon=8, validation=0.0).splits) == ["train", "test"]
    with pytest.raises(UserError, match=r"too few rows to tell the step"):
        load(tmp_path, rows(2))


def test_times_that_are_none(tmp_path: Path):
    with pytest.raises(UserError, match=r"no column holds times(.|\n)*data.time_format"):
        load(tmp_path, [f"{n},{n},{n}" for n in range(60)])
    day_first = [f"{n % 28 + 1:02}/{n // 28 + 1:02}/2026,{n},{n}" for n in range(60)]
    with pytest.raises(UserError, match="no column holds times"):
        load(tmp_path, day_first)
    times, _ = series(load(tmp_path, day_first, time_format="%d/%m/%Y", gaps="ignore"))
    assert str(times[28])[:10] == "2026-02-01"
    unix = [f"{1_700_000_000 + 60 * n},{n},{n}" for n in range(60)]
    assert str(series(load(tmp_path, unix, time="when", time_format="unix"))[0][1])[:16] == "2023-11-14T22:14"
    with pytest.raises(UserError, match=r"when: no time in line 4\n.*'soon'"):
        load(tmp_path, ["2026-03-02,1,1", "2026-03-03,1,1", "soon,1,1", *rows()], time="when")
    with pytest.raises(UserError, match=r"no column 'whne'(.|\n)*did you mean 'when'"):
        load(tmp_path, rows(), time="whne")


def test_an_index_without_a_name_may_hold_the_times(tmp_path: Path):
    assert load(tmp_path, rows(), header=",a,b").preparation["targets"] == ["a", "b"]
    numbered = [f"{n},{line}" for n, line in enumerate(rows())]
    dataset = load(tmp_path, numbered, header=",when,a,b")
    assert dataset.preparation["targets"] == ["a", "b"]


def test_files_that_are_no_series(tmp_path: Path):
    with pytest.raises(UserError, match="has no rows"):
        load(tmp_path, [])
    (tmp_path / "g.csv").write_bytes("when,température\n2026-03-02,1\n".encode("latin-1"))
    with pytest.raises(UserError, match="not UTF-8"):
        load_series(SeriesData(path=str(tmp_path / "g.csv")), None, [])
    for name, message in (
        (".", "is a folder"),
        ("gone.csv", "no such file"),
        ("s.txt", "a .csv or .tsv file"),
    ):
        (tmp_path / "s.txt").write_text("x")
        with pytest.raises(UserError, match=message):
            load_series(SeriesData(path=str(tmp_path / name)), None, [])


@pytest.mark.parametrize(("part", "start", "end"), [("train", 6, 41), ("validation", 41, 48)])
def test_a_part_without_any_target_is_refused(tmp_path: Path, part: str, start: int, end: int):
    """Of 60 rows 41 are trained on, after a history of 6; the next 7 validate, and the last 12 test."""

    def loaded(blank: range) -> Dataset:
        lines = [line.split(",")[0] + ",,3" if n in blank else line for n, line in enumerate(rows())]
        return load(tmp_path, lines, targets=("a",), inputs=("b",), validation=0.15, test=0.2)

    with pytest.raises(
        UserError, match=rf"s.csv: the {part} part holds no value of a\n(.|\n)*data.validation"
    ):
        loaded(range(start, end))
    for less in (range(start + 1, end), range(start, end - 1)):
        split = loaded(less).splits[part]
        assert split.gather(np.arange(len(split)))["targets"].isfinite().any()
