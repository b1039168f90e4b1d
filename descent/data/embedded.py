"""Data that is on the machine already: Python's own text, and the sets scikit-learn bundles."""

from __future__ import annotations

import sysconfig
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descent.errors import UserError

__all__ = ["digits", "python_docs", "python_source", "sklearn_table"]

_SKIPPED = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"}
_LARGEST = 500_000
_MOST = 20_000_000


def python_docs() -> list[str]:
    """The reference topics of the running Python, each a document, in order of their names."""
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        raise UserError("this Python comes without its documentation topics (pydoc_data.topics)") from None
    return [topics[name] for name in sorted(topics) if topics[name].strip()]


def python_source() -> list[str]:
    """The standard library's modules, each a document, in order of their paths.

    Left out: tests, installed packages, files that are not UTF-8 or larger than 500 kB, and whatever
    comes after 20 MB.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(
        file for file in root.rglob("*.py") if not _SKIPPED.intersection(file.relative_to(root).parts[:-1])
    )
    documents, size = [], 0
    for file in files:
        data = file.read_bytes() if file.stat().st_size <= _LARGEST else b""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            continue
        if not text.strip():
            continue
        size += len(data)
        if size > _MOST:
            break
        documents.append(text)
    if not documents:
        raise UserError("this Python comes without the source of its standard library", got=str(root))
    return documents


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """1,797 images (n, 1, 8, 8) with their 17 levels spread over 0..255, and their labels."""
    bundle: Any = import_module("sklearn.datasets").load_digits()
    images = np.rint(bundle.images * (255 / 16)).astype(np.uint8)
    return images[:, None], bundle.target.astype(np.int64)


def sklearn_table(name: str) -> tuple[dict[str, NDArray[np.float64] | list[str]], str]:
    """The columns of a bundled table, and the name of its target."""
    loaders = {"breast-cancer": "load_breast_cancer", "iris": "load_iris", "wine": "load_wine",
               "diabetes": "load_diabetes"}  # fmt: skip
    options = {"scaled": False} if name == "diabetes" else {}
    bundle: Any = getattr(import_module("sklearn.datasets"), loaders[name])(**options)
    columns: dict[str, NDArray[np.float64] | list[str]] = {
        str(feature): np.asarray(bundle.data[:, place], dtype=np.float64)
        for place, feature in enumerate(bundle.feature_names)
    }
    if "target_names" in bundle:
        columns["class"] = [str(bundle.target_names[number]) for number in bundle.target]
        return columns, "class"
    columns["progression"] = np.asarray(bundle.target, dtype=np.float64)
    return columns, "progression"
