"""Weights in several files: which tensor stands where, written and read.

    model-00001-of-00002.safetensors    the first tensors, model-00002-of-00002.safetensors the others
    model.safetensors.index.json        {"metadata": {"total_size": bytes}, "weight_map": {tensor: file}}

The index is believed in nothing that the files do not bear out: it names plain files of its own folder, each
is there, and each holds exactly the tensors that the index says. All headers are checked before any tensor is
read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from descent.errors import CorruptArtifact
from descent.weights import safetensors_file
from descent.weights.json_file import read_json

__all__ = ["INDEX", "LARGEST_FILE", "WEIGHTS", "read", "write"]

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST_FILE = 5_000_000_000
"""Bytes of tensors in a file, as the hub's libraries have it."""

_SHARD = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\.safetensors", re.ASCII)


def write(folder: Path, tensors: Mapping[str, Tensor], largest: int = LARGEST_FILE) -> list[str]:
    """Writes tensors into as few files as hold them in their order, with an index if it is more than one.

    Args:
        folder: has none of the files yet.
        tensors: by name.
        largest: bytes of tensors a file may hold; one tensor that has more gets a file of its own.

    Returns:
        The names of the files of tensors.

    Raises:
        OSError: as the system gives it.
    """
    shards = _divided(tensors, largest)
    if len(shards) == 1:
        safetensors_file.write(folder / WEIGHTS, tensors, {"format": "pt"})
        return [WEIGHTS]
    files = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
    for file, names in zip(files, shards, strict=True):
        safetensors_file.write(folder / file, {name: tensors[name] for name in names}, {"format": "pt"})
    places = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    index = {"metadata": {"total_size": sum(map(_size, tensors.values()))}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return files


def _divided(tensors: Mapping[str, Tensor], largest: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    held = 0
    for name, tensor in tensors.items():
        size = _size(tensor)
        if shards[-1] and held + size > largest:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += size
    return shards


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.dtype.itemsize


def read(folder: Path, *, allow_nonfinite: bool = False) -> dict[str, Tensor]:
    """The tensors of all files that the folder's index names.

    Args:
        folder: has an index.
        allow_nonfinite: take NaN and infinite values too.

    Raises:
        CorruptArtifact: the index names no file, a file outside the folder or one that is not there; a file
            is not sound, or holds other tensors than the index says.
    """
    places = _places(folder / INDEX)
    files = sorted(set(places.values()))
    for file in files:
        if not (folder / file).is_file():
            raise CorruptArtifact(f"{folder / INDEX} names {file}, which is not there")
        promised = {name for name, place in places.items() if place == file}
        held = safetensors_file.read_header(folder / file).keys() - {"__metadata__"}
        if promised != held:
            wrong = _differences(promised, held)
            raise CorruptArtifact(f"{folder / file} does not hold what {INDEX} says: {wrong}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= safetensors_file.read(folder / file, allow_nonfinite=allow_nonfinite)
    return tensors


def _differences(promised: set[str], held: set[str]) -> str:
    """What is missing, and what is too much."""
    kinds = {"without": sorted(promised - held), "with": sorted(held - promised)}
    return ", ".join(f"{word} {safetensors_file.shortened(names)}" for word, names in kinds.items() if names)


def _places(index: Path) -> dict[str, str]:
    """Name of a tensor -> name of the file it is in, a plain name in the same folder."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CorruptArtifact(f"{index}: weight_map is missing")
    for file in places.values():
        if not isinstance(file, str) or not _SHARD.fullmatch(file):
            raise CorruptArtifact(
                f"{index}: weight_map names a file outside the folder, or no safetensors file",
                got=file,
                expected="a plain name such as model-00001-of-00002.safetensors",
            )
    return places
