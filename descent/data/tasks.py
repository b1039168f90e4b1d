"""Several labelled sets in one, each as texts and what each becomes: a model reads by the words before a text
what it is to do.

C. Raffel et al., T5, arXiv:1910.10683, sections 2.4 and 3.5.2.

An epoch has as many examples as the sets have together (each counted up to `limit`). They are shared among
the tasks in proportion to n^(1 / temperature), and each task goes through its own examples round after round,
every round in another order, all of it a function of (seed, epoch, number). With a temperature of 1 and no
limit an epoch is every example once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from descent.data.dataset import Batch, Dataset, Indices, Split
from descent.data.entry_types import Entry
from descent.data.pair_rows import PairSplit
from descent.data.random import bits
from descent.data.registry import entry, locate
from descent.data.splits import NAMES, fingerprint
from descent.data.tasks_config import Task, TasksData
from descent.data.text_forms import FALSE, NONE, TRUE, Part, marks_of, part_of, source_rows, words_of
from descent.errors import UserError

if TYPE_CHECKING:
    from descent.data.load import Encoder

__all__ = ["TaskSplit", "Tasks", "load_tasks", "metrics_of", "shares", "tokenize_tasks"]

METRICS: dict[str, tuple[str, ...]] = {
    "sentences": ("accuracy",),
    "entities": ("precision", "recall", "f1"),
    "questions": ("exact_match", "f1"),
    "ranking": ("ndcg10", "map"),
    "pairs": ("exact_match", "bleu"),
}
"""What each form is scored by."""


@dataclass(frozen=True)
class Tasks:
    """The texts of each task, as the loader of its form gave them.

    Attributes:
        tasks: by name: what the recipe says, and the texts.
        about: how the splits came about.
    """

    tasks: dict[str, tuple[Task, Any]]
    about: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all texts, labels and splits."""
        return fingerprint(
            [part for name, (_, texts) in self.tasks.items() for part in (name, texts.fingerprint)]
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided or left out."""
        return tuple(
            f"{name}: {note}"
            for name, (_, texts) in self.tasks.items()
            for note in getattr(texts, "notes", ())
        )

    def texts(self, split: str) -> list[str]:
        """The texts of a split of every task, and the words around them."""
        found: list[str] = []
        for name, (task, texts) in self.tasks.items():
            found += [*marks_of(task, name, texts), *words_of(task, texts).values(), NONE, TRUE, FALSE]
            found += texts.texts(split) if texts.splits.get(split) else []
        return found


def load_tasks(config: TasksData, item: Entry | None = None, files: Sequence[Path] = ()) -> Tasks:
    """The sets a recipe names, each split as the data of its form are.

    Args:
        config: what is wanted.
        item, files: none, as every task has its own.

    Raises:
        UserError: there is no such set or file, its content cannot be used, or two tasks have one name.
    """
    found: dict[str, tuple[Task, Any]] = {}
    about = []
    for task in config.tasks:
        name, texts = _load(task)
        if name in found:
            raise UserError(
                "two tasks have the same name", got=name, hint="give one of them another: name = ..."
            )
        found[name] = (task, texts)
        about.append(f"{name}: {texts.about}")
    return Tasks(found, "; ".join(about))


def _load(task: Task) -> tuple[str, Any]:
    """A task's name and its texts."""
    item: Entry | None = None
    if task.path is not None:
        form, name = task.form, Path(task.path).stem
    else:
        name = str(task.source)
        first = entry(name.split("+")[0])
        form, item = first.kind, first if first.name == name else None
        if form not in METRICS or (task.form and task.form != form):
            raise UserError(
                f"{first.name} cannot be a task" + (f" of the form {task.form}" if task.form else ""),
                got=form,
                expected=task.form or " or ".join(METRICS),
            )
    module = import_module(f"descent.data.{form}_config")
    place = {"path": task.path} if task.path is not None else {"source": task.source}
    table, where = {**place, **task.options}, f"options of the task {name}"
    config = getattr(module, f"{form.title()}Data").read(table, where)
    load = getattr(import_module(f"descent.data.{form}"), f"load_{form}")
    return task.name or name, load(config, item, locate(item.name) if item is not None else [])


def tokenize_tasks(tasks: Tasks, config: TasksData, tokenizer: Encoder) -> Dataset:
    """Every example of every task as ids of a source and of what it becomes.

    The decoder begins with the mark that pads, as T5's does.

    Args:
        tasks: from `load_tasks`.
        config: its `length`, `target_length`, `packing`, `temperature`, `limit` and `scored`.
        tokenizer: turns texts into ids and says where in a text each stands.
    """
    measured: Any = tokenizer
    splits: dict[str, Split] = {}
    notes = list(tasks.notes)
    parts: dict[str, list[Part]] = {split: [] for split in NAMES}
    for name, (task, texts) in tasks.tasks.items():
        for split in NAMES:
            if not texts.splits.get(split):
                continue
            chosen = config.scored if split == "validation" else 0
            part = part_of(texts, split, task, name, measured, config.length, chosen)
            if task.interpolate and part.form == "ranking" and split != "train":
                whole = part_of(texts, "validation", task, name, measured, config.length)
                part.tuning = part if split == "validation" else whole
            parts[split].append(part)
    for split, held in parts.items():
        if held:
            made = TaskSplit(held, config, measured, training=split == "train")
            splits[split] = made
            notes += made.notes
    marks = {name: list(marks_of(task, name, texts)) for name, (task, texts) in tasks.tasks.items()}
    asked = config.model_dump_json(exclude={"temperature", "limit"})
    return Dataset(
        name="+".join(tasks.tasks),
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size},
        unit="tokens",
        fingerprint=fingerprint([tasks.fingerprint, tokenizer.fingerprint, asked]),
        preparation={"kind": "pairs", "start": [measured.pad], "length": config.length, "tasks": marks},
        about=tasks.about,
        notes=tuple(notes),
    )


