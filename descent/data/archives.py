"""Readers of archives into memory: members of a tar, arrays of an `.npz`, variables of a MATLAB file.

They read what the caller lists and pass over everything else, whatever it is called. Nothing is ever
written, so no name and no link can lead anywhere; nothing is unpickled; and no size that an archive
states is believed before it was held against a limit.
"""

from __future__ import annotations

import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descent.data.formats import unpack
from descent.errors import CorruptArtifact

__all__ = ["is_packed", "mat_arrays", "npz_arrays", "tar_members"]

_BLOCK = 512
_READ = 1 << 20
_NAMED = 5
_WITHOUT_CONTENT = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)
_HEAD = 1 << 12
_MAT_MARK = b"\x00\x01IM"
_MATRIX, _COMPRESSED = 14, 15
_STORED = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8"}
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4"}
_COMPLEX = 0x0800


def tar_members(
    path: Path, wanted: Mapping[str, int], limit: int, *, rooted: bool = False
) -> dict[str, bytes]:
    """Files of a `.tar` or `.tar.gz`, by their names in it; what follows the last of them is not read.

    Args:
        path: the archive; its first bytes say whether it is packed.
        wanted: the names, each with the most bytes it may hold.
        limit: the most bytes the archive may unpack to, those that are passed over included.
        rooted: everything lies in one folder, whatever it is called; the names are those inside it.

    Raises:
        CorruptArtifact: a name is lacking, there twice, no file, or too large; or the archive is damaged.
    """
    found: dict[str, bytes] = {}
    with closing(_pieces(path, limit)) as pieces:  # type: ignore[type-var]  # a generator
        stream = _Stream(pieces)
        while len(found) < len(wanted):
            header = stream.take(_BLOCK)
            if not header.strip(b"\0"):
                break  # the end, or a block of zeros that marks it
            try:
                info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            except tarfile.TarError as error:
                raise CorruptArtifact(f"{path}: a damaged header in the archive: {error}") from None
            if info.size < 0:
                raise CorruptArtifact(f"{path}: a file of negative size in the archive", got=info.size)
            size = 0 if info.type in _WITHOUT_CONTENT else info.size
            padding = -size % _BLOCK
            name = info.name.partition("/")[2] if rooted else info.name
            if name not in wanted:
                stream.skip(size + padding)
                continue
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise CorruptArtifact(f"{path}: {name} is no plain file", got=info.type)
            if name in found:
                raise CorruptArtifact(f"{path}: {name} is in the archive twice")
            if size > wanted[name]:
                raise CorruptArtifact(
                    f"{path}: {name} is too large",
                    got=f"{size:,} bytes",
                    expected=f"up to {wanted[name]:,}",
                )
            found[name] = stream.take(size)
            if len(found[name]) < size:
                raise CorruptArtifact(f"{path}: the archive ends within {name}")
            stream.skip(padding)
    lacking = [name for name in wanted if name not in found]
    if lacking:
        more = ", ..." if len(lacking) > _NAMED else ""
        raise CorruptArtifact(f"{path} lacks {', '.join(lacking[:_NAMED])}{more}")
    return found


def is_packed(path: Path) -> bool:
    """Whether a file begins as gzip files do."""
    with path.open("rb") as source:
        return source.read(2) == b"\x1f\x8b"


def _pieces(path: Path, limit: int) -> Iterator[bytes]:
    """The content of an archive, unpacked where it is packed, up to the limit."""
    if is_packed(path):
        yield from unpack(path, limit)
        return
    if path.stat().st_size > limit:
        raise CorruptArtifact(f"{path} is larger than it should be", expected=f"up to {limit:,} bytes")
    with path.open("rb") as source:
        while block := source.read(_READ):
            yield block


