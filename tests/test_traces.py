"""Every recipe's first 20 losses, seeded: a change that should change nothing leaves them as they are.

The data are stand-ins that every machine has alike (scikit-learn's digits and diabetes, a text made
here), the precision is fp32 and the batches are small; the rest is the recipe's. To change traces on
purpose:  pytest tests/test_traces.py --write-traces  and say why in the commit.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from standins import STAND_INS

from descent.recipes import CATALOG, get
from descent.runs.assemble import assemble
from descent.runs.overrides import override
from descent.training.loop import StepReport, train

STEPS = 20
FOLDER = Path(__file__).parent / "traces"
# Sums are ordered differently by processors with other vector widths; a real change is larger.
TOLERANCE = 2e-4


def stand_in(recipe_name: str, folder: Path) -> list[str]:
    """Overrides that put small data of the same kind in place of the recipe's."""
    recipe = get(recipe_name)
    kind, model = recipe.data.type, recipe.model.type
    embedded = getattr(recipe.data, "source", None) in ("google-stock", "dates")
    changes = [] if embedded else STAND_INS[kind](folder)
    changes += ["precision=fp32", "device=cpu", f"budget.steps={STEPS}"]
    if recipe.name.endswith(("-cifar", "-cifar-long")):
        changes += ["data.size=[32, 32]", "data.channels=3", "budget.batch_size=16"]
    if kind == "text":  # the model keeps every part its recipe names, at a size that takes no time
        changes += ["budget.batch_size=4", "data.validation=0.1", "data.test=0.0", "tokenizer.kind=char"]
        changes += ["model.depth=2", "model.dim=32"]
        changes += ["model.heads=2", "model.context=32"] if model != "rnn" else ["model.embedding=0"]
    if kind == "sound" and model == "dscnn":
        changes.remove("model.dim=16")
    return changes


def trace(recipe_name: str, folder: Path) -> list[float]:
    """The losses of the recipe's first steps."""
    parts = assemble(override(get(recipe_name), stand_in(recipe_name, folder)))
    losses: list[float] = []

    def record(report: StepReport) -> None:
        losses.append(next(iter(report.losses.values())))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train(parts.state, parts.objective, parts.batches.batch, settings=parts.settings, after_step=record)
    finally:
        torch.set_num_threads(threads)
    return losses


@pytest.mark.parametrize("name", CATALOG)
def test_the_first_losses_are_those_on_record(name: str, tmp_path: Path, write_traces: bool) -> None:
    found, path = trace(name, tmp_path), FOLDER / f"{name}.json"
    if write_traces:
        FOLDER.mkdir(exist_ok=True)
        path.write_text(json.dumps([round(loss, 7) for loss in found], indent=0) + "\n", encoding="utf-8")
    recorded = json.loads(path.read_text(encoding="utf-8"))
    assert found == pytest.approx(recorded, rel=TOLERANCE, abs=TOLERANCE)


def test_every_trace_belongs_to_a_recipe() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CATALOG)


def test_a_changed_learning_rate_shows(tmp_path: Path) -> None:
    recorded = json.loads((FOLDER / "mlp-digits.json").read_text(encoding="utf-8"))
    changes = [*stand_in("mlp-digits", tmp_path), "optimizer.learning_rate=0.0022"]
    parts = assemble(override(get("mlp-digits"), changes))
    losses: list[float] = []
    train(
        parts.state,
        parts.objective,
        parts.batches.batch,
        settings=parts.settings,
        after_step=lambda report: losses.append(report.losses["train"]),
    )
    assert losses != pytest.approx(recorded, rel=TOLERANCE, abs=TOLERANCE)
