"""Where a model's folder is: on this machine, or behind a name on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from descent.errors import UserError
from descent.weights.folder import Pretrained, read_folder

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}", re.ASCII)
ALLOWED = ["*.json", "*.safetensors", "*.txt", "chat_template.jinja"]
"""The only files fetched; the folders beside them hold other formats."""


def locate(name: str | Path, revision: str | None = None) -> Path:
    """The folder of a model: `name` itself when it exists, else fetched from the hub into its cache.

    A path that exists never causes a network call.

    Args:
        name: a folder, or `owner/model` on the hub.
        revision: branch, tag or commit on the hub; its main branch when not given.

    Raises:
        UserError: no such folder and no name for the hub; not on the hub; the hub cannot be reached.
    """
    path = Path(os.path.expanduser(name))
    if str(name) and path.is_dir():
        return path
    if str(name) and path.exists():
        raise UserError(f"{path} is not a folder", hint="give the folder that holds config.json")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UserError(
            f"{str(name)!r} is no folder here",
            expected="an existing folder, or a hub name such as openai-community/gpt2",
        )
    return _fetch(name, revision)


def load_pretrained(
    name: str | Path, revision: str | None = None, *, allow_nonfinite: bool = False
) -> Pretrained:
    """`read_folder` of what `locate` finds."""
    return read_folder(locate(name, revision), allow_nonfinite=allow_nonfinite)


def _fetch(name: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=ALLOWED, ignore_patterns=["*/*"])
        return Path(folder)
    except GatedRepoError:
        raise UserError(
            f"{name} is gated on the hub", hint="accept its terms there, then log in with: hf auth login"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{name!r} is neither a folder here nor a model on the hub",
            hint="check the spelling; a private model needs: hf auth login",
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"{name} has no revision {revision!r} on the hub") from None
    except HFValidationError as error:
        raise UserError(f"{name!r} is no valid hub name: {error}") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise UserError(
            f"{name} is not a folder here, not in the hub's cache, and the hub cannot be reached",
            got=f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}",
            hint="check the connection (and HF_HUB_OFFLINE), or give the folder of a copy on this machine",
        ) from None
