"""The entries of the named sets of recordings. Nothing here imports torch."""

from __future__ import annotations

from descent.data.entry_types import Entry, File

__all__ = ["SOUNDS"]

_FSDD = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"

SOUNDS = (
    Entry(
        "fsdd",
        "Free Spoken Digit Dataset: 3,000 recordings of the digits 0 to 9 by 6 speakers, 50 of each, 8,000 "
        "samples a second, 22 minutes; test is 0-4 of each speaker's 50, as its authors say, validation 5-9",
        "sound",
        "fsdd",
        "CC BY-SA 4.0",
        "Z. Jackson et al., Free Spoken Digit Dataset, https://github.com/Jakobovski/free-spoken-digit-dataset",
        (
            # A server packs this archive anew, so that no sum of its bytes is published: the recordings in it
            # are checked. A plain tar of the folder `recordings` is taken as well.
            File(
                "recordings.tar",
                (f"https://github.com/Jakobovski/free-spoken-digit-dataset/archive/{_FSDD}.tar.gz",),
                0,
                content="soundsets.fsdd_recordings",
            ),
        ),
    ),
)
