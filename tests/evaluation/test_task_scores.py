"""Scores of tasks by the texts a model writes, against cases counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from descent.data.entities import Tagged
from descent.data.question_rows import Question
from descent.data.ranking import Searched
from descent.data.tasks import TaskSplit
from descent.data.tasks_config import TasksData
from descent.data.text_forms import Case, Part
from descent.evaluation import evaluate, metric_names
from descent.evaluation.tasks import read_names
from descent.nn.cache import StateCache
from descent.objectives.seq2seq import Seq2SeqObjective
from descent.runs.metrics import higher_is_better
from descent.text import train

TOKENS = train("char", ["".join(map(chr, range(32, 127)))] * 2, marks="t5")
CONFIG = TasksData.read({"tasks": ["sst2"], "length": 64, "target_length": 40})


class Speaker(nn.Module):
    """Writes for each source the text it was told to; a token of it is as sure as its number is great."""

    def __init__(self, answers: dict[str, str], sure: float = 20.0):
        super().__init__()
        self.config = None
        self.sure = nn.Parameter(torch.tensor(sure))
        self.answers, self.asked = answers, 0

    def encode(self, source: Tensor, source_lengths: Tensor) -> dict[str, Tensor]:
        self.asked += len(source)
        texts = [self.answers[TOKENS.decode(row.tolist())] for row in source]
        rows = [[*TOKENS.encode(text), TOKENS.end] for text in texts]
        wide = torch.full((len(rows), max(map(len, rows)) + 60), TOKENS.end)
        for number, row in enumerate(rows):
            wide[number, : len(row)] = torch.tensor(row)
        return {"says": wide, "place": torch.zeros(len(rows), dtype=torch.int64)}

    def new_cache(self, batch, length=None, dtype=None, device=None, start=None, *, encoded):
        return StateCache(dict(encoded), start)

    def decode(self, tokens: Tensor, encoded: Any = None, *, cache: Any = None) -> Tensor:
        held = encoded if cache is None else cache.state
        says = held["says"].gather(1, held["place"][:, None] + torch.arange(tokens.shape[1]))
        if cache is not None:
            cache.advance({**held, "place": held["place"] + tokens.shape[1]}, tokens.shape[1])
        return nn.functional.one_hot(says, TOKENS.vocab_size) * self.sure

    def features(self, source: Tensor, source_lengths: Tensor, tokens: Tensor) -> Tensor:
        return self.decode(tokens, self.encode(source, source_lengths))

    def unembed(self, hidden: Tensor) -> Tensor:
        return hidden


def part(form: str, rows: dict[str, str], **more: Any) -> Part:
    cases = [Case((source,), target) for source, target in rows.items()]
    return Part("t", form, ("",), cases, [(n,) for n in range(len(cases))], **more)


def scores(held: Part, said: list[str], batch_size: int = 2, sure: float = 20.0) -> dict[str, float]:
    split = TaskSplit([held], CONFIG, TOKENS)
    model = Speaker({case.texts[0]: text for case, text in zip(held.cases, said, strict=True)}, sure)
    found = evaluate(model, Seq2SeqObjective(), split, batch_size=batch_size).metrics
    assert set(found) <= {*metric_names(Seq2SeqObjective(), 0), *split.metrics}
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_a_text_that_is_no_label_is_wrong(batch_size: int):
    rows = {"a": "good", "much longer": "bad", "c": "good", "dd": "bad"}
    held = part("sentences", rows, labels=("good", "bad"))
    found = scores(held, ["good", "bad", "good!", "goo"], batch_size)
    assert found["t_accuracy"] == 0.5
    assert found["mean"] == 0.5


def sentence(words: str, *tags: str) -> Tagged:
    return Tagged(tuple(words.split()), tags, "", 1)


PLACES = sentence("Ada saw Ada Lovelace in New York", "B-per", "O", "B-per", "I-per", "O", "B-loc", "I-loc")


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("per: Ada; per: Ada Lovelace; loc: New York", PLACES.tags),
        ("loc: new york; PER: ada", ("B-per", "O", "O", "O", "O", "B-loc", "I-loc")),
        ("per: Ada; per: Ada; per: Ada", ("B-per", "O", "B-per", "O", "O", "O", "O", "B-per")),
        ("per: Ada Love", ("O",) * 7 + ("B-per",)),
        ("per: Eve; per: Bob", ("O",) * 7 + ("B-per", "B-per")),
        ("none", ("O",) * 7),
        ("", ("O",) * 7),
        ("loc: York; New York", ("O",) * 7 + ("B-loc",)),
        ("org: Ada", ("O",) * 7),
    ],
)
def test_names_are_found_again_in_their_sentence(text: str, tags: tuple[str, ...]):
    held = part("entities", {"x": ""}, labels=("per", "loc"))
    assert tuple(read_names(text, PLACES, held)) == tags


def test_names_without_blanks_between_words():
    held = part("entities", {"x": ""}, labels=("人",), joiner="")
    said = read_names(
        "人: 王小明", Tagged(tuple("我是王小明"), ("O", "O", "B-人", "I-人", "I-人"), "", 1), held
    )
    assert said == ["O", "O", "B-人", "I-人", "I-人"]


def test_a_name_that_is_not_in_the_sentence_is_a_wrong_one():
    held = part("entities", {"x": "per: Ada", "y": "none"}, labels=("per",))
    held.sentences = [sentence("Ada ran", "B-per", "O"), sentence("so what", "O", "O")]
    found = scores(held, ["per: Ada; per: Bob", "per: Eve"])
    assert found["t_precision"] == pytest.approx(1 / 3)
    assert found["t_recall"] == 1
    assert found["t_f1"] == found["mean"] == pytest.approx(0.5)


def test_of_the_windows_of_a_question_the_surest_answer_counts():
    held = part("questions", {"a1": "", "a2": "", "b": ""})
    held.pairs = [(0, 0), (0, 1), (1, 0)]
    held.questions = [Question("1", "q", "the red house", ("red house",)), Question("2", "q", "so", ("so",))]
    # both are equally sure a token, so the shorter one is the more probable
    sure = 6.0
    said = ["red house", "a red house by the sea", "none"]
    assert scores(held, said, sure=sure)["t_exact_match"] == 0.5
    assert scores(held, ["red house", "sea", "none"], sure=sure)["t_f1"] == 0
    assert scores(held, ["none", "a red thing", "so"])["t_f1"] == pytest.approx((0.5 + 1) / 2)
    assert scores(held, ["none", "none", "so"])["t_exact_match"] == 0.5


def searched(*grades: int, scores: tuple[float, ...] = (3.0, 2.0, 1.0)) -> Searched:
    return Searched("q", "text", np.arange(3), np.array(scores), dict(enumerate(grades)))


def ranking(rows: list[str], *queries: Searched) -> Part:
    held = part("ranking", dict.fromkeys(rows, "true"), labels=("true", "false"))
    held.queries, held.pairs = list(queries), [(q, d) for q in range(len(queries)) for d in range(3)]
    return held


def test_documents_are_ranked_by_how_probable_true_is():
    pytest.importorskip("pytrec_eval")
    held = ranking(["a", "bbb", "cc", "d", "e", "fffff"], searched(0, 0, 1), searched(1, 0, 0))
    found = scores(held, ["false", "x", "true", "true", "false", "false"])
    assert found["t_ndcg10"] == found["t_map"] == found["mean"] == 1
    found = scores(held, ["true", "x", "false", "false", "true", "x"])
    assert found["t_ndcg10"] == pytest.approx(1 / np.log2(4))
    assert found["t_map"] == pytest.approx(1 / 3)


def test_the_first_stage_is_mixed_in_by_the_weight_that_is_best_elsewhere():
    pytest.importorskip("pytrec_eval")
    held = ranking(["a", "b", "c"], searched(1, 0, 0))
    wrong = ["false", "x", "true"]
    assert scores(held, wrong)["t_ndcg10"] == 0.5
    held.tuning = held
    assert scores(held, wrong)["t_ndcg10"] == 1


def test_pairs_have_exact_match_and_bleu():
    pytest.importorskip("sacrebleu")
    long = "the cat sat on the mat"
    held = part("pairs", {"a": long, "b": "a dog runs over it"})
    found = scores(held, [long, "a cat"])
    assert found["t_exact_match"] == 0.5
    assert 0 < found["t_bleu"] < 100
    assert found["mean"] == pytest.approx(found["t_bleu"] / 100)
    assert scores(held, [long, "a dog runs over it"])["t_bleu"] == pytest.approx(100)


def test_the_mean_is_over_tasks_not_examples():
    one = part("sentences", {"a": "x", "b": "x", "c": "x"}, labels=("x", "y"))
    other = Part("u", "sentences", ("",), [Case(("d",), "y")], [(0,)], ("x", "y"))
    split = TaskSplit([one, other], CONFIG, TOKENS)
    model = Speaker({"a": "x", "b": "x", "c": "x", "d": "x"})
    found = evaluate(model, Seq2SeqObjective(), split, batch_size=8).metrics
    assert (found["t_accuracy"], found["u_accuracy"], found["mean"]) == (1, 0, 0.5)


def test_more_of_a_task_s_metric_is_better_and_less_of_a_loss():
    assert all(map(higher_is_better, ("sst2_accuracy", "x_ndcg10", "cmrc2018+xquad-zh_f1", "mean")))
    assert not any(map(higher_is_better, ("loss", "perplexity", "mae", "x_loss")))