class _Stream:
    """Pieces of bytes, taken by number."""

    def __init__(self, pieces: Iterator[bytes]):
        self._pieces, self._rest = pieces, memoryview(b"")

    def take(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end."""
        return b"".join(self._next(count))

    def skip(self, count: int) -> None:
        for _ in self._next(count):
            pass

    def _next(self, count: int) -> Iterator[memoryview]:
        while count:
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    return
            part, self._rest = self._rest[:count], self._rest[count:]
            count -= len(part)
            yield part


def npz_arrays(path: Path, names: Sequence[str], limit: int) -> dict[str, NDArray[Any]]:
    """Arrays of whole numbers from an `.npz` file, by name.

    Args:
        path: the file, a zip of `.npy` members.
        names: which, without `.npy`.
        limit: the most bytes of one array.

    Raises:
        CorruptArtifact: one is lacking, there twice, too large, or not what its header says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _npz_array(archive, f"{name}.npy", path, limit) for name in names}
    except CorruptArtifact:
        raise
    # zipfile and numpy's parser of headers fail in many ways on bytes that lie
    except Exception as error:
        raise CorruptArtifact(f"{path} is not a whole .npz file: {error}") from None


def _npz_array(archive: zipfile.ZipFile, name: str, path: Path, limit: int) -> NDArray[Any]:
    infos = [info for info in archive.infolist() if info.filename == name]
    if len(infos) != 1:
        raise CorruptArtifact(f"{path} {'lacks ' + name if not infos else 'holds ' + name + ' twice'}")
    info = infos[0]
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise CorruptArtifact(f"{path}: {name} is packed in an unknown way", got=info.compress_type)
    if info.file_size > limit + _HEAD:
        raise CorruptArtifact(
            f"{path}: {name} is too large", got=f"{info.file_size:,} bytes", expected=f"up to {limit:,}"
        )
    with archive.open(info) as member:
        version = np.lib.format.read_magic(member)
        if version != (1, 0):
            raise CorruptArtifact(f"{path}: {name} is of an unknown version", got=version, expected="(1, 0)")
        shape, columns_first, kind = np.lib.format.read_array_header_1_0(member)
        if kind.kind not in "bui":
            raise CorruptArtifact(f"{path}: {name} holds no whole numbers", got=str(kind))
        size = math.prod(shape) * kind.itemsize
        if min(shape, default=0) < 0 or size != info.file_size - member.tell():
            raise CorruptArtifact(
                f"{path}: the header of {name} says {' x '.join(map(str, shape))}",
                got=f"{info.file_size - member.tell():,} bytes",
                expected=f"{size:,}",
            )
        data = member.read(size)
        if len(data) < size or member.read(1):
            raise CorruptArtifact(f"{path}: {name} is not as long as the archive says")
    return np.frombuffer(data, dtype=kind).reshape(shape, order="F" if columns_first else "C")


def mat_arrays(path: Path, names: Sequence[str], limit: int) -> dict[str, NDArray[Any]]:
    """Arrays of real numbers from a MATLAB file of version 5, by the names of their variables.

    The layout: 128 bytes of text, version and byte order, then elements, each a type, a size and bytes
    (MathWorks, MAT-File Format, chapter 1). Read is what SVHN needs: little-endian, compressed or not.

    Args:
        path: the file.
        names: which variables; others, of whatever kind, are passed over.
        limit: the most bytes of one array, and of the file.

    Raises:
        CorruptArtifact: a variable is lacking, there twice, too large, no array of real numbers, or not what
            its header says; or the file is damaged.
    """
    if path.stat().st_size > limit:
        raise CorruptArtifact(f"{path} is too large", expected=f"up to {limit:,} bytes")
    data = memoryview(path.read_bytes())
    if bytes(data[124:128]) != _MAT_MARK:
        raise CorruptArtifact(f"{path} is not a little-endian MATLAB file of version 5")
    found: dict[str, NDArray[Any]] = {}
    place = 128
    while place < len(data):
        kind, body, place = _element(data, place, path)
        if kind == _COMPRESSED:
            name, array = _variable(_inflate(body, path, names, limit), path, names, limit)
        elif kind == _MATRIX:
            name, array = _variable(body, path, names, limit)
        else:
            continue
        if array is None:
            continue
        if name in found:
            raise CorruptArtifact(f"{path} holds {name} twice")
        found[name] = array
    lacking = [name for name in names if name not in found]
    if lacking:
        raise CorruptArtifact(f"{path} lacks {', '.join(lacking)}")
    return found


