"""Speed of Descent's image classifiers beside timm's, in training and in inference.

    python -m benchmarks.vision [--shape resnet18|resnet50|vit-s] [--task training|batch|single] [--json FILE]

timm is measured in its best setting on a CPU (bfloat16 autocast, channels last, the fused optimizer) and in
its default one (single precision). Systems work in turn, each in a process of its own.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

from benchmarks import matmul, vision_systems
from benchmarks.contest import Result, System, contest
from benchmarks.report import enter, number, print_table, write_json
from benchmarks.vision_systems import SHAPES

OURS, BEST, DEFAULT, CEILING = "descent", "timm best", "timm default", "bf16 ceiling"
TASKS = {"training": "training", "batch": "inference, a batch", "single": "inference, one image"}


def main() -> None:
    options = _parser().parse_args()
    found: dict[str, dict[str, Any]] = {}
    for name in SHAPES if options.shape == "all" else [options.shape]:
        for task in TASKS if options.task == "all" else [options.task]:
            start = time.perf_counter()
            result = contest(_entrants(name, task, options), options.rounds)
            summary = _summary(name, task, result)
            _print(name, task, summary)
            minutes = round((time.perf_counter() - start) / 60, 1)
            enter(options.ledger, _entries(name, task, summary, minutes))
            found.setdefault(name, {})[task] = summary
    write_json(options.json, {"vision": found})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vision", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--shape", choices=[*SHAPES, "all"], default="all")
    parser.add_argument("--task", choices=[*TASKS, "all"], default="all")
    parser.add_argument("--rounds", type=int, default=7, help="how often each system is measured")
    parser.add_argument(
        "--tuned", action="store_true", help="also timm with the settings Descent gives the allocator"
    )
    parser.add_argument("--compiled", action="store_true", help="also Descent's training with compile=true")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    parser.add_argument("--ledger", metavar="FOLDER", help="write entries of the ledger there")
    return parser


def _entrants(name: str, task: str, options: argparse.Namespace) -> list[System]:
    given = {"name": name, "task": task}
    systems = [
        System(OURS, vision_systems.descent, given, warmup=2),
        System(BEST, vision_systems.timm, {**given, "best": True}, warmup=2),
        System(DEFAULT, vision_systems.timm, {**given, "best": False}),
    ]
    if options.tuned:
        tuned = {**given, "best": True, "tuned": True}
        systems.append(System(f"{BEST}, tuned", vision_systems.timm, tuned, warmup=2))
    if options.compiled and task == "training":
        compiled = {**given, "compiled": True}
        systems.append(System(f"{OURS}, compiled", vision_systems.descent, compiled, warmup=3))
    return [*systems, System(CEILING, matmul.ceiling, {})]


def _summary(name: str, task: str, result: Result) -> dict[str, Any]:
    """Rates, shares of the ceiling, and how many times as fast Descent is."""
    shape = SHAPES[name]
    flops = shape.flops(training=task == "training")
    gflops = max(value for value in result.values[CEILING] if value is not None)
    images = shape.calls(task) * (1 if task == "single" else shape.batch)
    systems = {}
    for system in result.seconds:
        if system != CEILING:
            rate = result.rate(system, images)
            systems[system] = {
                "images_per_second": rate.table(),
                "ceiling_share": round(rate.median * flops / gflops / 1e9, 4),
                "times": None if system == OURS else result.ratio(OURS, system).table(),
                "value": result.values[system][-1],
                "seconds": [round(seconds, 4) for seconds in result.seconds[system]],
            }
    return {
        "ceiling_gflops": round(gflops, 1),
        "flops_per_image": flops,
        "images_per_round": images,
        "rounds": len(result.seconds[OURS]),
        "systems": systems,
    }


def _print(name: str, task: str, found: dict[str, Any]) -> None:
    shape = SHAPES[name]
    size = 1 if task == "single" else shape.batch
    print(
        f"\n{name}, {TASKS[task]}: {size} x 3 x {shape.side} x {shape.side}, {found['rounds']} rounds of "
        f"{found['images_per_round']} images, {found['flops_per_image'] / 1e9:.2f} GFLOP an image; "
        f"bf16 ceiling {number(found['ceiling_gflops'])} GFLOP/s"
    )
    rows = []
    for system, each in found["systems"].items():
        rate, times = each["images_per_second"], each["times"]
        rows.append(
            [
                system,
                number(rate["median"], 1),
                f"{number(rate['least'], 1)} - {number(rate['greatest'], 1)}",
                f"{each['ceiling_share']:.0%}",
                f"{times['median']:.2f}" if times else "",
                f"{times['least']:.2f} - {times['greatest']:.2f}" if times else "",
            ]
        )
    print_table(["system", "images/s", "spread", "of ceiling", "descent is x times", "spread"], rows)


def _entries(name: str, task: str, found: dict[str, Any], minutes: float) -> list[dict[str, Any]]:
    """The entries of the ledger: how many times as fast as timm in its best and its default setting."""
    entries = []
    ours = found["systems"][OURS]["images_per_second"]["median"]
    for label, peer in (("best", BEST), ("default", DEFAULT)):
        times, theirs = (found["systems"][peer][key] for key in ("times", "images_per_second"))
        entries.append(
            {
                "id": f"vision-{name}-{task}-against-timm-{label}",
                "what": f"speed of {name} in {TASKS[task]}, compared with {peer}",
                "metric": "times as fast",
                "value": times["median"],
                "spread": [times["least"], times["greatest"]],
                "unit": "times",
                "minutes": minutes,
                "flops": found["rounds"] * found["images_per_round"] * found["flops_per_image"],
                "note": f"{number(ours, 1)} and {number(theirs['median'], 1)} images/s, in turn; median of "
                f"{found['rounds']} pairwise ratios, spread from least to greatest",
            }
        )
    return entries


if __name__ == "__main__":
    main()
