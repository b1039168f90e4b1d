"""Files that are not what they should be are refused before anything is allocated or run."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from descent.errors import CorruptArtifact, UserError
from descent.weights import safetensors_file
from descent.weights.safetensors_file import DTYPES, load_into, read, unshared, write

EXAMPLES = {
    "weight": torch.arange(6.0).view(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "mask": torch.tensor([True, False, True]),
    "empty": torch.zeros(0, 4),
}


def entry(begin: int, end: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def built(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def test_what_is_written_is_read_back_and_the_library_agrees(path: Path):
    digest = write(path, EXAMPLES, {"about": "示例"})
    assert digest == subprocess.run(["sha256sum", path], capture_output=True, text=True).stdout.split()[0]
    for reader in (read, load_file):
        found = reader(path)
        assert found.keys() == EXAMPLES.keys()
        for name, tensor in EXAMPLES.items():
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor), name


def test_what_the_library_writes_is_read(path: Path):
    save_file(EXAMPLES, path, metadata={"format": "pt"})
    assert all(torch.equal(tensor, EXAMPLES[name]) for name, tensor in read(path).items())


@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_survives(path: Path, name: str):
    bits = torch.arange(64, dtype=torch.uint8)
    tensor = bits.view(torch.bool) if name == "BOOL" else bits.view(DTYPES[name])
    tensor = torch.tensor([True, False]) if name == "BOOL" else tensor
    write(path, {"x": tensor})
    found = read(path)["x"]
    assert found.dtype == tensor.dtype
    assert found.view(torch.uint8).tolist() == tensor.view(torch.uint8).tolist()


def test_layouts_are_written_by_value(path: Path):
    tensor = torch.arange(12.0).view(3, 4)
    write(path, {"turned": tensor.T, "strided": tensor[:, ::2], "parameter": nn.Parameter(tensor)})
    found = read(path)
    assert torch.equal(found["turned"], tensor.T)
    assert torch.equal(found["strided"], tensor[:, ::2])


def test_the_file_is_synced_and_readable_as_any_other(path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.readlink(f"/proc/self/fd/{number}")))
    before = os.umask(0o022)
    try:
        write(path, EXAMPLES)
    finally:
        os.umask(before)
    assert synced == [str(path)]
    assert path.stat().st_mode & 0o777 == 0o644
    with pytest.raises(FileExistsError):
        write(path, EXAMPLES)


def test_truncated_at_every_length(path: Path):
    write(path, EXAMPLES)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(CorruptArtifact, match=r"model\.safetensors is not a sound safetensors file"):
            read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CorruptArtifact, match="follow the header"):
        read(path)


FOUR = b"\0\0\x80\x3f"
ONE = {"x": entry(0, 4)}

OFFENCES: dict[str, tuple[Any, bytes, int | None, str]] = {
    "length 2^63": (ONE, FOUR, 2**63, "claims 9,223,372,036,854,775,808 bytes"),
    "length 2^64-1": (ONE, FOUR, 2**64 - 1, "claims"),
    "length 0": (ONE, FOUR, 0, "claims 0 bytes"),
    "length 1": (b"{", b"", 1, "claims 1 bytes"),
    "length over the file": (ONE, FOUR, 1000, "claims 1,000 bytes, the file has"),
    "length 100 MB + 1": (ONE, FOUR, 100_000_001, "at most 4,000,000 are read"),
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), None, "'b' overlaps 'a'"),
    "twice the same bytes": ({"a": entry(0, 4), "b": entry(0, 4)}, FOUR, None, "'b' overlaps 'a'"),
    "gap": ({"a": entry(0, 4), "b": entry(8, 12)}, bytes(12), None, "'b' leaves a gap after 'a'"),
    "gap at the start": ({"a": entry(4, 8)}, bytes(8), None, "leaves a gap after 'the start'"),
    "negative": ({"a": entry(-4, 0, [1])}, FOUR, None, "no valid data_offsets"),
    "backwards": ({"a": entry(4, 0, [1])}, FOUR, None, "no valid data_offsets"),
    "three offsets": ({"a": {**entry(0, 4), "data_offsets": [0, 2, 4]}}, FOUR, None, "data_offsets"),
    "offset true": ({"a": entry(0, 4, [1]) | {"data_offsets": [False, 4]}}, FOUR, None, "data_offsets"),
    "offset 4.0": ({"a": {**entry(0, 4), "data_offsets": [0, 4.0]}}, FOUR, None, "data_offsets"),
    "trailing bytes": (ONE, FOUR + b"x", None, "tensors take 4 bytes, 5 follow"),
    "data missing": (ONE, FOUR[:3], None, "tensors take 4 bytes, 3 follow"),
    "shape too large": ({"a": entry(0, 4, [2])}, FOUR, None, "needs 8 bytes and has 4"),
    "dtype too large": ({"a": entry(0, 4, [1], "F64")}, FOUR, None, "needs 8 bytes and has 4"),
    "unknown dtype": ({"a": entry(0, 4, [1], "F31")}, FOUR, None, "unknown dtype 'F31'"),
    "dtype no string": ({"a": entry(0, 4, [1], ["F32"])}, FOUR, None, "unknown dtype"),
    "shape negative": ({"a": entry(0, 4, [-1, -1])}, FOUR, None, "no valid shape"),
    "shape a float": ({"a": entry(0, 4, [1.0])}, FOUR, None, "no valid shape"),
    "shape no list": ({"a": entry(0, 4, 1)}, FOUR, None, "no valid shape"),
    "1000 axes": ({"a": entry(0, 4, [1] * 1000)}, FOUR, None, "no valid shape"),
    "product 2^64 + 1 wraps": ({"a": entry(0, 4, [2**32, 2**32])}, FOUR, None, "too large for any memory"),
    "product hidden by a 0": ({"a": entry(0, 0, [2**62, 0, 8])}, b"", None, "too large for any memory"),
    "name twice": (
        b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
        b'"x":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        bytes(8),
        None,
        "'x' stands in it twice",
    ),
    "field twice": (
        b'{"x":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        FOUR,
        None,
        "twice",
    ),
    "field missing": ({"x": {"dtype": "F32", "shape": [1]}}, FOUR, None, "exactly dtype, shape"),
    "field unknown": ({"x": {**entry(0, 4), "more": 1}}, FOUR, None, "exactly dtype, shape"),
    "entry no table": ({"x": [1]}, FOUR, None, "exactly dtype, shape"),
    "metadata no strings": ({**ONE, "__metadata__": {"a": 1}}, FOUR, None, "not a table of strings"),
    "NaN in the header": (b'{"x": NaN}', FOUR, None, "NaN is not a JSON number"),
    "no JSON": (b"{]", FOUR, None, "not valid JSON"),
    "no UTF-8": (b'{"\xff": 1}', FOUR, None, "not valid JSON"),
    "nested deeply": (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", FOUR, None, "not valid JSON"),
    "number of 10,000 digits": (b'{"x":' + b"9" * 10_000 + b"}", FOUR, None, "not valid JSON"),
    "a list": (b"[]", FOUR, None, "does not begin like one"),
    "200,000 entries": (
        {f"{i}": entry(4 * i, 4 * i + 4) for i in range(200_000)},
        bytes(800_000),
        None,
        "at most 4,000,000 are read",
    ),
    "30,000 entries": (
        {f"{i}": entry(4 * i, 4 * i + 4) for i in range(30_000)},
        bytes(120_000),
        None,
        "more than 20,000 tensors",
    ),
}


@pytest.mark.parametrize("offence", OFFENCES)
def test_a_file_that_contradicts_itself_is_refused(path: Path, offence: str):
    header, data, length, words = OFFENCES[offence]
    with pytest.raises(CorruptArtifact) as caught:
        read(built(path, header, data, length))
    assert words in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 3


REFUSING = """
import resource, sys
from pathlib import Path
from descent.errors import CorruptArtifact
from descent.weights.safetensors_file import read
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    try:
        read(Path(path))
    except CorruptArtifact:
        continue
    raise SystemExit(f"{path} was read")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_refusing_takes_no_memory(tmp_path: Path):
    """All offences in one process: under 10 MB more than before the first of them."""
    paths = [
        built(tmp_path / f"{number}.safetensors", header, data, length)
        for number, (header, data, length, _) in enumerate(OFFENCES.values())
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", REFUSING, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 10_000  # kB


class Payload:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("kind", ["pickle 2", "pickle 4", "pickle 5", "torch.save", "torch.save, old"])
def test_a_pickle_never_runs(tmp_path: Path, kind: str):
    ran, path = tmp_path / "ran", tmp_path / "model.safetensors"
    if kind.startswith("torch"):
        torch.save(Payload(ran), path, _use_new_zipfile_serialization="old" not in kind)
    else:
        path.write_bytes(pickle.dumps(Payload(ran), protocol=int(kind[-1])))
    with pytest.raises(CorruptArtifact, match="pickles are never opened"):
        read(path)
    assert not ran.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2, torch.complex64])
