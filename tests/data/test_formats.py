"""Binary files that lie: gzip, IDX and .npy readers refuse them before they cost anything."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descent.data.formats import gunzip, read_idx, read_npy
from descent.errors import CorruptArtifact, UserError

CONTENT = bytes(range(256)) * 40


def idx(shape: tuple[int, ...], values: bytes, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + b"".join(struct.pack(">I", side) for side in shape) + values


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_gzip_comes_out_whole(tmp_path: Path):
    assert gunzip(write(tmp_path, "a.gz", gzip.compress(CONTENT)), 10**6) == CONTENT
    assert gunzip(write(tmp_path, "b.gz", gzip.compress(b"")), 0) == b""
    assert gunzip(write(tmp_path, "two.gz", gzip.compress(b"one") + gzip.compress(b"two")), 6) == b"onetwo"
    assert gunzip(write(tmp_path, "c.gz", gzip.compress(CONTENT)), len(CONTENT)) == CONTENT


def test_gzip_cut_at_any_byte_is_refused(tmp_path: Path):
    data = gzip.compress(os.urandom(300))
    for length in range(len(data)):
        with pytest.raises(CorruptArtifact, match="cut short"):
            gunzip(write(tmp_path, "cut.gz", data[:length]), 1000)


def test_gzip_with_any_byte_wrong_is_refused_or_harmless(tmp_path: Path):
    """No change of a bit gives other content: the name, time and flags of the header hold none."""
    data = gzip.compress(CONTENT[:300], mtime=0)
    refused = 0
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 4
        try:
            assert gunzip(write(tmp_path, "bad.gz", bytes(changed)), 1000) == CONTENT[:300]
        except CorruptArtifact:
            refused += 1
    assert refused >= len(data) - 8


@pytest.mark.parametrize("tail", [-5, -1])
def test_a_wrong_checksum_or_length_is_refused(tmp_path: Path, tail: int):
    data = bytearray(gzip.compress(CONTENT))
    data[tail] ^= 1
    with pytest.raises(CorruptArtifact, match="not a whole gzip file"):
        gunzip(write(tmp_path, "crc.gz", bytes(data)), 10**6)


def test_garbage_after_the_end_and_no_gzip_at_all_are_refused(tmp_path: Path):
    for data in (gzip.compress(b"x") + b"more", b"hello, not gzip", b"<html>"):
        with pytest.raises(CorruptArtifact, match=r"not a whole gzip file|cut short"):
            gunzip(write(tmp_path, "x.gz", data), 1000)


def test_a_bomb_stops_at_the_limit_and_never_fills_memory(tmp_path: Path):
    bomb = write(tmp_path, "bomb.gz", gzip.compress(bytes(200_000_000), 9))
    assert bomb.stat().st_size * 1000 < 200_000_000
    tracemalloc.start()
    with pytest.raises(CorruptArtifact, match="unpacks to more"):
        gunzip(bomb, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (0x08, np.arange(24, dtype=np.uint8)),
        (0x09, np.arange(-12, 12, dtype=np.int8)),
        (0x0B, np.arange(24, dtype=np.int16) * -300),
        (0x0C, np.arange(24, dtype=np.int32) * 70_000),
        (0x0D, np.linspace(-1, 1, 24, dtype=np.float32)),
        (0x0E, np.linspace(-1, 1, 24)),
    ],
)
def test_every_idx_type_is_read(tmp_path: Path, kind: int, values: np.ndarray):
    data = idx((2, 3, 4), values.astype(values.dtype.newbyteorder(">")).tobytes(), kind)
    for path in (write(tmp_path, "a.idx", data), write(tmp_path, "a.gz", gzip.compress(data))):
        read = read_idx(path)
        assert read.dtype == values.dtype
        np.testing.assert_array_equal(read, values.reshape(2, 3, 4))


LIES = {
    "empty": b"",
    "three bytes": b"\0\0\x08",
    "wrong magic": b"\x01\0\x08\x01" + struct.pack(">I", 1) + b"x",
    "unknown type": idx((1,), b"x", 0x07),
    "no dimensions": b"\0\0\x08\x00x",
    "nine dimensions": idx((1,) * 9, b"x"),
    "header cut": b"\0\0\x08\x03" + struct.pack(">I", 60_000),
    "count too large": idx((60_000, 28, 28), bytes(784)),
    "count too small": idx((1, 28, 28), bytes(785)),
    "2^31": idx((2**31, 2**31, 2**31), b""),
    "2^32 - 1": idx((2**32 - 1,) * 8, b"x", 0x0E),
    "product that wraps to the size": idx((2**31, 2**31, 4), b""),
    "zero times much": idx((0, 2**31), b"x"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_header_that_lies_is_refused_before_allocation(tmp_path: Path, lie: str, packed: bool):
    data = gzip.compress(LIES[lie]) if packed else LIES[lie]
    path = write(tmp_path, "x.gz" if packed else "x.idx", data)
    tracemalloc.start()
    with pytest.raises(CorruptArtifact) as caught:
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()
    assert "x." in caught.value.what


@given(data=st.binary(max_size=40))
def test_no_bytes_crash_the_idx_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = write(tmp_path_factory.mktemp("fuzz"), "f.idx", b"\0\0\x08" + data)
    try:
        read = read_idx(path)
    except CorruptArtifact:
        return
    assert read.nbytes <= len(data)


def test_an_idx_file_over_the_limit_is_refused(tmp_path: Path):
    for path in (
        write(tmp_path, "a", idx((500,), bytes(500))),
        write(tmp_path, "a.gz", gzip.compress(bytes(500))),
    ):
        with pytest.raises(CorruptArtifact, match=r"too large|more than it should"):
            read_idx(path, limit=400)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_npy_numbers_are_read(tmp_path: Path):
    for array in (np.arange(6).reshape(2, 3), np.float16([1.5]), np.array([True, False])):
        np.testing.assert_array_equal(read_npy(write(tmp_path, "a.npy", npy(array))), array)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload_ran",)


def test_objects_in_npy_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    np.save(tmp_path / "x.npy", np.array([Payload()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"x\.npy is not a \.npy file of numbers"):
        read_npy(tmp_path / "x.npy")
    import pickle

    (tmp_path / "y.npy").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(UserError, match=r"not a \.npy file"):
        read_npy(tmp_path / "y.npy")
    assert not (tmp_path / "payload_ran").exists()


def test_npy_that_lies_or_is_no_array_is_refused(tmp_path: Path):
    whole = npy(np.arange(100))
    huge = whole.replace(b"(100,)", b"(10**12,)"[:6].ljust(6)).replace(b"(100,)", b"(9**9)")
    grown = whole.replace(b"'shape': (100,), ", b"'shape': (9999999999,), ").replace(b"       }", b"}")
    for data in (
        b"",
        whole[:50],
        whole[:-8],
        huge if huge != whole else b"x",
        grown,
        npy(np.array(["text"])),
        b"PK\x03\x04",
    ):
        with pytest.raises(UserError):
            read_npy(write(tmp_path, "x.npy", data))
    np.savez(tmp_path / "many.npy.npz", a=np.arange(3))
    (tmp_path / "many.npy.npz").rename(tmp_path / "many.npy")
    with pytest.raises(UserError, match="numbers"):
        read_npy(tmp_path / "many.npy")
