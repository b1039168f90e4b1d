"""Log-mel features: how much sound there is in each band of the mel scale, frame by frame.

Legend: B batch, N samples, T frames, W samples of a window, K bins of the spectrum (or parts), M mels.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from descent.errors import UserError

__all__ = ["FLOOR", "LogMel", "mel_filters"]

FLOOR = 1e-6
"""The least power of a band before the logarithm, for samples in -1..1: near the noise of a quiet room."""
_LARGEST_FFT = 1 << 15


class LogMel:
    """The logarithm of the power in each band.

        waveform -> frames of `window` samples, one every `hop` -> Hann window -> |FFT|^2
                 -> triangles on the mel scale -> log(max(power, 1e-6))

    S. Davis and P. Mermelstein, Comparison of parametric representations for monosyllabic word recognition,
    1980, up to the cosine transform that they take last. The mel scale is HTK's, 2595 log10(1 + f / 700),
    the triangles have height 1, and the window is periodic. No frame is padded but the only one of a
    recording that is shorter than a window.

    Args:
        rate: samples a second.
        window: seconds that a frame sees.
        hop: seconds from frame to frame.
        mels: bands.
        fmin: hertz where the lowest begins.
        fmax: hertz where the highest ends; 0 = half the rate.

    Raises:
        UserError: the bands leave the spectrum, or are too narrow for any transform of 32,768 points.
    """

    def __init__(self, rate: int, window: float, hop: float, mels: int, fmin: float, fmax: float = 0.0):
        self.window, self.hop = max(1, round(window * rate)), max(1, round(hop * rate))
        top = fmax or rate / 2
        if not 0 <= fmin < top <= rate / 2:
            raise UserError(
                "data.fmin and data.fmax do not fit the rate",
                got=f"{fmin:g} to {top:g} Hz at {rate:,} samples a second",
                expected=f"fmin below fmax, and fmax at most {rate / 2:g}",
            )
        # the smallest transform in which every band has a bin of its own
        self.points = 1 << math.ceil(math.log2(max(2, self.window)))
        self.filters_KM = mel_filters(rate, self.points, mels, fmin, top)
        while not self.filters_KM.amax(0).all():
            self.points *= 2
            if self.points > _LARGEST_FFT:
                raise UserError("data.mels: the bands are too narrow", got=mels, expected="fewer mels")
            self.filters_KM = mel_filters(rate, self.points, mels, fmin, top)
        self._hann_W = torch.hann_window(self.window, periodic=True)
        self._parts_KM = self.filters_KM.repeat_interleave(2, 0)  # real and imaginary parts by turns

    def frames(self, sizes: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """Frames of recordings of so many samples, one at least."""
        return (sizes - self.window).clamp(min=0) // self.hop + 1

    def __call__(self, waveforms: Float[Tensor, "batch samples"]) -> Float[Tensor, "batch frames mels"]:
        """Features of samples in -1..1; of a padded recording, `frames` rows are its own."""
        lacking = self.window - waveforms.shape[1]
        if lacking > 0:
            waveforms = torch.nn.functional.pad(waveforms, (0, lacking))
        frames_BTW = waveforms.unfold(1, self.window, self.hop) * self._hann_W
        spectrum_BTK = torch.fft.rfft(frames_BTW, self.points)
        # the squares of both parts are added up by the same product that adds up the bins
        squares_BTK = torch.view_as_real(spectrum_BTK).flatten(-2).square_()
        return (squares_BTK @ self._parts_KM).clamp_(min=FLOOR).log_()


def mel_filters(rate: int, points: int, mels: int, fmin: float, fmax: float) -> Float[Tensor, "bins mels"]:
    """The share of each bin of the spectrum in each band: triangles evenly spaced on the mel scale.

    Each begins at the middle of the one below and ends at the middle of the one above.

    Args:
        rate: samples a second.
        points: of the transform; it has points / 2 + 1 bins.
        mels: bands.
        fmin: hertz where the lowest begins.
        fmax: hertz where the highest ends.
    """
    low, high = (2595 * math.log10(1 + hertz / 700) for hertz in (fmin, fmax))
    edges = 700 * (10 ** (torch.linspace(low, high, mels + 2, dtype=torch.float64) / 2595) - 1)
    bins_K1 = torch.linspace(0, rate / 2, points // 2 + 1, dtype=torch.float64)[:, None]
    rising_KM = (bins_K1 - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling_KM = (edges[2:] - bins_K1) / (edges[2:] - edges[1:-1])
    return torch.minimum(rising_KM, falling_KM).clamp(min=0).float()
