"""Dates in many written forms, English and Chinese, and each as ISO 8601 writes it: generated, no download.

    "Sunday, 3rd of May 1987"    1987-05-03
    "一九八七年五月三日"            1987-05-03

Each of the 36,525 days from 1950 to 2049 is written once, in a form that a hash of the day picks: a function
of nothing but the day. No form is ambiguous within these hundred years. Between dots the day comes first,
between strokes the month, or else the year; a year of two digits is one of 1950 to 2049; 民国 counts years
from 1911.
"""

from __future__ import annotations

from datetime import date, timedelta

from descent.data.splits import keys

__all__ = ["FIRST", "FORMS", "LAST", "dates", "written"]

FIRST, LAST = date(1950, 1, 1), date(2049, 12, 31)

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"),
    *("eleventh", "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth"),
    *("eighteenth", "nineteenth", "twentieth"),
)
_DIGITS = "〇一二三四五六七八九"

FORMS = (
    *("{day} {month} {year}", "{month} {day}, {year}", "{weekday}, {nth} of {month} {year}"),
    *("{month} the {nth}, {year}", "the {word} of {month}, {year}", "{month} {word}, {year}"),
    *(
        "{weekday_short} {day} {month_short} {year}",
        "{month_short}. {day}, {year}",
        "{nth} {month_short} {year}",
    ),
    *("{day}-{month_short}-{two}", "{day} {month} '{two}", "{day}.{number}.{year}", "{number}/{day}/{year}"),
    *("{year}/{number}/{day}", "{year}{number:02}{day:02}", "{year}年{number}月{day}日"),
    *(
        "{two}年{number}月{day}日",
        "{年}年{月}月{日}日",
        "{年}年{月}月{日}日 星期{曜}",
        "公元{年}年{月}月{日}日",
    ),
    *("{year}年{number}月{day}号,周{曜}", "民国{republic}年{number}月{day}日"),
)
"""The forms, all equally frequent; half of the days are then put into small or capital letters."""


def dates() -> list[tuple[date, str]]:
    """Every day from `FIRST` to `LAST` and how it is written."""
    days = [FIRST + timedelta(number) for number in range((LAST - FIRST).days + 1)]
    # not the hash that decides on the split, which would show in the form
    words = keys(f"how {day} is written".encode() for day in days)
    return [(day, written(day, int(word))) for day, word in zip(days, words, strict=True)]


def written(day: date, word: int) -> str:
    """A day in the form, and with the letters, that a random word picks."""
    word, form = divmod(word, len(FORMS))
    text = FORMS[form].format(**_parts(day))
    return (text, text, text.lower(), text.upper())[word % 4]


def _parts(day: date) -> dict[str, str | int]:
    month, weekday = _MONTHS[day.month - 1], _WEEKDAYS[day.weekday()]
    return {
        "year": day.year,
        "two": f"{day.year % 100:02}",
        "republic": day.year - 1911,
        "number": day.month,
        "month": month,
        "month_short": month[:3],
        "day": day.day,
        "nth": f"{day.day}{_suffix(day.day)}",
        "word": _ordinal(day.day),
        "weekday": weekday,
        "weekday_short": weekday[:3],
        "年": "".join(_DIGITS[int(digit)] for digit in str(day.year)),
        "月": _chinese(day.month),
        "日": _chinese(day.day),
        "曜": "一二三四五六日"[day.weekday()],
    }


def _suffix(number: int) -> str:
    return "th" if 10 < number < 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _ordinal(number: int) -> str:
    if number <= 20:
        return _ORDINALS[number - 1]
    return "thirtieth" if number == 30 else f"{'twenty' if number < 30 else 'thirty'}-{_ordinal(number % 10)}"


def _chinese(number: int) -> str:
    """A number of 1 to 99 as it is spoken: 三, 十, 十二, 二十, 三十一."""
    tens, ones = divmod(number, 10)
    ten = {0: "", 1: "十"}.get(tens, f"{_DIGITS[tens]}十")
    return ten + (_DIGITS[ones] if ones else "")
