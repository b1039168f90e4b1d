"""vocab.txt of a BERT beside transformers, and the marks other libraries put around texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from descent.errors import CorruptArtifact
from descent.runs.load import _tokenizer
from descent.text import train
from descent.text.vocabulary import from_vocabulary, set_marks

transformers = pytest.importorskip("transformers")

MARKS = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"!,.'夜静思9"]
WORDS = [*MARKS, "the", "The", "cat", "##s", "sat", "on", "un", "##able", "##a", "cafe", "café", "##9"]
TEXTS = ("The cats sat, unable!", "café CAFE's 静夜思 99 zebra", "[MASK] the\tcat\u3000on", " ", "un-the")


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("lowercase", [True, False])
def test_ids_are_those_of_transformers(lowercase: bool, vocabulary: Path):
    theirs = transformers.BertTokenizer(str(vocabulary), do_lower_case=lowercase)
    beside = vocabulary.with_name("tokenizer_config.json")
    beside.write_text(json.dumps({"do_lower_case": lowercase}), encoding="utf-8")
    ours = _tokenizer(vocabulary)
    assert ours.vocab_size == len(WORDS)
    for text in TEXTS:
        if "[MASK]" not in text:  # a mark in a text is text here
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
        assert ours.encode(text, marks=True) == theirs.encode(text, add_special_tokens=False), text
    assert ours.decode(ours.encode("the cats, 静夜")) == "the cats, 静 夜"
    assert [ours.begin, ours.separator, ours.mask, ours.pad] == [3, 4, 5, 0]


@pytest.mark.parametrize(
    ("text", "said"),
    [("the\ncat\n", r"there is no \[UNK\]"), ("[UNK]\n[CLS]\n[SEP]\na\na\n", "a piece stands there twice")],
)
def test_a_file_that_is_no_vocabulary_is_refused(text: str, said: str, tmp_path: Path):
    path = tmp_path / "vocab.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorruptArtifact, match=said):
        from_vocabulary(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(CorruptArtifact, match="cannot be read as a vocabulary"):
        from_vocabulary(path)


def test_marks_are_set_once_and_only_where_there_are_some(tmp_path: Path):
    texts = ["the cat sat on the mat"] * 20
    path = tmp_path / "tokenizer.json"
    marked = train("wordpiece", texts, 600, marks="bert")
    marked.save(path)
    set_marks(path)
    first = path.read_bytes()
    set_marks(path)
    assert path.read_bytes() == first
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
    cat, mat = marked.encode("the cat"), marked.encode("mat")
    begin, end = marked.begin, marked.separator
    assert theirs.encode("the cat", "mat") == [begin, *cat, end, *mat, end]
    plain = train("bpe", texts, 300)
    plain.save(path)
    set_marks(path)
    assert json.loads(path.read_text()).get("post_processor") is None
