"""Pretraining on masked and corrupted text: what fits together, and runs that repeat."""

from __future__ import annotations

from pathlib import Path

import pytest
from standins import STAND_INS

from descent.errors import UserError
from descent.recipes import resolve
from descent.runs.train import train

SMALL = {
    "bert": ["model.depth=1", "model.dim=16", "model.heads=2"],
    "t5": ["model.depth=1", "model.dim=16", "model.heads=2"],
}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.next_sentence=true"], "model.head must be pretraining where data.next_sentence=true"),
        (["model.head=pretraining"], "model.head must be masked where data.next_sentence=false"),
        (["model.head=classes"], "model.head must be masked"),
        (["model.context=64"], "data.length=128 is longer than model.context=64"),
        (
            ["data.next_sentence=true", "model.head=pretraining", "model.segments=1"],
            "data.next_sentence needs model.segments=2",
        ),
        (["data.share=0"], "data.share"),
        (["objective.type=causal"], "do not go together"),
    ],
)
def test_what_does_not_fit_is_refused(changes: list[str], message: str):
    with pytest.raises(UserError, match=message):
        resolve("bert", changes)


def test_next_sentences_are_trained_on_unsplit_batches(tmp_path: Path):
    changes = [*STAND_INS["masked"](tmp_path), *SMALL["bert"], "budget.steps=2", "budget.batch_size=8"]
    changes += ["data.document=paragraph", "data.next_sentence=true", "model.head=pretraining"]
    lines = (tmp_path / "text.txt").read_text(encoding="utf-8").split("\n")
    text = "\n\n".join("\n".join(lines[start : start + 6]) for start in range(0, len(lines), 6))
    (tmp_path / "text.txt").write_text(text, encoding="utf-8")
    run = train(resolve("bert", changes), out=tmp_path / "run", quiet=True)
    scores = run.summary()["scores"]["validation"]
    assert {"loss", "perplexity", "accuracy", "next_accuracy"} <= set(scores)
    with pytest.raises(UserError, match="accumulate"):
        train(resolve("bert", [*changes, "budget.accumulate=2"]), out=tmp_path / "split", quiet=True)


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_a_run_repeats(name: str, tmp_path: Path):
    kind = {"bert": "masked", "t5": "spans"}[name]
    changes = [*STAND_INS[kind](tmp_path), *SMALL[name], "budget.steps=4", "budget.batch_size=8"]
    recipe = resolve(name, changes)
    first = train(recipe, out=tmp_path / "one", quiet=True)
    again = train(recipe, out=tmp_path / "two", quiet=True)
    losses = [[line["loss"] for line in run.metrics if line["event"] == "step"] for run in (first, again)]
    assert losses[0] == losses[1]
    assert losses[0]
    loaded = first.load()
    assert loaded.preparation["kind"] == {"bert": "masked", "t5": "pairs"}[name]
