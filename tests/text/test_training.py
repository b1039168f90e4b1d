"""Training tokenizers: time that grows with the text only, sizes, the same result every time."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
from pydantic import ValidationError
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from descent.errors import UserError
from descent.text import Kind, Tokenizer, TokenizerConfig, obtain, train
from descent.text.tokenizer import byte_symbols

LEARNED: tuple[Kind, ...] = ("bpe", "wordpiece", "unigram")
CORPUS = ["the cat sat on the mat and the rat ate the cat's hat\n" * 40, "春眠不覺曉，處處聞啼鳥。\n" * 20]


def seconds(act: Callable[[], object]) -> float:
    """Processor time, over all threads: what else the machine does is not counted."""
    start = time.process_time()
    act()
    return time.process_time() - start


@pytest.fixture(scope="module")
def learned() -> dict[str, Tokenizer]:
    return {kind: train(kind, CORPUS, 600) for kind in LEARNED}


@pytest.mark.parametrize("kind", LEARNED)
@pytest.mark.parametrize(
    ("char", "count"), [("a", 10**6), ("^", 10**6), (" ", 10**5), ("\n", 10**5), ("字", 10**5)]
)
def test_equal_characters_take_linear_time(learned: dict[str, Tokenizer], kind: str, char: str, count: int):
    """Ten times the text takes about ten times as long; a quadratic step would take a hundred."""
    tokenizer = learned[kind]
    small, large = char * (count // 10), char * count
    first = min(seconds(lambda: tokenizer.encode(small)) for _ in range(2))
    second = seconds(lambda: tokenizer.encode(large))
    assert second < 40 * max(first, 0.05)
    assert tokenizer.decode(tokenizer.encode(large)) == large


@pytest.mark.parametrize("char", ["a", "^"])
def test_a_published_tokenizer_without_bounds_is_about_linear_too(char: str):
    vocabulary = {symbol: index for index, symbol in enumerate(byte_symbols())}
    merges = []
    for index in range(8):
        part = char * 2**index
        merges.append((part, part))
        vocabulary[part + part] = len(vocabulary)
    library = Library(models.BPE(vocabulary, merges))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    tokenizer = Tokenizer(library.to_str())
    first = min(seconds(lambda: tokenizer.encode(char * 100_000)) for _ in range(2))
    second = seconds(lambda: tokenizer.encode(char * 1_000_000))
    assert second < 40 * max(first, 0.05)
    assert len(tokenizer.encode(char * 1_000_000)) <= 1_000_000 // 256 + 8


@pytest.mark.parametrize("kind", LEARNED)
def test_a_line_without_a_break_is_learned_from_in_linear_time(kind: Kind):
    """One word of a million letters: without bounds on words each merge would walk over all of it."""
    letters = "".join(
        "abcdefghijklmnopqrstuvwxyz"[(place * place + place // 7) % 26] for place in range(400_000)
    )
    small = seconds(lambda: train(kind, [letters[:40_000]], 800))
    assert seconds(lambda: train(kind, [letters], 800)) < 40 * max(small, 0.1)


@pytest.mark.parametrize(("kind", "longest"), [("bpe", 32), ("wordpiece", 12)])
@pytest.mark.parametrize("char", ["a", "^", " "])
def test_no_piece_is_longer_than_a_word_may_be(kind: Kind, longest: int, char: str):
    tokenizer = train(kind, [char * 5000], 600)
    assert max(len(tokenizer.token_bytes(index)) for index in range(tokenizer.vocab_size)) == longest


@pytest.mark.parametrize("kind", LEARNED)
def test_training_pays(kind: Kind):
    """On real text 800 pieces are worth at least two bytes each."""
    topics = import_module("pydoc_data.topics").topics
    text = "\n".join(topics[name] for name in sorted(topics))[:200_000]
    assert len(train(kind, [text], 800).encode(text)) < len(text.encode()) / 1.8


def test_a_vocabulary_has_the_asked_size():
    text = "".join(
        chr(97 + place % 23) + chr(97 + place % 7) + " " * (place % 5 == 0) for place in range(20_000)
    )
    for kind, size in (("bpe", 300), ("bpe", 333), ("wordpiece", 530), ("unigram", 280)):
        assert train(kind, [text], size).vocab_size == size, kind


def test_the_most_frequent_characters_are_kept():
    tokenizer = train("char", ["aaaa bbb cc d 字字字字字"], 6)
    assert tokenizer.vocab_size == 6
    assert tokenizer.decode(tokenizer.encode("abcd 字")) == "ab\ufffd\ufffd 字"
    assert train("char", ["ba"]).encode("ab") == [2, 3]


@pytest.mark.parametrize(
    ("kind", "size", "least"),
    [
        ("bpe", 256, "257"),
        ("wordpiece", 513, "514"),
        ("unigram", 100, "258"),
        ("byte", 300, "257"),
        ("char", 2, "3"),
    ],
)
def test_a_size_the_kind_cannot_have_is_refused(kind: Kind, size: int, least: str):
    with pytest.raises(UserError, match=rf"vocab_size does not suit a {kind} tokenizer(.|\n)*{least}"):
        train(kind, ["text"], size)


@pytest.mark.parametrize("kind", ["char", "byte", *LEARNED])
@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_is_refused(kind: Kind, texts: list[str]):
    with pytest.raises(UserError, match="no text to learn"):
        train(kind, texts)


def test_progress_counts_every_character():
    counts: list[int] = []
    train("bpe", ["a b c\n" * 30_000, "", "xyz"], 300, counts.append)
    assert counts == sorted(counts)
    assert counts[-1] == 180_003
    assert len(counts) > 3


@pytest.mark.parametrize("kind", LEARNED)
def test_another_process_learns_the_same(kind: str):
    """A run is a function of its recipe: no hash seed and no thread order may change the vocabulary."""
    program = (
        "import sys; from descent.text import train\n"
        "text = ''.join(f'word{n * n % 97} and {n % 13}x ' + chr(0x4e00 + n % 50) for n in range(4000))\n"
        f"sys.stdout.write(train({kind!r}, [text], 700).fingerprint)"
    )
    root = Path(__file__).parents[2]
    found = {
        subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, check=True).stdout
        for _ in range(3)
    }
    assert len(found) == 1


def test_a_recipe_trains_or_loads(tmp_path: Path):
    trained = obtain(TokenizerConfig(kind="bpe", vocab_size=300), CORPUS)
    trained.save(tmp_path / "tokenizer.json")
    loaded = obtain(TokenizerConfig(path=str(tmp_path / "tokenizer.json")), [])
    assert loaded.fingerprint == trained.fingerprint


def test_the_configuration_refuses_a_byte_vocabulary_of_another_size():
    with pytest.raises(ValidationError, match="257"):
        TokenizerConfig(kind="byte", vocab_size=300)
    with pytest.raises(UserError, match="kind"):
        TokenizerConfig.read({"kind": "syllable"})
