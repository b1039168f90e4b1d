"""Numbers computed from (seed, epoch, purpose), never remembered.

The raw 64-bit output of numpy's Philox is used (J. K. Salmon et al., Parallel random numbers: as
easy as 1, 2, 3, 2011): its stream is fixed for all versions of numpy, which the shuffling and
float methods built on it are not.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

__all__ = ["Purpose", "bits", "permutation", "uniform"]

Purpose = Literal[
    "order",
    "offset",
    "affine",
    "crop",
    "flip",
    "jitter",
    "randaugment",
    "cutout",
    "mix",
    "mask",
    "pair",
    "spans",
    "negatives",
]
_PURPOSES: dict[Purpose, int] = {purpose: number for number, purpose in enumerate(get_args(Purpose))}
_MASK = (1 << 64) - 1


def bits(seed: int, epoch: int, purpose: Purpose, count: int, sample: int = 0) -> NDArray[np.uint64]:
    """`count` random 64-bit words, others for every sample."""
    key = np.array([seed & _MASK, epoch & _MASK], dtype=np.uint64)
    counter = np.array([0, 0, sample, _PURPOSES[purpose]], dtype=np.uint64)
    return np.asarray(np.random.Philox(key=key, counter=counter).random_raw(count), dtype=np.uint64)


def uniform(seed: int, epoch: int, purpose: Purpose, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Numbers in [0, 1), with 24 random bits each."""
    words = bits(seed, epoch, purpose, math.prod(shape))
    return ((words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)).reshape(shape)


def permutation(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order in which an epoch visits `count` examples."""
    return np.argsort(bits(seed, epoch, "order", count), kind="stable")
