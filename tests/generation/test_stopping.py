"""Stop strings are found however the text is cut, and never shown."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from descent.generation.stopping import StopStrings

texts = st.text("ab#", max_size=30)
stops = st.lists(st.text("ab#", min_size=1, max_size=4), min_size=1, max_size=3)


def reference(text, strings):
    """Character by character: the text ends where the first complete stop string began."""
    for end in range(1, len(text) + 1):
        begins = [end - len(s) for s in strings if text[:end].endswith(s)]
        if begins:
            return text[: min(begins)], True
    return text, False


@given(texts, stops, st.lists(st.integers(0, 30), max_size=6))
def test_any_cut_gives_what_the_reference_gives(text, strings, cuts):
    stream, shown, places = StopStrings(strings), "", [0, *sorted(cuts), len(text)]
    expected, found = reference(text, strings)
    for start, end in pairwise(places):
        shown += stream.push(text[start:end])
        assert expected.startswith(shown)
    assert shown + stream.finish() == expected
    assert stream.found == found


def test_text_that_cannot_begin_a_stop_string_is_shown_at_once():
    stream = StopStrings(["###"])
    assert [stream.push(piece) for piece in ("a#", "b##", "c", "##", "#d", "e")] == [
        "a",
        "#b",
        "##c",
        "",
        "",
        "",
    ]
    assert stream.found
    assert stream.finish() == ""


def test_without_stop_strings_everything_passes():
    stream = StopStrings([])
    assert stream.push("你好") == "你好"
    assert not stream.found
