"""One tokenizer over the `tokenizers` library, whatever its kind.

Descent's own tokenizers, and published byte-level ones such as GPT-2's, know the bytes of every
token. Text is then the concatenation of bytes, so decoding is exact and a stream of tokens can be
shown as far as its characters are complete. Other published tokenizers (BERT's, T5's) decode
through the library.

Text is always text: `<|endoftext|>` inside it is encoded as those characters, never as the mark.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tokenizers
from numpy.typing import NDArray

from descent.errors import CorruptArtifact, UserError
from descent.text.config import Kind
from descent.text.marks import END, UNKNOWN, Marks

__all__ = ["END", "UNKNOWN", "Pieces", "TokenStream", "Tokenizer", "byte_symbols", "lowered"]

_MAX_FILE = 256 * 2**20
_CHUNK = 1 << 20


def byte_symbols() -> list[str]:
    """The printable character that stands for each byte 0..255 in a byte-level vocabulary.

    Printable Latin-1 characters stand for themselves, the other bytes take the characters from
    U+0100 on, in order (A. Radford et al., GPT-2, 2019).
    """
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in own else chr(next(others)) for byte in range(256)]


_BYTE_OF = {symbol: byte for byte, symbol in enumerate(byte_symbols())}


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        kind: `char`, `byte`, `bpe`, `wordpiece` or `unigram`.
        vocab_size: how many ids there are, `0..vocab_size-1`.
    """

    def __init__(self, text: str):
        """Takes the JSON of a tokenizer, as `save` writes it."""
        library = tokenizers.Tokenizer.from_str(text)
        library.no_truncation()
        library.no_padding()
        self._library, self._text = library, text
        spec: dict[str, Any] = json.loads(text)
        # Marks typed by a user are text: the library would otherwise turn them into the mark itself.
        library.encode_special_tokens = True
        self.kind: Kind = _kind(spec)
        vocabulary = library.get_vocab(with_added_tokens=True)
        self.vocab_size = max(vocabulary.values(), default=-1) + 1
        special = {
            token.content: index
            for index, token in library.get_added_tokens_decoder().items()
            if token.special
        }
        self._special = set(special)
        self.marks = Marks(special, vocabulary)
        self.special = frozenset(special.values())
        self._bytes = _token_bytes(spec, vocabulary, self._special, self.kind)
        self._lowercase = (spec.get("normalizer") or {}).get("type") == "Lowercase"
        self._table = _character_table(vocabulary, self._special) if self.kind == "char" else None

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """The tokenizer of a `tokenizer.json`.

        Raises:
            UserError: there is no such file.
            CorruptArtifact: the file is not a tokenizer.
        """
        file = Path(path)
        if file.is_dir():
            file = file / "tokenizer.json"
        if not file.is_file():
            raise UserError("there is no such tokenizer file", got=str(path), expected="a tokenizer.json")
        if file.stat().st_size > _MAX_FILE:
            raise CorruptArtifact(
                f"{file} is too large for a tokenizer", got=f"{file.stat().st_size:,} bytes"
            )
        try:
            return cls(file.read_bytes().decode("utf-8"))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the library's panics are no Exception
            raise CorruptArtifact(
                f"{file} is not a readable tokenizer: {error}",
                expected="JSON as the tokenizers library writes it",
            ) from None

    def save(self, path: str | Path) -> None:
        """Writes the `tokenizer.json`; the SHA-256 of the file is `fingerprint`."""
        Path(path).write_bytes(self._text.encode("utf-8"))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the JSON."""
        return hashlib.sha256(self._text.encode("utf-8")).hexdigest()

    @property
    def end(self) -> int:
        """The id of the mark that ends a document and begins the next."""
        return self.marks.get("end")

    @property
    def begin(self) -> int:
        """The id of the mark that begins a row: [CLS] or its like."""
        return self.marks.get("begin")

    @property
    def separator(self) -> int:
        """The id of the mark that ends each text of a row: [SEP] or its like."""
        return self.marks.get("separator")

    @property
    def mask(self) -> int:
        """The id of the mark that hides a token: [MASK] or its like."""
        return self.marks.get("mask")

    @property
    def pad(self) -> int:
        """The id that fills a row, and that a decoder begins with (as T5's does); the end mark where
        there is none."""
        found = self.marks.find("pad")
        return self.end if found is None else found

    @property
    def unknown(self) -> int | None:
        """The id of what it does not know; None where it knows every text."""
        knows_all = self._bytes is not None and self.kind != "char"
        return None if knows_all else self.marks.find("unknown")

    @property
    def sentinels(self) -> tuple[int, ...]:
        """The ids of T5's sentinels, in the order of their numbers; empty if there are none."""
        return self.marks.sentinels

    def encode(self, text: str, marks: bool = False) -> list[int]:
        """The ids of a text, no marks added. A character that `char` never saw becomes `<unk>`.

        Args:
            text: any.
            marks: whether the name of a mark in the text, such as [MASK], stands for the mark.
        """
        if not marks or not self._special:
            return self.encode_array(text).tolist()
        names = sorted(self._special, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, names))})", text)
        known = self.marks.special
        return [
            index
            for number, part in enumerate(parts)
            if part
            for index in ([known[part]] if number % 2 else self.encode(part))
        ]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        if self.kind in ("char", "byte") or any(len(text) > _CHUNK for text in texts):
            return [self.encode(text) for text in texts]
        for text in texts:
            _refuse_surrogates(text)
        return [found.ids for found in self._library.encode_batch_fast(list(texts), add_special_tokens=False)]

    def pieces(self, text: str) -> Pieces:
        """The ids of a text, and where in the text each of them stands."""
        return self.pieces_batch([text])[0]

    def pieces_batch(self, texts: Sequence[str]) -> list[Pieces]:
        """`pieces` of each text, on all cores."""
        if self.kind == "char":
            return [Pieces(self.encode(text), [(at, at + 1) for at in range(len(text))]) for text in texts]
        if self.kind == "byte":
            return [Pieces(self.encode(text), _places_of_bytes(text)) for text in texts]
        for text in texts:
            _refuse_surrogates(text)
        found = self._library.encode_batch(list(texts), add_special_tokens=False)
        return [Pieces(one.ids, one.offsets) for one in found]

    def encode_array(self, text: str) -> NDArray[np.int64]:
        """`encode` as an array, for long texts."""
        _refuse_surrogates(text)
        if self._lowercase and self.kind in ("char", "byte"):
            text = lowered(text)
        if self._table is not None:
            points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
            return self._table[np.minimum(points, len(self._table) - 1)]
        if self.kind == "byte":
            return self._byte_ids[np.frombuffer(text.encode("utf-8"), dtype=np.uint8)]
        parts = _pieces(text) if len(text) > _CHUNK else [text]
        found = self._library.encode_batch_fast(parts, add_special_tokens=False)
        return np.concatenate([np.asarray(part.ids, dtype=np.int64) for part in found])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; marks give nothing, bytes that are no UTF-8 (and `<unk>`) give U+FFFD."""
        self._check(ids)
        if self._bytes is None:
            return self._library.decode(list(ids), skip_special_tokens=True)
        return b"".join([self._bytes[index] for index in ids]).decode("utf-8", "replace")

    def token(self, index: int) -> str:
        """One token as it reads: its text, or its mark."""
        self._check([index])
        raw = self._library.id_to_token(index) or ""
        return raw if raw in self._special else self.decode([index])

    def token_bytes(self, index: int) -> bytes:
        """The bytes a token stands for (empty for a mark)."""
        self._check([index])
        return self._bytes[index] if self._bytes is not None else self.decode([index]).encode("utf-8")

    def stream(self) -> TokenStream:
        """A decoder fed one id at a time, which never shows half a character."""
        return _WholeStream(self) if self._bytes is None else _ByteStream(self, self._bytes)

    def _check(self, ids: Sequence[int]) -> None:
        for index in ids:
            if not 0 <= index < self.vocab_size:
                raise UserError("no such token", got=index, expected=f"0 to {self.vocab_size - 1}")

    @property
    def _byte_ids(self) -> NDArray[np.int64]:
        return np.array([self._library.token_to_id(symbol) for symbol in byte_symbols()], dtype=np.int64)

    def __repr__(self) -> str:
        return f"Tokenizer(kind={self.kind!r}, vocab_size={self.vocab_size:,})"


class Pieces(NamedTuple):
    """A text in tokens.

    Attributes:
        ids: of the tokens.
        spans: for each the place of its first character in the text and that behind its last; tokens that are
            parts of one character have the same place.
    """

    ids: list[int]
    spans: list[tuple[int, int]]


class TokenStream(ABC):
    """Text from tokens that come one at a time."""

    @abstractmethod
    def push(self, index: int) -> str:
        """The characters that this token completes; possibly none."""

    @abstractmethod
    def finish(self) -> str:
        """What is left when no token follows: U+FFFD for a character that stayed incomplete."""


class _ByteStream(TokenStream):
    def __init__(self, tokenizer: Tokenizer, table: list[bytes]):
        self._tokenizer, self._table = tokenizer, table
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, index: int) -> str:
        self._tokenizer._check([index])
        return self._decoder.decode(self._table[index])

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)


class _WholeStream(TokenStream):
    """For decoders whose text of a token depends on its neighbours: decodes all and shows what is new."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer, self._ids, self._shown = tokenizer, [], ""

    def push(self, index: int) -> str:
        self._ids.append(index)
        text = self._tokenizer.decode(self._ids)
        return "" if text.endswith("\ufffd") or not text.startswith(self._shown) else self._show(text)

    def finish(self) -> str:
        text = self._tokenizer.decode(self._ids)
        return self._show(text) if text.startswith(self._shown) else ""

    def _show(self, text: str) -> str:
        new, self._shown = text[len(self._shown) :], text
        return new


