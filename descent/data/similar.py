"""Pairs of texts that mean alike, as rows of tokens, for vectors of texts.

In a batch the other pairs are what a text's partner is told from, so a batch is a function of which pairs it
holds. T. Gao, X. Yao, D. Chen, SimCSE, EMNLP 2021, arXiv:2104.08821: with pairs whose second text follows
from the first (section 4), or without any, each text with itself (section 3).

Policy for files: as for every text (UTF-8, see `textfiles`); a pair as in `pairs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from descent.data.dataset import IGNORED, Batch, Dataset, Indices, Split
from descent.data.entry_types import Entry
from descent.data.pairs import Pair, load_pairs
from descent.data.pairs_config import PairsData
from descent.data.rows import Packing, Row, RowSplit, lay_out
from descent.data.sentences import load_sentences, sentence_rows
from descent.data.sentences_config import SentencesData
from descent.data.similar_config import SimilarData
from descent.data.splits import NAMES, fingerprint, hash_split, keys
from descent.data.textfiles import find
from descent.data.textrows import rows_of_text, split_files
from descent.errors import UserError

if TYPE_CHECKING:
    from descent.data.sentences import MarkedEncoder

__all__ = ["FOLLOWS", "Similar", "SimilarSplit", "load_similar", "tokenize_similar"]

FOLLOWS = "entailment"
"""The class of the pairs that are taken."""


@dataclass(frozen=True)
class Similar:
    """Pairs of texts by split.

    Attributes:
        name: the entry, or the user's file.
        splits: the pairs of "train", "validation" and "test" (a split without any is left out).
        about: how the splits came about.
        notes: what was decided or left out.
    """

    name: str
    splits: dict[str, list[Pair]]
    about: str = ""
    notes: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all texts and their splits."""
        parts: list[str] = []
        for name, pairs in self.splits.items():
            parts += [name, str(len(pairs)), *(side for pair in pairs for side in pair)]
        return fingerprint(parts)

    def texts(self, split: str) -> list[str]:
        """Every text of a split, once."""
        return list(dict.fromkeys(side for pair in self.splits[split] for side in pair))


def load_similar(config: SimilarData, item: Entry | None, files: list[Path]) -> Similar:
    """The pairs a recipe names, split.

    Args:
        config: what is wanted.
        item, files: the entry and its verified files; None and [] for the user's own path.

    Raises:
        UserError: there is no such file, its content cannot be used, or the set has no such pairs.
    """
    if item is None and config.itself:
        found = _own_texts(config)
    elif item is not None and item.kind == "sentences":
        found = _following(config, item, files)
    else:
        asked = config.model_dump(include={"path", "target_path", "source", "validation", "test"})
        held = load_pairs(PairsData.read(asked), item, files)
        train = _alone(held.splits["train"]) if config.itself else held.splits["train"]
        found = Similar(held.name, {**held.splits, "train": train}, held.about)
    if len(found.splits["train"]) < 2:
        raise UserError(
            f"{found.name}: too little to train on",
            got=f"{len(found.splits['train'])} training pairs",
            expected="2 or more, as one is told from the others",
        )
    return found


def _alone(pairs: Sequence[Sequence[str]]) -> list[Pair]:
    """Each text beside itself, once."""
    return [(text, text) for text in dict.fromkeys(side for pair in pairs for side in pair)]


def _following(config: SimilarData, item: Entry, files: list[Path]) -> Similar:
    """Of texts with classes the pairs whose second follows from the first, or each text with itself."""
    asked = config.model_dump(include={"source", "validation", "test"})
    held = load_sentences(SentencesData.read(asked), item, files)
    if not held.double:
        if not config.itself:
            raise UserError(
                f"{item.name} is of single texts, not of pairs",
                hint="data.itself=true pairs each text with itself",
            )
        alone = {split: [(one.text, one.text) for one in found] for split, found in held.splits.items()}
        return Similar(item.name, {**alone, "train": _alone(alone["train"])}, held.about)
    splits = {
        split: [(one.text, one.second) for one in found if one.label == FOLLOWS]
        for split, found in held.splits.items()
    }
    if not splits["train"] and not config.itself:
        raise UserError(
            f"{item.name} has no class of pairs whose second text follows from the first",
            got=", ".join(held.labels),
            expected=FOLLOWS,
            hint="data.itself=true pairs each text with itself",
        )
    taken, whole = sum(map(len, splits.values())), sum(map(len, held.splits.values()))
    notes = (f"the {taken:,} of {whole:,} pairs of the class {FOLLOWS!r}",)
    if config.itself:
        splits["train"] = _alone([(one.text, one.second) for one in held.splits["train"]])
        notes = (f"training texts beside themselves; held out {notes[0]}",)
    return Similar(item.name, {name: pairs for name, pairs in splits.items() if pairs}, held.about, notes)


