"""What simple models reach on texts with classes: the most frequent one, and a linear model of their words.

    python -m benchmarks.texts SET|FILE [KEY=VALUE ...] [--json FILE]

SET is a registered set of sentences, FILE the user's own; KEY=VALUE are options of its data as a recipe has
them, such as text=review. Both models are fitted on the training split and scored on validation and test.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.report import print_table, write_json
from descent.config import parse_override
from descent.data import load_texts
from descent.data.sentences import Sentences
from descent.data.sentences_config import SentencesData
from descent.errors import UserError


def main() -> None:
    options = _parser().parse_args()
    try:
        found = measure(options.data, options.options)
    except UserError as error:
        raise SystemExit(str(error)) from None
    write_json(options.json, {"texts": found})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.texts", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("data", metavar="SET|FILE")
    parser.add_argument("options", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there")
    return parser


def measure(data: str, options: list[str]) -> dict[str, Any]:
    """Prints both baselines' scores on each held-out split, and gives them."""
    from descent.evaluation.text_baselines import linear_words, majority

    place = "path" if Path(data).exists() else "source"
    tables: dict[str, Any] = {place: data}
    for option in options:
        key, value = parse_override(SentencesData, tables, option)
        tables[key] = value
    texts = load_texts(SentencesData.read(tables, where=data))
    assert isinstance(texts, Sentences)
    rows, found = [], {}
    for name, fit in (("majority", majority), ("linear", linear_words)):
        start = time.perf_counter()
        by_split = fit(texts)
        seconds = time.perf_counter() - start
        for split, scores in by_split.items():
            found[f"{split} {name}"] = {
                "accuracy": scores.accuracy,
                "macro_f1": scores.macro_f1,
                "about": scores.about,
                "seconds": round(seconds, 1),
            }
            shares = [f"{100 * scores.accuracy:.2f}%", f"{100 * scores.macro_f1:.2f}%"]
            rows.append(
                [split, f"{len(texts.splits[split]):,}", name, *shares, f"{seconds:.1f}", scores.about]
            )
    print(f"{texts.name}: {len(texts.splits['train']):,} training texts of {len(texts.labels)} classes")
    print_table(["split", "texts", "model", "accuracy", "macro F1", "seconds", ""], rows)
    return found


if __name__ == "__main__":
    main()
