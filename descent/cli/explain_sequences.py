"""`descent explain` of what reads over time: gates, states, units, saliency, gradients' reach, alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from descent.cli.places import data_of, find_run, split_example
from descent.cli.terminal import note, print_json, print_text
from descent.errors import UserError
from descent.runs.figure import png

if TYPE_CHECKING:
    from descent.explain.distance import GradientDistance
    from descent.explain.recurrent import Trace
    from descent.explain.sequences import Steps
    from descent.runs.loaded import Loaded

__all__ = ["Asked", "explain_sequence"]

DEFAULT_UNITS = 4
ROWS = 8
"""Rows of the data that the gradient's length is averaged over."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a model of sequences.

    Attributes:
        run: as it was typed.
        words: an example such as test:17, or a file; for alignment the text itself.
        text: to explain; empty where none is given.
        layer, units, target: as the options say.
        against: other runs to draw beside this one.
    """

    run: str
    method: str
    words: Sequence[str] = ()
    text: str | None = None
    layer: str | None = None
    units: Sequence[int] = ()
    target: str | None = None
    against: Sequence[str] = ()
    checkpoint: str = "best"


def explain_sequence(loaded: Loaded, asked: Asked, out: Path, as_json: bool) -> None:
    """Draws one view into a figure and prints its path, or with `--json` its numbers."""
    _check(asked)
    out = png(out)
    if asked.method == "gradient-distance":
        facts = _distances(loaded, asked, out)
    elif asked.method == "saliency":
        facts = _saliency(loaded, asked, out)
    elif asked.method == "alignment":
        facts = _alignment(loaded, asked, out)
    else:
        facts = _views(loaded, asked, out)
    if as_json:
        print_json({"out": str(out), "method": asked.method, **facts})
    else:
        print_text(str(out))


def _check(asked: Asked) -> None:
    """Nothing that is given may be of no use to the method."""
    given = {
        "--unit": (bool(asked.units), ("units",)),
        "--layer": (asked.layer is not None, ("gates", "hidden", "units")),
        "--target": (asked.target is not None, ("saliency",)),
        "--against": (bool(asked.against), ("gradient-distance",)),
    }
    for option, (is_given, fits) in given.items():
        if is_given and asked.method not in fits:
            raise UserError(
                f"{asked.method} of a sequence takes no {option}", expected="it with " + " or ".join(fits)
            )
    if len(asked.words) > 1 or (asked.words and asked.text is not None):
        raise UserError(
            "one sequence is explained at a time", got=[*asked.words, *filter(None, [asked.text])]
        )


def _views(loaded: Loaded, asked: Asked, out: Path) -> dict[str, Any]:
    from descent.explain.recurrent import trace
    from descent.explain.sequence_figure import draw_gates, draw_hidden, draw_units

    steps = _steps(loaded, asked)
    found = trace(loaded.model, steps.batch, layer=asked.layer, pieces=steps.pieces)
    facts: dict[str, Any] = {"input": steps.name, "module": found.module, "steps": list(found.pieces)}
    if asked.method == "gates":
        if not found.gates:
            raise UserError("this network has no gates: it is Elman's", hint="use --method hidden or units")
        draw_gates(found, out)
        return {**facts, "layers": [_gate_facts(found, index) for index in range(len(found.layers))]}
    if asked.method == "hidden":
        draw_hidden(found, out)
        states = zip(found.layers, found.values["hidden"], strict=True)
        return {**facts, "layers": [{"layer": name, "hidden": _plain(values)} for name, values in states]}
    units = _units(found, asked.units)
    draw_units(found, units, out)
    chosen = [
        {"layer": found.layers[layer], "unit": unit, "values": _plain(found.memory[layer, :, unit])}
        for layer, unit in units
    ]
    return {**facts, "units": chosen}


def _gate_facts(found: Trace, index: int) -> dict[str, Any]:
    shares = found.saturation()
    gates = {
        name: {
            "mean": _plain(found.values[name][index].mean(1)),
            "shut": float(shares[name][0][index]),
            "open": float(shares[name][1][index]),
        }
        for name in found.gates
    }
    return {"layer": found.layers[index], "gates": gates}


def _units(found: Trace, numbers: Sequence[int]) -> list[tuple[int, int]]:
    """The units asked for, of the last layer; else those that vary most."""
    count = found.memory.shape[2]
    for number in numbers:
        if not 0 <= number < count:
            raise UserError("there is no such unit", got=number, expected=f"0 to {count - 1}")
    last = len(found.layers) - 1
    return [(last, number) for number in numbers] or found.most_varied(DEFAULT_UNITS)


def _saliency(loaded: Loaded, asked: Asked, out: Path) -> dict[str, Any]:
    from descent.explain.sequence_figure import draw_sequence_saliency
    from descent.explain.sequence_saliency import sequence_saliency

    steps = _steps(loaded, asked)
    target = None if asked.target is None else _target(loaded, asked.target)
    found = sequence_saliency(loaded.model, steps.batch, target=target, pieces=steps.pieces)
    label = _label(loaded, found.target)
    draw_sequence_saliency(found, label, out)
    facts: dict[str, Any] = {
        "input": steps.name,
        "steps": list(found.pieces),
        "position": found.position,
        "target": label,
        "score": found.score,
        "probability": found.probability if loaded.tokenizer is not None or loaded.labels else None,
        "values": _plain(found.values),
        "products": _plain(found.products),
    }
    return facts if found.features is None else {**facts, "features": _plain(found.features)}


def _alignment(loaded: Loaded, asked: Asked, out: Path) -> dict[str, Any]:
    """Where a decoder looks in its source while it writes."""
    from descent.explain.alignment import LONGEST, alignment

    if not loaded.translates or loaded.tokenizer is None:
        raise UserError(
            f"{loaded.name or 'this model'} has no alignment to show",
            expected="a run that learnt pairs of texts, by an encoder-decoder with attention",
        )
    text = asked.text if asked.text is not None else asked.words[0] if asked.words else ""
    if asked.text is None and (not text or split_example(text)):
        source = _steps(loaded, asked).batch["source"][0].tolist()
        text = loaded.tokenizer.decode(source[: source.index(loaded.tokenizer.end)])
    start = loaded.preparation["start"]
    found = alignment(loaded.model, loaded.tokenizer, text, max_new_tokens=LONGEST - 1, start=start)
    if len(found.target) == LONGEST - 1 and found.target[-1] != "end":
        note(f"only the first {LONGEST - 1} tokens it writes")
    found.draw(out)
    sides = {"source": list(found.source), "target": list(found.target)}
    return {"input": text, "text": found.text, **sides, "weights": _plain(found.weights.numpy())}


def _target(loaded: Loaded, word: str) -> int:
    if loaded.labels and word in loaded.labels:
        return loaded.labels.index(word)
    if loaded.tokenizer is not None and not loaded.labels:
        ids = loaded.tokenizer.encode(word)
        if len(ids) == 1:
            return ids[0]
        raise UserError("--target must be one token", got=word, expected=f"one, and this is {len(ids)}")
    if word.isascii() and word.isdigit():
        return int(word)
    raise UserError("there is no such output", got=word, expected="its number, or the name of a class")


def _label(loaded: Loaded, target: int) -> str:
    if loaded.labels:
        return loaded.labels[target] if target < len(loaded.labels) else str(target)
    return repr(loaded.tokenizer.token(target)) if loaded.tokenizer is not None else f"output {target}"


def _distances(loaded: Loaded, asked: Asked, out: Path) -> dict[str, Any]:
    """The curves of the run and of those beside it, each on its own data, now and before training."""
    from descent.explain.sequence_figure import draw_distance

    if asked.text is not None or asked.words:
        if asked.against:
            raise UserError("--against measures every run on its own data: give no text and no example")
        curves = {Path(asked.run).name: (_of_steps(loaded, asked), None)}
    else:
        curves = {}
        for where in (asked.run, *asked.against):
            folder = find_run(where)
            name = folder.name if folder.name not in curves else str(folder)
            curves[name] = _of_run(folder, asked.checkpoint if where == asked.run else "best")
    draw_distance(curves, out)
    facts = [
        {
            "run": name,
            "rows": now.rows,
            "positions": list(now.positions),
            "norms": _plain(now.norms),
            "reach": now.reach(),
            "before_training": None if before is None else _plain(before.norms),
        }
        for name, (now, before) in curves.items()
    ]
    return {"runs": facts}


def _of_steps(loaded: Loaded, asked: Asked) -> GradientDistance:
    from descent.explain.distance import gradient_distance

    batch = dict(_steps(loaded, asked).batch)
    if "tokens" in batch and "targets" not in batch:  # the text itself says what comes next
        batch = {"tokens": batch["tokens"][:, :-1], "targets": batch["tokens"][:, 1:]}
    return gradient_distance(loaded.model, batch)


def _of_run(folder: Path, checkpoint: str) -> tuple[GradientDistance, GradientDistance | None]:
    from descent.cli.model import open_model
    from descent.explain.distance import gradient_distance
    from descent.runs.run import Run

    run = Run(folder)
    parts = run.parts()
    split = parts.dataset.splits.get("validation") or parts.dataset.splits["train"]
    batch = split.gather(np.arange(min(ROWS, split.whole)))
    # weights that were taken from elsewhere are not those the seed gives
    fresh = run.recipe.transfer is None
    before = gradient_distance(parts.state.model, batch) if fresh else None
    return gradient_distance(open_model(str(folder), checkpoint).model, batch), before


def _steps(loaded: Loaded, asked: Asked) -> Steps:
    """The text, the file or the example that is asked for; the data's first example by default."""
    from descent.explain.sequences import steps_of_example, steps_of_file, steps_of_text

    if asked.text is not None:
        return steps_of_text(loaded, asked.text)
    word = asked.words[0] if asked.words else ""
    split, colon, number = word.partition(":")
    if word and not (colon and number.isdigit()):
        return steps_of_file(loaded, Path(word))
    dataset = data_of(asked.run)
    split = split or ("validation" if "validation" in dataset.splits else "train")
    held = dataset.splits.get(split)
    if held is None or int(number or 0) >= held.whole:
        expected = ", ".join(f"{name}:0 to {s.whole - 1}" for name, s in dataset.splits.items())
        raise UserError("there is no such example", got=word, expected=expected)
    return steps_of_example(held, int(number or 0), loaded.tokenizer, word or f"{split}:0")


def _plain(values: Any) -> Any:
    """Numbers in six figures, as JSON takes them."""
    if isinstance(values, np.ndarray) and values.ndim > 1:
        return [_plain(inner) for inner in values]
    return [float(f"{value:.6g}") for value in values]