def lowered(text: str) -> str:
    """Small letters for capital ones, where that leaves the number of characters as it is."""
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text)


def _places_of_bytes(text: str) -> list[tuple[int, int]]:
    return [(at, at + 1) for at, char in enumerate(text) for _ in char.encode("utf-8")]


def _kind(spec: dict[str, Any]) -> Kind:
    """The kind of a tokenizer, from its JSON."""
    model = spec["model"]
    name = model.get("type") or ("BPE" if "merges" in model else "")
    if name == "BPE":
        return "byte" if not model["merges"] and len(model["vocab"]) == 256 else "bpe"
    kinds: dict[str, Kind] = {"WordLevel": "char", "WordPiece": "wordpiece", "Unigram": "unigram"}
    if name not in kinds:
        raise ValueError(f"unknown model type {name!r}")
    return kinds[name]


def _token_bytes(
    spec: dict[str, Any], vocabulary: dict[str, int], special: set[str], kind: Kind
) -> list[bytes] | None:
    """The bytes of every id, or None when the decoder of this tokenizer is not byte-level."""
    if kind == "char":
        table = {token: token.encode("utf-8") for token in vocabulary}
    elif '"ByteLevel"' in json.dumps(spec.get("decoder")):
        strip = spec["model"].get("continuing_subword_prefix") or "" if kind == "wordpiece" else ""
        added = {token["content"] for token in spec.get("added_tokens") or ()}
        table = {token: _symbol_bytes(token, strip, token in added) for token in vocabulary}
    else:
        return None
    found = [b""] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        unknown = b"\xef\xbf\xbd" if token in (UNKNOWN, "[UNK]") else b""
        found[index] = unknown if token in special else table[token]
    return found


