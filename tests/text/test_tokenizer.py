"""Tokenizers of every kind: exact round trips, streams of whole characters, files, foreign tokenizers."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from descent.errors import CorruptArtifact, UserError
from descent.text import Kind, Tokenizer, train
from descent.text.tokenizer import END, UNKNOWN, byte_symbols

KINDS: tuple[Kind, ...] = ("char", "byte", "bpe", "wordpiece", "unigram")
SEEN = (
    "The quick brown fox jumps over the lazy dog, 1234567890 times; don't stop.\r\n"
    "\tdef f(x):\n        return x  # ##\n"
    "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。\n🙂🙃👩‍👩‍👧‍👦🇨🇳 café naïve Ωmega мир\0\x7f\ufeff end"
)
AWKWARD = [
    "",
    " ",
    "\0",
    "\r\n\r\n \t ",
    "床前明月光",
    "👩‍👩‍👧‍👦 family 🇨🇳",
    "mixed 中文 and English，混排。",
    "a" + " " * 500 + "b\n\n\n\n",
    "###  #a ##b a## ## #",
    "\ufeffmark inside \ufeff",
    "<|endoftext|><unk>",
    "e\u0301\u0323 combining",
    "long" * 400,
    "=" * 333,
    "\U0010ffff\ue000\u2028\u0085",
]
known_text = st.text(alphabet=sorted(set(SEEN)), max_size=60)
any_text = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    sizes = {"bpe": 400, "wordpiece": 620, "unigram": 330}
    return {kind: train(kind, [SEEN] * 3, sizes.get(kind, 0)) for kind in KINDS}


def pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    stream = tokenizer.stream()
    return [*(stream.push(index) for index in ids), stream.finish()]


@pytest.mark.parametrize("kind", ["byte", "bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_come_back_exactly(tokenizers: dict[str, Tokenizer], kind: str, text: str):
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.end not in ids
    assert all(0 <= index < tokenizer.vocab_size for index in ids)
    assert tokenizer.encode_batch([text, "x"])[0] == ids


@pytest.mark.parametrize("kind", ["byte", "bpe", "wordpiece", "unigram"])
@given(text=any_text)
@example(text="##a ##")
def test_any_text_comes_back_exactly(tokenizers: dict[str, Tokenizer], kind: str, text: str):
    assert tokenizers[kind].decode(tokenizers[kind].encode(text)) == text


@given(text=known_text)
def test_characters_come_back_exactly(tokenizers: dict[str, Tokenizer], text: str):
    ids = tokenizers["char"].encode(text)
    assert len(ids) == len(text)
    assert tokenizers["char"].decode(ids) == text


def test_unknown_characters_are_one_unk_each_and_read_as_u_fffd(tokenizers: dict[str, Tokenizer]):
    tokenizer = tokenizers["char"]
    ids = tokenizer.encode("a龘bЖ🦆")
    assert len(ids) == 5
    assert tokenizer.token(ids[1]) == UNKNOWN
    assert ids[1] == ids[3] == ids[4]
    assert tokenizer.decode(ids) == "a\ufffdb\ufffd\ufffd"


@pytest.mark.parametrize("kind", KINDS)
@given(text=known_text)
def test_a_stream_shows_whole_characters_as_soon_as_they_are_whole(
    tokenizers: dict[str, Tokenizer], kind: str, text: str
):
    tokenizer = tokenizers[kind]
    ids = tokenizer.encode(text)
    shown, raw = "", b""
    for index, piece in zip([*ids, None], pieces(tokenizer, ids), strict=True):
        assert "\ufffd" not in piece
        raw += tokenizer.token_bytes(index) if index is not None else b""
        shown += piece
        # what is held back is less than one character
        held = raw[len(shown.encode()) :]
        assert raw.startswith(shown.encode())
        assert len(held) < 4
        with pytest.raises(UnicodeDecodeError):
            (held or b"\xff").decode()
    assert shown == text


@given(ids=st.lists(st.integers(0, 256), max_size=40))
def test_a_stream_of_any_bytes_ends_as_decode_does(tokenizers: dict[str, Tokenizer], ids: list[int]):
    assert "".join(pieces(tokenizers["byte"], ids)) == tokenizers["byte"].decode(ids)


def test_an_incomplete_character_appears_only_at_the_end_as_u_fffd(tokenizers: dict[str, Tokenizer]):
    ids = tokenizers["byte"].encode("好")
    assert pieces(tokenizers["byte"], ids[:2]) == ["", "", "\ufffd"]
    assert pieces(tokenizers["byte"], ids) == ["", "", "好", ""]


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_reads_our_file_as_we_do(tokenizers: dict[str, Tokenizer], kind: str, tmp_path: Path):
    """The fast paths and the byte tables agree with what anyone else makes of tokenizer.json."""
    tokenizer = tokenizers[kind]
    tokenizer.save(tmp_path / "tokenizer.json")
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    for text in (SEEN, *(text for text in AWKWARD if kind != "char" or set(text) <= set(SEEN))):
        if END in text:
            continue  # the library on its own takes the mark's spelling for the mark
        ids = library.encode(text, add_special_tokens=False).ids
        assert tokenizer.encode(text) == ids
        assert library.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_brings_back_the_same_tokenizer(tokenizers: dict[str, Tokenizer], kind: str, tmp_path: Path):
    tokenizer = tokenizers[kind]
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    again = Tokenizer.load(tmp_path)
    assert (again.kind, again.vocab_size, again.end) == (kind, tokenizer.vocab_size, tokenizer.end)
    assert again.fingerprint == tokenizer.fingerprint == hashlib.sha256(path.read_bytes()).hexdigest()
    assert again.encode(SEEN) == tokenizer.encode(SEEN)
    again.save(path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == tokenizer.fingerprint


def test_the_byte_alphabet_is_the_published_one():
    symbols = byte_symbols()
    assert sorted(symbols) == sorted(pre_tokenizers.ByteLevel.alphabet())
    assert (symbols[ord(" ")], symbols[ord("\n")], symbols[0], symbols[0xAD]) == ("Ġ", "Ċ", "Ā", "Ń")


def test_a_byte_is_its_own_id(tokenizers: dict[str, Tokenizer]):
    assert tokenizers["byte"].encode("Aé") == [0x41, 0xC3, 0xA9]
    assert (tokenizers["byte"].end, tokenizers["byte"].vocab_size) == (256, 257)


@pytest.mark.parametrize("kind", ["bpe", "byte"])
def test_long_texts_are_cut_without_a_trace(tokenizers: dict[str, Tokenizer], kind: str):
    text = ("床前明月光 line\n" + "x" * 300) * 4500
    assert len(text) > 1 << 20
    tokenizer = tokenizers[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_batch([text])[0] == tokenizer.encode(text)


@pytest.mark.parametrize("kind", KINDS)
def test_half_a_surrogate_pair_is_refused(tokenizers: dict[str, Tokenizer], kind: str):
    with pytest.raises(UserError, match="character 2 of the text is half of a surrogate pair"):
        tokenizers[kind].encode("ab\ud83dc")
    with pytest.raises(UserError, match="surrogate"):
        tokenizers[kind].encode_batch(["fine", "\udc00"])


@pytest.mark.parametrize("index", [-1, 257, 10**9])
def test_an_id_outside_the_vocabulary_is_refused(tokenizers: dict[str, Tokenizer], index: int):
    tokenizer = tokenizers["byte"]
    for act in (tokenizer.stream().push, tokenizer.token, lambda one: tokenizer.decode([one])):
        with pytest.raises(UserError, match="no such token"):
            act(index)


def gpt2_like() -> Library:
    """Made the way GPT-2's published tokenizer.json is: byte-level BPE, its mark last."""
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    library.train_from_iterator([SEEN], trainer)
    library.add_special_tokens([AddedToken(END, special=True, normalized=True)])
    library.enable_truncation(5)
    return library


