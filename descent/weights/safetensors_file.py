"""safetensors files: checked before they are read, synced after they are written.

    8 bytes: length of the header | header: JSON | the tensors' bytes, one after another

    header: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ..., "__metadata__": {}}

The library's own reader takes duplicate names, NaN weights and headers with hundreds of thousands of
entries, and its writer does not sync. So the header is checked here, against the file's size and
before anything is allocated for a tensor; the library then reads what is known to be sound.
Nothing is ever unpickled. Format: https://github.com/huggingface/safetensors.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from descent.errors import CorruptArtifact, UserError

LARGEST_HEADER = 4_000_000
MOST_TENSORS = 20_000
MOST_AXES = 16
LARGEST_COUNT = 2**63

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def read(path: Path, *, allow_nonfinite: bool = False) -> dict[str, Tensor]:
    """The tensors of a file by name, on the CPU.

    Args:
        path: a safetensors file.
        allow_nonfinite: take NaN and infinite values too.

    Raises:
        UserError: there is no such file, or it cannot be opened.
        CorruptArtifact: the file is not a whole, sound safetensors file.
    """
    path = Path(path)
    read_header(path)
    tensors = load_file(path)
    if not allow_nonfinite:
        bad = nonfinite(tensors)
        if bad:
            raise CorruptArtifact(
                f"{path}: {len(bad)} of {len(tensors)} tensors hold NaN or infinity: {shortened(bad)}",
                hint="take an earlier checkpoint; or allow them, if they are meant to be there",
            )
    return tensors


def read_header(path: Path) -> dict[str, Any]:
    """The checked header of a file: name -> dtype, shape and data_offsets, and maybe `__metadata__`."""
    try:
        with open(path, "rb") as file:
            header, data_bytes = _header(file, path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    _check_entries(header, data_bytes, path)
    return header


def _header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """The JSON object at the start of the file, and how many bytes follow it."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(9)
    if len(start) < 9:
        _refuse(path, f"it has only {size} bytes")
    length = int.from_bytes(start[:8], "little")
    if start[8:] != b"{":
        _refuse(path, _what_it_is(start))
    if length > LARGEST_HEADER:
        _refuse(path, f"its header claims {length:,} bytes; at most {LARGEST_HEADER:,} are read")
    if length < 2 or 8 + length > size:
        _refuse(path, f"its header claims {length:,} bytes, the file has {size:,}")
    text = b"{" + file.read(length - 1)
    if text.count(b"{") > MOST_TENSORS:
        _refuse(path, f"it has more than {MOST_TENSORS:,} tensors")
    try:
        header = json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        _refuse(path, f"its header is not valid JSON ({str(error)[:100]})")
    if not isinstance(header, dict):
        _refuse(path, "its header is not a JSON object")
    return header, size - 8 - length


def _what_it_is(start: bytes) -> str:
    if start[:2] == b"PK":
        return "it is a zip archive, which torch.save makes around a pickle; pickles are never opened"
    if start[:1] == b"\x80" and start[1] in range(2, 6):
        return "it is a pickle; pickles are never opened"
    return "it does not begin like one"


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} stands in it twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _check_entries(header: dict[str, Any], data_bytes: int, path: Path) -> None:
    """Every tensor's dtype, shape and offsets agree, and together they fill the data exactly."""
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _refuse(path, "its __metadata__ is not a table of strings")
    spans = []
    for name, entry in header.items():
        if name != "__metadata__":
            spans.append((*_span(name, entry, path), name))
    position, before = 0, "the start"
    for begin, end, name in sorted(spans):
        if begin != position:
            how = "overlaps" if begin < position else "leaves a gap after"
            _refuse(path, f"tensor {name[:60]!r} {how} {before[:60]!r} ({begin:,} for {position:,})")
        position, before = end, name
    if position != data_bytes:
        _refuse(path, f"its tensors take {position:,} bytes, {data_bytes:,} follow the header")


