"""Tasks of memory, their rows computed from (seed, epoch, number): endless, repeatable, kept nowhere.

Tasks over tokens give `tokens` and `targets` of equal shape, with -100 where nothing is asked; the answer
belongs at the step of the question, so recurrent networks and causal Transformers train on the same rows.

Legend: B rows, T steps, K symbols.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from descent.data.dataset import IGNORED, Batch, Dataset, Indices, Split
from descent.data.generated_config import GeneratedData
from descent.data.splits import fingerprint, keys

__all__ = ["Draws", "GeneratedSplit", "load_generated"]

Integers = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
_WEYL = np.uint64(0x9E3779B97F4A7C15)
_SAMPLED = 64


class Draws:
    """Random numbers of rows: word p of row i is a function of (key, i, p).

    SplitMix64 (Steele, Lea, Flood, 2014, "Fast Splittable Pseudorandom Number Generators") has as its n-th
    word a mix of key + n * constant, so that words can be had in any order; here n = 2**32 i + p + 1. It is
    the same on every machine and for every version of numpy.
    """

    def __init__(self, key: np.uint64, indices: Indices):
        self._key, self._rows, self._used = key, indices.astype(np.uint64) << np.uint64(32), 0

    def words(self, count: int) -> NDArray[np.uint64]:
        """The next `count` words of each row, (B, count)."""
        places = np.arange(self._used + 1, self._used + count + 1, dtype=np.uint64)
        self._used += count
        z = self._key + (self._rows[:, None] + places) * _WEYL
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def below(self, limit: int, count: int) -> Integers:
        """Whole numbers from 0 to limit - 1, (B, count); limit up to 2**31."""
        return (((self.words(count) >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32)).astype(np.int64)

    def unit(self, count: int) -> NDArray[np.float64]:
        """Numbers in [0, 1), (B, count)."""
        return (self.words(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def copying(draws: Draws, config: GeneratedData) -> Arrays:
    """The copying problem: symbols, a gap, then the same symbols again.

    A row is `length` symbols, gap - 1 blanks, a mark, and `length` blanks at which the symbols are asked
    for in order, so each is asked for length + gap steps after it stood there. Symbols are 0 to K - 1, the
    blank is K, the mark K + 1. Arjovsky, Shah, Bengio (2016), "Unitary Evolution Recurrent Neural Networks",
    section 4.1, after Hochreiter, Schmidhuber (1997). There blanks are to be predicted before the mark, too,
    which anyone can; here only the symbols count. Chance: accuracy 1 / K, loss ln K.
    """
    symbols, length, gap = (config.sizes[name] for name in ("symbols", "length", "gap"))
    shown = draws.below(symbols, length)
    tokens = np.full((len(shown), 2 * length + gap), symbols)
    tokens[:, :length], tokens[:, length + gap - 1] = shown, symbols + 1
    targets = np.full_like(tokens, IGNORED)
    targets[:, -length:] = shown
    return {"tokens": tokens, "targets": targets}


def recalling(draws: Draws, config: GeneratedData) -> Arrays:
    """Delayed recall: a symbol, gap - 1 distractors, and the question which symbol it was.

    Symbols are 0 to K - 1, distractors K to 2 K - 1, the question is 2 K; it is put at the last step, `gap`
    steps after the symbol. In the manner of Hochreiter, Schmidhuber (1997), "Long Short-Term Memory", section
    5.2, task 2c (K = 2 there, the gap at random), and of the latch of Bengio, Simard, Frasconi (1994).
    Chance: accuracy 1 / K, loss ln K.
    """
    symbols, gap = config.sizes["symbols"], config.sizes["gap"]
    symbol = draws.below(symbols, 1)
    distractors = symbols + draws.below(symbols, gap - 1)
    question = np.full_like(symbol, 2 * symbols)
    tokens = np.concatenate([symbol, distractors, question], axis=1)
    targets = np.full_like(tokens, IGNORED)
    targets[:, -1] = symbol[:, 0]
    return {"tokens": tokens, "targets": targets}


def adding(draws: Draws, config: GeneratedData) -> Arrays:
    """The adding problem: the sum of the two numbers that are marked.

    Every step has a number, even over [0, 1), and a mark, 1 at one step of the first half and at one of
    the second, else 0: inputs (B, T, 2). Hochreiter, Schmidhuber (1997), section 5.4, in the form of
    Arjovsky, Shah, Bengio (2016), section 4.2. Chance: always saying 1 has the squared error 1/6 = 0.167,
    the sum's variance.
    """
    length = config.sizes["length"]
    half = length // 2
    values = draws.unit(length).astype(np.float32)
    places = np.concatenate([draws.below(half, 1), half + draws.below(length - half, 1)], axis=1)
    marks = np.zeros_like(values)
    np.put_along_axis(marks, places, 1, axis=1)
    return {
        "inputs": np.stack([values, marks], axis=2),
        "lengths": np.full(len(values), length),
        "targets": np.take_along_axis(values, places, axis=1).sum(axis=1),
    }


def parity(draws: Draws, config: GeneratedData) -> Arrays:
    """Whether the ones so far are odd in number: asked at every step, or at the end.

    The oldest task that looks easy and is not (Minsky, Papert, 1969, "Perceptrons"): it takes one bit of
    memory, and each input can change the answer. Chance: accuracy 1/2, loss ln 2.
    """
    tokens = draws.below(2, config.sizes["length"])
    targets = tokens.cumsum(axis=1) % 2
    if config.ask == "end":
        targets[:, :-1] = IGNORED
    return {"tokens": tokens, "targets": targets}


def dyck(draws: Draws, config: GeneratedData) -> Arrays:
    """Balanced brackets of K kinds, drawn evenly among all balanced rows of the length.

    Kind c opens with token c and closes with K + c. Asked for, where the next token closes, is that token:
    as Hewitt et al. (2020), "RNNs can generate bounded hierarchical languages with optimal memory", score it,
    with depth unbounded here. Chance: accuracy 1 / K, loss ln K. With ask=end one question is put at the last
    token, whether the row is balanced: 2 K for no, 2 K + 1 for yes; half of the rows have a bracket changed
    into another one, which never leaves a row balanced. Chance then: accuracy 1/2, loss ln 2.
    """
    kinds, length = config.sizes["symbols"], config.sizes["length"]
    tokens = _balanced(draws, kinds, length)
    targets = np.full_like(tokens, IGNORED)
    if config.ask == "every":
        after = tokens[:, 1:]
        targets[:, :-1] = np.where(after >= kinds, after, IGNORED)
        return {"tokens": tokens, "targets": targets}
    fine, place, shift = draws.below(2, 1), draws.below(length, 1), 1 + draws.below(2 * kinds - 1, 1)
    there = np.take_along_axis(tokens, place, axis=1)
    np.put_along_axis(tokens, place, np.where(fine == 1, there, (there + shift) % (2 * kinds)), axis=1)
    targets[:, -1] = 2 * kinds + fine[:, 0]
    return {"tokens": tokens, "targets": targets}


def _balanced(draws: Draws, kinds: int, length: int) -> Integers:
    """Rows of brackets, each balanced row as likely as the next.

    With d brackets open and r steps left, the share of the ways to the end that open another one is
    (r - d) (d + 2) / (2 r (d + 1)), a quotient of ballot numbers (Arnold, Sleep, 1980, "Uniform random
    generation of balanced parenthesis strings").
    """
    chances, kind = draws.unit(length), draws.below(kinds, length)
    rows = np.arange(len(chances))
    depth, stack = np.zeros(len(rows), dtype=np.int64), np.zeros((len(rows), length // 2 + 1), dtype=np.int64)
    tokens = np.empty((len(rows), length), dtype=np.int64)
    for step in range(length):
        left = length - step
        opens = chances[:, step] * (2 * left * (depth + 1)) < (left - depth) * (depth + 2)
        depth = depth + np.where(opens, 1, -1)
        # The place of the bracket that opens now, or of the one that closes.
        top = np.where(opens, depth - 1, depth)
        stack[rows, top] = np.where(opens, kind[:, step], stack[rows, top])
        tokens[:, step] = stack[rows, top] + np.where(opens, 0, kinds)
    return tokens


@dataclass(frozen=True)
class _Kind:
    """How a task's rows come about, and how many tokens and equally likely answers it has."""

    rows: Callable[[Draws, GeneratedData], Arrays]
    tokens: Callable[[GeneratedData], int]
    answers: Callable[[GeneratedData], int]


def _symbols(config: GeneratedData) -> int:
    return config.sizes["symbols"]


_KINDS = {
    "copy": _Kind(copying, lambda c: _symbols(c) + 2, _symbols),
    "recall": _Kind(recalling, lambda c: 2 * _symbols(c) + 1, _symbols),
    "parity": _Kind(parity, lambda c: 2, lambda c: 2),
    "dyck": _Kind(
        dyck,
        lambda c: 2 * _symbols(c) + (2 if c.ask == "end" else 0),
        lambda c: 2 if c.ask == "end" else _symbols(c),
    ),
    "adding": _Kind(adding, lambda c: 0, lambda c: 0),
}


class GeneratedSplit(Split):
    """Rows of a task, made when they are gathered.

    Training rows depend on (seed, epoch, number). With `seed=None`, and always in a part that is held out,
    they depend on the part's name and the number alone. The parts are streams of their own; of a task with
    few possible rows (parity of 8 bits has 256) training comes upon those of the test all the same.

    Args:
        config: the task.
        part: "train", "validation" or "test".
        count: rows of an epoch and of a sweep.
    """

    def __init__(self, config: GeneratedData, part: str, count: int):
        self.config, self.part, self.count = config, part, count
        self.answers = config.task != "adding"

    def __len__(self) -> int:
        return self.count

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        stream = self.part if seed is None or self.part != "train" else f"{self.part} {seed} {epoch}"
        key = keys([f"generated {stream}".encode()])[0]
        rows = _KINDS[self.config.task].rows(Draws(key, indices), self.config)
        return {name: torch.from_numpy(values) for name, values in rows.items()}

    def describe(self) -> str:
        row = self.gather(np.zeros(1, dtype=np.int64))
        steps = next(iter(row.values())).shape[1]
        return f"{self.count:,} rows of {steps:,} steps"


def load_generated(config: GeneratedData) -> Dataset:
    """A task as a dataset; `notes` say what chance would reach."""
    counts = {"train": config.examples, "validation": config.validation, "test": config.test}
    splits = {name: GeneratedSplit(config, name, count) for name, count in counts.items()}
    kind = _KINDS[config.task]
    summed = config.task == "adding"
    return Dataset(
        name=config.task,
        splits=dict(splits),
        sizes={"inputs": (2,), "outputs": 1} if summed else {"vocab_size": kind.tokens(config)},
        unit="rows" if summed else "answers",
        fingerprint=_fingerprint(config, splits),
        preparation={"kind": "generated"},
        about="computed rows, others in every epoch; validation and test are the same in every run",
        notes=(_chance(config, kind.answers(config)),),
    )


def _chance(config: GeneratedData, answers: int) -> str:
    if config.task == "adding":
        return "chance: loss 0.1667 (always saying 1)"
    return f"chance: accuracy {1 / answers:.4g}, loss {math.log(answers):.4f} nats ({answers} answers)"


def _fingerprint(config: GeneratedData, splits: dict[str, GeneratedSplit]) -> str:
    """Of the settings and of the first rows of each part, which change if the way they are made does."""
    said = json.dumps({**config.table(), **config.sizes}, sort_keys=True)
    rows = [split.gather(np.arange(min(split.count, _SAMPLED))) for split in splits.values()]
    return fingerprint([said, *(value.numpy().tobytes() for row in rows for value in row.values())])
