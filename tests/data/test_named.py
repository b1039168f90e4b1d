"""The named sets: what they hold and how they are split."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from descent.data import Batches, TextData, load_text, sweep, tokenize
from descent.data.parsers import articles
from descent.text import train


def texts(name: str) -> dict[str, list[str]]:
    return load_text(TextData(source=name), False).splits


@pytest.mark.parametrize("name", ["python-docs", "python-source"])
def test_embedded_texts_need_no_file(name: str):
    splits = texts(name)
    documents = [text for part in splits.values() for text in part]
    assert set(splits) == {"train", "validation", "test"}
    assert len(documents) - len(set(documents)) < 5
    assert sum(map(len, documents)) > (300_000 if name == "python-docs" else 5_000_000)
    assert texts(name) == splits


def test_embedded_sources_are_the_library_without_its_tests():
    documents = [text for part in texts("python-source").values() for text in part]
    import textwrap

    assert Path(textwrap.__file__).read_text(encoding="utf-8") in documents
    assert sum("unittest.main()" in text for text in documents) < 10


def test_tinyshakespeare(local_data: Path):
    splits = texts("tinyshakespeare")
    assert {name: [len(text) for text in part] for name, part in splits.items()} == {
        "train": [1_003_854],
        "validation": [111_540],
    }
    text = (local_data / "tinyshakespeare" / "input.txt").read_text()
    assert splits["train"][0] + splits["validation"][0] == text
    config = TextData(source="tinyshakespeare", length=256)
    tokenizer = train("char", splits["train"])
    assert tokenizer.vocab_size == 67
    dataset = tokenize(load_text(config), config, tokenizer)
    predicted = sum(int((batch["targets"] >= 0).sum()) for batch in sweep(dataset.splits["validation"], 64))
    assert predicted == dataset.splits["validation"].bytes == 111_539
    batch = Batches(dataset.splits["train"], 12, seed=0).batch(3)
    for row, target in zip(batch["tokens"], batch["targets"], strict=True):
        line = tokenizer.decode(row.tolist())
        assert line in text
        assert line[1:] + tokenizer.decode([int(target[-1])]) in text
    assert dataset.preparation["start"] == tokenizer.encode("\n")


def test_names_keep_equal_ones_together(local_data: Path):
    splits = texts("names")
    assert sum(len(part) for part in splits.values()) == 32_033
    sets = [set(part) for part in splits.values()]
    assert sum(map(len, sets)) == len(set.union(*sets)) == 29_494


def test_poems_are_title_author_and_lines(local_data: Path):
    splits = texts("chinese-poetry")
    poems = [poem for part in splits.values() for poem in part]
    assert 4_900 <= len(poems) <= 5_010
    first = ["帝京篇十首 一", "太宗皇帝", "秦川雄帝宅，函谷壯皇居。", "綺殿千尋起，離宮百雉餘。"]
    first += ["連甍遙接漢，飛觀迥凌虛。", "雲日隱層闕，風煙出綺疎。", ""]
    assert "\n".join(first) in poems
    assert all(poem.count("\n") >= 3 for poem in poems)
    assert sum(len(part) for part in texts("tang-300").values()) == 366
    assert sum(len(part) for part in texts("song-300").values()) == 280


def test_wikitext_is_split_between_articles(local_data: Path):
    splits = texts("wikitext-2")
    folder = local_data / "wikitext-2"
    for names, file in ((("train", "validation"), "valid.txt"), (("test",), "test.txt")):
        text = (folder / file).read_text(encoding="utf-8")
        assert "".join(articles(text)) == text
        assert sorted(article for name in names for article in splits[name]) == sorted(articles(text))
    assert len(splits["train"]) + len(splits["validation"]) == 60
    assert all(article.lstrip().startswith("= ") for part in splits.values() for article in part)
    assert "valid and test files only" in load_text(TextData(source="wikitext-2")).about


def test_an_article_begins_at_a_heading_of_the_first_level_only():
    text = " \n = One = \n \n = = Part = = \n words = more = \n = Two : 2 = \n x\n"
    assert articles(text) == [" \n = One = \n \n = = Part = = \n words = more = \n", " = Two : 2 = \n x\n"]


def test_listing_and_configuring_import_nothing_heavy():
    program = (
        "import sys, descent.data, descent.text\n"
        "from descent.data.config import TextData\n"
        "from descent.data.registry import listing\n"
        "from descent.text import TokenizerConfig\n"
        "listing(); TextData(source='names'); TokenizerConfig()\n"
        "print([m for m in ('torch', 'numpy', 'tokenizers', 'PIL', 'sklearn', 'pooch') if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_token_ids_are_kept_small():
    text = "abc " * 100
    config = TextData(source="python-docs", length=8)
    dataset = tokenize(load_text(config), config, train("byte", [text]))
    split = dataset.splits["train"]
    assert getattr(split, "tokens").dtype == np.uint16  # noqa: B009 - a stream's own field