def _symbol_bytes(token: str, strip: str, added: bool) -> bytes:
    symbols = token[len(strip) :] if strip and token.startswith(strip) and len(token) > len(strip) else token
    if added or any(symbol not in _BYTE_OF for symbol in symbols):
        return token.encode("utf-8")
    return bytes(_BYTE_OF[symbol] for symbol in symbols)


def _character_table(vocabulary: dict[str, int], special: set[str]) -> NDArray[np.int64]:
    """Code point to id; the last place stands for everything beyond, `<unk>`."""
    points = {
        ord(token): index for token, index in vocabulary.items() if token not in special and len(token) == 1
    }
    unknown = vocabulary.get(UNKNOWN, vocabulary.get("[UNK]", -1))
    table = np.full(max(points, default=0) + 2, unknown, dtype=np.int64)
    table[list(points)] = list(points.values())
    return table


def _pieces(text: str) -> list[str]:
    """A long text cut where a line ends, so that the library's memory stays bounded and all cores work."""
    pieces, start = [], 0
    while len(text) - start > _CHUNK:
        cut = text.rfind("\n", start + _CHUNK // 2, start + _CHUNK) + 1 or start + _CHUNK
        pieces.append(text[start:cut])
        start = cut
    return [*pieces, text[start:]]


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"character {error.start:,} of the text is half of a surrogate pair, which no UTF-8 text holds",
            got=text[error.start],
            hint="remove it, or write the whole character",
        ) from None
