"""BLEU of a run that translates, by greedy decoding and by beam search, on three tokenisations.

    python -m benchmarks.translation RUN [--beams 1 4] [--split test] [--penalties 0.6 1 1.4] [--json FILE]

Every sentence of the split is translated. With more than one beam the length penalty is the one of
`--penalties` with the best BLEU on the validation split.

    spacy        words of spaCy's English rules, in small letters, no smoothing: how the notebooks on this
                 data set count
    13a lower    sacreBLEU's own tokens, in small letters
    13a          sacreBLEU's default; a run whose tokenizer knows no capitals writes none, and loses by that

Papineni et al. (2002); Post (2018), "A Call for Clarity in Reporting BLEU Scores". Needs the extras
`translation` and `bench`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import print_table, write_json
from descent.data import load_texts
from descent.data.pairs import Pairs
from descent.errors import UserError
from descent.generation import BeamSettings, Settings, beam_search, generate
from descent.generation.translate import begin
from descent.runs.loaded import Loaded
from descent.runs.run import Run

LONGEST = 100
"""The most tokens of a translation."""
AT_ONCE = 128
"""Sentences translated together: those of about one length."""
PENALTIES = (0.6, 1.0, 1.4, 1.8)

Split = Callable[[str], list[str]]


@dataclass(frozen=True)
class Scores:
    """BLEU, 0 to 100, on the three tokenisations, and sacreBLEU's signature of each."""

    spacy: float
    lower: float
    cased: float
    signatures: tuple[str, ...]


def spacy_words() -> Split:
    """Cuts a text into words by spaCy's English rules, as its models do; none of these is needed."""
    try:
        import spacy  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            "this benchmark counts words as spaCy does", hint="pip install 'descent[bench]'"
        ) from None
    cut = spacy.blank("en").tokenizer
    return lambda text: [word.text for word in cut(text)]


def score(written: Sequence[str], wanted: Sequence[str], words: Split) -> Scores:
    """The three BLEU scores of translations against one reference each.

    Args:
        written: the translations.
        wanted: the references.
        words: cuts a text into words, see `spacy_words`; they are made small after that.
    """
    from sacrebleu.metrics.bleu import BLEU

    def of(sides: Sequence[Sequence[str]], **how: Any) -> tuple[float, str]:
        metric = BLEU(**how)
        found = metric.corpus_score(list(sides[0]), [list(sides[1])])
        return float(found.score), str(metric.get_signature())

    texts = (written, wanted)
    cut = [[" ".join(words(text.strip())).lower() for text in side] for side in texts]
    spaced, first = of(cut, tokenize="none", smooth_method="none", force=True)
    lower, second = of(texts, lowercase=True)
    cased, third = of(texts)
    return Scores(spaced, lower, cased, (first, second, third))


def translations(loaded: Loaded, texts: Sequence[str], beams: int, penalty: float = 1.0) -> list[str]:
    """What a model writes for each text: the most probable token each time, or the best that beams find.

    Args:
        loaded: a run that translates.
        texts: the sources.
        beams: hypotheses followed at once; 1 = greedy.
        penalty: see `BeamSettings.length_penalty`.
    """
    tokenizer = loaded.tokenizer
    if tokenizer is None or not loaded.translates:
        raise UserError(f"{loaded.name} does not translate")
    start = list(loaded.preparation.get("start") or ())
    order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
    found = [""] * len(texts)
    stops: list[int] = [tokenizer.end]
    for at in range(0, len(order), AT_ONCE):
        numbers = order[at : at + AT_ONCE]
        twin, prompts = begin(loaded.model, [texts[number] for number in numbers], tokenizer, start)
        if beams == 1:
            greedy = Settings(temperature=0.0, max_new_tokens=LONGEST, stop_ids=tuple(stops))
            ids = [one.tokens for one in generate(twin, prompts, greedy)]
        else:
            settings = BeamSettings(
                max_new_tokens=LONGEST, beams=beams, length_penalty=penalty, stop_ids=tuple(stops)
            )
            ids = [best[0].tokens for best in beam_search(twin, prompts, settings)]
        for number, tokens in zip(numbers, ids, strict=True):
            found[number] = tokenizer.decode(tokens)
    return found


def chosen(scores: dict[float, float]) -> float:
    """The penalty with the best score; of equal ones that nearest to 1."""
    return max(scores, key=lambda penalty: (scores[penalty], -abs(penalty - 1)))


def measure(
    loaded: Loaded, pairs: Pairs, split: str, beams: int, penalties: Sequence[float], words: Split
) -> dict[str, Any]:
    """The row of a number of beams: scores, the penalty that was chosen, and sentences a second."""
    tuning: dict[float, float] = {}
    if beams > 1 and len(penalties) > 1:
        sources, targets = zip(*pairs.splits["validation"], strict=True)
        for penalty in penalties:
            tuning[penalty] = score(translations(loaded, sources, beams, penalty), targets, words).spacy
    penalty = chosen(tuning) if tuning else penalties[0]
    sources, targets = zip(*pairs.splits[split], strict=True)
    begun = time.perf_counter()
    written = translations(loaded, sources, beams, penalty)
    took = time.perf_counter() - begun
    found = score(written, targets, words)
    return {
        "beams": beams,
        "penalty": penalty if beams > 1 else None,
        "spacy": found.spacy,
        "13a_lower": found.lower,
        "13a": found.cased,
        "sentences": len(written),
        "sentences_a_second": len(written) / took,
        "validation": {str(key): value for key, value in tuning.items()},
        "signatures": list(found.signatures),
    }


def table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """The rows as they are printed."""
    return [
        [
            str(row["beams"]),
            "-" if row["penalty"] is None else f"{row['penalty']:g}",
            *(f"{row[name]:.2f}" for name in ("spacy", "13a_lower", "13a")),
            f"{row['sentences_a_second']:.1f}",
        ]
        for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.translation", description=__doc__)
    parser.add_argument("run", help="the folder of a run on pairs of texts")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--split", default="test", choices=["train", "validation", "test"])
    parser.add_argument("--penalties", type=float, nargs="+", default=list(PENALTIES))
    parser.add_argument("--json", help="also write the rows to this file")
    asked = parser.parse_args()
    words, run = spacy_words(), Run(asked.run)
    pairs = load_texts(run.recipe.data)
    if not isinstance(pairs, Pairs):
        raise UserError(f"{asked.run} was not trained on pairs of texts", got=run.recipe.data.type)
    loaded = run.load("best")
    rows = [measure(loaded, pairs, asked.split, beams, asked.penalties, words) for beams in asked.beams]
    print_table(["beams", "penalty", "spacy", "13a lower", "13a", "sentences/s"], table(rows))
    for signature in rows[0]["signatures"]:
        print(signature)
    write_json(asked.json, {"run": asked.run, "split": asked.split, "rows": rows})


if __name__ == "__main__":
    main()
