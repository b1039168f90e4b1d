"""Training a tokenizer on texts.

All pieces are learned over the 256 bytes of UTF-8 (each shown as one printable character), so no
text is unknown. Words are cut by one pattern whose every part is bounded, so that not even a line
without a break is one long word: finding the pieces of a word can take time quadratic in its length.

- BPE: R. Sennrich et al., arXiv:1508.07909, over bytes as in GPT-2.
- WordPiece: Y. Wu et al., arXiv:1609.08144; pieces are learned as the library does, by frequency.
- Unigram: T. Kudo, arXiv:1804.10959.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from descent.errors import UserError, unknown
from descent.text.config import Kind, MarkSet, TokenizerConfig
from descent.text.marks import marks_of
from descent.text.tokenizer import Tokenizer, byte_symbols, lowered

__all__ = ["Progress", "obtain", "train"]

Progress = bool | Callable[[int], None] | None
"""True: the library's bar on stderr. A callable gets the number of characters read so far."""

# A word with its leading space, up to three digits, a run of signs, a run of white space that leaves its
# last character to the next word. The sign # stands alone: WordPiece writes ## before a continuation.
_WORDS = (
    r"#| ?\p{{L}}{{1,{0}}}| ?\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}#]{{1,{0}}}|\s{{1,{0}}}(?!\S)|\s{{1,{0}}}"
)
_LONGEST = 32
_WORDPIECE_LONGEST = 12  # its search for the longest piece is quadratic in the word
_DEFAULT_SIZE = 4096
_SLICE = 1 << 16


def obtain(config: TokenizerConfig, texts: Iterable[str], progress: Progress = None) -> Tokenizer:
    """The tokenizer a recipe asks for: loaded from its path, or trained on the texts."""
    if config.path is not None:
        return Tokenizer.load(config.path)
    return train(config.kind, texts, config.vocab_size, progress, config.marks, config.lowercase)


@dataclass(frozen=True)
class _Plan:
    """What every maker needs: the size, the marks that come first, the one for the unknown, small letters."""

    vocab_size: int
    marks: list[str]
    unknown: str
    lowercase: bool
    show: bool


def train(
    kind: Kind,
    texts: Iterable[str],
    vocab_size: int = 0,
    progress: Progress = None,
    marks: MarkSet = "document",
    lowercase: bool = False,
) -> Tokenizer:
    """A tokenizer learned from texts.

    Args:
        kind: see `TokenizerConfig`.
        texts: the training texts, read once.
        vocab_size: tokens in all, the marks included; 0 = the kind's default. A small text may
            not hold that many different pieces; the vocabulary is then smaller.
        progress: see `Progress`.
        marks, lowercase: see `TokenizerConfig`.

    Raises:
        UserError: the size is too small for the kind, or there is no text.
    """
    makers: dict[str, Callable[[Iterator[str], _Plan], Library]] = {
        "char": _char,
        "byte": _byte,
        "bpe": _bpe,
        "wordpiece": _wordpiece,
        "unigram": _unigram,
    }
    if kind not in makers:
        raise unknown("kind of tokenizer", kind, makers)
    names, none = marks_of(marks, kind not in ("byte", "bpe"))
    least = {"char": 1, "byte": 256, "bpe": 256, "wordpiece": 512, "unigram": 256}[kind] + len(names)
    if vocab_size and (vocab_size < least or (kind == "byte" and vocab_size != least)):
        few = "exactly" if kind == "byte" else "at least"
        raise UserError(
            f"vocab_size does not suit a {kind} tokenizer", got=vocab_size, expected=f"{few} {least:,}"
        )
    plan = _Plan(vocab_size or _DEFAULT_SIZE, names, none, lowercase, progress is True)
    if kind == "char" and not vocab_size:
        plan = replace(plan, vocab_size=0)
    library = makers[kind](_slices(texts, progress), plan)
    if lowercase:
        library.normalizer = normalizers.Lowercase()
    return Tokenizer(library.to_str())


def _slices(texts: Iterable[str], progress: Progress) -> Iterator[str]:
    """The texts in short pieces cut after a line's end, counted as they are read."""
    done, seen = 0, False
    for text in texts:
        start = 0
        while start < len(text):
            seen = True
            cut = len(text)
            if cut - start > _SLICE:
                cut = text.rfind("\n", start, start + _SLICE) + 1 or start + _SLICE
            yield text[start:cut]
            done += cut - start
            start = cut
            if callable(progress):
                progress(done)
    if not seen:
        raise UserError("there is no text to learn a tokenizer from", expected="at least one character")


