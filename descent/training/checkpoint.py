"""Checkpoints that are whole or not there.

    checkpoints/step-000500/   model.safetensors optimizer.safetensors [average. memory.] manifest.json
    checkpoints/best.json      which of them scored best

A checkpoint is written into a temporary sibling folder, each file synced, the manifest last; then the
folder is renamed and its parent synced. Whatever the moment the process is killed at, the folder is
either not a checkpoint yet or a whole one, and every older one is still there: those are deleted
only after the new one was read back and its hashes found right.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from torch import Tensor

from descent.errors import CorruptArtifact, UserError
from descent.training.optimizer_state import load_state_tensors
from descent.training.state import State
from descent.weights import safetensors_file

MANIFEST = "manifest.json"
BEST = "best.json"
KINDS = ("model", "optimizer", "average", "memory")
FOLDER = re.compile(r"step-(\d{6,12})")
TEMPORARY = ".saving-"
LARGEST_MANIFEST = 100_000


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint holds.

    Attributes:
        step: batches trained on.
        files: name -> (bytes, SHA-256 in hexadecimal).
    """

    step: int
    files: dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Best:
    """Which checkpoint scored best, by which metric."""

    step: int
    metric: str
    value: float


@dataclass(frozen=True)
class Newest:
    """The newest whole checkpoint, and why later ones were passed over."""

    path: Path | None
    skipped: list[str] = field(default_factory=list)


def folder_name(step: int) -> str:
    """`step-000500` for 500."""
    return f"step-{step:06d}"


def steps(folder: Path) -> list[int]:
    """The steps there are checkpoints of, whole or not, in order."""
    try:
        found = [FOLDER.fullmatch(path.name) for path in folder.glob("step-*") if path.is_dir()]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from None
    numbers = sorted(int(match[1]) for match in found if match)
    return [step for step in numbers if (folder / folder_name(step)).is_dir()]


def save(folder: Path, state: State) -> Path:
    """Saves a state as `folder/step-...`, and returns that path once it was verified.

    Saving the same state again changes nothing.

    Args:
        folder: the run's `checkpoints`; made if need be.
        state: must be finite.

    Raises:
        UserError: it cannot be written, or holds NaN or infinity. Older checkpoints are untouched.
    """
    tensors = {kind: safetensors_file.unshared(table) for kind, table in state.tensors().items()}
    for kind, table in tensors.items():
        bad = safetensors_file.nonfinite(table)
        if bad:
            raise UserError(
                f"the state at step {state.step} is not saved: NaN or infinity in the {kind}'s "
                + safetensors_file.shortened(bad)
            )
    final = folder / folder_name(state.step)
    temporary = folder / f"{TEMPORARY}{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
        temporary.mkdir()
        manifest = _write_files(temporary, state.step, tensors)
        _put_in_place(temporary, final, manifest)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _unsaved(folder, state.step, error) from error
    verify(final)
    return final


