"""Which example belongs to which split: decided by a hash of its content, and nothing else.

The same document, row or image is in the same split on every machine, in every order, whatever
stands beside it (but where there are so few that a split would be empty); equal ones are never on
both sides. The content of an image file is its bytes, that of an image in an array its pixels as
they came: the size and the channels that images are brought to decide nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["NAMES", "file_key", "fingerprint", "hash_split", "keys", "named", "tails"]

NAMES = ("train", "validation", "test")
_ALIASES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation",
            "val": "validation", "dev": "validation", "test": "test"}  # fmt: skip


def named(text: str) -> str | None:
    """The split a file or folder of that name stands for, or None."""
    return _ALIASES.get(text.lower())


def keys(contents: Iterable[bytes]) -> NDArray[np.uint64]:
    """A 64-bit hash of each content."""
    words = b"".join(hashlib.blake2b(content, digest_size=8).digest() for content in contents)
    return np.frombuffer(words, dtype="<u8")


def file_key(path: Path) -> int:
    """The hash that `keys` gives a file's bytes."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8))
    return int.from_bytes(digest.digest(), "little")


def hash_split(
    hashes: NDArray[np.uint64], validation: float | int, test: float | int
) -> dict[str, NDArray[np.int64]]:
    """The places of each split, in their original order.

    Args:
        hashes: of the contents, see `keys`.
        validation: a share of the hash's range, or (an `int`) how many contents of the smallest hashes;
            contents equal to the last of those stay together in train, so it may be fewer.
        test: likewise, of those that are left.
    """
    order = np.sort(hashes)
    test_below = _threshold(order, test, 0)
    validation_below = _threshold(order, validation, test_below)
    split = np.where(hashes < validation_below, 1, 0)
    split[hashes < test_below] = 2
    if len(hashes) and split.all():
        split[hashes == order[-1]] = 0  # a few contents may all fall below: one must be left to train on
    return {name: np.flatnonzero(split == number) for number, name in enumerate(NAMES)}


def _threshold(order: NDArray[np.uint64], share: float | int, start: int) -> int:
    """The hash below which contents belong to the split that begins at hash `start`."""
    first = int(np.searchsorted(order, np.uint64(start)))
    if isinstance(share, int):
        return int(order[min(first + share, len(order) - 1)]) if share else start
    if share == 0:
        return start
    below = start + int(share * 2**64)
    alone = first < len(order) - 1 and int(order[first]) >= below
    # a share that none of a few contents fell into takes the nearest one
    return int(order[first]) + 1 if alone and len(order) >= 3 else below


def tails(text: str, validation: float, test: float) -> dict[str, str]:
    """A running text cut in three: its beginning, then its last characters."""
    end = len(text)
    first_test = end - round(end * test)
    first_validation = first_test - round(end * validation)
    return {
        "train": text[:first_validation],
        "validation": text[first_validation:first_test],
        "test": text[first_test:],
    }


def fingerprint(parts: Sequence[bytes | memoryview | str]) -> str:
    """SHA-256 over parts, each with its length, so that no two lists of parts run together."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(memoryview(data).nbytes.to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()