def test_a_published_byte_level_bpe_loads(tmp_path: Path):
    library = gpt2_like()
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (tokenizer.kind, tokenizer.end) == ("bpe", tokenizer.vocab_size - 1)
    for text in AWKWARD:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    library.no_truncation()
    assert tokenizer.encode(SEEN) == library.encode(SEEN).ids
    assert tokenizer.decode([*tokenizer.encode("one"), tokenizer.end, *tokenizer.encode("two")]) == "onetwo"


def test_merges_written_as_strings_are_read(tmp_path: Path):
    spec = json.loads(gpt2_like().to_str())
    spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    assert Tokenizer.load(tmp_path).decode(Tokenizer.load(tmp_path).encode(SEEN)) == SEEN


def test_a_tokenizer_that_is_not_byte_level_decodes_through_the_library(tmp_path: Path):
    words = {"[UNK]": 0, "[SEP]": 1, "play": 2, "##ing": 3, "ground": 4, "中": 5}
    library = Library(models.WordPiece(words, unk_token="[UNK]"))
    library.normalizer = normalizers.BertNormalizer(lowercase=True)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece(prefix="##")
    library.add_special_tokens(["[UNK]", "[SEP]"])
    library.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    ids = tokenizer.encode("Playing 中 ground")
    assert (tokenizer.kind, tokenizer.end, ids) == ("wordpiece", 1, [2, 3, 5, 4])
    assert tokenizer.decode(ids) == "playing 中 ground"
    assert pieces(tokenizer, ids) == ["play", "ing", " 中", " ground", ""]


def test_a_tokenizer_without_an_end_says_so(tmp_path: Path):
    library = Library(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    library.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    library.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UserError, match="no mark to end a document"):
        _ = Tokenizer.load(tmp_path).end


BROKEN = {
    "empty": b"",
    "text": b"hello",
    "list": b"[]",
    "no model": b'{"version": "1.0"}',
    "bad model": b'{"version":"1.0","model":{"type":"Magic"}}',
    "cut": gpt2_like().to_str().encode()[:-100],
    "latin": "é".encode("latin-1"),
    "odd merge": b'{"version":"1.0","model":{"type":"BPE","vocab":{"a":0},"merges":[["x","y"]]}}',
    "deep": b'{"model":' * 5000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_corrupt_artifact(tmp_path: Path, name: str):
    (tmp_path / "tokenizer.json").write_bytes(BROKEN[name])
    with pytest.raises(CorruptArtifact, match=r"tokenizer\.json is not a readable tokenizer") as caught:
        Tokenizer.load(tmp_path)
    assert caught.value.exit_code == 3


def test_a_missing_file_is_the_users_error(tmp_path: Path):
    with pytest.raises(UserError, match="no such tokenizer file") as caught:
        Tokenizer.load(tmp_path / "nothing.json")
    assert caught.value.exit_code == 2
