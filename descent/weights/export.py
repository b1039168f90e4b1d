"""A trained model as a folder in the Hugging Face layout."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from descent.errors import UserError
from descent.text.chat import Chat
from descent.text.vocabulary import ROLES, set_marks
from descent.weights import architectures, preprocessor, safetensors_file, shards
from descent.weights.architectures import Architecture
from descent.weights.chat import write_chat
from descent.weights.classes import labels_to
from descent.weights.folder import CONFIG, GENERATION, OWN, TOKENIZER


@runtime_checkable
class SavesTokenizer(Protocol):
    """What is needed of a tokenizer."""

    @property
    def end(self) -> int: ...

    @property
    def pad(self) -> int: ...

    def save(self, path: Path) -> None: ...


def export(
    folder: Path | str,
    model: nn.Module,
    tokenizer: SavesTokenizer | None = None,
    *,
    extra: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    shard_bytes: int = shards.LARGEST_FILE,
    chat: Chat | None = None,
) -> Path:
    """Writes a model into a folder that `read_folder` reads back.

    A network that transformers has (see `architectures`: a GPT with the shape of GPT-2, a Llama, a ResNet
    or a ViT as published) is written as its class there, which loads it and gives the same logits. Of any
    other, config.json says `"model_type": "descent"` with our own configuration, and only Descent loads it;
    weights and tokenizer are plain safetensors and tokenizer.json.

    The folder appears whole or not at all.

    Args:
        folder: must not exist, or be empty, unless `overwrite`.
        model: any model with a `config` from `descent.models`; written in the dtype it has.
        tokenizer: the tokenizer of a language model.
        extra: what else is needed to use the model (names of classes, ...): a table JSON can hold, kept under
            "descent" in config.json and given back as `Pretrained.extra`.
        overwrite: replace what is there, if it is an export (holds config.json).
        shard_bytes: bytes of weights a file may hold; more are written in several files with an index.
        chat: how the model converses; written beside its tokenizer.

    Returns:
        The folder.

    Raises:
        UserError: the folder cannot be written, or holds something else.
    """
    target = Path(folder)
    _check_target(target, overwrite)
    config: Any = model.config
    state = safetensors_file.unshared(model.state_dict())
    row = architectures.of(config)
    table = row.config_to(config) if row else {"model_type": OWN, "model": config.table()}
    if row and (row.images or getattr(config, "head", "") in ("classes", "tokens")):
        table |= labels_to((extra or {}).get("labels"), config.outputs)
    table |= {"descent": dict(extra)} if extra else {}
    tensors = row.published(state, config) if row else state
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as name:
            new = Path(name) / "export"
            new.mkdir()
            _write(new, table, tensors, tokenizer, row, shard_bytes)
            if chat is not None and tokenizer is not None:
                write_chat(new, chat)
            if target.exists():
                shutil.rmtree(target)
            os.replace(new, target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror}") from None
    return target


def _check_target(target: Path, overwrite: bool) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise UserError(f"{target} is not a folder", hint="choose another place for the export")
    if target.is_dir() and any(target.iterdir()):
        if not overwrite:
            raise UserError(f"{target} is not empty", hint="choose a new folder, or pass overwrite")
        if not (target / CONFIG).is_file():
            raise UserError(f"{target} holds something that is no export", hint="choose a new folder")


def _write(
    folder: Path,
    table: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    tokenizer: SavesTokenizer | None,
    row: Architecture | None,
    shard_bytes: int,
) -> None:
    floats = {str(t.dtype).removeprefix("torch.") for t in tensors.values() if t.is_floating_point()}
    if row is not None and row.images:
        table = {**table, "dtype": min(floats)}
        preparation = table.get("descent", {}).get("preparation", {})
        if preparation.get("kind") == "images":
            _write_json(folder / preprocessor.FILE, preprocessor.preprocessor_to(preparation))
    elif row is not None and not row.generates:
        table = {**table, "dtype": min(floats)}
    elif row is not None:
        marks = _marks(tokenizer, table)
        table = {**table, **marks, "dtype": min(floats)}
        _write_json(folder / GENERATION, {"_from_model_config": True, **marks})
    _write_json(folder / CONFIG, table)
    shards.write(folder, tensors, shard_bytes)
    if tokenizer is not None:
        tokenizer.save(folder / TOKENIZER)
        if row is not None and not row.generates:
            set_marks(folder / TOKENIZER)
        _write_json(folder / "tokenizer_config.json", _tokenizer_config(folder / TOKENIZER, table))


def _marks(tokenizer: SavesTokenizer | None, table: Mapping[str, Any]) -> dict[str, int]:
    """The ids that transformers begins, ends and pads with, as far as they are known."""
    ends = {} if tokenizer is None else {"bos_token_id": tokenizer.end, "eos_token_id": tokenizer.end}
    if not table.get("is_encoder_decoder"):
        return ends
    names = ("pad_token_id", "eos_token_id", "decoder_start_token_id")
    found = {**{name: table[name] for name in names}, **ends}
    if tokenizer is not None:
        found |= {"pad_token_id": tokenizer.pad, "decoder_start_token_id": tokenizer.pad}
    start = table.get("descent", {}).get("preparation", {}).get("start")
    return {**found, "decoder_start_token_id": start[0]} if start else found


def _tokenizer_config(path: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """What transformers needs beside tokenizer.json: which class reads it and which token ends a document."""
    added = json.loads(path.read_text(encoding="utf-8")).get("added_tokens", [])
    names = {token["id"]: token["content"] for token in added}
    end = names.get(table.get("eos_token_id"))
    special = {} if end is None else {"bos_token": end, "eos_token": end}
    special |= {role: name for name in names.values() if (role := ROLES.get(name)) is not None}
    found = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **special}
    longest = table.get("n_positions", table.get("max_position_embeddings"))
    return found if longest is None else {**found, "model_max_length": longest}


def _write_json(path: Path, table: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
