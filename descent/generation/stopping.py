"""Stop strings in a stream of text: found wherever they begin, never shown, not even in part."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Passes text on and withholds what may be the beginning of a stop string.

        stops = StopStrings(["###"])
        stops.push("a#")      # "a"
        stops.push("b##")     # "#b"
        stops.push("#c")      # "": found; stops.found is True, and nothing more comes

    Args:
        strings: non-empty strings that end the text. Of several, the first to be complete counts, so that
            the outcome does not depend on how the text is cut into pieces; of two complete at the same
            character, the longer.
    """

    def __init__(self, strings: Sequence[str]):
        self.strings = tuple(strings)
        self.found = False
        self._held = ""

    def push(self, text: str) -> str:
        """The text that is now certain to come before any stop string."""
        if self.found:
            return ""
        text = self._held + text
        found = [(at + len(string), at) for string in self.strings if (at := text.find(string)) >= 0]
        self.found = bool(found)
        shown = min(found)[1] if found else len(text) - self._undecided(text)
        self._held = "" if self.found else text[shown:]
        return text[:shown]

    def finish(self) -> str:
        """What was withheld, when the text ends without a stop string."""
        held, self._held = self._held, ""
        return held

    def _undecided(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        longest = max((len(string) for string in self.strings), default=1) - 1
        for length in range(min(longest, len(text)), 0, -1):
            if any(string.startswith(text[-length:]) for string in self.strings):
                return length
        return 0
