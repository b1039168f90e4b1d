"""How far back a model can remember: delayed recall, the gap against the kind of model.

    python -m benchmarks.memory [--models rnn lstm gru gpt] [--gaps 10 100 500] [--seeds 1 2 3]
        [--steps 1000] [--set model.dim=32 ...] [--folder FOLDER] [--json FILE]

Each run is the recipe `recall-<model>` with `data.gap`, its seed and `--set`, trained by the loop that
`descent train` uses. All get the same rows of a seed, and as many of them at most: a run ends early once
every row of the validation split is right, and the examples it took are told beside its accuracy on the
test split. A finished run leaves a file in the folder and is not repeated. The table is printed as Markdown.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.report import write_json
from descent.recipes import resolve
from descent.runs.assemble import assemble
from descent.training.loop import StepReport, train

MODELS = {"rnn": "Elman (tanh)", "lstm": "LSTM", "gru": "GRU", "gpt": "GPT block"}
GATED = ("lstm", "gru")


def main() -> None:
    options = _parser().parse_args()
    results = []
    for seed in options.seeds:
        for gap in options.gaps:
            for model in options.models:
                settings = changes(model, gap, seed, options.steps, options.set)
                results.append(finished(Path(options.folder), model, gap, seed, settings))
    print("\n".join(table(results)))
    write_json(options.json, {"memory": results})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--gaps", nargs="+", type=int, default=[10, 100, 500])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=1000, help="the most steps of a run")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="other options of the recipes"
    )
    parser.add_argument("--folder", default="runs/memory", help="where finished runs are kept")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    return parser


def changes(model: str, gap: int, seed: int, steps: int, others: Sequence[str]) -> list[str]:
    """What differs from the recipe `recall-<model>`; the gates are opened for as long as the gap."""
    opened = [f"model.chrono={gap}"] if model in GATED else []
    scored = max(1, steps // 20)
    found = [f"data.gap={gap}", f"seed={seed}", f"budget.steps={steps}", f"evaluation.every={scored}"]
    return [*found, *opened, *others]


def finished(folder: Path, model: str, gap: int, seed: int, settings: Sequence[str]) -> dict[str, Any]:
    """The result of a run: from the folder, if the same one was finished before, else measured now."""
    kept = folder / f"{model}-{gap}-{seed}.json"
    if kept.is_file():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["settings"] == list(settings):
            return found
    result = {"model": model, "gap": gap, "seed": seed, "settings": list(settings)}
    result |= measured(model, settings)
    print(f"{model} gap {gap} seed {seed}: {_cell([result])}", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def measured(model: str, settings: Sequence[str]) -> dict[str, Any]:
    """Trains until the validation split is all right, or to the end, and scores the test split."""
    recipe = resolve(f"recall-{model}", settings)
    parts = assemble(recipe)
    curve: list[tuple[int, float]] = []
    began = time.process_time()

    def after_step(report: StepReport) -> bool:
        if report.step % recipe.evaluation.every and report.step != recipe.budget.steps:
            return False
        curve.append((report.step, parts.evaluate("validation").metrics["accuracy"]))
        return curve[-1][1] == 1.0

    train(parts.state, parts.objective, parts.batches.batch, settings=parts.settings, after_step=after_step)
    return {
        "parameters": sum(parameter.numel() for parameter in parts.state.model.parameters()),
        "examples": parts.state.step * recipe.budget.batch_size,
        "solved": curve[-1][1] == 1.0,
        "validation": curve,
        "accuracy": parts.evaluate("test").metrics["accuracy"],
        "seconds": round(time.process_time() - began, 1),
    }


def table(results: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table, one row a model and one column a gap: the mean accuracy, and each seed's."""
    gaps = sorted({result["gap"] for result in results})
    models = [model for model in MODELS if any(result["model"] == model for result in results)]
    lines = ["| | parameters | " + " | ".join(f"gap {gap}" for gap in gaps) + " |"]
    lines.append("|---" * (len(gaps) + 2) + "|")
    for model in models:
        mine = [result for result in results if result["model"] == model]
        cells = [_cell([result for result in mine if result["gap"] == gap]) for gap in gaps]
        lines.append(f"| {MODELS[model]} | {mine[0]['parameters']:,} | " + " | ".join(cells) + " |")
    return lines


def _cell(runs: Sequence[dict[str, Any]]) -> str:
    """The mean accuracy in percent, each seed's, and the rows it took where all solved the task."""
    if not runs:
        return ""
    every = ", ".join(f"{100 * run['accuracy']:.1f}" for run in runs)
    taken = (
        f"; {mean(run['examples'] for run in runs):,.0f} rows" if all(run["solved"] for run in runs) else ""
    )
    return f"**{100 * mean(run['accuracy'] for run in runs):.1f}** ({every}{taken})"


if __name__ == "__main__":
    main()
