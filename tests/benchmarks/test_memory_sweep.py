"""The sweep of memory tasks: what a run measures, what is kept, and the table."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import memory  # noqa: E402

SMALL = ["data.validation=40", "data.test=24", "model.dim=8", "budget.batch_size=5"]


@pytest.mark.parametrize("model", memory.MODELS)
def test_a_run_trains_the_recipe_and_scores_what_is_held_out(model: str):
    heads = ["model.heads=2"] if model == "gpt" else []
    found = memory.measured(model, memory.changes(model, 3, 1, 3, [*SMALL, *heads]))
    assert [step for step, _ in found["validation"]] == [1, 2, 3]
    assert all(round(40 * share, 6).is_integer() for _, share in found["validation"])
    assert round(24 * found["accuracy"], 6).is_integer()
    assert found["examples"] == 15
    assert not found["solved"]


def test_a_run_ends_when_all_of_the_validation_is_right():
    # one step of memory over two symbols, which a network of 8 units learns at once
    settings = memory.changes("rnn", 1, 1, 400, [*SMALL, "data.symbols=2", "optimizer.learning_rate=0.05"])
    found = memory.measured("rnn", settings)
    assert found["solved"]
    assert found["validation"][-1][1] == found["accuracy"] == 1.0
    assert all(share < 1 for _, share in found["validation"][:-1])
    assert found["examples"] == found["validation"][-1][0] * 5 < 2000


def test_a_finished_run_is_kept_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[str, tuple[str, ...]]] = []

    def measured(model: str, settings: list[str]) -> dict[str, Any]:
        calls.append((model, tuple(settings)))
        return {"accuracy": 0.5, "solved": False, "examples": 7}

    monkeypatch.setattr(memory, "measured", measured)
    first = memory.finished(tmp_path, "rnn", 10, 1, ["a=1"])
    assert memory.finished(tmp_path, "rnn", 10, 1, ["a=1"]) == first
    assert len(calls) == 1
    memory.finished(tmp_path, "rnn", 10, 1, ["a=2"])
    memory.finished(tmp_path, "rnn", 10, 2, ["a=2"])
    assert len(calls) == 3


def test_the_table_gives_means_seeds_and_the_rows_it_took():
    def run(model: str, gap: int, accuracy: float, examples: int, solved: bool) -> dict[str, Any]:
        return {
            "model": model,
            "gap": gap,
            "accuracy": accuracy,
            "examples": examples,
            "solved": solved,
            "parameters": 9000,
        }

    results = [
        run("gru", 100, 1.0, 3000, True),
        run("gru", 100, 0.998, 5000, True),
        run("rnn", 10, 1.0, 800, True),
        run("rnn", 100, 0.13, 9000, False),
        run("rnn", 100, 0.11, 9000, False),
    ]
    assert memory.table(results) == [
        "| | parameters | gap 10 | gap 100 |",
        "|---|---|---|---|",
        "| Elman (tanh) | 9,000 | **100.0** (100.0; 800 rows) | **12.0** (13.0, 11.0) |",
        "| GRU | 9,000 |  | **99.9** (100.0, 99.8; 4,000 rows) |",
    ]
