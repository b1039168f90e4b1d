"""Log-mel features against another library's, and their framing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from descent.data.melspectrogram import FLOOR, LogMel, mel_filters
from descent.errors import UserError


def _noise(*shape: int) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    ("rate", "mels", "fmin", "fmax"),
    [(8000, 40, 20.0, 0.0), (16000, 80, 0.0, 7600.0), (22050, 23, 300.0, 8000.0)],
)
def test_features_equal_the_reference_library(rate: int, mels: int, fmin: float, fmax: float) -> None:
    reference = pytest.importorskip("transformers.audio_utils")
    features = LogMel(rate, 0.025, 0.01, mels, fmin, fmax)
    filters = reference.mel_filter_bank(
        features.points // 2 + 1, mels, fmin, fmax or rate / 2, rate, norm=None, mel_scale="htk"
    )
    assert_close(features.filters_KM, torch.from_numpy(filters).float(), rtol=1e-5, atol=1e-6)
    waves = _noise(2, round(0.31 * rate))
    waves[1, 1000:] = 0  # the floor
    for row, wave in zip(features(waves), waves, strict=True):
        expected = reference.spectrogram(
            wave.double().numpy(),
            reference.window_function(features.window, "hann", periodic=True),
            frame_length=features.window,
            hop_length=features.hop,
            fft_length=features.points,
            power=2.0,
            center=False,
            mel_filters=filters,
            mel_floor=FLOOR,
            log_mel="log",
        )
        assert_close(row, torch.from_numpy(np.ascontiguousarray(expected.T)).float(), rtol=1e-4, atol=1e-4)


def test_a_tone_lies_in_the_band_of_its_pitch() -> None:
    rate, hertz = 8000, 1000.0
    features = LogMel(rate, 0.025, 0.01, 40, 20.0)
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(rate) / rate)[None]
    mel = 2595 * np.log10(1 + np.array([20.0, 4000.0, hertz]) / 700)
    expected = round((mel[2] - mel[0]) / (mel[1] - mel[0]) * 41) - 1
    assert features(tone)[0].argmax(1).unique().tolist() == [expected]


def test_every_band_has_a_bin_of_its_own() -> None:
    features = LogMel(8000, 0.025, 0.01, 128, 20.0)
    assert features.points > 256
    assert features.filters_KM.amax(0).all()
    with pytest.raises(UserError, match="too narrow"):
        LogMel(8000, 0.025, 0.01, 256, 20.0, 25.0)


def test_frames_are_those_whose_window_is_within_the_recording() -> None:
    features = LogMel(8000, 0.025, 0.01, 20, 20.0)
    for size in (1, 199, 200, 279, 280, 281, 4000):
        (count,) = features.frames(torch.tensor([size]))
        assert count == max(0, size - 200) // 80 + 1
        assert features(_noise(1, size)).shape == (1, count, 20)


def test_padding_changes_no_real_frame() -> None:
    features = LogMel(8000, 0.025, 0.01, 20, 20.0)
    wave = _noise(1, 1003)
    alone = features(wave)
    padded = features(torch.nn.functional.pad(wave, (0, 777)))
    assert_close(padded[:, : alone.shape[1]], alone)


@pytest.mark.parametrize(("fmin", "fmax"), [(20.0, 5000.0), (4000.0, 0.0), (300.0, 200.0)])
def test_bands_outside_the_spectrum_are_refused(fmin: float, fmax: float) -> None:
    with pytest.raises(UserError, match="do not fit the rate"):
        LogMel(8000, 0.025, 0.01, 20, fmin, fmax)


def test_filters_are_triangles_of_height_one_that_share_their_edges() -> None:
    filters = mel_filters(8000, 4096, 10, 100.0, 3900.0)
    assert filters.max() <= 1
    between = slice(filters[:, 0].argmax(), filters[:, 9].argmax() + 1)
    assert filters[between].sum(1).min() > 0.45  # neighbours overlap by half in mels, so almost so in hertz
    assert (filters > 0).sum(1).max() == 2
