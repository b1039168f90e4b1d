"""Speed of Descent's LSTM and GRU beside `torch.nn`'s in training, and what one more step costs.

    python -m benchmarks.recurrent [--task training|length] [--cell lstm|gru] [--json FILE] [--ledger FOLDER]

training: two layers of 512, 32 rows of 128 characters. Descent is left to choose precision and kernel;
`torch.nn` is measured in single precision, its default, and under bfloat16 autocast. length: the time of one
more token after 64 to 2,048, and of a trained token in rows of such lengths, for an LSTM, a GRU and a GPT of
about as many parameters. Systems work in turn, each in a process of its own.
"""

from __future__ import annotations

import argparse
import time
from statistics import median
from typing import Any

from benchmarks import recurrent_systems
from benchmarks.contest import System, contest
from benchmarks.recurrent_systems import LENGTH, NETWORKS, ROWS
from benchmarks.report import enter, number, print_table, write_json

OURS, BEST, DEFAULT = "descent", "torch.nn, bf16 autocast", "torch.nn, fp32"
LENGTHS = (64, 128, 256, 512, 1024, 2048)
STEPS, NEW, TOKENS = 3, 64, 4096


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recurrent", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--task", choices=["training", "length", "all"], default="all")
    parser.add_argument("--cell", choices=["lstm", "gru"], default="lstm")
    parser.add_argument("--rounds", type=int, default=7, help="how often each system is measured")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--ledger", metavar="FOLDER", help="write entries of the ledger there")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    if options.task != "length":
        found["training"] = _training(options)
    if options.task != "training":
        found["length"] = _lengths(options)
    write_json(options.json, found)


def _training(options: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    given = {"steps": STEPS, "cell": options.cell}
    systems = [
        System(OURS, recurrent_systems.descent, given),
        System(BEST, recurrent_systems.plain, {**given, "bf16": True}),
        System(DEFAULT, recurrent_systems.plain, {**given, "bf16": False}),
    ]
    result, tokens = contest(systems, options.rounds), STEPS * ROWS * LENGTH
    rates = {name: result.rate(name, tokens) for name in result.seconds}
    times = {name: result.ratio(OURS, name) for name in (BEST, DEFAULT)}
    print(
        f"\ntraining, {options.cell} 2 x 512, {ROWS} rows of {LENGTH}; "
        f"{options.rounds} rounds of {STEPS} steps"
    )
    rows = [
        [
            name,
            number(rate.median),
            f"{number(rate.least)} - {number(rate.greatest)}",
            f"{times[name].median:.2f}" if name in times else "",
            f"{times[name].least:.2f} - {times[name].greatest:.2f}" if name in times else "",
        ]
        for name, rate in rates.items()
    ]
    print_table(["system", "tokens/s", "spread", "descent is x times", "spread"], rows)
    weights = 2 * 4 * 512 * 1024 if options.cell == "lstm" else 2 * 3 * 512 * 1024
    entries = [
        {
            "id": f"recurrent-{options.cell}-training-against-torch-{label}",
            "what": f"speed of training a 2 x 512 {options.cell.upper()}, compared with {name}",
            "metric": "times as fast",
            "value": times[name].median,
            "spread": [round(times[name].least, 4), round(times[name].greatest, 4)],
            "unit": "times",
            "minutes": round((time.perf_counter() - start) / 60, 1),
            "flops": 6 * weights * tokens * options.rounds,
            "note": f"{number(rates[OURS].median)} and {number(rates[name].median)} tokens/s, in turn; "
            f"median of {options.rounds} pairwise ratios, spread from least to greatest",
        }
        for label, name in (("best", BEST), ("default", DEFAULT))
    ]
    enter(options.ledger, entries)
    return {name: {"tokens_per_second": rate.table()} for name, rate in rates.items()}


def _lengths(options: argparse.Namespace) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in NETWORKS:
        found[name] = {}
        for length in LENGTHS:
            more = System("more", recurrent_systems.one_more, {"name": name, "length": length, "steps": NEW})
            taught = System(
                "taught", recurrent_systems.trained, {"name": name, "length": length, "tokens": TOKENS}
            )
            result = contest([more, taught], options.rounds, note=lambda line: None)
            found[name][length] = {
                "one_more_ms": 1000 * median(v for v in result.values["more"] if v is not None),
                "trained_us_a_token": 1e6 * median(result.seconds["taught"]) / TOKENS,
            }
    for key, title in (("one_more_ms", "one more token, ms"), ("trained_us_a_token", "training, us a token")):
        print(f"\n{title}, after or in rows of so many tokens; median of {options.rounds}")
        rows = [[name, *(f"{each[n][key]:.2f}" for n in LENGTHS)] for name, each in found.items()]
        print_table(["network", *map(str, LENGTHS)], rows)
    return found


if __name__ == "__main__":
    main()
