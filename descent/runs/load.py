"""`load`: a run, a folder in the Hugging Face layout, or a name on the hub, made ready for use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import torch

from descent.evaluation import Views
from descent.runs.adapters import adapt_loaded
from descent.runs.folder import open_run
from descent.runs.layout import is_run
from descent.runs.loaded import Loaded
from descent.runs.noted import checked_preparation
from descent.runs.run import Run, Which
from descent.text import Tokenizer
from descent.text.chat import opening
from descent.text.vocabulary import VOCABULARY, from_vocabulary
from descent.weights import published
from descent.weights.chat import TOKENIZER_CONFIG
from descent.weights.folder import CONFIG, is_folder
from descent.weights.hub import load_pretrained
from descent.weights.json_file import read_json
from descent.weights.names import published_file
from descent.weights.pretrained import Pretrained


def load(
    where: str | Path,
    which: Which = "best",
    *,
    precision: Literal["fp32", "bf16"] = "fp32",
    revision: str | None = None,
    allow_nonfinite: bool = False,
    adapter: str | Path | None = None,
) -> Loaded:
    """A trained model with what it takes to use it.

    Args:
        where: a run's folder, a folder in the Hugging Face layout, a name on the hub such as
            "openai-community/gpt2", or a file of weights that torchvision or timm published, after its name
            there: "torchvision/resnet50:FILE.safetensors". A path that exists makes no network call.
        which: of a run, the checkpoint: "best" (else the latest), "last", or a step.
        precision: what the weights are held in; bf16 takes half the memory, and half the time where
            reading the weights is what takes it.
        revision: of a model on the hub: a branch, tag or commit.
        allow_nonfinite: take a folder's weights even if some are NaN or infinite.
        adapter: a folder that `descent export --adapter` wrote of a run on this base; put on and merged.

    Raises:
        UserError: there is no such run, folder or model, or it is of a kind Descent does not know.
        CorruptArtifact: a file is damaged.
    """
    path = Path(where).expanduser()
    loaded = Run(path).load(which) if is_run(path) else _published(where, path, revision, allow_nonfinite)
    if adapter is not None:
        loaded.model.to(torch.float32)
        loaded = adapt_loaded(loaded, Path(adapter).expanduser())
    loaded.model.to(torch.bfloat16 if precision == "bf16" else torch.float32)
    return loaded


def _published(where: str | Path, path: Path, revision: str | None, allow_nonfinite: bool) -> Loaded:
    found = _pretrained(where, path, revision, allow_nonfinite)
    noted = str(path / CONFIG) if is_folder(path) else str(where)
    preparation = checked_preparation(found.extra, found.config, noted)
    model = found.model(str(where))
    tokenizer = None if found.tokenizer is None else _tokenizer(found.tokenizer)
    begins = opening(tokenizer) if tokenizer is not None and hasattr(model, "new_cache") else []
    if begins and not preparation:
        preparation = {"kind": "text", "start": begins, "marked": True}
    return Loaded(
        model,
        found.config,
        tokenizer,
        tuple(found.extra.get("labels") or ()) or None,
        preparation,
        found.extra.get("loss") or "",
        str(where),
        defaults=found.generation,
        tta=found.extra["tta"] if found.extra.get("tta") in get_args(Views) else "none",
        template=found.chat,
    )


def _tokenizer(path: Path) -> Tokenizer:
    """That of a tokenizer.json, or of a vocab.txt with what stands beside it."""
    if path.name != VOCABULARY:
        return Tokenizer.load(path)
    beside = path.with_name(TOKENIZER_CONFIG)
    table = read_json(beside) if beside.is_file() else {}
    return from_vocabulary(path, table.get("do_lower_case") is not False)


def _pretrained(where: str | Path, path: Path, revision: str | None, allow_nonfinite: bool) -> Pretrained:
    named = published_file(where)
    if named is not None:
        return published.read(*named, allow_nonfinite=allow_nonfinite)
    local = path.is_dir() or (path.parent.is_dir() and path.parent != Path())
    if local and not is_folder(path):
        open_run(path)  # raises, naming what is missing
    return load_pretrained(where, revision, allow_nonfinite=allow_nonfinite)
