"""Tiny runs for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

from descent.recipes import resolve
from descent.runs.assemble import assemble
from descent.runs.recipe import Recipe
from descent.runs.run import Run
from descent.training import checkpoint
from descent.training.state import state_hash

PLAN = ["evaluation.every=3", "checkpoints.every=2", "precision=fp32", "budget.steps=7"]


def text_file(folder: Path) -> Path:
    path = folder / "text.txt"
    lines = [f"{a}{b} river {b}{a}山 and 🙂 {a * 3}" for a in "abcdefghij" for b in "klmnopqrst"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny(kind: str, folder: Path, *changes: str) -> Recipe:
    """A recipe that trains in a fraction of a second: `mlp`, `lenet`, `gpt` (a stream) or `packed`."""
    if kind in ("gpt", "packed"):
        packing = "documents" if kind == "packed" else "stream"
        base = [
            f"data.path={text_file(folder)}", f"data.packing={packing}", "data.document=line",
            "tokenizer.kind=byte", "tokenizer.vocab_size=0", "model.depth=1", "model.dim=16", "model.heads=2",
            "model.context=32", "model.bigram=false", "model.dropout=0.1", "budget.batch_size=4",
            "samples.max_new_tokens=4", "samples.every=0",
        ]  # fmt: skip
        return resolve("gpt-names", [*base, *PLAN, *changes])
    name, base = {
        "mlp": ("mlp-digits", ["model.hidden=[8]", "budget.batch_size=16"]),
        "lenet": ("lenet-digits", ["budget.batch_size=8"]),
    }[kind]
    return resolve(name, [*base, *PLAN, *changes])


def final_hash(run: Run) -> str:
    """SHA-256 over weights, optimizer, averages and step of the newest whole checkpoint."""
    parts = assemble(run.recipe, tokenizer=run.tokenizer)
    found = checkpoint.newest(run.folder / "checkpoints").path
    assert found is not None
    checkpoint.load(found, parts.state)
    return state_hash(parts.state)