def _span(name: str, entry: Any, path: Path) -> tuple[int, int]:
    """Where a tensor's bytes begin and end, as its checked header entry says."""
    where = f"tensor {name[:60]!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        _refuse(path, f"{where} does not have exactly dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        _refuse(path, f"{where} has the unknown dtype {str(dtype)[:20]!r}")
    if not _whole_numbers(shape) or len(shape) > MOST_AXES:
        _refuse(path, f"{where} has no valid shape")
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        _refuse(path, f"{where} has no valid data_offsets")
    if math.prod(max(1, axis) for axis in shape) >= LARGEST_COUNT:
        _refuse(path, f"{where} has a shape too large for any memory")
    need = math.prod(shape) * DTYPES[dtype].itemsize
    if offsets[1] - offsets[0] != need:
        _refuse(path, f"{where} needs {need:,} bytes and has {offsets[1] - offsets[0]:,}")
    return offsets[0], offsets[1]


def _whole_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _refuse(path: Path, why: str) -> NoReturn:
    raise CorruptArtifact(f"{path} is not a sound safetensors file: {why}")


def nonfinite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that hold a NaN or an infinity."""
    return [name for name, tensor in tensors.items() if not _finite(tensor)]


def _finite(tensor: Tensor) -> bool:
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.dtype.itemsize == 1:
        tensor = tensor.float()
    # One pass without a temporary: a NaN anywhere makes both ends NaN.
    low, high = torch.aminmax(tensor.detach())
    return bool(low.isfinite() and high.isfinite())


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """Writes tensors into a new file and syncs it to the disk, byte by byte as the library would.

    The bytes are hashed as they pass, so that a checkpoint's manifest costs no second reading.

    Args:
        path: must not exist yet.
        tensors: by name; of any device and layout.
        metadata: strings to keep in the header.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        OSError: as the system gives it (no space, no permission, ...).
    """
    # Wide types first, as the library does: every tensor then begins at a multiple of its item's size.
    names = sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in names:
        tensor = tensors[name]
        end = position + tensor.numel() * tensor.dtype.itemsize
        header[name] = {
            "dtype": DTYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with open(path, "xb") as file:
        for part in (
            len(text).to_bytes(8, "little"),
            text,
            *map(raw_bytes, (tensors[name] for name in names)),
        ):
            digest.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def raw_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor's values in row-major order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def unshared(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without second names of the same memory (tied weights): the first name stays."""
    seen: set[tuple[Any, ...]] = set()
    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        place = _place(tensor)
        if place not in seen:
            kept[name] = tensor
        if tensor.numel():
            seen.add(place)
    return kept


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()


def load_into(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copies tensors into a module's parameters and buffers by name: all of them, or none.

    Of weights that are tied, one name is enough.

    Args:
        module: whose `state_dict` names the tensors that are needed.
        tensors: with the same names, shapes and dtypes.
        where: what the tensors were read from, for the error.

    Raises:
        UserError: lists every missing or extra name, every other shape or dtype.
    """
    own = module.state_dict()
    check_fits(own, tensors, where)
    copy_into(own, tensors)


def copy_into(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copies values between tables of named tensors that were checked to fit."""
    with torch.no_grad():
        for name in own.keys() & tensors.keys():
            own[name].copy_(tensors[name])


def check_fits(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """Raises what `load_into` raises, and copies nothing."""
    others = _tied(own)
    missing = [
        name
        for name in own
        if name not in tensors and not any(other in tensors for other in others.get(name, ()))
    ]
    problems = [f"{name}: missing" for name in missing]
    problems += [f"{name}: not expected" for name in tensors if name not in own]
    for name in own.keys() & tensors.keys():
        here, there = own[name], tensors[name]
        if here.shape != there.shape or here.dtype != there.dtype:
            problems.append(f"{name}: {_kind(there)}, expected {_kind(here)}")
        for other in others.get(name, ()):
            if name < other and other in tensors and not torch.equal(there, tensors[other]):
                problems.append(f"{name}: differs from {other}, which is tied to it here")
    if problems:
        shown = [f"  {problem}" for problem in sorted(problems)[:20]]
        more = [f"  ... and {len(problems) - 20} more"] if len(problems) > 20 else []
        count = f"{len(problems)} difference{'s' if len(problems) > 1 else ''}"
        raise UserError("\n".join([f"{where} does not fit the model: {count}", *shown, *more]))


def _tied(own: Mapping[str, Tensor]) -> dict[str, list[str]]:
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, tensor in own.items():
        if tensor.numel():
            groups.setdefault(_place(tensor), []).append(name)
    return {name: [n for n in names if n != name] for names in groups.values() for name in names}


def _kind(tensor: Tensor) -> str:
    shape = "x".join(map(str, tensor.shape)) or "scalar"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


def shortened(names: list[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
