"""An adapter on disk: what was trained beside a base, without the base.

adapter.json           what it belongs to and how it is put on, with the hashes of both
adapter.safetensors    the thin matrices of each adapted layer, and what else was trained (a new head)
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import StringConstraints
from torch import Tensor

from descent.config import Config, Field, Items
from descent.errors import CorruptArtifact, UserError
from descent.weights import safetensors_file
from descent.weights.json_file import read_json

__all__ = ["ABOUT", "WEIGHTS", "AdapterAbout", "read_adapter", "tensors_hash", "write_adapter"]

ABOUT, WEIGHTS = "adapter.json", "adapter.safetensors"
Hash = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class AdapterAbout(Config):
    """What adapter.json says.

    Attributes:
        format: of the two files.
        base: where the base was read from when the adapter was trained; only a help for the reader.
        base_sha256: of the base's tensors that the adapted model uses, in single precision.
        rank, alpha: of the adapters (see `nn.lora`).
        targets: the full names of the adapted layers.
        trained: parts that were trained as they are.
        drawn: tensors that neither the base has nor training changed; they are in the file too.
        model: the configuration of the adapted model.
        tokenizer: the fingerprint of the base's tokenizer; empty if it has none.
        sha256: of adapter.safetensors.
        extra: what using the model takes beside it (labels, preparation, loss), as an export has it.
    """

    format: Literal[1] = 1
    base: str
    base_sha256: Hash
    rank: int = Field(ge=1, le=65536)
    alpha: float = Field(gt=0)
    targets: Items[Name] = Field(min_length=1)
    trained: Items[Name] = ()
    drawn: Items[Name] = ()
    model: dict[str, Any]
    tokenizer: str = ""
    sha256: Hash
    extra: dict[str, Any] = Field(default_factory=dict)


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, shapes and values, the latter in single precision."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        held = tensor.float() if tensor.is_floating_point() else tensor
        digest.update(f"{name} {held.dtype} {tuple(held.shape)}\n".encode())
        digest.update(safetensors_file.raw_bytes(held))
    return digest.hexdigest()


def write_adapter(folder: Path | str, state: Mapping[str, Tensor], about: Mapping[str, Any]) -> Path:
    """Writes an adapter's two files into a folder, which appears whole or not at all; returns the folder.

    Args:
        folder: must not exist, or be empty.
        state: what was trained.
        about: the fields of `AdapterAbout` but for `sha256`.

    Raises:
        UserError: the folder holds something, or cannot be written.
    """
    target = Path(folder)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} exists and is not empty", hint="choose another folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as name:
            new = Path(name) / "adapter"
            new.mkdir()
            digest = safetensors_file.write(new / WEIGHTS, state)
            table = AdapterAbout.read({**about, "sha256": digest}).table()
            text = json.dumps(table, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            (new / ABOUT).write_text(text, encoding="utf-8")
            if target.exists():
                shutil.rmtree(target)
            os.replace(new, target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from None
    return target


def read_adapter(folder: Path | str) -> tuple[dict[str, Tensor], AdapterAbout]:
    """What `write_adapter` wrote, checked.

    Raises:
        UserError: the folder holds no adapter.
        CorruptArtifact: one of the files is damaged.
    """
    place = Path(folder)
    if not (place / ABOUT).is_file():
        raise UserError(
            f"{place} holds no adapter (no {ABOUT})",
            hint="`descent export RUN --adapter --out FOLDER` writes that of a run",
        )
    where = place / ABOUT
    try:
        about = AdapterAbout.read(read_json(where), where=str(where))
    except UserError as error:  # written by a program, so what is wrong with it befell it
        raise CorruptArtifact(str(error)) from None
    weights = place / WEIGHTS
    if not weights.is_file():
        raise CorruptArtifact(f"{place} holds no {WEIGHTS}", hint=f"it belongs beside {ABOUT}")
    state = safetensors_file.read(weights)
    with weights.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != about.sha256:
        raise CorruptArtifact(
            f"{weights} is damaged: it is not the file that was written", got=found, expected=about.sha256
        )
    return state, about
