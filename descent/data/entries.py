"""The table of the data sets that Descent knows by name, and what an entry of it says.

A later model adds its data by adding an `Entry` to `ALL`. Nothing here imports torch.
"""

from __future__ import annotations

from descent.data.attending_entries import ATTENDING
from descent.data.entry_types import RAW, Entry, File, files
from descent.data.image_entries import IMAGES
from descent.data.music_entries import MUSIC
from descent.data.pair_entries import PAIRS
from descent.data.series_entries import SERIES
from descent.data.sound_entries import SOUNDS

__all__ = ["ALL", "Entry", "File"]

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
        files(
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
        files(
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
        files(
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
        files(
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
        files(
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
        files(
            f"{RAW}/pytorch/examples/main/word_language_model/data/wikitext-2",
            ("valid.txt", 1121681, "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
            ("test.txt", 1256449, "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
        ),
    ),
    *IMAGES,
    *SERIES,
    *SOUNDS,
    *MUSIC,
    *PAIRS,
    *ATTENDING,
    Entry(
        "housing",
        "California districts of the 1990 census, 20,640 rows: predict median_house_value; total_bedrooms "
        "has blanks, ocean_proximity is a word",
        "table",
        "housing",
        "public (StatLib, US census); this form Apache-2.0",
        "R. K. Pace, R. Barry, Sparse spatial autoregressions, Statistics & Probability Letters 33, 1997; "
        "this form A. Géron, handson-ml",
        files(
            f"{RAW}/ageron/handson-ml/master/datasets/housing",
            ("housing.csv", 1423529, "8a3727f4cf54ac1a327f69b1d5b4db54c5834ea81c6e4efc0d163300022a685e"),
        ),
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
