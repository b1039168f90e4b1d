"""The entries of the named sets of pairs. Nothing here imports torch."""

from __future__ import annotations

from descent.data.entry_types import Entry

__all__ = ["PAIRS"]

PAIRS = (
    Entry(
        "dates",
        "36,525 days from 1950 to 2049, each once in one of 22 written forms, English or Chinese, and as ISO "
        "8601 writes it; no download",
        "pairs",
        "dates",
        "generated here; free of rights",
        "Descent; ISO 8601, Date and time: representations for information interchange, 2019",
    ),
)