def shares(counts: Sequence[int], temperature: float, limit: int) -> list[int]:
    """How many examples of an epoch are of each task: whole numbers nearest to n^(1 / temperature).

    Args:
        counts: the examples of each task.
        temperature, limit: see `TasksData`.
    """
    held = np.array([min(count, limit) if limit else count for count in counts], dtype=np.float64)
    rates = held ** (1 / temperature)
    ends = np.round(np.cumsum(rates) / rates.sum() * held.sum()).astype(np.int64)
    return np.maximum(np.diff(ends, prepend=0), 1).tolist()


class TaskSplit(Split):
    """Examples of several tasks; batches are those of `PairSplit`.

    Args:
        parts: of each task its examples.
        config: see `tokenize_tasks`.
        tokenizer: turns texts into ids.
        training: whether what an example becomes must fit; otherwise what is too long is cut.

    Attributes:
        firsts: the number of each part's first case in a sweep.
        rows: all cases of all parts.
        sizes: tokens of each source.
        tokenizer: as given.
        notes: what was cut or left out.
    """

    decoded = False
    scorer = "tasks"

    def __init__(self, parts: Sequence[Part], config: TasksData, tokenizer: Any, training: bool = False):
        self.parts, self.config = list(parts), config
        self.tokenizer, self.end = tokenizer, tokenizer.end
        self.metrics = metrics_of(self.parts)
        self.notes: list[str] = []
        rows: list[tuple[list[int], list[int]]] = []
        self.firsts: list[int] = []
        self._units: list[list[NDArray[np.int64]]] = []
        for part in parts:
            self.firsts.append(len(rows))
            _check_labels(part, tokenizer)
            sources, cut = source_rows(part, tokenizer, self.end, config.length)
            targets = tokenizer.encode_batch([case.target for case in part.cases])
            long = {place for place, ids in enumerate(targets) if len(ids) >= config.target_length}
            units = [tuple(place for place in unit if place not in long) for unit in part.units]
            self._units.append([np.array(unit) + len(rows) for unit in units if unit])
            self._note(part.name, cut, len(long) if training else 0, len(part.cases))
            rows += [
                (source, [*ids[: config.target_length - 1], self.end])
                for source, ids in zip(sources, targets, strict=True)
            ]
            if training and not self._units[-1]:
                raise UserError(
                    f"{part.name}: nothing that is to be written fits",
                    expected=f"at most {config.target_length:,} tokens, the end mark included",
                    hint="set a greater data.target_length",
                )
        self._shares = shares([len(units) for units in self._units], config.temperature, config.limit)
        self._ends = np.cumsum(self._shares)
        packed = config.length if config.packing == "documents" else 0
        self.sizes = np.array([len(source) for source, _ in rows])
        self.rows = PairSplit(rows, tokenizer.pad, tokenizer.vocab_size, packed, tokenizer.decode)
        self._orders: dict[tuple[int, int, int], NDArray[np.int64]] = {}

    def _note(self, name: str, cut: int, long: int, count: int) -> None:
        if cut:
            self.notes.append(f"{name}: {cut:,} of {count:,} sources were cut")
        if long:
            self.notes.append(f"{name}: {long:,} of {count:,} left out, what they become is too long")

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def whole(self) -> int:
        return len(self.rows)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        if seed is None:
            return self.rows.gather(indices)
        tasks = np.searchsorted(self._ends, indices, side="right")
        chosen = [
            self._drawn(int(task), int(index), seed, epoch)
            for task, index in zip(tasks, indices, strict=True)
        ]
        return self.rows.gather(np.array(chosen, dtype=np.int64), seed, epoch)

    def _drawn(self, task: int, index: int, seed: int, epoch: int) -> int:
        """The case that an example of an epoch is."""
        units, share = self._units[task], self._shares[task]
        turn = epoch * share + index - (int(self._ends[task]) - share)
        unit = units[int(self._order(task, turn // len(units), seed)[turn % len(units)])]
        if len(unit) == 1:
            return int(unit[0])
        return int(unit[int(bits(seed, epoch, "negatives", 1, index)[0] % np.uint64(len(unit)))])

    def _order(self, task: int, turn: int, seed: int) -> NDArray[np.int64]:
        """In which order a task goes through its examples for the so-manyth time."""
        key = (task, turn, seed)
        if key not in self._orders:
            recent = list(self._orders.items())[-2 * len(self.parts) :]
            order = np.argsort(bits(seed, turn, "order", len(self._units[task]), task + 1), kind="stable")
            self._orders = {**dict(recent), key: order}
        return self._orders[key]

    def join(self, parts: Sequence[Batch]) -> Batch:
        return self.rows.join(parts)

    def encode(self, texts: list[str]) -> list[list[int]]:
        """The ids of texts."""
        return self.tokenizer.encode_batch(texts)

    def decode(self, ids: list[int]) -> str:
        """The text that ids stand for."""
        return self.rows.decode(ids)

    def describe(self) -> str:
        counts = ", ".join(
            f"{part.name} {len(units):,}" for part, units in zip(self.parts, self._units, strict=True)
        )
        return f"{self.whole:,} texts ({counts})"


def _check_labels(part: Part, tokenizer: Any) -> None:
    """Refuses labels that are the same to the tokenizer."""
    seen: dict[str, str] = {}
    for label, ids in zip(part.labels, tokenizer.encode_batch(list(part.labels)), strict=True):
        read = tokenizer.decode(ids).strip()
        if read in seen:
            raise UserError(
                f"{part.name}: two labels are the same to the tokenizer",
                got=f"{seen[read]!r} and {label!r}",
                hint="give other words for them: words = {label = word}",
            )
        seen[read] = label


def metrics_of(parts: Sequence[Part]) -> tuple[str, ...]:
    """The names of the scores of tasks, and of their mean."""
    return (*(f"{part.name}_{metric}" for part in parts for metric in METRICS[part.form]), "mean")
