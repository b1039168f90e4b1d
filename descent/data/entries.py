"""The table of the data sets that Descent knows by name, and what an entry of it says.

A later model adds its data by adding an `Entry` to `ALL`. Nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

__all__ = ["ALL", "Entry", "File"]

RAW = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class File:
    """One file of a data set: its name in the folder, where it is, and what its bytes must be.

    `md5` stands where no SHA-256 is published; it tells a damaged file, not a forged one.
    """

    name: str
    urls: tuple[str, ...]
    bytes: int
    sha256: str = ""
    md5: str = ""

    @property
    def url(self) -> str:
        return self.urls[0]

    @property
    def checksum(self) -> str:
        """The algorithm and the sum, as `sha256:...` or `md5:...`."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


@dataclass(frozen=True)
class Entry:
    """A named data set; `files` is empty when its bytes come with Python or with a library."""

    name: str
    about: str
    kind: Literal["text", "table", "images"]
    parser: str
    licence: str
    citation: str
    files: tuple[File, ...] = ()
    folder: str = ""

    @property
    def embedded(self) -> bool:
        return not self.files

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)


def _files(base: str | tuple[str, ...], *rows: tuple[str, int, str]) -> tuple[File, ...]:
    """Files under one address (or its mirrors); a name outside ASCII is quoted in the address only."""
    bases = (base,) if isinstance(base, str) else base
    return tuple(
        File(
            name,
            tuple(f"{start}/{quote(name)}" for start in bases),
            size,
            sha256=digest if len(digest) == 64 else "",
            md5=digest if len(digest) == 32 else "",
        )
        for name, size, digest in rows
    )


_CHINESE_POETRY = f"{RAW}/chinese-poetry/chinese-poetry/master"
_SKLEARN = "comes with scikit-learn; no download"

