"""The simple models that a classifier of texts has to beat."""

from __future__ import annotations

import pytest

from descent.data.sentence_files import Example
from descent.data.sentences import Sentences
from descent.evaluation.text_baselines import linear_words, majority


def made(rows: list[tuple[str, str, str]]) -> Sentences:
    examples = [Example(*row, where=f"line {number}") for number, row in enumerate(rows)]
    splits = {"train": examples, "validation": examples[:6], "test": examples[1:7]}
    return Sentences("made", splits, tuple(sorted({one.label for one in examples})))


def test_the_most_frequent_class_of_training_is_said_of_all():
    found = majority(made([(f"text {n}", "", "ba"[n % 3 == 0]) for n in range(20)]))["test"]
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.macro_f1 == pytest.approx((2 * 4 / 10 + 0) / 2)  # of b: 4 right of 6 said and 4 true
    assert found.about == "always 'b'"


@pytest.mark.parametrize(("good", "bad", "form"), [("fine", "dull", "words"), ("好看", "太差", "characters")])
def test_words_that_tell_the_class_are_learned(good: str, bad: str, form: str):
    rows = [
        (f"{(good, bad)[n % 2]} {'一' if form == 'characters' else 'x'}", "", "yn"[n % 2]) for n in range(20)
    ]
    found = linear_words(made(rows))
    assert {split: scores.accuracy for split, scores in found.items()} == {"validation": 1.0, "test": 1.0}
    assert form in found["test"].about


def test_of_a_pair_each_text_counts_on_its_own():
    rows = [(one, other, f"{one}-{other}") for one in ("fine", "dull") for other in ("fine", "dull")] * 4
    found = linear_words(made(rows))
    assert found["test"].accuracy == 1.0
