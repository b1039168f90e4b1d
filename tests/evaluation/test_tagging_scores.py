"""Scores of tags and names, against cases counted by hand by the rules of conlleval."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from descent.data.entities import EntitySplit, entity_rows
from descent.evaluation import evaluate, metric_names
from descent.evaluation.tagging import name_scores, surface_f1
from descent.objectives import Supervised, SupervisedConfig, Tagging
from descent.text import train

TAGS = ("O", "B-a", "I-a", "B-b", "I-b")


def scores(gold: str, said: str) -> tuple[float, float, float]:
    found = name_scores(*([line.split() for line in text.split("|")] for text in (gold, said)))
    return found["precision"], found["recall"], found["f1"]


@pytest.mark.parametrize(
    ("gold", "said", "right", "of_said", "of_gold"),
    [
        ("B-a I-a O", "B-a I-a O", 1, 1, 1),
        ("B-a I-a O", "B-a O O", 0, 1, 1),  # a part of a name is no name
        ("B-a I-a O", "B-b I-b O", 0, 1, 1),  # nor is one of another type
        ("B-a I-a O", "I-a I-a O", 1, 1, 1),  # how its first word is marked does not matter
        ("B-a I-a I-a", "B-a B-a I-a", 0, 2, 1),
        ("B-a O B-b", "B-a O O", 1, 1, 2),
        ("O O O", "B-a O B-b", 0, 2, 0),
        ("B-a|I-a", "B-a|I-a", 2, 2, 2),  # no name goes on in the next sentence
        ("B-a I-b I-a", "B-a I-b I-a", 3, 3, 3),
        ("B-a B-a", "B-a I-a", 0, 1, 2),
        ("O", "O", 0, 0, 0),
    ],
)
def test_names_are_right_or_wrong_as_a_whole(gold: str, said: str, right: int, of_said: int, of_gold: int):
    precision, recall = right / max(of_said, 1), right / max(of_gold, 1)
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    assert scores(gold, said) == pytest.approx((precision, recall, f1))


def test_surface_forms_count_once():
    words = [["Rome", "and", "Rome"], ["Rome", "Oslo", "x"]]
    gold = [["B-a", "O", "B-a"], ["B-b", "B-a", "O"]]
    said = [["B-a", "O", "O"], ["B-a", "B-a", "B-a"]]
    # true: Rome a, Rome b, Oslo a; said: Rome a, Oslo a, x a
    assert surface_f1(words, gold, said) == pytest.approx(2 / 3)


class Said(nn.Module):
    """Says of every token what a table does of its id."""

    def __init__(self, table: Tensor):
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, tokens: Tensor, **others: Tensor) -> Tensor:
        return self.table[tokens]


@pytest.mark.parametrize("packing", ["documents", "padded"])
@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_a_whole_split_with_a_sentence_that_was_cut(packing, batch_size: int):
    tokenizer = train("char", ["abcdef"], marks="bert")
    words = [tuple("abcdef"), tuple("ab"), tuple("fed")]
    gold = [("B-a", "I-a", "I-a", "I-a", "O", "O"), ("B-b", "O"), ("O", "O", "B-a")]
    found = entity_rows(words, tokenizer, 5, "")
    rows, owners = [], []
    for number, parts in enumerate(found):
        at = 0
        for row in parts:
            own = row["targets"] != -100
            row["targets"][own] = [TAGS.index(tag) for tag in gold[number][at : at + own.sum()]]
            at += own.sum()
            rows.append(row)
            owners.append(number)
    assert len(rows) == 4  # the first is cut in the middle of its name
    split = EntitySplit(rows, owners, words, TAGS, 5, tokenizer, packing)
    said = dict(zip("abcdef", ("B-a", "I-a", "I-a", "I-a", "O", "O"), strict=True))
    table = torch.zeros(tokenizer.vocab_size, len(TAGS))
    for letter, tag in said.items():
        table[tokenizer.encode(letter)[0], TAGS.index(tag)] = 5.0
    result = evaluate(Said(table), Tagging(), split, batch_size=batch_size)
    assert result.examples == 11
    # said: abcd a; a b a; d a. true: abcd a; a b; d a
    assert result.metrics["accuracy"] == pytest.approx(8 / 11)
    assert result.metrics["precision"] == pytest.approx(2 / 3)
    assert result.metrics["recall"] == pytest.approx(2 / 3)
    assert result.metrics["f1"] == pytest.approx(2 / 3)
    logs = table.log_softmax(-1)
    letters, tags = "".join(map("".join, words)), [tag for one in gold for tag in one]
    true = [
        logs[tokenizer.encode(letter)[0], TAGS.index(tag)] for letter, tag in zip(letters, tags, strict=True)
    ]
    assert result.metrics["loss"] == pytest.approx(-sum(x.item() for x in true) / 11, rel=1e-5)
    assert tuple(result.metrics) == metric_names(Tagging(), 5)


def test_classes_of_packed_examples_are_scored_in_order():
    from descent.data.rows import RowSplit
    from descent.data.sentences import sentence_rows

    tokenizer = train("char", ["abc"], marks="bert")
    texts = ["a", "b", "c", "ab", "cab", "bc", "a"]
    rows, _ = sentence_rows([(text,) for text in texts], tokenizer, 12)
    for row, text in zip(rows, texts, strict=True):
        row["answer"] = torch.tensor("abc".index(text[0])).numpy()
    split = RowSplit(rows, 12, pad=tokenizer.pad, vocab_size=tokenizer.vocab_size)

    class First(nn.Module):
        """The class is the token behind the mark."""

        def forward(self, tokens: Tensor, *, starts: Tensor, **others: Tensor) -> Tensor:
            ids = torch.tensor([tokenizer.encode(letter)[0] for letter in "abc"])
            return 5.0 * (tokens.gather(1, starts + 1)[..., None] == ids)

    result = evaluate(First(), Supervised(SupervisedConfig()), split, batch_size=3)
    assert (result.examples, result.metrics["accuracy"]) == (7, 1.0)
    assert result.predictions is not None
    assert result.predictions.predicted.tolist() == ["abc".index(text[0]) for text in texts]
    assert result.confusion == [[3, 0, 0], [0, 2, 0], [0, 0, 2]]
