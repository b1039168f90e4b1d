"""Tables of named columns, and the features and targets a model takes from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from descent.data import embedded
from descent.data.config import TableData
from descent.data.dataset import ArraySplit, Dataset
from descent.data.formats import read_npy
from descent.data.preparation import BLANKS, encode_rows
from descent.data.registry import Entry
from descent.data.splits import fingerprint, hash_split, keys
from descent.data.textfiles import missing, placed_rows
from descent.errors import UserError, nearest

__all__ = ["load_table", "npy_partner", "whole_labels"]

_MOST_CATEGORIES = 256
_MOST_CLASSES = 1000
MOST_LABELS = 100_000
_FEW = 20

Column = NDArray[np.float64] | list[str]


@dataclass(frozen=True)
class Table:
    """Columns of equal length: numbers, with NaN for a blank, or words.

    Attributes:
        lines: of the file each row stood in, for messages; none where it has no lines.
    """

    columns: dict[str, Column]
    where: str
    lines: Sequence[int] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def rows(self, chosen: NDArray[np.int64]) -> Table:
        picked: dict[str, Column] = {
            name: [column[row] for row in chosen] if isinstance(column, list) else column[chosen]
            for name, column in self.columns.items()
        }
        return Table(picked, self.where, [self.lines[row] for row in chosen] if self.lines else ())

    def place(self, row: int) -> str:
        """Where a row stands, in words."""
        return f"line {self.lines[row]:,}" if self.lines else f"row {row + 1:,}"


def load_table(config: TableData, entry: Entry | None, files: list[Path]) -> Dataset:
    """A table as a dataset; see `TableData` for what the options mean."""
    table, target = _read(config, entry, files)
    names = list(config.features) or [name for name in table.columns if name != target]
    for name in (*names, target):
        if name not in table.columns:
            near = nearest(name, table.columns)
            raise UserError(
                f"{table.where}: there is no column {name!r}",
                expected="one of " + ", ".join(table.columns),
                hint=f"did you mean {near!r}?" if near else None,
            )
    if target in names:
        raise UserError(f"{table.where}: the target {target!r} is also a feature")
    if not names:
        raise UserError(f"{table.where}: no column is left to predict {target!r} from")
    table = _without_blanks(table, names, target, config.blanks)
    rows = zip(*map(_plain, table.columns.values()), strict=True)
    chosen = hash_split(keys(repr(row).encode() for row in rows), config.validation, config.test)
    if not len(chosen["train"]):
        raise UserError(f"{table.where}: no row is left to train on", hint="give more rows")
    preparation = _prepare(table, table.rows(chosen["train"]), names, target, config)
    encoded = {
        name: ArraySplit(_tensors(table.rows(rows), target, preparation))
        for name, rows in chosen.items()
        if len(rows)
    }
    width = encoded["train"].tensors["inputs"].shape[1]
    labels = preparation.get("labels")
    return Dataset(
        name=config.source or Path(str(config.path)).name,
        splits=dict(encoded),
        sizes={"inputs": (width,), "outputs": len(labels) if labels else 1},
        unit="rows",
        fingerprint=fingerprint(
            [
                part
                for split in encoded.values()
                for tensor in split.tensors.values()
                for part in (str(tuple(tensor.shape)), tensor.numpy().tobytes())
            ]
        ),
        labels=tuple(labels) if labels else None,
        preparation=preparation,
        about=f"rows split by hash of their content; target {target}",
    )


def _read(config: TableData, entry: Entry | None, files: list[Path]) -> tuple[Table, str]:
    if entry is not None:
        if entry.parser == "housing":
            return _from_csv(files[0]), config.target or "median_house_value"
        columns, target = embedded.sklearn_table(entry.parser)
        return Table(columns, entry.name), config.target or target
    path = Path(str(config.path)).expanduser()
    if path.is_dir():
        raise UserError(f"{path} is a folder", expected="a table: a .csv, .tsv or .npy file")
    if not path.is_file():
        raise missing(path)
    if path.suffix.lower() == ".npy":
        return _from_npy(path, config.target)
    if path.suffix.lower() not in (".csv", ".tsv"):
        raise UserError("a table is a .csv, .tsv or .npy file", got=str(path))
    table = _from_csv(path)
    if not config.target:
        raise UserError(
            f"{path}: which column is to be predicted?",
            expected="one of " + ", ".join(table.columns),
            hint="name it, for example data.target=" + list(table.columns)[-1],
        )
    return table, config.target


def _from_csv(path: Path) -> Table:
    header, rows, lines = placed_rows(path)
    if "" in header:
        raise UserError(
            f"{path}: column {header.index('') + 1} has no name",
            hint="name it, or leave it out (pandas writes its row numbers so: to_csv(..., index=False))",
        )
    columns = {name: _column([row[place].strip() for row in rows]) for place, name in enumerate(header)}
    return Table(columns, str(path), lines)


def _column(cells: list[str]) -> Column:
    """Numbers when every cell that is not blank is one, else words (a blank is then the empty word)."""
    try:
        numbers = np.array([float("nan" if cell in BLANKS else cell) for cell in cells], dtype=np.float64)
    except ValueError:
        return ["" if cell in BLANKS else cell for cell in cells]
    return numbers


def _from_npy(path: Path, target: str) -> tuple[Table, str]:
    partner = npy_partner(path, target)
    values, targets = read_npy(path), read_npy(partner)
    if values.ndim != 2:
        raise UserError(f"{path} is no table", got=f"{values.ndim} dimensions", expected="2: rows, columns")
    targets = targets.reshape(-1) if targets.ndim == 2 and targets.shape[1] == 1 else targets
    if targets.ndim != 1 or len(targets) != len(values):
        raise UserError(
            f"{path.name} and {partner.name} do not fit together",
            got=f"{values.shape} and {targets.shape}",
            expected="as many targets as rows",
        )
    columns: dict[str, Column] = {
        f"x{place}": column.astype(np.float64) for place, column in enumerate(values.T)
    }
    columns["y"] = targets.astype(np.float64)
    return Table(columns, str(path)), "y"


def npy_partner(path: Path, target: str) -> Path:
    """The `.npy` file of targets beside one of inputs: the one named, or `y...npy` beside `X...npy`."""
    swaps = (("X", "y"), ("x", "y"), ("images", "labels"), ("inputs", "targets"), ("data", "labels"))
    guesses = [
        path.with_name(to + path.name.removeprefix(start))
        for start, to in swaps
        if path.name.startswith(start)
    ]
    partner = path.with_name(target) if target else next((item for item in guesses if item.is_file()), None)
    if partner is None or not partner.is_file():
        tried = partner or (guesses[0] if guesses else None)
        raise UserError(
            f"the targets that belong to {path.name} are not there",
            got=tried.name if tried else None,
            expected="a .npy file in the same folder",
            hint="name it, for example data.target=y.npy",
        )
    return partner


def _without_blanks(table: Table, names: list[str], target: str, policy: str) -> Table:
    blank = np.zeros(len(table), dtype=bool)
    for name in (*names, target):
        column = table.columns[name]
        if isinstance(column, list):
            empty = (
                np.array([not word for word in column])
                if name == target
                else np.zeros(len(table), dtype=bool)
            )
        else:
            empty = np.isnan(column)
            if np.isinf(column).any():
                row = int(np.flatnonzero(np.isinf(column))[0])
                raise UserError(f"{table.where}, {table.place(row)}: {name} is infinite")
            if empty.all():
                raise UserError(f"{table.where}: the column {name!r} is empty")
        if empty.any() and policy != "drop" and (policy == "refuse" or name == target):
            first = f"the first in {table.place(int(np.flatnonzero(empty)[0]))}"
            raise UserError(
                f"{table.where}: {int(empty.sum()):,} cells of {name!r} are empty, {first}",
                hint="drop such rows with data.blanks=drop"
                + ("" if name == target else ", or fill them with data.blanks=mean"),
            )
        blank |= empty
    if policy == "drop":
        table = table.rows(np.flatnonzero(~blank))
    if len(table) < 3:
        raise UserError(f"{table.where} has too few rows", got=len(table), expected="3 or more")
    return table


def _plain(column: Column) -> list[Any]:
    """A column as Python's own values, whose `repr` no library's version changes."""
    return column if isinstance(column, list) else column.tolist()


def _prepare(table: Table, train: Table, names: list[str], target: str, config: TableData) -> dict[str, Any]:
    """Everything that encoding a row needs, as JSON values.

    Statistics are those of the training rows; which words and classes there are, all rows say, for a rare
    one may have no training row.
    """
    features: list[dict[str, Any]] = []
    for name in names:
        column = train.columns[name]
        if isinstance(column, list):
            categories = sorted(set(table.columns[name]))
            if len(categories) > _MOST_CATEGORIES:
                raise UserError(
                    f"{train.where}: {name!r} holds {len(categories):,} different words",
                    expected=f"at most {_MOST_CATEGORIES} categories",
                    hint="leave it out: name the columns to use with data.features=[...]",
                )
            features.append({"name": name, "categories": categories})
        else:
            known = column[~np.isnan(column)]
            fill = (
                float(np.median(known) if config.blanks == "median" else known.mean()) if len(known) else 0.0
            )
            features.append({"name": name, "fill": fill})
    preparation: dict[str, Any] = {
        "kind": "table",
        "features": features,
        "drop_first": config.drop_first,
        "target": target,
    }
    preparation |= _prepare_target(table, train, target, config)
    encoded = encode_rows(preparation, train.columns, train.where)
    if config.standardise:
        spread = encoded.std(axis=0)
        preparation["mean"] = encoded.mean(axis=0).tolist()
        preparation["std"] = np.where(spread > 1e-12, spread, 1.0).tolist()
    else:
        preparation["mean"], preparation["std"] = [0.0] * encoded.shape[1], [1.0] * encoded.shape[1]
    return preparation


def _prepare_target(table: Table, train: Table, target: str, config: TableData) -> dict[str, Any]:
    column = train.columns[target]
    if isinstance(column, list):
        if config.task == "regression":
            raise UserError(
                f"{train.where}: the target {target!r} holds words",
                got=next(iter(column)),
                expected="numbers, for a regression",
                hint="objective.loss=cross_entropy takes words as classes",
            )
        labels = sorted(set(table.columns[target]))
    else:
        values = np.unique(np.asarray(table.columns[target]))
        whole = bool((values == np.rint(values)).all())
        classes = config.task == "classification" or (config.task == "auto" and whole and len(values) <= _FEW)
        if not classes:
            scaled = config.standardise and float(column.std()) > 0
            mean, std = (float(column.mean()), float(column.std())) if scaled else (0.0, 1.0)
            return {"target_mean": mean, "target_std": std}
        if not whole:
            raise UserError(
                f"{train.where}: the target {target!r} is no class",
                got=float(values[values != np.rint(values)][0]),
            )
        labels = [str(int(value)) for value in values]
    if not 2 <= len(labels) <= _MOST_CLASSES:
        raise UserError(
            f"{train.where}: the target {target!r} has {len(labels)} classes",
            expected=f"2 to {_MOST_CLASSES}",
        )
    return {"labels": labels}


def _tensors(rows: Table, target: str, preparation: dict[str, Any]) -> dict[str, torch.Tensor]:
    inputs = encode_rows(preparation, rows.columns, rows.where)
    inputs = (inputs - np.array(preparation["mean"])) / np.array(preparation["std"])
    column = rows.columns[target]
    if "labels" in preparation:
        numbers = {label: number for number, label in enumerate(preparation["labels"])}
        words = column if isinstance(column, list) else [str(int(value)) for value in column]
        targets = torch.tensor([numbers[word] for word in words])
    else:
        scaled = (np.asarray(column) - preparation["target_mean"]) / preparation["target_std"]
        targets = torch.from_numpy(scaled.astype(np.float32))[:, None]
    return {"inputs": torch.from_numpy(inputs.astype(np.float32)), "targets": targets}


def whole_labels(labels: NDArray[np.generic], classes: int, where: str) -> NDArray[np.int64]:
    """Labels as class numbers; one that is out of range is named with its sample.

    Args:
        labels: one number per sample.
        classes: how many classes there are; 0 = as many as the largest label asks for.
        where: the file, for the message.
    """
    values: NDArray[Any] = np.asarray(labels)
    flat = values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values
    limit = classes or MOST_LABELS
    if flat.ndim != 1:
        raise UserError(f"{where}: labels are one number per sample", got=f"shape {values.shape}")
    wrong = ~np.isfinite(flat) | (flat != np.rint(flat)) | (flat < 0) | (flat >= limit)
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        raise UserError(
            f"{where}: the label of sample {place:,} (counting from 0) is out of range",
            got=flat[place].item(),
            expected=f"a whole number from 0 to {limit - 1:,}",
        )
    return flat.astype(np.int64)
