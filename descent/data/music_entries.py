"""The entries of the named sets of music. Nothing here imports torch."""

from __future__ import annotations

from descent.data.entry_types import RAW, Entry, File, files

__all__ = ["MUSIC"]

_ADDRESS = f"{RAW}/czhuang/JSB-Chorales-dataset/master"
_SPLITS = "229, 76 and 77 pieces to train, validate and test on, as published"
_LICENCE = "public domain (the music); the repository that hosts it gives none"
_CITATION = (
    "N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, Modeling temporal dependencies in high-dimensional "
    "sequences, ICML, 2012 (pieces and splits)"
)


def _file(name: str, size: int, digest: str) -> tuple[File, ...]:
    return files(_ADDRESS, (name, size, digest))


MUSIC = (
    Entry(
        "jsb-chorales-quarter",
        f"382 chorales of J. S. Bach, the notes that sound at each quarter note; {_SPLITS}",
        "music",
        "chorales-quarter",
        _LICENCE,
        _CITATION,
        _file(
            "jsb-chorales-quarter.json",
            407200,
            "2db9329f1881a1d3f49703ec556bf1d6f84b4f6c1d702c156536e93cf31e1c91",
        ),
        folder="jsb-chorales",
    ),
    Entry(
        "jsb-chorales-16th",
        f"the same chorales, the notes that sound at each 16th; {_SPLITS}",
        "music",
        "chorales-16th",
        _LICENCE,
        _CITATION,
        _file(
            "jsb-chorales-16th.json",
            1741172,
            "8730aca7b64e7d29493733d1cf19fad4a5b351d8f1845e57dac27728104fd39f",
        ),
        folder="jsb-chorales",
    ),
    Entry(
        "jsb-chorales-voices",
        f"the same chorales at each 16th, soprano, alto, tenor and bass apart; {_SPLITS}",
        "music",
        "chorales-voices",
        _LICENCE,
        _CITATION,
        _file(
            "Jsb16thSeparated.json",
            1666444,
            "79294cc374f9252e95ef4b703161524c1c53dc1f712c236f00f1c1f5d54af5a7",
        ),
        folder="jsb-chorales",
    ),
)
