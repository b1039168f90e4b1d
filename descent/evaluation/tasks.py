"""How well one encoder-decoder does each of several tasks: by the texts that it writes, decoded greedily.

A text that is no label counts as wrong. A ranking is by how probable it is that the first token of "true" is
written rather than that of "false" (R. Nogueira et al., arXiv:2003.06713, section 3). The mean is over the
tasks, each by its `accuracy`, `f1`, `ndcg10`, or BLEU as a share of 1 (`exact_match`, where sacreBLEU is not
installed).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from descent.data.chunks import Chunk, tags_of
from descent.data.dataset import Split
from descent.data.entities import Tagged
from descent.data.tasks import TaskSplit
from descent.data.text_forms import FALSE, NONE, TRUE, Part
from descent.errors import UserError
from descent.evaluation import seq2seq
from descent.evaluation.ranking import best_weight, measure, mixed
from descent.evaluation.result import Evaluation, moved
from descent.evaluation.squad import exact_match, f1, language_of
from descent.evaluation.tagging import name_scores
from descent.generation import Completion, Settings, generate
from descent.generation.conditioned import condition
from descent.objectives.objective import model_inputs
from descent.objectives.seq2seq import Seq2SeqObjective

__all__ = ["NAMES", "read_names", "score", "truth_scores", "write"]

NAMES = (*seq2seq.NAMES[:3], "mean")
"""Beside these the metrics of each task, `<task>_<metric>`: see `data.tasks.METRICS`."""
MAIN = ("accuracy", "f1", "ndcg10", "bleu", "exact_match")
"""The metric of a task that counts in the mean is the first of these that it has."""


def score(model: Any, objective: Seq2SeqObjective, split: Split, batch_size: int, device: str) -> Evaluation:
    """Scores an encoder-decoder on every task of a split; the model is in evaluation mode already."""
    if not isinstance(split, TaskSplit):
        raise UserError("tasks are scored on a split of tasks", got=type(split).__name__)
    found = seq2seq.score(model, objective, split, batch_size, device)
    values, main = dict(found.metrics), []
    for part, first in zip(split.parts, split.firsts, strict=True):
        scores = _scores(model, split, part, first, batch_size, device)
        values |= {f"{part.name}_{name}": value for name, value in scores.items()}
        chosen = next(name for name in MAIN if name in scores)
        main.append(scores[chosen] / 100 if chosen == "bleu" else scores[chosen])
    return Evaluation({**values, "mean": float(np.mean(main))}, found.examples)


def _scores(
    model: Any, split: TaskSplit, part: Part, first: int, batch_size: int, device: str
) -> dict[str, float]:
    """The metrics of one task, whose cases begin at the number `first`."""
    if part.form == "ranking":
        return _ranked(model, split, part, first, batch_size, device)
    written = write(model, split, first, part, batch_size, device)
    texts = [split.decode(one.tokens).strip() for one in written]
    if part.form == "questions":
        return _answered(part, texts, [sum(one.logprobs) for one in written])
    if part.form == "entities":
        names = [read_names(text, one, part) for text, one in zip(texts, part.sentences, strict=True)]
        return name_scores([one.tags for one in part.sentences], names)
    # as the tokenizer has them, which may know no capitals
    wanted = [split.decode(ids).strip() for ids in split.encode([case.target for case in part.cases])]
    right = float(np.mean([text == other for text, other in zip(texts, wanted, strict=True)]))
    if part.form == "sentences":
        return {"accuracy": right}
    return {"exact_match": right} | ({"bleu": seq2seq.bleu(texts, wanted)} if find_spec("sacrebleu") else {})


def write(
    model: Any, split: TaskSplit, first: int, part: Part, batch_size: int, device: str
) -> list[Completion]:
    """What greedy decoding writes for each case of a task; sources of about one length together."""
    longest = split.config.target_length
    if part.form == "sentences":  # what is longer than every label is none
        longest = max(len(ids) for ids in split.encode(list(part.labels))) + 1
    settings = Settings(temperature=0.0, max_new_tokens=longest, stop_ids=(split.end,))
    found: dict[int, Completion] = {}
    for places in _by_length(split, first, len(part.cases), batch_size):
        batch = moved(split.gather(places), device)
        twin = condition(model, batch["source"], batch["source_lengths"])
        completions = generate(twin, batch["tokens"][:, :1].tolist(), settings)
        found.update(zip(places.tolist(), completions, strict=True))
    return [found[first + place] for place in range(len(part.cases))]


def truth_scores(
    model: Any, split: TaskSplit, first: int, part: Part, batch_size: int, device: str
) -> NDArray[np.float64]:
    """For each pair of a query and a document, how much more probable "true" is than "false" (in nats)."""
    true, false = (ids[0] for ids in split.encode([TRUE, FALSE]))
    if true == false:
        raise UserError(f'the tokenizer begins "{TRUE}" and "{FALSE}" with the same token')
    found = np.zeros(len(part.pairs))
    for places in _by_length(split, first, len(part.pairs), batch_size):
        batch = moved(split.gather(places), device)
        inputs = {**model_inputs(batch), "tokens": batch["tokens"][:, :1]}
        logits = model.unembed(model.features(**inputs)[:, 0]).double()
        found[places - first] = (logits[:, true] - logits[:, false]).cpu().numpy()
    return found


def _by_length(split: TaskSplit, first: int, count: int, batch_size: int) -> Iterator[NDArray[np.int64]]:
    places = np.arange(first, first + count)
    places = places[np.argsort(split.sizes[places], kind="stable")]
    for start in range(0, count, batch_size):
        yield places[start : start + batch_size]


def _ranked(
    model: Any, split: TaskSplit, part: Part, first: int, batch_size: int, device: str
) -> dict[str, float]:
    scores = truth_scores(model, split, first, part, batch_size, device)
    if part.tuning is not None:
        told, tuning = scores, part
        if part.tuning is not part:
            tuning = part.tuning
            other = TaskSplit([tuning], split.config, split.tokenizer)
            told = truth_scores(model, other, 0, tuning, batch_size, device)
        scores = mixed(part, scores, best_weight(tuning, told))
    return measure(part, scores)


def _answered(part: Part, texts: Sequence[str], logprobs: Sequence[float]) -> dict[str, float]:
    """Of the windows of a question the one that is answered with the greatest probability counts."""
    best: dict[int, tuple[float, str]] = {}
    for (owner, _), text, value in zip(part.pairs, texts, logprobs, strict=True):
        if text != NONE and value > best.get(owner, (-np.inf, ""))[0]:
            best[owner] = (value, text)
    matches, means = [], []
    for number, one in enumerate(part.questions):
        given, language = best.get(number, (0.0, ""))[1], language_of(one.context)
        matches.append(exact_match(given, one.answers, language))
        means.append(f1(given, one.answers, language))
    return {"exact_match": float(np.mean(matches)), "f1": float(np.mean(means))}


def read_names(text: str, sentence: Tagged, part: Part) -> list[str]:
    """The tags that names written as a text give a sentence.

    A name stands for its first place in the sentence that none before it has taken, whatever its capitals.
    One that does not stand there is put behind the last word, where no name can be right.
    """
    kinds = "|".join(sorted(map(re.escape, part.labels), key=len, reverse=True))
    pieces = re.split(rf"(?:^|;\s*)({kinds}):\s*", text, flags=re.IGNORECASE)
    types = {kind.lower(): kind for kind in part.labels}
    words = [word.lower() for word in sentence.words]
    taken, names, behind = [False] * len(words), [], len(words)
    for kind, name in zip(pieces[1::2], pieces[2::2], strict=True):
        place = _place(name.strip().lower(), words, taken, part.joiner)
        if place is None:
            names.append(Chunk(types[kind.lower()], behind, behind + 1))
            behind += 1
            continue
        taken[place[0] : place[1]] = [True] * (place[1] - place[0])
        names.append(Chunk(types[kind.lower()], *place))
    return tags_of(names, behind)


def _place(name: str, words: list[str], taken: list[bool], joiner: str) -> tuple[int, int] | None:
    """Where words joined are that name, and belong to none yet."""
    for start, word in enumerate(words):
        if not word or not name.startswith(word):
            continue
        text, end = word, start + 1
        while len(text) < len(name) and end < len(words):
            text, end = text + joiner + words[end], end + 1
        if text == name and not any(taken[start:end]):
            return start, end
    return None
