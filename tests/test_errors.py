"""What a user reads when something is wrong: the words, the exit code, and nothing a terminal would obey."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descent.errors import CorruptArtifact, LockedRun, UserError, nearest, shown, unknown


def test_an_error_says_what_was_got_what_was_expected_and_what_to_do_next():
    error = UserError("model.heads is wrong", got=5, expected="a divisor of 32", hint="try 4")
    assert str(error).splitlines() == [
        "model.heads is wrong",
        "  got:      5",
        "  expected: a divisor of 32",
        "  next:     try 4",
    ]


def test_parts_that_were_not_given_are_left_out_but_none_is_a_value():
    assert str(UserError("the file is empty")) == "the file is empty"
    assert str(UserError("no seed", got=None)) == "no seed\n  got:      None"


def test_each_kind_has_its_exit_code():
    assert [kind("x").exit_code for kind in (UserError, CorruptArtifact, LockedRun)] == [2, 3, 4]
    assert issubclass(CorruptArtifact, UserError)
    assert issubclass(LockedRun, UserError)


def test_an_unknown_name_gets_the_nearest_one_and_the_whole_list():
    error = unknown("recipe", "gtp", ["mlp", "gpt", "lenet"])
    assert str(error).splitlines() == [
        "no recipe is called 'gtp'",
        "  expected: one of gpt, lenet, mlp",
        "  next:     did you mean 'gpt'?",
    ]
    assert "did you mean" not in str(unknown("recipe", "zzz", ["mlp", "gpt"]))


@pytest.mark.parametrize(
    ("name", "found"), [("learing_rate", "learning_rate"), ("dept", "depth"), ("colour", None), ("", None)]
)
def test_nearest(name: str, found: str | None):
    assert nearest(name, iter(["learning_rate", "depth", "steps"])) == found


def test_a_long_value_is_cut_short_and_says_how_long_it_was():
    text = shown("a" * 5000)
    assert text.startswith("'aaa")
    assert text.endswith("... (5,002 characters)")
    assert len(text) < 250
    assert len(shown(list(range(1000)), limit=20)) < 50
    assert shown("short") == "'short'"


def test_a_value_that_cannot_be_printed_makes_no_second_error():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert "(list too large to print)" in str(UserError("too deep", got=deep))
    assert "(int too large to print)" in str(UserError("too large", got=1 << 100_000))


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\rb\tc\x00", r"a\rb\tc\x00"),
        ("half \udc80", r"half \udc80"),
        ("turned \u202etxt.exe", r"turned \u202etxt.exe"),
        ("床前明月光，café 👩‍💻", "床前明月光，café 👩‍💻"),
    ],
)
def test_what_a_terminal_would_obey_is_printed_as_its_code(text: str, printed: str):
    assert str(UserError(text)) == printed
    assert str(UserError("x", expected=text, hint=text)).count(printed) == 2


@given(st.text(st.characters()), st.one_of(st.text(st.characters()), st.integers(), st.floats()))
def test_every_error_can_be_written_as_utf8(what: str, got: object):
    text = str(UserError(what, got=got))
    text.encode()
    assert "\x1b" not in text