def _element(data: memoryview, place: int, path: Path) -> tuple[int, memoryview, int]:
    """Type and bytes of the element at a place, and where the next one begins."""
    if place + 8 > len(data):
        raise CorruptArtifact(f"{path} is cut short")
    kind, size = struct.unpack_from("<II", data, place)
    if kind >> 16:  # at most four bytes stand within the tag
        kind, size = kind & 0xFFFF, kind >> 16
        if size > 4:
            raise CorruptArtifact(f"{path}: a damaged element", got=f"{size} bytes in a tag of 4")
        return kind, data[place + 4 : place + 4 + size], place + 8
    end = place + 8 + size
    if end > len(data):
        raise CorruptArtifact(
            f"{path}: an element says more than there is", got=f"{size:,} bytes", expected="fewer"
        )
    return kind, data[place + 8 : end], end if kind == _COMPRESSED else end + -size % 8


def _inflate(body: memoryview, path: Path, names: Sequence[str], limit: int) -> memoryview:
    """The content of a compressed variable if it is a listed one of an allowed size, else its beginning."""
    engine = zlib.decompressobj()
    try:
        head = engine.decompress(body, _HEAD)
        kind, size = struct.unpack_from("<II", head) if len(head) >= 8 else (0, 0)
        if kind != _MATRIX or len(head) > size + 8:
            raise CorruptArtifact(f"{path}: a damaged variable")
        if _name(memoryview(head)[8:], path) not in names:
            return memoryview(head)[8:]
        if size > limit + _HEAD:
            raise CorruptArtifact(
                f"{path}: a variable is too large", got=f"{size:,} bytes", expected=f"up to {limit:,}"
            )
        # one byte more than it says: it must not come
        whole = head + engine.decompress(engine.unconsumed_tail, size + 9 - len(head))
    except zlib.error as error:
        raise CorruptArtifact(f"{path}: a variable does not unpack: {error}") from None
    if len(whole) != size + 8 or not engine.eof:
        raise CorruptArtifact(f"{path}: a variable is not as long as it says", expected=f"{size:,} bytes")
    return memoryview(whole)[8:]


def _name(body: memoryview, path: Path) -> str:
    """The name of a variable: the third part of it, after its kind and its sides."""
    place = 0
    part = memoryview(b"")
    for _ in range(3):
        _, part, place = _element(body, place, path)
    return bytes(part).decode("latin-1")


def _variable(
    body: memoryview, path: Path, names: Sequence[str], limit: int
) -> tuple[str, NDArray[Any] | None]:
    """The name of a variable and, if it is a listed one, its array."""
    name = _name(body, path)
    if name not in names:
        return name, None
    _, flags, place = _element(body, 0, path)
    sides_kind, sides, place = _element(body, place, path)
    _, _, place = _element(body, place, path)
    stored, values, _ = _element(body, place, path)
    flag = int.from_bytes(flags[:4], "little")
    if flag & 0xFF not in _CLASSES or flag & _COMPLEX or stored not in _STORED or sides_kind != 5:
        raise CorruptArtifact(f"{path}: {name} is no array of real numbers", got=f"class {flag & 0xFF}")
    shape = np.frombuffer(sides[: len(sides) // 4 * 4], dtype="<i4").tolist()
    kept, held = np.dtype(_CLASSES[flag & 0xFF]), np.dtype(_STORED[stored])
    count = math.prod(shape)
    if min(shape, default=-1) < 0 or count * kept.itemsize > limit or count * held.itemsize != len(values):
        raise CorruptArtifact(
            f"{path}: the header of {name} says {' x '.join(map(str, shape))}",
            got=f"{len(values):,} bytes of values",
            expected=f"{count * held.itemsize:,}, and up to {limit:,}",
        )
    return name, np.frombuffer(values, dtype=held).reshape(shape, order="F").astype(kept, copy=False)
