"""Training speed of Descent beside nanoGPT and transformers.

    python -m benchmarks.training --nanogpt FOLDER [--shape gpt2-124m|small] [--rounds N] [--json FILE]

Each peer is measured in its best setting on a CPU (bfloat16 autocast, fused AdamW) and in its default one
(single precision). The ratio that counts is the one to the faster of the peers in their best settings.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any

from benchmarks import matmul, systems
from benchmarks.contest import Result, System, Work, contest
from benchmarks.report import enter, number, print_table, write_json
from benchmarks.systems import SHAPES, Shape

OURS, CEILING = "descent", "bf16 ceiling"
STEPS = {"gpt2-124m": 1, "small": 20}
"""Steps of a round."""


def main() -> None:
    options = _parser().parse_args()
    names = list(SHAPES) if options.shape == "all" else [options.shape]
    found = {}
    for name in names:
        start = time.perf_counter()
        steps = options.steps or STEPS[name]
        entrants = _entrants(SHAPES[name], steps, options)
        result = contest(entrants, options.rounds)
        found[name] = _summary(name, steps, result)
        _print(name, steps, found[name])
        minutes = round((time.perf_counter() - start) / 60, 1)
        enter(options.ledger, _entries(name, steps, found[name], options.rounds, minutes))
    write_json(options.json, {"training": found})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--nanogpt", metavar="FOLDER", help="a clone of nanoGPT; left out when not given")
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=5, help="how often each system is measured")
    parser.add_argument("--steps", type=int, default=0, help="steps of a round; 0 = by shape")
    parser.add_argument("--only", metavar="TEXT", nargs="*", default=[], help="peers whose name holds a text")
    parser.add_argument(
        "--tuned", action="store_true", help="also the peers with the settings Descent gives the allocator"
    )
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--ledger", metavar="FOLDER", help="write entries of the ledger there")
    return parser


def _entrants(shape: Shape, steps: int, options: argparse.Namespace) -> list[System]:
    given = {"shape": shape, "steps": steps}
    libraries: dict[str, Callable[..., Work]] = {"transformers": systems.transformers}
    if options.nanogpt:
        libraries["nanogpt"] = functools.partial(systems.nanogpt, path=options.nanogpt)
    settings: dict[str, dict[str, Any]] = {"best": {"best": True}, "default": {"best": False}}
    if options.tuned:
        settings["best, tuned"] = {"best": True, "tuned": True}
    peers = [
        System(f"{library} {setting}", prepare, {**given, **chosen})
        for library, prepare in libraries.items()
        for setting, chosen in settings.items()
    ]
    eager = {**given, "best": True, "attention": "eager"}
    peers.append(System("transformers best, eager", systems.transformers, eager))
    chosen = [p for p in peers if not options.only or any(text in p.name for text in options.only)]
    ours = System(OURS, systems.descent, {"shape": shape, "steps": steps}, warmup=2)
    return [ours, *chosen, System(CEILING, matmul.ceiling, {})]


def _summary(name: str, steps: int, result: Result) -> dict[str, Any]:
    """Rates, shares of the ceiling, and how many times as fast Descent is."""
    shape = SHAPES[name]
    gflops = max(value for value in result.values[CEILING] if value is not None)
    peers = [peer for peer in result.seconds if peer not in (OURS, CEILING)]
    systems_found = {}
    for system in (OURS, *peers):
        rate = result.rate(system, steps * shape.tokens)
        systems_found[system] = {
            "tokens_per_second": rate.table(),
            "ceiling_share": round(rate.median * shape.flops / shape.tokens / gflops / 1e9, 4),
            "times": None if system == OURS else result.ratio(OURS, system).table(),
            "loss": result.values[system][-1],
            "seconds": [round(seconds, 4) for seconds in result.seconds[system]],
        }
    best = [peer for peer in peers if "best" in peer and "tuned" not in peer]
    return {
        "ceiling_gflops": round(gflops, 1),
        "flops_per_step": shape.flops,
        "rounds": len(result.seconds[OURS]),
        "fastest_peer": result.best(best) if best else None,
        "systems": systems_found,
    }


def _print(name: str, steps: int, found: dict[str, Any]) -> None:
    shape = SHAPES[name]
    print(
        f"\n{name}: {shape.depth} layers of {shape.dim}, batches of {shape.rows} x {shape.length} tokens, "
        f"{found['rounds']} rounds of {steps} steps; bf16 ceiling {number(found['ceiling_gflops'])} GFLOP/s"
    )
    rows = []
    for system, each in found["systems"].items():
        rate, times = each["tokens_per_second"], each["times"]
        rows.append(
            [
                system,
                number(rate["median"]),
                f"{number(rate['least'])} - {number(rate['greatest'])}",
                f"{each['ceiling_share']:.0%}",
                f"{times['median']:.2f}" if times else "",
                f"{times['least']:.2f} - {times['greatest']:.2f}" if times else "",
            ]
        )
    print_table(["system", "tokens/s", "spread", "of ceiling", "descent is x times", "spread"], rows)
    if found["fastest_peer"]:
        print(f"fastest peer in its best setting: {found['fastest_peer']}")


def _entries(
    name: str, steps: int, found: dict[str, Any], rounds: int, minutes: float
) -> list[dict[str, Any]]:
    """The entries of the ledger: our rate, and the ratios to the peers they are claimed against."""
    ours, fastest = found["systems"][OURS], found["fastest_peer"]
    rate = ours["tokens_per_second"]
    shared = {"minutes": minutes, "flops": rounds * steps * found["flops_per_step"]}
    entries = [
        {
            "id": f"training-{name}-rate",
            "what": f"training speed at the shape {name}",
            "metric": "tokens per second",
            "value": rate["median"],
            "spread": [rate["least"], rate["greatest"]],
            "unit": "tokens/s",
            "note": f"{ours['ceiling_share']:.0%} of the bf16 matrix products' "
            f"{found['ceiling_gflops']:.0f} GFLOP/s; median of {rounds} rounds, "
            "spread from least to greatest",
            **shared,
        }
    ]
    against = {"best": fastest, "nanogpt-default": "nanogpt default"}
    for label, peer in against.items():
        if peer in found["systems"]:
            times, theirs = found["systems"][peer]["times"], found["systems"][peer]["tokens_per_second"]
            entries.append(
                {
                    "id": f"training-{name}-against-{label}",
                    "what": f"training speed at the shape {name}, compared with {peer}",
                    "metric": "times as fast",
                    "value": times["median"],
                    "spread": [times["least"], times["greatest"]],
                    "unit": "times",
                    "note": f"{number(rate['median'])} and {number(theirs['median'])} tokens/s, in turn; "
                    f"median of {rounds} pairwise ratios, spread from least to greatest",
                    **shared,
                }
            )
    return entries


if __name__ == "__main__":
    main()