def _write_files(folder: Path, step: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> Manifest:
    files: dict[str, tuple[int, str]] = {}
    for kind in KINDS:
        if tensors[kind] or kind in ("model", "optimizer"):
            path = folder / f"{kind}.safetensors"
            digest = safetensors_file.write(path, tensors[kind])
            files[path.name] = (path.stat().st_size, digest)
    manifest = Manifest(step, files)
    _write_synced(folder / MANIFEST, _manifest_text(manifest))
    _sync_folder(folder)
    return manifest


def _put_in_place(temporary: Path, final: Path, manifest: Manifest) -> None:
    if final.exists():
        try:
            if verify(final) == manifest:
                shutil.rmtree(temporary)
                return
        except CorruptArtifact:
            pass  # it is replaced by the good one
        final.rename(temporary.with_name(f"{temporary.name}-replaced"))
    temporary.rename(final)
    _sync_folder(final.parent)
    remove_leftovers(final.parent)


def _unsaved(folder: Path, step: int, error: OSError) -> UserError:
    good = newest(folder).path
    kept = f"the last good checkpoint is {good}" if good else "there is no earlier checkpoint"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return UserError(
        f"the checkpoint of step {step} cannot be saved in {folder}: {error.strerror}",
        hint=f"{'free some space' if full else 'check the disk'} and resume; {kept}",
    )


def remove_leftovers(folder: Path) -> None:
    """Removes what killed saves have left behind, as far as the system lets it."""
    for entry in folder.glob(f"{TEMPORARY}*"):
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            with suppress(OSError):
                entry.unlink()


def read_manifest(path: Path) -> Manifest:
    """The manifest of a checkpoint, or `CorruptArtifact` if any bit of it is not as it was written."""
    if path.is_symlink():
        raise CorruptArtifact(f"{path} is a link, not a checkpoint's own folder")
    raw = _read_regular(path / MANIFEST, LARGEST_MANIFEST)
    try:
        table = json.loads(raw)
        files = {name: (entry["bytes"], entry["sha256"]) for name, entry in table["files"].items()}
        manifest = Manifest(table["step"], files)
        same = type(manifest.step) is int and _manifest_text(manifest).encode() == raw
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        same, manifest = False, Manifest(0, {})
    if not same:
        raise CorruptArtifact(f"{path / MANIFEST} was damaged or altered")
    allowed = {f"{kind}.safetensors" for kind in KINDS}
    strange = sorted(set(manifest.files) - allowed)
    if strange:
        raise CorruptArtifact(
            f"{path / MANIFEST} names a file that is no part of a checkpoint", got=strange[0]
        )
    if not {"model.safetensors", "optimizer.safetensors"} <= set(manifest.files):
        raise CorruptArtifact(f"{path / MANIFEST} names no model or no optimizer")
    if folder_name(manifest.step) != path.name:
        raise CorruptArtifact(f"{path / MANIFEST} is of step {manifest.step}, the folder of another")
    return manifest


def verify(path: Path) -> Manifest:
    """Reads every byte of a checkpoint and compares it with the manifest's hashes.

    Raises:
        CorruptArtifact: naming the file that is missing, a link, or not as it was written.
    """
    manifest = read_manifest(path)
    for name, (size, digest) in manifest.files.items():
        with _regular(path / name) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise CorruptArtifact(f"{path / name} has {found:,} bytes, its manifest says {size:,}")
            if hashlib.file_digest(file, "sha256").hexdigest() != digest:
                raise CorruptArtifact(f"{path / name} was altered: its SHA-256 is not the manifest's")
    return manifest


def newest(folder: Path) -> Newest:
    """The checkpoint to resume from: the latest step that verifies. No clock is asked."""
    skipped: list[str] = []
    for step in reversed(steps(folder)):
        path = folder / folder_name(step)
        try:
            verify(path)
        except CorruptArtifact as error:
            skipped.append(f"skipped {path.name}: {error.what}")
        else:
            return Newest(path, skipped)
    return Newest(None, skipped)


def load(path: Path, state: State, *, optimizer: bool = True) -> None:
    """Fills a state from a checkpoint: all of it, or nothing if something does not fit.

    Args:
        path: the checkpoint's folder.
        state: filled in place.
        optimizer: whether to take the optimizer's state too; without, that of `state` stays.

    Raises:
        CorruptArtifact: the checkpoint does not verify.
        UserError: it is whole but belongs to another model or optimizer.
    """
    manifest = verify(path)
    found = {name.removesuffix(".safetensors"): safetensors_file.read(path / name) for name in manifest.files}
    if ("average" in found) != (state.average is not None):
        has = "has" if "average" in found else "has no"
        raise UserError(f"{path} {has} average of the weights, unlike this run's recipe")
    own = state.model.state_dict()
    safetensors_file.check_fits(own, found["model"], str(path / "model.safetensors"))
    if state.average is not None:
        averages = str(path / "average.safetensors")
        safetensors_file.check_fits(state.average.tensors, found["average"], averages)
    held = found.get("memory", {})
    safetensors_file.check_fits(state.memory, held, str(path / "memory.safetensors"))
    if optimizer:
        where = str(path / "optimizer.safetensors")
        load_state_tensors(state.model, state.optimizers, found["optimizer"], where)
    # Everything fits: from here on nothing can fail.
    safetensors_file.copy_into(own, found["model"])
    if state.average is not None:
        safetensors_file.copy_into(state.average.tensors, found["average"])
    safetensors_file.copy_into(state.memory, held)
    state.step = manifest.step


def prune(folder: Path, keep: int, *, verified: Path | None = None) -> list[Path]:
    """Deletes all but the latest `keep` checkpoints and the best one; returns the deleted paths.

    Nothing is deleted unless the latest checkpoint verifies. `verified` is one that just did, as what
    `save` returns: it is not read a second time.
    """
    found = steps(folder)
    best = read_best(folder)
    old = [step for step in found[:-keep] if best is None or step != best.step] if keep else []
    if not old:
        return []
    latest = folder / folder_name(found[-1])
    if latest != verified:
        verify(latest)
    paths = [folder / folder_name(step) for step in old]
    for path in paths:
        # The name goes first: a half-deleted folder must not look like a checkpoint.
        doomed = path.with_name(f"{TEMPORARY}{path.name}-old")
        with suppress(OSError):  # one that cannot be deleted stays; the run goes on
            path.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
    return [path for path in paths if not path.exists()]


def mark_best(folder: Path, best: Best) -> None:
    """Records which checkpoint is the best, in one atomic step."""
    text = json.dumps({"step": best.step, "metric": best.metric, "value": best.value}, allow_nan=False)
    temporary = folder / f"{TEMPORARY}{BEST}"
    try:
        temporary.unlink(missing_ok=True)
        _write_synced(temporary, text + "\n")
        temporary.replace(folder / BEST)
        _sync_folder(folder)
    except OSError as error:
        raise UserError(f"{folder / BEST} cannot be written: {error.strerror}") from error


def read_best(folder: Path) -> Best | None:
    """The best checkpoint on record, if there is one and its folder is still there."""
    try:
        table = json.loads(_read_regular(folder / BEST, LARGEST_MANIFEST))
        best = Best(table["step"], str(table["metric"]), float(table["value"]))
    except (CorruptArtifact, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    return best if best.step in steps(folder) else None


def _manifest_text(manifest: Manifest) -> str:
    """The one way a manifest is written; it ends with a hash of itself, so that no bit can flip unseen."""
    files = {name: {"bytes": size, "sha256": digest} for name, (size, digest) in manifest.files.items()}
    body: dict[str, Any] = {"step": manifest.step, "files": files}
    body["sha256"] = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return json.dumps(body, indent=2) + "\n"


def _read_regular(path: Path, most: int) -> bytes:
    with _regular(path) as file:
        raw = file.read(most + 1)
    if len(raw) > most:
        raise CorruptArtifact(f"{path} is larger than {most:,} bytes")
    return raw


@contextmanager
def _regular(path: Path) -> Iterator[BufferedReader]:
    """Opens a file that is a file: not a link out of the folder, not a device, not a pipe."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            raise CorruptArtifact(f"{path} is not a regular file")
        with open(path, "rb") as file:
            yield file
    except OSError as error:
        raise CorruptArtifact(f"{path} cannot be read: {error.strerror}") from None


def _write_synced(path: Path, text: str) -> None:
    with open(path, "x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
