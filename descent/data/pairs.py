"""Texts and what each becomes: pairs by name, generated or from the user's files.

Policy for files: as for every text (UTF-8, see `textfiles`). Only a line feed ends a line; white space around
a side is removed; a line that is empty on both sides is no pair; an empty side, or a line without exactly one
tab, is refused with its place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from descent.data.dataset import Dataset, Split
from descent.data.dates import dates
from descent.data.entry_types import Entry
from descent.data.formats import gunzip
from descent.data.pair_rows import PairSplit
from descent.data.pairs_config import PairsData
from descent.data.splits import NAMES, fingerprint, hash_split, keys, named
from descent.data.textfiles import find, read_text
from descent.errors import CorruptArtifact, UserError

if TYPE_CHECKING:
    from typing import Protocol

    from descent.data.load import Encoder

    class Begins(Encoder, Protocol):
        """What pairs need of a tokenizer."""

        @property
        def pad(self) -> int: ...


__all__ = ["PARSERS", "Pair", "Pairs", "load_pairs", "source_ids", "tokenize_pairs"]

Pair = tuple[str, str]
Parsed = dict[str, list[Pair]]
"""Pairs by split, or all of them by "all". Where "validation" is lacking it is taken from "train"."""
SHOWN = 60
MAX_BYTES = 1 << 28

PARSERS: dict[str, Callable[[list[Path], PairsData], Parsed]] = {
    "dates": lambda files, config: {"all": [(text, day.isoformat()) for day, text in dates()]},
    "multi30k": lambda files, config: _multi30k(files),
}
"""What reads the files of a named set, by the name of its parser."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of texts by split.

    Attributes:
        name: the entry, or the user's file.
        splits: (source, target) of "train", "validation" and "test" (a split without pairs is left out).
        about: how the splits came about.
    """

    name: str
    splits: dict[str, list[Pair]]
    about: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all texts and their splits."""
        parts: list[str] = []
        for name, pairs in self.splits.items():
            parts += [name, str(len(pairs)), *(side for pair in pairs for side in pair)]
        return fingerprint(parts)

    def texts(self, split: str) -> list[str]:
        """Both sides of every pair, one after another: what one tokenizer for both is trained on."""
        return [side for pair in self.splits[split] for side in pair]


def load_pairs(config: PairsData, item: Entry | None, files: list[Path]) -> Pairs:
    """The pairs a recipe names, split.

    Sets with official splits keep them; others are split by a hash: of the day for dates, else of the source.

    Args:
        config: what is wanted.
        item, files: the entry and its verified files; None and [] for the user's own path.

    Raises:
        UserError: there is no such file, or its content cannot be used; the message says where.
    """
    if item is None:
        name, parsed = Path(str(config.path)).name, _own(str(config.path), config.target_path)
    else:
        name, parsed = item.name, PARSERS[item.parser](files, config)
    side = 1 if item is not None and item.parser == "dates" else 0  # each day has one target
    if "all" in parsed:
        about = "split by a hash of the day" if side else "split by a hash of the source"
        parsed = _divided(parsed["all"], side, config.validation, config.test)
    else:
        about = "splits as the files are named"
        if "validation" not in parsed:
            parsed = {
                **parsed,
                **_divided(parsed["train"], side, config.validation, 0.0, ("train", "validation")),
            }
    if config.reverse:
        parsed = {split: [(target, source) for source, target in pairs] for split, pairs in parsed.items()}
    return Pairs(name, {split: parsed[split] for split in NAMES if parsed.get(split)}, about)


def source_ids(text: str, tokenizer: Encoder) -> list[int]:
    """What an encoder reads of a text: its tokens and the end mark."""
    return [*tokenizer.encode(text), tokenizer.end]


def tokenize_pairs(pairs: Pairs, config: PairsData, tokenizer: Begins) -> Dataset:
    """Pairs as rows of token ids: a decoder predicts target and end mark. It begins, as that of a pretrained
    T5, with the mark that pads, or where there is none with the end mark.

    Args:
        pairs: from `load_pairs`.
        config: its `length` and `packing`.
        tokenizer: turns the texts of both sides into ids.

    Raises:
        UserError: every pair of a split is longer than `length`.
    """
    splits: dict[str, Split] = {}
    left_out: list[str] = []
    start = tokenizer.pad
    made = [f"start {start}"] if start != tokenizer.end else []
    packed = config.packing == "documents"
    room = config.length if packed else 0
    for name, texts in pairs.splits.items():
        sides = [tokenizer.encode_batch([pair[side] for pair in texts]) for side in (0, 1)]
        rows = [
            ([*source, tokenizer.end], [*target, tokenizer.end])
            for source, target in zip(*sides, strict=True)
            if max(len(source), len(target)) < config.length
        ]
        if not rows:
            shortest = min(max(map(len, two)) for two in zip(*sides, strict=True)) + 1
            raise UserError(
                f"{pairs.name}: every pair of the {name} split is too long",
                got=f"the shortest has {shortest:,} tokens",
                expected=f"at most {config.length:,} tokens a side, the end mark included",
                hint="set a greater data.length",
            )
        if len(rows) < len(texts):
            left_out.append(f"{name} {len(texts) - len(rows):,} of {len(texts):,}")
        decode = getattr(tokenizer, "decode", None)
        splits[name] = PairSplit(rows, start, tokenizer.vocab_size, room, decode)
    noted = f"left out as longer than {config.length:,} tokens: {', '.join(left_out)}"
    return Dataset(
        name=pairs.name,
        splits=splits,
        sizes={"vocab_size": tokenizer.vocab_size},
        unit="tokens",
        fingerprint=fingerprint(
            [pairs.fingerprint, tokenizer.fingerprint, str(config.length), *["packed"] * packed, *made]
        ),
        preparation={"kind": "pairs", "start": [start], "length": config.length},
        about=pairs.about,
        notes=(noted,) if left_out else (),
    )


