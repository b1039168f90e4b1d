"""The benchmark of translations: BLEU on words as the notebooks count it, and the choice of the penalty."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import translation
from benchmarks.translation import chosen, measure, score, table, translations
from descent.data.pairs import Pairs
from descent.errors import UserError
from descent.generation.translate import translate
from descent.recipes import resolve
from descent.runs.train import train

pytest.importorskip("sacrebleu")

WRITTEN = ["A man in a blue hat is standing there .", "two dogs run over the Grass", "a girl eats an apple"]
WANTED = [
    "A man with a blue hat is standing there.",
    "Two dogs run over the green grass.",
    "A girl eats an apple.",
]


def words(text: str) -> list[str]:
    return text.replace(".", " .").split()


def plain_bleu(written: Sequence[list[str]], wanted: Sequence[list[str]]) -> float:
    """BLEU of a whole text by its definition: Papineni et al. (2002), section 2.3."""
    total = 0.0
    for n in range(1, 5):
        right = count = 0
        for one, other in zip(written, wanted, strict=True):
            grams, known = (Counter(tuple(t[i : i + n]) for i in range(len(t) - n + 1)) for t in (one, other))
            right += sum((grams & known).values())
            count += sum(grams.values())
        total += math.log(right / count) / 4
    lengths = [sum(map(len, side)) for side in (written, wanted)]
    return 100 * math.exp(total + min(0.0, 1 - lengths[1] / lengths[0]))


def test_words_in_small_letters_are_scored_without_smoothing():
    found = score(WRITTEN, WANTED, words)
    cut = [[words(text.lower()) for text in side] for side in (WRITTEN, WANTED)]
    assert found.spacy == pytest.approx(plain_bleu(*cut))
    assert 0 < found.cased < found.lower < 100
    assert [
        ("tok:" + name in line) for name, line in zip(("none", "13a", "13a"), found.signatures, strict=True)
    ]
    assert "case:lc" in found.signatures[1]
    assert "case:mixed" in found.signatures[2]
    assert "smooth:none" in found.signatures[0]
    assert score(["a b"], ["c d"], words).spacy == 0


def test_spacy_s_words_are_those_of_its_rules():
    pytest.importorskip("spacy")
    assert translation.spacy_words()("A man's dog isn't here.") == [
        "A",
        "man",
        "'s",
        "dog",
        "is",
        "n't",
        "here",
        ".",
    ]


def test_without_spacy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "spacy", None)
    with pytest.raises(UserError, match=r"descent\[bench\]"):
        translation.spacy_words()


def test_of_equal_penalties_the_plainest_is_chosen():
    assert chosen({0.6: 30.0, 1.0: 31.0, 1.4: 31.0}) == 1.0
    assert chosen({0.6: 30.0, 1.0: 29.0}) == 0.6


def test_the_penalty_is_chosen_on_validation_alone(monkeypatch: pytest.MonkeyPatch):
    pairs = Pairs("x", {"validation": [("v", WANTED[0])], "test": [("t", WANTED[1])]})
    asked: list[tuple[str, int, float]] = []

    def write(loaded: Any, texts: Sequence[str], beams: int, penalty: float = 1.0) -> list[str]:
        asked.append((texts[0], beams, penalty))
        good = (texts[0] == "v") == (penalty == 0.6)  # on the test another would be best
        return [WANTED[0 if texts[0] == "v" else 1] if good else "a"]

    monkeypatch.setattr(translation, "translations", write)
    row = measure(SimpleNamespace(), pairs, "test", 4, (0.6, 1.0), words)  # type: ignore[arg-type]
    assert asked == [("v", 4, 0.6), ("v", 4, 1.0), ("t", 4, 0.6)]
    assert row["penalty"] == 0.6
    assert row["spacy"] < 50 < row["validation"]["0.6"]
    asked.clear()
    row = measure(SimpleNamespace(), pairs, "test", 1, (0.6, 1.0), words)  # type: ignore[arg-type]
    assert len(asked) == 1
    assert table([row])[0][:2] == ["1", "-"]


def test_translations_stand_in_the_order_of_their_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    small = ["model.dim=16", "model.depth=1", "model.heads=2", "model.hidden=32"]
    changes = [*small, "budget.steps=3", "budget.batch_size=8", "samples.every=0", "device=cpu"]
    loaded = train(resolve("transformer-dates", changes), out=tmp_path / "run", quiet=True).load("last")
    assert loaded.tokenizer is not None
    texts = [
        "Sunday, 3rd of May 1987",
        "1 Jan 2001",
        "12/11/1999",
        "Monday, 30th of September 1901",
        "4.5.66",
    ]
    monkeypatch.setattr(translation, "AT_ONCE", 2)
    monkeypatch.setattr(translation, "LONGEST", 12)
    for beams in (1, 3):
        one_by_one = [
            translate(loaded.model, [text], loaded.tokenizer, translation_settings(), beams=beams)[0].text
            for text in texts
        ]
        assert translations(loaded, texts, beams) == one_by_one


def translation_settings() -> Any:
    from descent.generation import Settings

    return Settings(temperature=0.0, max_new_tokens=12)
