"""Training speed of BERT and T5 beside transformers.

    python -m benchmarks.attending [--task finetune|masked|t5|all] [--rounds N] [--ledger FOLDER]

finetune: BERT-base on sentences as long as SST-2's, in real tokens a second, padding not counted. Descent
packs them; transformers pads each batch to its longest, by default in single precision and random order, at
best in bfloat16 autocast with batches of about equal length. masked: one step of pretraining BERT-base, 16
rows of 128 tokens. t5: one step of T5-small, 8 pairs of 256 and 64 tokens. SST-2 is needed for the first.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import attending_systems as systems
from benchmarks.contest import Result, System, contest
from benchmarks.report import enter, number, print_table, write_json

OURS, BEST, DEFAULT = "descent", "transformers best", "transformers default"
TASKS: dict[str, tuple[str, Any, Any]] = {
    "finetune": (
        "fine-tuning BERT-base on lengths of SST-2",
        systems.finetune_descent,
        systems.finetune_transformers,
    ),
    "masked": ("pretraining BERT-base, 16 x 128", systems.masked_descent, systems.masked_transformers),
    "t5": ("training T5-small, 8 x 256 to 64", systems.t5_descent, systems.t5_transformers),
}


def tokens_of(task: str) -> int:
    """Real tokens of a round."""
    if task == "finetune":
        return systems.real_tokens()
    if task == "masked":
        return systems.ROWS * systems.LENGTH
    return systems.PAIRS * (systems.SOURCE + systems.TARGET)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attending", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--task", choices=[*TASKS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each system is measured")
    parser.add_argument("--only", choices=["best", "default"], help="one setting of the peer")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--ledger", metavar="FOLDER", help="write entries of the ledger there")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    for task in TASKS if options.task == "all" else [options.task]:
        start = time.perf_counter()
        what, ours, theirs = TASKS[task]
        peers = [
            System(name, theirs, {"best": name == BEST})
            for name in (BEST, DEFAULT)
            if options.only is None or name.endswith(options.only)
        ]
        result = contest([System(OURS, ours, {}), *peers], options.rounds)
        found[task] = _shown(what, tokens_of(task), result)
        minutes = round((time.perf_counter() - start) / 60, 1)
        enter(options.ledger, _entries(task, what, found[task], options.rounds, minutes))
    write_json(options.json, {"attending": found})


def _shown(what: str, tokens: int, result: Result) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in result.seconds:
        times = None if name == OURS else result.ratio(OURS, name).table()
        found[name] = {"tokens_per_second": result.rate(name, tokens).table(), "times": times}
    print(f"\n{what}: {tokens:,} real tokens a round, {len(result.seconds[OURS])} rounds")
    rows = []
    for name, each in found.items():
        rate, times = each["tokens_per_second"], each["times"]
        rows.append(
            [
                name,
                number(rate["median"]),
                f"{number(rate['least'])} - {number(rate['greatest'])}",
                f"{times['median']:.2f}" if times else "",
                f"{times['least']:.2f} - {times['greatest']:.2f}" if times else "",
            ]
        )
    print_table(["system", "tokens/s", "spread", "descent is x times", "spread"], rows)
    return found


def _entries(
    task: str, what: str, found: dict[str, Any], rounds: int, minutes: float
) -> list[dict[str, Any]]:
    """Entries of the ledger: the ratios to transformers."""
    entries = []
    for name in found:
        times, rate = found[name]["times"], found[name]["tokens_per_second"]
        if times:
            entries.append(
                {
                    "id": f"attending-{task}-against-{name.replace(' ', '-')}",
                    "what": f"speed of {what}, compared with {name}",
                    "metric": "times as fast",
                    "value": times["median"],
                    "spread": [times["least"], times["greatest"]],
                    "unit": "times",
                    "minutes": minutes,
                    "flops": 0,
                    "note": f"{number(found[OURS]['tokens_per_second']['median'])} and "
                    f"{number(rate['median'])} real tokens/s, in turn; median of {rounds} pairwise ratios, "
                    "spread from least to greatest",
                }
            )
    return entries


if __name__ == "__main__":
    main()
