"""The harness itself: turns, ratios, failures, and what is written to the ledger."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks import report, systems  # noqa: E402
from benchmarks.contest import Result, Spread, System, contest  # noqa: E402
from descent import ledger  # noqa: E402


def sleeper(seconds: float):
    """A system that only sleeps and says when it began."""

    def work() -> float:
        began = time.monotonic()
        time.sleep(seconds)
        return began

    return work


def failing():
    raise ValueError("no such network")


def test_systems_take_turns_and_who_begins_moves_on():
    entrants = [System(name, sleeper, {"seconds": 0.02}, warmup=0) for name in ("a", "b", "c")]
    result = contest(entrants, rounds=3, note=lambda line: None)
    began = [(when, name) for name, times in result.values.items() for when in times]
    assert "".join(name for _, name in sorted(began)) == "abcbcacab"
    assert all(0.02 <= seconds < 0.2 for times in result.seconds.values() for seconds in times)


def test_ratio_is_taken_within_a_round():
    result = Result({"ours": [1.0, 10.0, 2.0], "theirs": [2.0, 15.0, 6.0], "slow": [9.0, 9.0, 9.0]}, {})
    assert result.ratio("ours", "theirs") == Spread(2.0, 1.5, 3.0)
    assert result.rate("ours", 20) == Spread(10.0, 2.0, 20.0)
    assert result.best(["theirs", "slow"]) == "theirs"


def test_a_failing_system_ends_the_contest_with_its_reason():
    entrants = [System("good", sleeper, {"seconds": 0.0}), System("bad", failing, {})]
    with pytest.raises(RuntimeError, match=r"bad failed:[\s\S]*ValueError: no such network"):
        contest(entrants, rounds=1, note=lambda line: None)


def test_flops_of_gpt2():
    shape = systems.SHAPES["gpt2-124m"]
    weights = 12 * (4 + 8) * 768 * 768 + 50304 * 768
    scores = 12 * 2 * 2 * 768 * 512 // 2  # two products of 2 * 768 operations for half of 512 keys, 12 layers
    assert shape.flops == 2048 * (6 * weights + 3 * scores)


def test_descent_trains_the_network_it_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(systems, "tune_allocator", lambda: None)  # it would change this process for good
    shape = systems.Shape(2, 32, 2, vocab=11, bias=True, context=16, rows=3, length=16)
    work = systems.descent(shape, steps=20, precision="fp32")
    first = work()
    for _ in range(4):
        last = work()
    assert last < first - 0.2


def test_a_missing_nanogpt_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"model\.py of nanoGPT; give its folder with --nanogpt"):
        systems.nanogpt(systems.SHAPES["small"], 1, str(tmp_path), best=True)


def test_entries_are_what_the_ledger_reads(tmp_path: Path):
    entry = {
        "id": "speed-of-nothing",
        "what": "nothing",
        "metric": "times as fast",
        "value": 1.23456,
        "spread": [1.2, 1.3],
        "unit": "times",
        "minutes": 0.5,
        "flops": 12,
        "note": "in turn",
    }
    report.enter(tmp_path, [entry])
    (read,) = ledger.entries(tmp_path)
    assert (read["id"], read["value"], read["spread"]) == ("speed-of-nothing", 1.2346, [1.2, 1.3])
    assert list(read) == [
        *("id", "what", "metric", "value", "spread", "unit", "published", "seeds", "minutes", "flops"),
        *("machine", "commit", "date", "command", "note"),
    ]


def test_json_holds_the_machine(tmp_path: Path):
    report.write_json(tmp_path / "found.json", {"speed": 3})
    read = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert read["speed"] == 3
    assert read["machine"]["threads"] > 0