def _own_texts(config: SimilarData) -> Similar:
    """The texts of the user's files, a text a line, or two that are held out as a pair."""
    rows: dict[str, list[tuple[str, ...]]] = {}
    for split, file in split_files(str(config.path), find(str(config.path))).items():
        held = rows_of_text(file)
        rows[split] = [tuple(side for cell in row if (side := cell.strip())) for row in held.cells]
        wide = next((place for place, row in enumerate(rows[split]) if len(row) > 2), None)
        if wide is not None:
            raise UserError(
                f"{held.where(wide)}: {len(rows[split][wide])} columns",
                expected="a text, or two with a tab between them",
            )
    about = "splits as the files are named"
    if "all" in rows or "validation" not in rows:
        name = "all" if "all" in rows else "train"
        places = hash_split(
            keys(row[0].encode() for row in rows[name]), config.validation, config.test * (name == "all")
        )
        part = {split: [rows[name][place] for place in chosen] for split, chosen in places.items()}
        rows = part if name == "all" else {**rows, "train": part["train"], "validation": part["validation"]}
        about = "split by a hash of the text" if name == "all" else about
    splits: dict[str, list[Pair]] = {
        split: _alone(found) if split == "train" else [(row[0], row[-1]) for row in found]
        for split in NAMES
        if (found := rows.get(split))
    }
    return Similar(Path(str(config.path)).name, splits, about, ("training texts beside themselves",))


def tokenize_similar(texts: Similar, config: SimilarData, tokenizer: MarkedEncoder) -> Dataset:
    """Pairs as rows of token ids, each text between the marks of a row.

    Args:
        texts: from `load_similar`.
        config: its `length` and `packing`.
        tokenizer: has marks that begin a row and end a text.
    """
    splits: dict[str, Split] = {}
    shortened: list[str] = []
    for name, pairs in texts.splits.items():
        distinct = texts.texts(name)
        rows, cut = sentence_rows([(text,) for text in distinct], tokenizer, config.length)
        if cut:
            shortened.append(f"{name} {cut:,} of {len(rows):,}")
        number = {text: place for place, text in enumerate(distinct)}
        numbered = [(number[first], number[second]) for first, second in pairs]
        options = {"pad": tokenizer.pad, "vocab_size": tokenizer.vocab_size, "packing": config.packing}
        splits[name] = SimilarSplit(rows, numbered, config.length, **options)
    noted = f"cut to {config.length:,} tokens: {', '.join(shortened)}"
    return Dataset(
        name=texts.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size},
        unit="pairs",
        fingerprint=fingerprint(
            [texts.fingerprint, tokenizer.fingerprint, config.packing, str(config.length)]
        ),
        preparation={"kind": "similar", "length": config.length},
        about=texts.about,
        notes=(*texts.notes, noted) if shortened else texts.notes,
    )


class SimilarSplit(RowSplit):
    """Pairs of texts. Both of a pair are in its batch, as examples of their own.

    `targets` (N, K, 2) holds of each example its turn (of the pair p of an epoch 2p for the first text and
    2p + 1 for the second, counted on over the epochs) and the number of its text, which tells equal texts;
    -100 where there is no example.

    Args:
        texts: the distinct ones.
        pairs: (first, second) of each pair, by the numbers of their texts.
        length: the most tokens of a row.
        pad, vocab_size, packing: see `RowSplit`.
    """

    def __init__(
        self,
        texts: Sequence[Row],
        pairs: Sequence[tuple[int, int]],
        length: int,
        *,
        pad: int,
        vocab_size: int,
        packing: Packing = "documents",
    ):
        rows = [{**row, "answer": np.array(place)} for place, row in enumerate(texts)]
        super().__init__(rows, length, pad=pad, vocab_size=vocab_size, packing=packing)
        self.pairs = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)

    def __len__(self) -> int:
        return len(self.pairs)

    def gather(self, indices: Indices, seed: int | None = None, epoch: int = 0) -> Batch:
        texts = self.pairs[indices].reshape(-1)
        turns = 2 * (epoch * len(self) + np.repeat(indices, 2)) + np.tile([0, 1], len(indices))
        rows = [
            {**self.example(int(text)), "answer": np.array(place)}
            for place, text in enumerate(texts.tolist())
        ]
        packed = self.packing == "documents"
        batch = lay_out(rows, self.length, pad=self.pad, packed=packed, ordered=seed is None)
        known, places = torch.from_numpy(np.stack([turns, texts], axis=1)), batch["targets"]
        batch["targets"] = known[places.clamp_min(0)].masked_fill(places[..., None] == IGNORED, IGNORED)
        return batch

    def describe(self) -> str:
        return f"{len(self):,} pairs of {len(self._ends):,} texts"
