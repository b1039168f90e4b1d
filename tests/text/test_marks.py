"""The marks of trained and published tokenizers, small letters, and where tokens stand in a text."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from tokenizers import Tokenizer as Library
from tokenizers import models

from descent.errors import UserError
from descent.text import Kind, Tokenizer, TokenizerConfig, obtain, train

TEXTS = ["The quick brown fox, again and again.", "山高水长，又是一年。", "Naïve ÉTUDE 12345 [MASK] </s>"] * 4
KINDS: tuple[Kind, ...] = get_args(Kind)


def made(kind: Kind, marks: str, lowercase: bool = False) -> Tokenizer:
    size = 700 if kind in ("bpe", "wordpiece", "unigram") else 0
    config = TokenizerConfig.read(
        {"kind": kind, "vocab_size": size, "marks": marks, "lowercase": lowercase}, where="test"
    )
    return obtain(config, TEXTS)


@pytest.mark.parametrize("kind", KINDS)
def test_bert_s_marks_have_ids_of_their_own_and_no_text(kind: Kind) -> None:
    tokenizer = made(kind, "bert")
    marks = [tokenizer.pad, tokenizer.begin, tokenizer.separator, tokenizer.mask]
    assert [tokenizer.token(index) for index in marks] == ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    assert set(marks) < tokenizer.special
    assert tokenizer.end == tokenizer.separator
    assert tokenizer.decode(marks) == ""
    assert not tokenizer.sentinels
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert not tokenizer.special & set(ids)  # [MASK] in a text is text
        assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("kind", KINDS)
def test_t5_s_sentinels_stand_in_the_order_of_their_numbers(kind: Kind) -> None:
    tokenizer = made(kind, "t5")
    assert len(tokenizer.sentinels) == 100
    assert [tokenizer.token(index) for index in tokenizer.sentinels[:2]] == ["<extra_id_0>", "<extra_id_1>"]
    assert tokenizer.token(tokenizer.end) == "</s>"
    assert tokenizer.token(tokenizer.pad) == "<pad>"
    with pytest.raises(UserError, match="no mark to hide a token"):
        _ = tokenizer.mask


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_marks_become_marks_only_where_asked(kind: Kind) -> None:
    tokenizer = made(kind, "bert")
    ids = tokenizer.encode("The [MASK] fox[SEP]", marks=True)
    assert ids.count(tokenizer.mask) == 1
    assert ids[-1] == tokenizer.separator
    at = ids.index(tokenizer.mask)
    assert tokenizer.decode(ids[:at]) == "The "
    assert tokenizer.decode(ids[at + 1 :]) == " fox"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lowercase", [False, True])
def test_pieces_cover_the_text_at_their_places(kind: Kind, lowercase: bool) -> None:
    tokenizer = made(kind, "bert", lowercase)
    for text, found in zip(TEXTS, tokenizer.pieces_batch(TEXTS), strict=True):
        assert found.ids == tokenizer.encode(text)
        assert len(found.spans) == len(found.ids)
        covered = {place for start, end in found.spans for place in range(start, end)}
        assert covered == set(range(len(text)))
        for index, (start, end) in zip(found.ids, found.spans, strict=True):
            piece = tokenizer.decode([index])
            if "\ufffd" not in piece:
                assert piece == (text[start:end].lower() if lowercase else text[start:end])


@pytest.mark.parametrize("kind", KINDS)
def test_small_letters(kind: Kind) -> None:
    tokenizer = made(kind, "bert", lowercase=True)
    assert tokenizer.encode("The QUICK fox") == tokenizer.encode("the quick fox")
    assert tokenizer.decode(tokenizer.encode("The QUICK Étude")) == "the quick étude"
    again = Tokenizer(tokenizer._text)
    assert again.encode("QUICK") == tokenizer.encode("quick")


def test_a_capital_whose_small_letter_is_longer_stays() -> None:
    tokenizer = train("byte", ["x"], lowercase=True)
    assert tokenizer.decode(tokenizer.encode("İX")) == "İx"


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_counts_the_marks(kind: Kind) -> None:
    if kind in ("bpe", "unigram", "wordpiece"):
        assert made(kind, "t5").vocab_size <= 700
    assert made(kind, "bert").vocab_size == len(made(kind, "bert")._library.get_vocab(True))
    with pytest.raises(UserError, match="vocab_size does not suit"):
        train(kind, TEXTS, 5, marks="t5")


def test_published_names_of_marks(tmp_path: Path) -> None:
    vocabulary = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "a": 4, "<mask>": 5}
    library = Library(models.WordPiece(vocabulary, unk_token="<unk>"))
    library.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    library.save(str(tmp_path / "tokenizer.json"))
    found = Tokenizer.load(tmp_path)
    assert (found.begin, found.pad, found.separator, found.end, found.mask) == (0, 1, 2, 2, 5)
