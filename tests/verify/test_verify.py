"""The contract holds for every kind of model there is, and a broken part shows in its row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from descent.nn import attention
from descent.recipes import resolve
from descent.runs.run import Run
from descent.runs.train import train
from descent.verify import Row, verify

TINY = {
    "linear": ["linear-diabetes"],
    "mlp": ["mlp-digits", "model.hidden=[16]"],
    "lenet": ["lenet-digits"],
    "gpt": ["gpt-names", "model.depth=2", "model.dim=16", "model.heads=2", "model.dropout=0.1"],
    "gpt2": [
        "gpt2-124m", "model.depth=2", "model.dim=16", "model.heads=2", "model.context=24", "data.length=24",
        "tokenizer.kind=byte", "tokenizer.vocab_size=0",
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    text = folder / "text.txt"
    text.write_text("\n".join(f"{a}{b} river {b}{a}山" for a in "abcdefghij" for b in "klmnopqrst"), "utf-8")
    found = {}
    for kind, (name, *changes) in TINY.items():
        changes += ["budget.steps=3", "budget.batch_size=8", "precision=fp32"]
        if kind.startswith("gpt"):
            changes += [f"data.path={text}", "data.document=line", "samples.max_new_tokens=4"]
        found[kind] = train(resolve(name, changes), out=folder / kind, quiet=True)
    return found


def measured(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


@pytest.mark.parametrize("kind", TINY)
def test_the_contract_holds(kind: str, runs: dict[str, Run]) -> None:
    rows = verify(runs[kind])
    assert [row for row in rows if not row.ok] == []
    applying = {row.name for row in rows if row.worst is not None}
    always = {"accumulated = one batch", "batch of n = n batches of one", "resumed = uninterrupted"}
    assert always | {"exported and re-loaded = native"} <= applying
    if kind.startswith("gpt"):
        assert {"cached decoding = full forward", "packed rows = padded rows"} <= applying
        assert "fused attention = weights-returning" in applying
    assert ("ours = the reference library's" in applying) == (kind == "gpt2")


def test_a_folder_has_the_rows_that_need_no_run(runs: dict[str, Run], tmp_path: Path) -> None:
    folder = runs["gpt2"].load().export(tmp_path / "export")
    rows = measured(verify(folder))
    assert all(row.ok for row in rows.values())
    assert rows["resumed = uninterrupted"].worst is None
    assert rows["cached decoding = full forward"].worst is not None


def test_wrong_values_on_one_path_show(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    right = attention.attend

    def wrong(q: Tensor, k: Tensor, v: Tensor, *, weights: bool = False, **options: Any) -> Any:
        return right(q, k, 1.1 * v if weights else v, weights=weights, **options)

    monkeypatch.setattr(attention, "attend", wrong)
    row = measured(verify(runs["gpt2"]))["fused attention = weights-returning"]
    assert not row.ok


def test_documents_that_see_each_other_show(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    def all_see_all(documents: Tensor) -> Tensor:
        return torch.ones(len(documents), 1, documents.shape[1], documents.shape[1], dtype=torch.bool)

    monkeypatch.setattr("descent.models.gpt.document_mask", all_see_all)
    assert not measured(verify(runs["gpt"]))["packed rows = padded rows"].ok


def test_a_nan_is_a_difference() -> None:
    assert not Row("a = b", 1.0, float("nan")).ok
