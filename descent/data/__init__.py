"""Data: named sets and the user's own files, brought to batches that are a function of the step.

`registry` and `config` import neither torch nor numpy; the other names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from descent.data.batches import Batches, prefetch, sweep
    from descent.data.config import ImageData, TableData, TextData
    from descent.data.dataset import ArraySplit, Batch, Dataset, ImageSplit, Split, StreamSplit
    from descent.data.load import (
        Documents,
        load_examples,
        load_text,
        load_texts,
        tokenize,
        tokenize_texts,
    )
    from descent.data.packing import PackedSplit
    from descent.data.preparation import prepare_image, prepare_row, restore_target
    from descent.data.registry import ENTRIES, Entry, File, entry, listing, locate, show

_HOMES = {
    "batches": ("Batches", "prefetch", "sweep"),
    "config": ("ImageData", "TableData", "TextData"),
    "dataset": ("ArraySplit", "Batch", "Dataset", "ImageSplit", "Split", "StreamSplit"),
    "load": ("Documents", "load_examples", "load_text", "load_texts", "tokenize", "tokenize_texts"),
    "packing": ("PackedSplit",),
    "preparation": ("prepare_image", "prepare_row", "restore_target"),
    "registry": ("ENTRIES", "Entry", "File", "entry", "listing", "locate", "show"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "ENTRIES",
    "ArraySplit",
    "Batch",
    "Batches",
    "Dataset",
    "Documents",
    "Entry",
    "File",
    "ImageData",
    "ImageSplit",
    "PackedSplit",
    "Split",
    "StreamSplit",
    "TableData",
    "TextData",
    "entry",
    "listing",
    "load_examples",
    "load_text",
    "load_texts",
    "locate",
    "prefetch",
    "prepare_image",
    "prepare_row",
    "restore_target",
    "show",
    "sweep",
    "tokenize",
    "tokenize_texts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'descent.data' has no attribute {name!r}")
    return getattr(import_module(f"descent.data.{_HOME[name]}"), name)
