"""Archives: what is listed is read into memory, and nothing else happens, whatever an archive says."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descent.data.archives import mat_arrays, npz_arrays, tar_members
from descent.errors import CorruptArtifact, UserError

WANTED = {"set/a.bin": 100, "set/b.bin": 2000}
A, B = bytes(range(100)), bytes(1300)


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


def tar(folder: Path, *members: bytes) -> Path:
    path = folder / "in" / "x.tar.gz"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(b"".join(members) + bytes(1024)))
    return path


def hollow(name: str, kind: bytes, size: int = 5000) -> bytes:
    """A header that states a size for what has no content."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


GOOD = (member("set/", kind=tarfile.DIRTYPE), member("set/a.bin", A), member("set/b.bin", B))


def everything(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def test_listed_members_come_out_whole(tmp_path: Path):
    for order in (GOOD, GOOD[::-1], (member("set/readme.html", bytes(5000)), *GOOD)):
        assert tar_members(tar(tmp_path, *order), WANTED, 10**6) == {"set/a.bin": A, "set/b.bin": B}
    long = (member("set/" + "n" * 200, b"long"), *GOOD)  # GNU writes such a name as a member of its own
    assert tar_members(tar(tmp_path, *long), WANTED, 10**6)["set/a.bin"] == A
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (("集/长.txt", b"x"), ("set/a.bin", A), ("set/b.bin", B)):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    path = tmp_path / "pax.tar.gz"
    path.write_bytes(buffer.getvalue())
    assert tar_members(path, WANTED, 10**6)["set/b.bin"] == B


HOSTILE = {
    "parents": member("../evil", b"x"),
    "parents within": member("set/../../evil", b"x"),
    "absolute": member("/tmp/descent-evil", b"x"),
    "backslashes": member("..\\evil", b"x"),
    "a link out": member("set/link", kind=tarfile.SYMTYPE, link="/etc"),
    "a folder that is a link": member("set", kind=tarfile.SYMTYPE, link="/tmp"),
    "a hard link": member("set/hard", kind=tarfile.LNKTYPE, link="../../etc/passwd"),
    "a link that states a size": hollow("set/big", tarfile.SYMTYPE),
    "a device": member("set/null", kind=tarfile.CHRTYPE),
    "a disk": member("set/disk", kind=tarfile.BLKTYPE),
    "a pipe": member("set/pipe", kind=tarfile.FIFOTYPE),
    "a NUL": member("set/x\0y", b"x"),
    "an unknown kind": member("set/what", b"x", b"Z"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_not_listed_is_passed_over_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(tmp_path)
    path = tar(tmp_path, HOSTILE[name], *GOOD)
    before = everything(tmp_path)
    assert tar_members(path, WANTED, 10**6) == {"set/a.bin": A, "set/b.bin": B}
    assert everything(tmp_path) == before
    assert not Path("/tmp/descent-evil").exists()


LIES = {
    "a link for a file": (member("set/a.bin", kind=tarfile.SYMTYPE, link="/etc/passwd"), GOOD[2]),
    "a link, then the file": (member("set/a.bin", kind=tarfile.SYMTYPE, link="b.bin"), *GOOD),
    "a device for a file": (member("set/a.bin", kind=tarfile.CHRTYPE), GOOD[2]),
    "a folder for a file": (member("set/a.bin", kind=tarfile.DIRTYPE), GOOD[2]),
    "twice": (GOOD[1], GOOD[1], GOOD[2]),
    "lacking": GOOD[:2],
    "too large": (member("set/a.bin", bytes(101)), GOOD[2]),
    "empty": (),
    "a size below zero": (hollow("set/x", tarfile.REGTYPE, -512), *GOOD),
    "a wrong header": (b"\xff" * 512, *GOOD),
    "a wrong sum": (GOOD[1].replace(b"set/a", b"set/c", 1), GOOD[2]),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_listed_name_that_is_no_single_file_of_its_size_is_refused(tmp_path: Path, lie: str):
    with pytest.raises(CorruptArtifact, match=r"x\.tar\.gz"):
        tar_members(tar(tmp_path, *LIES[lie]), WANTED, 10**6)


def test_a_tar_cut_anywhere_is_refused(tmp_path: Path):
    path = tar(tmp_path, GOOD[1], member("set/b.bin", os.urandom(1300)))
    data = path.read_bytes()
    for length in range(0, len(data) - 60, 17):
        path.write_bytes(data[:length])
        with pytest.raises(CorruptArtifact):
            tar_members(path, WANTED, 10**6)
    plain = gzip.decompress(data)
    for length in range(0, len(plain) - 1600, 100):
        path.write_bytes(gzip.compress(plain[:length]))
        with pytest.raises(CorruptArtifact):
            tar_members(path, WANTED, 10**6)


def bomb(kind: bytes = tarfile.REGTYPE, name: str = "set/zeros") -> bytes:
    """200 MB of zeros as one member, in 0.2 MB."""
    header = tarfile.TarInfo(name)
    header.size, header.type = 200_000_000, kind
    return gzip.compress(header.tobuf() + bytes(header.size), 1)


def peak(action: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_bomb_that_is_passed_over_fills_no_memory_and_ends_at_the_limit(tmp_path: Path, kind: bytes):
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(bomb(kind))

    def read() -> None:
        with pytest.raises(CorruptArtifact, match="unpacks to more"):
            tar_members(path, WANTED, 50_000_000)

    assert peak(read) < 10_000_000


def test_a_listed_bomb_is_refused_by_its_header(tmp_path: Path):
    path = tmp_path / "bomb.tar.gz"
    path.write_bytes(bomb(name="set/a.bin"))

    def read() -> None:
        with pytest.raises(CorruptArtifact, match=r"a\.bin is too large"):
            tar_members(path, WANTED, 10**9)

    assert peak(read) < 10_000_000


X, Y = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([[3], [0]], dtype=np.int64)


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "x.npz"
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def zipped(folder: Path, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = folder / "x.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_arrays_of_an_npz(tmp_path: Path):
    found = npz_arrays(npz(tmp_path, x=X, y=np.asfortranarray(Y), other=X), ("x", "y"), 100)
    np.testing.assert_array_equal(found["x"], X)
    np.testing.assert_array_equal(found["y"], Y)
    lies = {
        "lacks": npy(X),
        "no whole numbers": npy(X.astype(np.float64)),
        "not a whole .npz": pickle.dumps(X),
        "header of x.npy says": npy(X)[:-1],
        "too large": npy(np.zeros(5000, dtype=np.uint8)),
        "unknown version": npy(X).replace(b"NUMPY\x01", b"NUMPY\x02"),
    }
    for message, data in lies.items():
        path = zipped(tmp_path, ("z.npy" if message == "lacks" else "x.npy", data))
        with pytest.raises(CorruptArtifact, match=message):
            npz_arrays(path, ("x",), 800)
    with pytest.raises(CorruptArtifact, match=r"holds x\.npy twice"):
        npz_arrays(zipped(tmp_path, ("x.npy", npy(X)), ("x.npy", npy(X))), ("x",), 800)
    with pytest.raises(CorruptArtifact, match="unknown way"):
        npz_arrays(zipped(tmp_path, ("x.npy", npy(X)), method=zipfile.ZIP_LZMA), ("x",), 800)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("payload_ran",)


def test_objects_in_an_npz_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "x.npz", allow_pickle=True, x=np.array([Payload()], dtype=object))
    with pytest.raises(CorruptArtifact, match="no whole numbers"):
        npz_arrays(tmp_path / "x.npz", ("x",), 10**6)
    assert not (tmp_path / "payload_ran").exists()


def test_names_that_lead_out_of_an_npz_write_nothing(tmp_path: Path):
    path = zipped(tmp_path, ("../evil.npy", npy(X)), ("/evil.npy", npy(X)), ("x.npy", npy(X)))
    before = everything(tmp_path.parent)
    np.testing.assert_array_equal(npz_arrays(path, ("x",), 800)["x"], X)
    assert everything(tmp_path.parent) == before


def test_an_npz_that_understates_a_bomb_is_refused(tmp_path: Path):
    """The sizes in the zip say 160 bytes, the packed data hold 100 MB."""
    path = zipped(tmp_path, ("x.npy", npy(np.zeros(100_000_000, dtype=np.uint8))))
    size = len(npy(np.zeros(100_000_000, dtype=np.uint8)))
    honest, small = struct.pack("<I", size), struct.pack("<I", 160)
    assert path.read_bytes().count(honest) == 2
    path.write_bytes(path.read_bytes().replace(honest, small))

    def read() -> None:
        with pytest.raises(CorruptArtifact):
            npz_arrays(path, ("x",), 10**6)

    assert peak(read) < 10_000_000


def part(kind: int, data: bytes) -> bytes:
    if len(data) <= 4:
        return struct.pack("<HH", kind, len(data)) + data.ljust(4, b"\0")
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(
    name: str, array: np.ndarray, kind: int = 9, stored: int = 2, shape: tuple[int, ...] = ()
) -> bytes:
    sides = np.array(shape or array.shape, dtype="<i4").tobytes()
    flags = struct.pack("<II", kind, 0)
    body = part(6, flags) + part(5, sides) + part(1, name.encode()) + part(stored, array.tobytes("F"))
    return struct.pack("<II", 14, len(body)) + body


def mat(folder: Path, *elements: bytes, packed: bool = False) -> Path:
    path = folder / "x.mat"
    if packed:
        elements = tuple(struct.pack("<II", 15, len(z)) + z for z in map(zlib.compress, elements))
    path.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"".join(elements))
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_variables_of_a_matlab_file(tmp_path: Path, packed: bool):
    labels = np.array([[1], [10]], dtype=np.uint8)
    elements = (
        matrix("other", np.zeros((1, 9), dtype="<f8"), kind=6, stored=9),
        matrix("X", X),
        matrix("y", labels, kind=6),  # a double whose values fit into bytes is stored so
        matrix("text", np.zeros((1, 1), dtype=np.uint8), kind=4),
    )
    found = mat_arrays(mat(tmp_path, *elements, packed=packed), ("X", "y"), 2000)
    np.testing.assert_array_equal(found["X"], X)
    np.testing.assert_array_equal(found["y"], [[1.0], [10.0]])
    assert (found["X"].dtype, found["y"].dtype) == (np.uint8, np.float64)


def test_what_another_program_writes_is_read(tmp_path: Path):
    savemat = pytest.importorskip("scipy.io").savemat
    variables = {"X": X, "y": np.array([[1.5, 2]]), "s": {"a": 1}, "t": "text"}
    for compressed in (False, True):
        savemat(tmp_path / "x.mat", variables, do_compression=compressed)
        found = mat_arrays(tmp_path / "x.mat", ("X", "y"), 10**5)
        np.testing.assert_array_equal(found["X"], X)
        np.testing.assert_array_equal(found["y"], [[1.5, 2]])


WRONG = {
    "lacks y": (matrix("X", X),),
    "holds X twice": (matrix("X", X), matrix("X", X)),
    "no array of real numbers": (matrix("X", X, kind=3),),
    "header of X says": (matrix("X", X, shape=(2, 3, 5)),),
    "header of X says 2": (matrix("X", X, shape=(2**31 - 1, 2**31 - 1, 4)),),
    "header of X says -2": (matrix("X", X, shape=(-2, -3, 4)),),
}


@pytest.mark.parametrize("message", WRONG)
@pytest.mark.parametrize("packed", [False, True])
def test_a_matlab_file_that_lies_is_refused(tmp_path: Path, message: str, packed: bool):
    with pytest.raises(CorruptArtifact, match=message):
        mat_arrays(mat(tmp_path, *WRONG[message], packed=packed), ("X", "y"), 10**5)


def test_a_matlab_file_of_another_kind_or_cut_is_refused(tmp_path: Path):
    path = mat(tmp_path, matrix("X", X), matrix("y", Y, kind=12, stored=5), packed=True)
    data = path.read_bytes()
    for wrong in (b"", data[:127], data.replace(b"IM", b"MI"), b"\x89HDF".ljust(200), *(
        data[:length] for length in range(129, len(data), 5)
    )):  # fmt: skip
        path.write_bytes(wrong)
        with pytest.raises(CorruptArtifact):
            mat_arrays(path, ("X", "y"), 10**5)


@pytest.mark.parametrize("stated", [400, 3000, 99_000, 400_000, 100_000_048])
def test_a_packed_variable_never_unpacks_to_more_than_it_says_and_may(tmp_path: Path, stated: int):
    element = bytearray(matrix("X", np.zeros((100, 1_000_000), dtype=np.uint8)))
    assert struct.unpack("<I", element[4:8]) == (100_000_048,)
    element[4:8] = struct.pack("<I", stated)
    path = mat(tmp_path, bytes(element), packed=True)
    del element

    def read() -> None:
        with pytest.raises(CorruptArtifact):
            mat_arrays(path, ("X",), 300_000)

    assert peak(read) < 5_000_000


def test_a_packed_variable_that_unpacks_to_less_than_it_says_is_refused(tmp_path: Path):
    element = bytearray(matrix("X", X))
    element[4] += 8
    with pytest.raises(CorruptArtifact, match="not as long as it says"):
        mat_arrays(mat(tmp_path, bytes(element), packed=True), ("X",), 10_000)


def test_an_array_that_grows_from_bytes_to_doubles_stays_within_the_limit(tmp_path: Path):
    element = matrix("X", np.zeros((10, 1000), dtype=np.uint8), kind=6)
    assert mat_arrays(mat(tmp_path, element), ("X",), 80_000)["X"].nbytes == 80_000
    with pytest.raises(CorruptArtifact, match="header of X says"):
        mat_arrays(mat(tmp_path, element), ("X",), 79_999)


@given(data=st.binary(max_size=60))
def test_no_bytes_crash_a_reader_of_archives(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.mktemp("fuzz") / "f"
    for content, read in (
        (data, lambda: tar_members(path, WANTED, 10**6)),
        (gzip.compress(data * 9), lambda: tar_members(path, WANTED, 10**6)),
        (b"PK\x03\x04" + data, lambda: npz_arrays(path, ("x",), 10**6)),
        (b"".ljust(124) + b"\x00\x01IM" + data, lambda: mat_arrays(path, ("X",), 10**6)),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError):
            read()
