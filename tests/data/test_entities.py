"""Words with tags: schemes, the user's files, and the tokens that carry the tags."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descent.data.chunks import Chunk, chunks, scheme, tags_of
from descent.data.dataset import IGNORED
from descent.data.entities import entity_rows, load_entities, read_words, tokenize_entities
from descent.data.entities_config import EntitiesData
from descent.data.registry import entry, locate
from descent.errors import UserError
from descent.text import Tokenizer, train

TEXT = ["Ada lives in New York .", "I 'm in Paris", "naïve 北京 ok"]


@pytest.fixture(scope="module", params=["char", "byte", "bpe", "wordpiece", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    size = 0 if request.param in ("char", "byte") else 600
    return train(request.param, TEXT * 20, size, marks="bert")


def read(path: Path, **changes: object):
    values = {"path": str(path), "validation": 0.0, "test": 0.0, **changes}
    return load_entities(EntitiesData.read(values), None, [])


def put(folder: Path, name: str, content: str | bytes) -> Path:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder / name


def refused(path: Path, **changes: object) -> str:
    with pytest.raises(UserError) as error:
        read(path, **changes)
    return str(error.value)


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("O O", []),
        ("B-a I-a O B-b", [("a", 0, 2), ("b", 3, 4)]),
        ("I-a I-a O I-b", [("a", 0, 2), ("b", 3, 4)]),  # IOB1
        ("I-a B-a I-a", [("a", 0, 1), ("a", 1, 3)]),
        ("B-a I-b I-b", [("a", 0, 1), ("b", 1, 3)]),  # another type begins a name
        ("O I-a I-b O", [("a", 1, 2), ("b", 2, 3)]),
        ("B-a B-a", [("a", 0, 1), ("a", 1, 2)]),
        ("S-a S-a B-b E-b", [("a", 0, 1), ("a", 1, 2), ("b", 2, 4)]),
        ("B-a E-a I-a", [("a", 0, 2), ("a", 2, 3)]),  # what follows an end begins a name
        ("U-a B-b I-b L-b I-b", [("a", 0, 1), ("b", 1, 4), ("b", 4, 5)]),
        ("B-x-y I-x-y I-x", [("x-y", 0, 2), ("x", 2, 3)]),
        ("", []),
    ],
)
def test_names_that_tags_stand_for(tags: str, found: list[tuple[str, int, int]]):
    assert chunks(tags.split()) == [Chunk(*one) for one in found]


NAMES = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from("ab")), max_size=6)


@given(NAMES, st.integers(0, 2), st.sampled_from(["IOB1", "IOB2", "BIOES"]))
def test_every_scheme_says_the_same(parts: list[tuple[int, int, str]], rest: int, kind: str):
    names, at, tags = [], 0, []
    for gap, size, letter in parts:
        touching = gap == 0 and names and names[-1].type == letter
        names.append(Chunk(letter, at + gap, at + gap + size))
        at += gap + size
        begin = "I" if kind == "IOB1" and not touching else "B"
        one = [begin, *"I" * (size - 1)]
        if kind == "BIOES":
            one = ["S"] if size == 1 else ["B", *"I" * (size - 2), "E"]
        tags += ["O"] * gap + [f"{mark}-{letter}" for mark in one]
    tags += ["O"] * rest
    assert chunks(tags) == names
    assert chunks(tags_of(names, len(tags))) == names
    if kind == "IOB2":
        assert scheme([tags]) == "IOB2"


def test_the_first_token_of_each_word_carries_its_tag(tokenizer: Tokenizer):
    words = [text.split() for text in TEXT]
    found = entity_rows(words, tokenizer, 64, " ")
    for sentence, (row,) in zip(words, found, strict=True):
        assert (row["targets"] != IGNORED).sum() == len(sentence)
        assert (row["tokens"][0], row["tokens"][-1]) == (tokenizer.begin, tokenizer.separator)
        places = np.flatnonzero(row["targets"] != IGNORED)
        ends = [*places[1:].tolist(), len(row["tokens"]) - 1]
        for word, start, end in zip(sentence, places, ends, strict=True):
            text = tokenizer.decode(row["tokens"][start:end].tolist())
            assert text.strip() == word
            assert tokenizer.decode([int(row["tokens"][start])]) != " "  # never the joiner alone
        assert tokenizer.decode(row["tokens"][1:-1].tolist()) == " ".join(sentence)


def test_characters_are_joined_by_nothing(tokenizer: Tokenizer):
    ((row,),) = entity_rows([list("北京ok")], tokenizer, 64, "")
    assert (row["targets"] != IGNORED).sum() == 4
    assert tokenizer.decode(row["tokens"].tolist()) == "北京ok"


def test_a_long_sentence_is_cut_between_words_and_nothing_is_lost(tokenizer: Tokenizer):
    words = ["Ada", "lives", "in", "New", "York", "."] * 5 + ["x" * 1_000_000]
    (parts,) = entity_rows([words], tokenizer, 20, " ")
    assert max(len(row["tokens"]) for row in parts) <= 20
    assert sum(int((row["targets"] != IGNORED).sum()) for row in parts) == len(words)
    assert len(parts) > 1


def test_tags_stand_where_their_words_do(tmp_path: Path, tokenizer: Tokenizer):
    lines = "Ada B-person\nlives O\nin O\nNew I-place\nYork I-place\n. O\n\nI O\n'm O\nin O\nParis I-place\n"
    config = EntitiesData.read(
        {"path": str(put(tmp_path, "a.conll", lines)), "validation": 0, "test": 0, "length": 8}
    )
    texts = load_entities(config, None, [])
    assert texts.tags == ("O", "B-person", "I-person", "B-place", "I-place")
    assert texts.notes == ("tags were IOB1, and are IOB2",)
    assert texts.texts("train") == TEXT[:2]
    split = tokenize_entities(texts, config, tokenizer).splits["train"]
    batch = split.gather(np.arange(len(split)))
    said = batch["targets"][batch["targets"] != IGNORED].tolist()
    assert [texts.tags[number] for number in said] == [
        tag for one in texts.splits["train"] for tag in one.tags
    ]


FORMS = {
    "blanks.conll": "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nPeter NNP B-PER\n",
    "tabs.tsv": "EU\tNNP\tB-ORG\nrejects\tVBZ\tO\n\t\nPeter\tNNP\tB-PER",
    "windows.txt": "\ufeffEU x B-ORG\r\nrejects x O\r\n \r\nPeter x B-PER\r\n\r\n",
    "ends.bioes": "EU S-ORG\nrejects O\n\nPeter S-PER\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_holds_the_same_sentences(tmp_path: Path, name: str):
    found = read(put(tmp_path, name, FORMS[name]))
    assert [(one.words, one.tags) for one in found.splits["train"]] == [
        (("EU", "rejects"), ("B-ORG", "O")),
        (("Peter",), ("B-PER",)),
    ]
    assert [words for _, words in read_words(tmp_path / name)] == [["EU", "rejects"], ["Peter"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Ada B-p\nlives Q\n", "a.conll, line 2: 'Q' is no tag"),
        ("Ada B\n", "a.conll, line 1: 'B' is no tag"),
        ("Ada b-p\n", "'b-p' is no tag"),
        ("Ada B-p\nlives\n", "line 2: a line of 1 column"),
        ("Ada\nlives\n", "line 1: a word without a tag"),
        ("Ada x B-p\nlives O\n", "line 2: a line of 2 columns"),
        ("\tO\n", "line 1: a tag without a word"),
        ("\n \n-DOCSTART- O\n\n", "holds no words"),
        ("Ada O\nlives O\n", "every tag of the training sentences is O"),
        (b"Ada B-p\n" + "好 O\n".encode("gb18030"), "line 2"),
    ],
)
def test_faults_are_named(tmp_path: Path, text: str | bytes, said: str):
    assert said in refused(put(tmp_path, "a.conll", text))


def test_files_named_for_splits(tmp_path: Path):
    put(tmp_path, "train.conll", "Ada B-p\n\nBo B-p\n")
    put(tmp_path, "valid.conll", "in O\nCy B-p\n")
    assert {split: len(rows) for split, rows in read(tmp_path).splits.items()} == {
        "train": 2,
        "validation": 1,
    }
    put(tmp_path, "test.conll", "in O\n\nthe O\nnew O\nOslo B-q\n")
    said = refused(tmp_path)
    assert "test.conll, line 5" in said
    assert "'q'" in said
    assert "'Oslo'" in said


def test_wnut17(local_data: Path):
    found = load_entities(
        EntitiesData(source="wnut17"), entry("wnut17"), locate("wnut17", False, download=False)
    )
    assert [len(rows) for rows in found.splits.values()] == [3394, 1009, 1287]
    assert len(found.tags) == 13
    names = [sum(len(chunks(one.tags)) for one in rows) for rows in found.splits.values()]
    assert names == [1975, 836, 1079]  # as the paper's table of the data counts them
