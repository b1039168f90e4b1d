"""Readers of binary files that trust nothing the file says of itself: gzip, IDX and `.npy`.

A size is believed only after it was compared with the bytes that are there, so no header can make
the reader allocate more than the file holds.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from descent.errors import CorruptArtifact, UserError

__all__ = ["gunzip", "read_idx", "read_npy", "unpack"]

_BLOCK = 1 << 16
_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_IDX_LIMIT = 1 << 31


def gunzip(path: Path, limit: int) -> bytes:
    """The content of a gzip file, which must not exceed `limit` bytes.

    Raises:
        CorruptArtifact: as `unpack`.
    """
    return b"".join(unpack(path, limit))


def unpack(path: Path, limit: int) -> Iterator[bytes]:
    """The content of a gzip file, in pieces of at most a megabyte, all of them at most `limit` bytes.

    Raises:
        CorruptArtifact: cut short, a wrong checksum or length, bytes after the end, more than the limit,
            or no gzip file at all.
    """
    size = 0
    with path.open("rb") as source:
        engine = zlib.decompressobj(wbits=31)
        while block := source.read(_BLOCK):
            while block:
                if engine.eof:
                    engine = zlib.decompressobj(wbits=31)  # gzip files may follow one another
                try:
                    part = engine.decompress(block, _BLOCK * 16)
                except zlib.error as error:
                    raise CorruptArtifact(f"{path} is not a whole gzip file: {error}") from None
                size += len(part)
                if size > limit:
                    raise CorruptArtifact(
                        f"{path} unpacks to more than it should", expected=f"up to {limit:,} bytes"
                    )
                yield part
                block = engine.unconsumed_tail or engine.unused_data
    if not engine.eof:
        raise CorruptArtifact(f"{path} is cut short", got=f"{path.stat().st_size:,} bytes")


def read_idx(path: Path, limit: int = _IDX_LIMIT) -> NDArray[np.generic]:
    """The array of an IDX file, gzipped or not (the format of MNIST: a magic number, sizes, values).

    Args:
        path: the file; a name ending in `.gz` is unpacked.
        limit: the most bytes it may hold, unpacked.

    Raises:
        CorruptArtifact: the magic number is wrong, or the sizes do not agree with the bytes.
    """
    if path.suffix == ".gz":
        data = gunzip(path, limit)
    else:
        size = path.stat().st_size
        if size > limit:
            raise CorruptArtifact(f"{path} is too large", got=f"{size:,} bytes", expected=f"up to {limit:,}")
        data = path.read_bytes()
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
        raise CorruptArtifact(
            f"{path} is not an IDX file", got=data[:4].hex(), expected="0000, a type, dimensions"
        )
    dimensions = data[3]
    start = 4 + 4 * dimensions
    if not 1 <= dimensions <= 8 or len(data) < start:
        raise CorruptArtifact(
            f"{path}: the IDX header is cut short or has no dimensions", got=f"{dimensions}"
        )
    shape = tuple(int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4))
    kind = np.dtype(_IDX_TYPES[data[2]])
    expected = math.prod(shape) * kind.itemsize
    if expected != len(data) - start:
        raise CorruptArtifact(
            f"{path}: the IDX header says {' x '.join(map(str, shape))}",
            got=f"{len(data) - start:,} bytes of values",
            expected=f"{expected:,}",
        )
    values = np.frombuffer(data, dtype=kind, offset=start).reshape(shape)
    return values if kind.itemsize == 1 else values.astype(kind.newbyteorder("="))


def read_npy(path: Path) -> NDArray[np.generic]:
    """The numbers of a `.npy` file; one that holds Python objects is refused, as it would run code.

    Raises:
        UserError: no such file, Python objects, no numbers, or not a whole `.npy` file.
    """
    if not path.is_file():
        raise UserError("there is no such file", got=str(path))
    try:
        # The map makes numpy compare the header's sizes with the file's before anything is read.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a broken header fails in numpy's parser in many ways
        raise UserError(f"{path} is not a .npy file of numbers: {error}") from None
    if not isinstance(mapped, np.ndarray) or mapped.dtype.kind not in "biuf":
        kind = str(getattr(mapped, "dtype", type(mapped).__name__))
        raise UserError(f"{path} does not hold numbers", got=kind, expected="whole numbers or floats")
    return np.array(mapped)
