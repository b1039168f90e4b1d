"""`load`: a run, a folder in the Hugging Face layout, or a name on the hub, made ready for use."""

from __future__ import annotations

from pathlib import Path

from descent.models import build
from descent.runs.folder import is_run, open_run
from descent.runs.loaded import Loaded
from descent.runs.run import Run, Which
from descent.text import Tokenizer
from descent.weights import safetensors_file
from descent.weights.folder import is_folder
from descent.weights.hub import load_pretrained


def load(where: str | Path, which: Which = "best", *, revision: str | None = None) -> Loaded:
    """A trained model with what it takes to use it.

    Args:
        where: a run's folder, a folder in the Hugging Face layout, or a name on the hub such as
            "openai-community/gpt2". A path that exists makes no network call.
        which: of a run, the checkpoint: "best" (else the latest), "last", or a step.
        revision: of a model on the hub: a branch, tag or commit.

    Raises:
        UserError: there is no such run, folder or model, or it is of a kind Descent does not know.
        CorruptArtifact: a file is damaged.
    """
    path = Path(where).expanduser()
    if is_run(path):
        return Run(path).load(which)
    if path.is_dir() and not is_folder(path):
        open_run(path)  # raises, naming what is missing
    found = load_pretrained(where, revision)
    model = build(found.config)
    safetensors_file.load_into(model, found.state, str(where))
    labels = found.extra.get("labels")
    return Loaded(
        model.eval(),
        found.config,
        Tokenizer.load(found.tokenizer) if found.tokenizer is not None else None,
        tuple(labels) if labels else None,
        found.extra.get("preparation") or {},
        found.extra.get("loss", ""),
        str(where),
    )
