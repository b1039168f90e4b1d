"""Enters finished runs of one recipe, one a seed, into the ledger.

    python -m benchmarks.runs --metric accuracy --split test runs/a runs/b runs/c --ledger ledger
        [--published 0.9905 --source "LeCun et al. 1998, figure 9"] [--note "..."] [--changed data.horizon=48]

`--metric distance --split closed_form` enters how far linear regression ended from its closed form.
The value is the mean over the runs, the spread their least and greatest; nothing is chosen among them.
Minutes are the longest run's, evaluation included. FLOPs are those of one run's training: the
matrix products of one step, counted by `torch.utils.flop_counter`, times the steps.
"""

from __future__ import annotations

import argparse
import json
from math import prod
from statistics import mean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.report import enter
from descent.runs.assemble import assemble
from descent.runs.run import Run
from descent.training.loop import train_step

UNITS = {
    "loss": "nats",
    "accuracy": "share right",
    "distance": "of the largest weight",
    "bits_per_byte": "bits",
    "wer": "share of words",
    "mse": "of standardised values, squared",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("runs", nargs="+", help="folders of finished runs of one recipe")
    parser.add_argument("--metric", required=True)
    parser.add_argument("--split", required=True)
    parser.add_argument("--ledger", default="ledger")
    parser.add_argument("--published", type=float)
    parser.add_argument("--source", default="")
    parser.add_argument(
        "--changed", action="append", default=[], metavar="KEY=VALUE", help="an option of the recipe"
    )
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    runs = [Run(folder) for folder in options.runs]
    recipe = runs[0].recipe
    if any(run.recipe.name != recipe.name for run in runs):
        parser.error("the runs are of different recipes")
    values = [_value(run, options.split, options.metric) for run in runs]
    seeds = [run.recipe.seed for run in runs]
    published = {"value": options.published, "source": options.source} if options.source else None
    of_seeds = f"seed={seeds[0]}" if len(seeds) == 1 else f"seed=SEED, for SEED in {seeds}"
    changes = "".join(f"{change} " for change in options.changed) + of_seeds
    made = json.loads((runs[0].folder / "env.json").read_text(encoding="utf-8"))
    entry: dict[str, Any] = {
        "id": "-".join([recipe.name, *map(_slug, options.changed), options.split, options.metric]).replace(
            "_", "-"
        ),
        "what": recipe.about,
        "metric": f"{options.split.replace('_', ' ')} {options.metric}",
        "value": mean(values),
        "spread": [float(f"{value:.5g}") for value in (min(values), max(values))],
        "unit": UNITS.get(options.metric, ""),
        "published": published,
        "seeds": seeds,
        "minutes": round(max(run.summary()["seconds"] for run in runs) / 60, 2),
        "flops": step_flops(runs[0]) * recipe.budget.steps,
        "command": f"descent train {recipe.name} {changes}",
        "machine": f"{made['threads']} threads of {made['processor']}, torch {made['versions']['torch']}",
        "commit": (made["commit"] or "")[:7] or None,
        "note": options.note,
    }
    enter(options.ledger, [entry])
    print(f"{entry['id']}: {entry['value']:.4f} {entry['spread']}, {entry['minutes']} minutes at most")


def _slug(change: str) -> str:
    """`data.horizon=24` as a part of a name: horizon-24."""
    key, _, value = change.partition("=")
    return f"{key.rpartition('.')[2]}-{value}"


def _value(run: Run, split: str, metric: str) -> float:
    """The last score of a split, or the last word of another event of the log."""
    scores = run.summary()["scores"]
    if split in scores:
        return scores[split][metric]
    return [line[metric] for line in run.metrics if line["event"] == split][-1]


def step_flops(run: Run) -> float:
    """Floating-point operations of the matrix products of one training step, forward and backward."""
    parts = assemble(run.recipe, tokenizer=run.tokenizer)
    packed = torch.ops.mkldnn._linear_pointwise  # the products of the recurrent layers on a CPU
    with FlopCounterMode(display=False, custom_mapping={packed: _packed_flops}) as counter:
        train_step(parts.state, parts.objective, parts.batches.batch(0), parts.settings)
    return float(counter.get_total_flops())


def _packed_flops(x: Any, weight: Any, *rest: Any, **named: Any) -> int:
    """Of shapes (batch, in) and (out, in)."""
    return 2 * prod(x) * weight[0]


if __name__ == "__main__":
    main()