def _divided(
    pairs: list[Pair], side: int, validation: float, test: float, names: tuple[str, ...] = NAMES
) -> Parsed:
    places = hash_split(keys(pair[side].encode() for pair in pairs), validation, test)
    return {name: [pairs[place] for place in places[name]] for name in names}


def _multi30k(files: list[Path]) -> Parsed:
    """German and English, from the official files of a split each."""
    texts = {file.name: gunzip(file, MAX_BYTES).decode("utf-8") for file in files}
    found: Parsed = {}
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test_2016_flickr")):
        sides = [texts[f"{name}.{code}.gz"].rstrip("\n").split("\n") for code in ("de", "en")]
        if len(sides[0]) != len(sides[1]):
            raise CorruptArtifact(
                f"multi30k: the two sides of {name} have different numbers of lines",
                got=f"{len(sides[0])} and {len(sides[1])}",
            )
        both = zip(*sides, strict=True)
        found[split] = [(german.strip(), english.strip()) for german, english in both]
    return found


def _own(path: str, target_path: str | None) -> Parsed:
    """The pairs of the user's files."""
    sources = _files(path)
    if target_path is None:
        return {split: _of_columns(file) for split, file in sources.items()}
    targets = _files(target_path)
    if set(sources) != set(targets):
        raise UserError(
            "data.path and data.target_path do not hold the same splits",
            got=f"{', '.join(sources)} and {', '.join(targets)}",
            expected="for every file of one side one of the other",
        )
    return {split: _of_lines(sources[split], targets[split]) for split in sources}


def _files(path: str) -> dict[str, Path]:
    """One file as "all", or several by the splits they are named for."""
    files = find(path)
    if len(files) == 1:
        return {"all": files[0]}
    found: dict[str, Path] = {}
    for file in files:
        split = named(file.stem)
        if split is None or split in found:
            raise UserError(
                f"{file.name} names no split of pairs"
                if split is None
                else f"two files are named for {split}",
                got=[file.name for file in files[:8]],
                expected="one file, or one each named train, validation and test",
                hint="choose with a pattern, such as data.path='folder/*.tsv'",
            )
        found[split] = file
    if "train" not in found:
        raise UserError(f"{path}: no file is named train", got=[file.name for file in files])
    return found


def _of_columns(file: Path) -> list[Pair]:
    found: list[Pair] = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != 2:
            raise UserError(
                f"{file}, line {number:,}: " + ("no tab" if len(cells) == 1 else f"{len(cells)} columns"),
                got=line[:SHOWN],
                expected="two texts with a tab between them",
                hint="or name a file of sources in data.path and one of targets in data.target_path"
                if len(cells) == 1
                else f"keep two columns: cut -f1,2 {file.name} > pairs.tsv",
            )
        found.append(_pair(cells[0], cells[1], f"{file}, line {number:,}"))
    return _some(found, file)


def _of_lines(first: Path, second: Path) -> list[Pair]:
    sources, targets = _lines(first), _lines(second)
    if len(sources) != len(targets):
        raise UserError(
            "the two sides have different numbers of lines",
            got=f"{first}: {len(sources):,} lines, {second}: {len(targets):,} lines",
            expected="line by line the source and its target",
        )
    both = enumerate(zip(sources, targets, strict=True), 1)
    return _some(
        [
            _pair(source, target, f"{first} and {second}, line {number:,}")
            for number, (source, target) in both
            if source.strip() or target.strip()
        ],
        first,
    )


def _lines(file: Path) -> list[str]:
    """The lines of a file; white space after the last line feed is no line."""
    lines = read_text(file).split("\n")
    return lines if lines[-1].strip() else lines[:-1]


def _pair(source: str, target: str, where: str) -> Pair:
    source, target = source.strip(), target.strip()
    if not source or not target:
        raise UserError(
            f"{where}: the {'target' if source else 'source'} is empty",
            got=(source or target)[:SHOWN],
            expected="a text on both sides",
        )
    return source, target


def _some(pairs: list[Pair], file: Path) -> list[Pair]:
    if not pairs:
        raise UserError(f"{file} holds no pairs", expected="two texts with a tab between them, a pair a line")
    return pairs