def test_what_is_not_finite_is_refused_unless_asked_for(path: Path, value: float, dtype: torch.dtype):
    tensors = {"good": torch.ones(3), "bad": torch.tensor([0.0, value, 1.0]).to(dtype)}
    write(path, tensors)
    with pytest.raises(CorruptArtifact, match="1 of 2 tensors hold NaN or infinity: bad"):
        read(path)
    assert read(path, allow_nonfinite=True).keys() == tensors.keys()


def test_the_largest_finite_numbers_are_finite(path: Path):
    write(path, {"x": torch.tensor([torch.finfo(torch.float32).max, torch.finfo(torch.float32).min])})
    assert read(path)["x"].isfinite().all()


def test_a_missing_file_is_the_users(tmp_path: Path):
    with pytest.raises(UserError, match="cannot be read: No such file") as caught:
        read(tmp_path / "none.safetensors")
    assert caught.value.exit_code == 2


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_every_difference_is_listed_and_nothing_is_loaded():
    module = net()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    tensors = {name: torch.ones_like(tensor) for name, tensor in before.items()}
    del tensors["0.bias"]
    tensors["2.weight"] = torch.ones(4, 2)
    tensors["2.bias"] = torch.ones(2, dtype=torch.float64)
    tensors["lm_head.weight"] = torch.ones(1)
    with pytest.raises(UserError) as caught:
        load_into(module, tensors, "other/model.safetensors")
    assert caught.value.what.splitlines() == [
        "other/model.safetensors does not fit the model: 4 differences",
        "  0.bias: missing",
        "  2.bias: 2 float64, expected 2 float32",
        "  2.weight: 4x2 float32, expected 2x4 float32",
        "  lm_head.weight: not expected",
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_loading_copies_parameters_and_buffers():
    module, other = net(), net()
    other(torch.randn(5, 3))
    load_into(module, other.state_dict(), "here")
    assert all(torch.equal(t, other.state_dict()[name]) for name, t in module.state_dict().items())


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


def test_tied_weights_are_kept_once_and_come_back_by_either_name(path: Path):
    module = Tied()
    once = unshared(module.state_dict())
    assert list(once) == ["embedding.weight"]
    write(path, once)
    for name in ("embedding.weight", "head.weight"):
        other = Tied()
        load_into(other, {name: read(path)["embedding.weight"]}, "here")
        assert torch.equal(other.head.weight, module.head.weight)
        assert other.head.weight is other.embedding.weight
    both = {"embedding.weight": torch.ones(5, 3), "head.weight": torch.zeros(5, 3)}
    with pytest.raises(UserError, match=r"embedding\.weight: differs from head\.weight, which is tied to it"):
        load_into(Tied(), both, "here")


def test_views_of_one_memory_that_differ_are_kept_apart():
    whole = torch.arange(6.0)
    assert unshared({"a": whole[:3], "b": whole[3:], "c": whole.view(2, 3), "d": whole[:3]}).keys() == set(
        "abc"
    )


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(path: Path, data: st.DataObject):
    """Whatever bytes change, reading ends in tensors or in `CorruptArtifact`, nothing else."""
    path.unlink(missing_ok=True)
    write(path, EXAMPLES)
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(raw))
    with suppress(CorruptArtifact):
        read(path, allow_nonfinite=True)


def test_the_header_can_be_read_alone(path: Path):
    write(path, EXAMPLES, {"made by": "descent"})
    header = safetensors_file.read_header(path)
    assert header["weight"] == {"dtype": "F32", "shape": [2, 3], "data_offsets": [8, 32]}
    assert header["__metadata__"] == {"made by": "descent"}
