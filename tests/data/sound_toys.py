"""Recordings that the tests of sound write for themselves."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

soundfile = pytest.importorskip("soundfile", reason="needs the package soundfile (descent[sound])")


def tone(hertz: float, seconds: float = 0.3, rate: int = 8000, loud: float = 0.5) -> NDArray[np.float64]:
    """A sine that fades in and out."""
    times = np.arange(round(seconds * rate)) / rate
    return loud * np.sin(2 * np.pi * hertz * times) * np.hanning(len(times) + 2)[1:-1]


def wav(samples: NDArray[np.floating], rate: int = 8000, kind: str = "WAV", subtype: str = "PCM_16") -> bytes:
    """The bytes of a sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def write_folder(root: Path, count: int = 12, rate: int = 8000) -> Path:
    """`low` and `high` tones of different lengths, so many of each."""
    random = np.random.default_rng(0)
    for name, hertz in (("low", 300), ("high", 1500)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            samples = tone(hertz * random.uniform(0.8, 1.2), random.uniform(0.1, 0.4), rate)
            (root / name / f"{number}.wav").write_bytes(wav(samples, rate))
    return root