ALL = (
    Entry(
        "tinyshakespeare",
        "1,115,394 characters of Shakespeare's plays, 65 distinct; train is the first 90%, validation the "
        "last 111,540 characters, no test",
        "text",
        "tinyshakespeare",
        "public domain (the repository that hosts it: MIT)",
        "A. Karpathy, char-rnn, 2015",
        _files(
            f"{RAW}/karpathy/char-rnn/master/data/tinyshakespeare",
            ("input.txt", 1115394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"),
        ),
    ),
    Entry(
        "names",
        "32,033 first names, one a line (29,494 distinct); each is a document",
        "text",
        "lines",
        "MIT (names from the US Social Security Administration, public domain)",
        "A. Karpathy, makemore, 2022",
        _files(
            f"{RAW}/karpathy/makemore/master",
            ("names.txt", 228145, "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"),
        ),
    ),
    Entry(
        "chinese-poetry",
        "5,002 Tang poems in traditional characters (全唐诗); each is a document: title, author, lines",
        "text",
        "poems",
        "MIT",
        "chinese-poetry, https://github.com/chinese-poetry/chinese-poetry",
        _files(
            _CHINESE_POETRY,
            (
                "全唐诗/poet.tang.0.json",
                408405,
                "4f88f429938082523cdc72a1612bd7a7c3e3f7a33f8192c61ae51340efc3c92d",
            ),
            (
                "全唐诗/poet.tang.1000.json",
                477519,
                "6e703b8d8dcedbd6110f6d48d043665ca2131db2035a5bfcef5e59a19aeb6d75",
            ),
            (
                "全唐诗/poet.tang.2000.json",
                417948,
                "ec28efa7e2ae9cdbbba09f0ed186e32ccae47a325ad1e5816b7ad56071c1665a",
            ),
            (
                "全唐诗/poet.tang.3000.json",
                453811,
                "9e4ba2323752b6b9fbdba875cdbc6a26636fe0cabc85fd066370d4915952001f",
            ),
            (
                "全唐诗/poet.tang.4000.json",
                488655,
                "b8a7946c879b9658a6c667a4c55f776fae7e5e00a17789ab06b274c1429afc66",
            ),
        ),
    ),
    Entry(
        "tang-300",
        "唐诗三百首, 366 well-known Tang poems in traditional characters; each is a document",
        "text",
        "poems",
        "MIT",
        "chinese-poetry, https://github.com/chinese-poetry/chinese-poetry",
        _files(
            _CHINESE_POETRY,
            (
                "全唐诗/唐诗三百首.json",
                190787,
                "d77a145f7470da2ed2f79515944563c062ffc43fceda07f195a36ead66b7e5c7",
            ),
        ),
        folder="chinese-poetry",
    ),
    Entry(
        "song-300",
        "宋词三百首, 280 Song lyrics in simplified characters; each is a document: tune, author, lines",
        "text",
        "poems",
        "MIT",
        "chinese-poetry, https://github.com/chinese-poetry/chinese-poetry",
        _files(
            _CHINESE_POETRY,
            (
                "宋词/宋词三百首.json",
                151283,
                "ca5d74f7fdb9d5a6acc22a7c8b4395228cad4bb8be53df44c19ba83ab6983b20",
            ),
        ),
        folder="chinese-poetry",
    ),
    Entry(
        "wikitext-2",
        "WikiText-2, its valid and test files only (the 10.8 MB train file is not part of this entry): the "
        "articles of valid.txt are split by hash into train and validation, test.txt is the test; figures "
        "on it are not comparable with published WikiText-2 training results",
        "text",
        "wikitext",
        "CC BY-SA 3.0",
        "S. Merity et al., Pointer Sentinel Mixture Models, arXiv:1609.07843, 2016",
        _files(
            f"{RAW}/pytorch/examples/main/word_language_model/data/wikitext-2",
            ("valid.txt", 1121681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
            ("test.txt", 1256449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
        ),
    ),
    Entry(
        "mnist",
        "60,000 + 10,000 handwritten digits, 28 x 28 grey, 10 classes; validation is 5,000 of the training "
        "images chosen by hash",
        "images",
        "mnist",
        "CC BY-SA 3.0 as stated by Keras; the authors give none",
        "Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, Gradient-based learning applied to document "
        "recognition, Proc. IEEE 86(11), 1998",
        _files(
            (
                "https://ossci-datasets.s3.amazonaws.com/mnist",
                "https://storage.googleapis.com/cvdf-datasets/mnist",
            ),
            (
                "train-images-idx3-ubyte.gz",
                9912422,
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            (
                "train-labels-idx1-ubyte.gz",
                28881,
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            (
                "t10k-images-idx3-ubyte.gz",
                1648877,
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            (
                "t10k-labels-idx1-ubyte.gz",
                4542,
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ),
    ),
    Entry(
        "fashion-mnist",
        "60,000 + 10,000 pictures of clothing, 28 x 28 grey, 10 classes; validation is 5,000 of the "
        "training images chosen by hash; its authors publish MD5 sums only",
        "images",
        "fashion-mnist",
        "MIT",
        "H. Xiao, K. Rasul, R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017",
        _files(
            f"{RAW}/zalandoresearch/fashion-mnist/master/data/fashion",
            ("train-images-idx3-ubyte.gz", 26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
            ("train-labels-idx1-ubyte.gz", 29515, "25c81989df183df01b3e8a0aad5dffbe"),
            ("t10k-images-idx3-ubyte.gz", 4422102, "bef4ecab320f06d8554ea6380940ec79"),
            ("t10k-labels-idx1-ubyte.gz", 5148, "bb300cfdad3c16e7a12a480ee83cd310"),
        ),
    ),
    Entry(
        "housing",
        "California districts of the 1990 census, 20,640 rows: predict median_house_value; total_bedrooms "
        "has blanks, ocean_proximity is a word",
        "table",
        "housing",
        "public (StatLib, US census); this form Apache-2.0",
        "R. K. Pace, R. Barry, Sparse spatial autoregressions, Statistics & Probability Letters 33, 1997; "
        "this form A. Géron, handson-ml",
        _files(
            f"{RAW}/ageron/handson-ml/master/datasets/housing",
            ("housing.csv", 1423529, "8a3727f4cf54ac1a327f69b1d5b4db54c5834ea81c6e4efc0d163300022a685e"),
        ),
    ),
    Entry(
        "digits",
        "1,797 handwritten digits, 8 x 8 grey, 10 classes; " + _SKLEARN,
        "images",
        "digits",
        "CC BY 4.0 (UCI)",
        "E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998",
    ),
    Entry(
        "breast-cancer",
        "569 tumours, 30 measurements, malignant or benign; " + _SKLEARN,
        "table",
        "breast-cancer",
        "CC BY 4.0 (UCI)",
        "W. Wolberg et al., Breast Cancer Wisconsin (Diagnostic), UCI, 1993",
    ),
    Entry(
        "iris",
        "150 flowers, 4 measurements, 3 species; " + _SKLEARN,
        "table",
        "iris",
        "CC BY 4.0 (UCI)",
        "R. A. Fisher, The use of multiple measurements in taxonomic problems, 1936",
    ),
    Entry(
        "wine",
        "178 wines, 13 measurements, 3 growers; " + _SKLEARN,
        "table",
        "wine",
        "CC BY 4.0 (UCI)",
        "S. Aeberhard, M. Forina, Wine, UCI, 1992",
    ),
    Entry(
        "diabetes",
        "442 patients, 10 measurements, disease progression after a year; " + _SKLEARN,
        "table",
        "diabetes",
        "free for research, as bundled by scikit-learn",
        "B. Efron et al., Least angle regression, Annals of Statistics 32, 2004",
    ),
    Entry(
        "python-docs",
        "the reference topics of the running Python (pydoc_data.topics), about 460 kB of English; each "
        "topic is a document; no download",
        "text",
        "python-docs",
        "PSF License 2",
        "Python Software Foundation, The Python Language Reference",
    ),
    Entry(
        "python-source",
        "the standard library's source of the running Python, about 10 MB, tests left out; each file is a "
        "document; no download",
        "text",
        "python-source",
        "PSF License 2",
        "Python Software Foundation, The Python Standard Library",
    ),
)
