"""The generated dates: true, unambiguous, the same everywhere, and disjoint by day."""

from __future__ import annotations

import re
from datetime import date

import pytest

from descent.data.dates import FIRST, FORMS, LAST, dates, written
from descent.data.pair_entries import PAIRS
from descent.data.pairs import load_pairs
from descent.data.pairs_config import PairsData

DAY = date(1987, 5, 3)  # a Sunday
BY_HAND = [
    "3 May 1987", "May 3, 1987", "Sunday, 3rd of May 1987", "May the 3rd, 1987", "the third of May, 1987",
    "May third, 1987", "Sun 3 May 1987", "May. 3, 1987", "3rd May 1987", "3-May-87", "3 May '87", "3.5.1987",
    "5/3/1987", "1987/5/3", "19870503", "1987年5月3日", "87年5月3日", "一九八七年五月三日",
    "一九八七年五月三日 星期日", "公元一九八七年五月三日", "1987年5月3号,周日", "民国76年5月3日",
]  # fmt: skip


def test_every_form_is_as_one_writes_it():
    assert [written(DAY, number) for number in range(len(FORMS))] == BY_HAND
    assert written(DAY, 2 * len(FORMS)) == "3 may 1987"
    assert written(DAY, 3 * len(FORMS) + 2) == "SUNDAY, 3RD OF MAY 1987"


@pytest.mark.parametrize(
    ("day", "form", "text"),
    [
        (date(2000, 1, 1), 2, "Saturday, 1st of January 2000"),
        (date(2024, 2, 22), 2, "Thursday, 22nd of February 2024"),
        (date(1999, 12, 11), 3, "December the 11th, 1999"),
        (date(2001, 8, 30), 4, "the thirtieth of August, 2001"),
        (date(2049, 12, 31), 5, "December thirty-first, 2049"),
        (date(1950, 10, 21), 5, "October twenty-first, 1950"),
        (date(2009, 9, 10), 18, "二〇〇九年九月十日 星期四"),
        (date(2010, 11, 12), 17, "二〇一〇年十一月十二日"),
        (date(2005, 12, 20), 19, "公元二〇〇五年十二月二十日"),
        (date(2005, 1, 9), 9, "9-Jan-05"),
        (date(2049, 1, 31), 21, "民国138年1月31日"),
    ],
)
def test_names_endings_and_chinese_numbers(day: date, form: int, text: str):
    assert written(day, form) == text


def test_every_day_of_a_hundred_years_once_and_no_text_twice():
    found = dates()
    assert [found[0][0], found[-1][0]] == [FIRST, LAST] == [date(1950, 1, 1), date(2049, 12, 31)]
    assert len({day for day, _ in found}) == len({text for _, text in found}) == len(found) == 36525
    assert found == dates()
    assert (found[13636][0], found[13636][1]) == (DAY, "一九八七年五月三日")


def test_no_form_can_be_read_as_two_days():
    """A text names one day, also where two forms look alike, and whatever its letters."""
    days = [date(year, number, day) for year in (1950, 1987, 2011, 2012, 2049) for number in (1, 5, 11, 12)
             for day in (1, 2, 3, 10, 11, 12, 30)]  # fmt: skip
    meant: dict[str, date] = {}
    for day in days:
        for number in range(len(FORMS)):
            assert meant.setdefault(written(day, number).lower(), day) == day


def test_forms_and_letters_are_equally_frequent():
    texts = [text for _, text in dates()]
    for shape in (r"\d+\.\d+\.\d{4}", r"\d+/\d+/\d{4}", r"\d{4}/\d+/\d+", r"\d{8}", r"民国\d+年\d+月\d+日"):
        assert len([text for text in texts if re.fullmatch(shape, text)]) == pytest.approx(
            36525 / 22, abs=120
        )
    sundays = [text for text in texts if re.match("(?i)sunday", text)]
    assert len([text for text in sundays if text.islower()]) == pytest.approx(len(sundays) / 4, rel=0.3)
    assert len([text for text in sundays if text.isupper()]) == pytest.approx(len(sundays) / 4, rel=0.3)


def test_the_splits_are_of_days():
    config = PairsData(source="dates", validation=0.03, test=0.05)
    found = load_pairs(config, PAIRS[0], [])
    days = {name: [target for _, target in pairs] for name, pairs in found.splits.items()}
    assert {name: len(set(texts)) for name, texts in days.items()} == {
        "train": 33701, "validation": 1031, "test": 1793,
    }  # fmt: skip
    assert sum(map(len, days.values())) == 36525
    assert len(set().union(*days.values())) == 36525
    assert (
        dict(found.splits["train"] + found.splits["validation"] + found.splits["test"])["一九八七年五月三日"]
        == "1987-05-03"
    )
    turned = load_pairs(config.replace(reverse=True), PAIRS[0], [])
    assert [pair[0] for pair in turned.splits["test"]] == days["test"]
