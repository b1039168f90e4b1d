"""What a recipe's `[data]` table may say: a text, a table of rows, or images.

Each names its data in exactly one of two ways: `source`, an entry of the registry, or `path`, the
user's own file or folder. The classes import neither torch nor numpy.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import model_validator

from descent.config import Config, Field, Items
from descent.data.augment_config import Augment

__all__ = ["ImageData", "Sourced", "TableData", "TextData"]

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Sourced(Config):
    """Data that are either a registered set or the user's own files."""

    source: str | None = None
    path: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.source is None) == (self.path is None):
            raise ValueError(
                "give exactly one of source (a registered name) and path (your own file or folder)"
            )
        shares = [getattr(self, name, None) or 0.0 for name in ("validation", "test")]
        if sum(shares) >= 1:
            raise ValueError("validation and test together must leave something to train on")
        return self


class TextData(Sourced):
    """Text for a language model.

    Attributes:
        source: a registered text.
        path: a file, a folder searched for text files, or a pattern such as `books/*.txt`; by its name a
            file is plain text, `.jsonl`, `.json`, `.csv` or `.tsv`.
        column: the field that holds the text in JSON, CSV and TSV files; empty means `text`.
        document: what one document of a plain text file is: the whole file, a line, or a paragraph
            (paragraphs are set apart by blank lines).
        packing: `stream` joins the documents into one long row of tokens that is cut into equal pieces;
            `documents` packs whole documents into rows that never see each other; `lanes` joins them too,
            and each row of a batch reads on where it ended in the batch before, with the model's state.
        length: tokens of one row; 0 = the model's context, or 128 for a model that has none.
        validation: the share held out for validation (a set with official splits keeps its own).
        test: the share held out for testing.
    """

    type: Literal["text"] = "text"
    column: str = ""
    document: Literal["file", "line", "paragraph"] = "file"
    packing: Literal["stream", "documents", "lanes"] = "stream"
    length: int = Field(default=0, ge=0)
    validation: Fraction = 0.05
    test: Fraction = 0.05


class TableData(Sourced):
    """Rows with named columns, for regression or classification.

    Attributes:
        source: a registered table.
        path: a `.csv`, `.tsv` or `.npy` file (`X.npy` beside `y.npy`).
        target: the column to predict; for `.npy` the file of targets in the same folder. Empty = the
            entry's own, or `y.npy` for `X.npy`.
        features: the columns to predict from; empty = all the others.
        task: `auto` reads the target: words or few whole numbers are classes, other numbers are values.
        blanks: what to do with an empty cell of a number: the column's training `mean` or `median`, `drop`
            the row, or `refuse` the table. An empty cell of a word is a category of its own; a row whose
            target is empty is always dropped under `drop` and refused otherwise.
        drop_first: leave out the first category of each one-hot column, so that they stay independent.
        standardise: bring features, and the target of a regression, to mean 0 and deviation 1.
        validation: the share of rows held out for validation.
        test: the share held out for testing.
    """

    type: Literal["table"] = "table"
    target: str = ""
    features: Items[str] = ()
    task: Literal["auto", "regression", "classification"] = "auto"
    blanks: Literal["mean", "median", "drop", "refuse"] = "mean"
    drop_first: bool = False
    standardise: bool = True
    validation: Fraction = 0.1
    test: Fraction = 0.2


class ImageData(Sourced):
    """Images of classes.

    Attributes:
        source: a registered set of images.
        path: a folder with one folder of images per class (inside `train`, `validation`, `test` folders
            where those exist), a CSV of paths and labels, or an `X.npy` file. The paths of a CSV start at
            its folder and stay in it; a column `split` (train, validation, test) may stand beside them.
        target: for a CSV the column of labels; empty = `label`, or the second one. For `.npy` the file of
            labels in the same folder; empty = `y.npy` for `X.npy`.
        size: height and width the images are brought to; empty = their own. Image files keep their own where
            all have one size of at most 64 a side; others are brought to 32 x 32.
        channels: 1 grey, 3 colour, 0 = grey when every image is grey.
        fit: how an image of another shape fills that size: `crop` the middle, `pad` the border, `stretch`.
            MNIST, its kin and digits are padded where this is left at crop.
        augment: random changes of the training images: a table (see `Augment`), or the name of a preset,
            `none`, `shift`, `affine` or `standard`.
        classes: how many classes there are, for labels in a `.npy`; 0 = by the largest label.
        per_class: the most training images of a class, chosen by hash, for learning from few; 0 = all.
        validation: the share held out for validation, of the training part where a test part is official;
            unset = 0.1, or so many images as a named set says of itself (MNIST 5,000). Without effect where
            a validation part is official.
        test: the share held out for testing, where no test part is official.
    """

    type: Literal["images"] = "images"
    target: str = ""
    size: Items[Annotated[int, Field(ge=1, le=4096)]] = ()
    channels: Literal[0, 1, 3] = 0
    fit: Literal["crop", "pad", "stretch"] = "crop"
    augment: Augment = Augment()
    classes: int = Field(default=0, ge=0, le=100_000)
    per_class: int = Field(default=0, ge=0)
    validation: Fraction | None = None
    test: Fraction = 0.2

    @model_validator(mode="after")
    def _two_sides(self) -> Self:
        if len(self.size) not in (0, 2):
            raise ValueError("size takes two numbers, height and width, for example [28, 28]")
        return self