def _char(texts: Iterator[str], plan: _Plan) -> Library:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(lowered(text) if plan.lowercase else text)
    found, room = sorted(counts), plan.vocab_size - len(plan.marks)
    if plan.vocab_size and room < len(found):
        # the most frequent ones; by code point where two are equally frequent
        found = sorted(sorted(found, key=lambda char: (-counts[char], char))[:room])
    vocabulary = {token: index for index, token in enumerate([*plan.marks, *found])}
    library = Library(models.WordLevel(vocabulary, unk_token=plan.unknown))
    library.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    library.decoder = decoders.Fuse()
    return _marked(library, plan)


def _byte(texts: Iterator[str], plan: _Plan) -> Library:
    library = Library(models.BPE({symbol: byte for byte, symbol in enumerate(byte_symbols())}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    library.decoder = decoders.ByteLevel()
    for _ in texts:
        continue
    return _marked(library, plan)


def _bpe(texts: Iterator[str], plan: _Plan) -> Library:
    library = _over_bytes(models.BPE(), plan)
    trainer = trainers.BpeTrainer(
        vocab_size=plan.vocab_size,
        special_tokens=plan.marks,
        initial_alphabet=sorted(byte_symbols()),
        show_progress=plan.show,
    )
    library.train_from_iterator(texts, trainer)
    return library


def _wordpiece(texts: Iterator[str], plan: _Plan) -> Library:
    symbols = sorted(byte_symbols())
    library = _over_bytes(models.WordPiece({}, unk_token=plan.unknown), plan, _WORDPIECE_LONGEST)
    # Every byte must be able to continue a word. The trainer adds those it sees, in the order of a hash map
    # that differs from process to process, and breaks ties by it; given first, they have one order.
    continuations = [f"##{symbol}" for symbol in symbols]
    trainer = trainers.WordPieceTrainer(
        vocab_size=plan.vocab_size,
        special_tokens=[*plan.marks, *continuations],
        initial_alphabet=symbols,
        show_progress=plan.show,
    )
    library.train_from_iterator(texts, trainer)
    model = models.WordPiece(
        library.get_vocab(),
        unk_token=plan.unknown,
        max_input_chars_per_word=1000,
        continuing_subword_prefix="##",
    )
    rebuilt = _over_bytes(model, plan, _WORDPIECE_LONGEST)
    rebuilt.decoder = decoders.Sequence([decoders.Replace(Regex(r"^##(?=.)"), ""), decoders.ByteLevel()])
    return _marked(rebuilt, plan)


def _unigram(texts: Iterator[str], plan: _Plan) -> Library:
    library = _over_bytes(models.Unigram(), plan)
    trainer = trainers.UnigramTrainer(
        vocab_size=plan.vocab_size,
        special_tokens=plan.marks,
        unk_token=plan.unknown,
        initial_alphabet=sorted(byte_symbols()),
        show_progress=plan.show,
    )
    library.train_from_iterator(texts, trainer)
    learned: dict[str, float] = dict(json.loads(library.to_str())["model"]["vocab"])
    model = models.Unigram(
        _ordered(learned, plan.marks), unk_id=plan.marks.index(plan.unknown), byte_fallback=False
    )
    return _marked(_over_bytes(model, plan), plan)


def _ordered(learned: dict[str, float], marks: list[str]) -> list[tuple[str, float]]:
    """Pieces and their log-probabilities in one order and to six digits, after the marks.

    The trainer adds up in the order of a hash map, which differs from process to process: the last digits
    differ, and bytes that no text held get the lowest score plus steps of 1e-4 in that order. Those
    steps are taken out.
    """
    pieces = {piece: score for piece, score in learned.items() if piece not in marks}
    lowest = min(pieces.values())
    steps = lowest + len(byte_symbols()) * 1e-4
    scores = {
        piece: round(lowest if len(piece) == 1 and score < steps else score, 6)
        for piece, score in pieces.items()
    }
    order = sorted(scores, key=lambda piece: (-scores[piece], piece))
    return [*((mark, 0.0) for mark in marks), *((piece, scores[piece]) for piece in order)]


def _over_bytes(model: models.Model, plan: _Plan, longest: int = _LONGEST) -> Library:
    library = Library(model)
    if plan.lowercase:  # also while it learns
        library.normalizer = normalizers.Lowercase()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS.format(longest)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    return library


def _marked(library: Library, plan: _Plan) -> Library:
    library.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in plan.marks])
    return library
