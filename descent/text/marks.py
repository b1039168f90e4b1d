"""The marks of a tokenizer: ids that stand for no text.

A language model needs one, which ends a document and begins the next. BERT begins a row with [CLS], ends each
text with [SEP] and hides tokens behind [MASK] (J. Devlin et al., arXiv:1810.04805, section 3); T5 replaces
spans by numbered sentinels (C. Raffel et al., arXiv:1910.10683, section 3.1.4). Published ones name them
in different ways, which are all known here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from descent.errors import UserError
from descent.text.config import MarkSet

__all__ = ["END", "UNKNOWN", "Marks", "marks_of"]

END = "<|endoftext|>"
UNKNOWN = "<unk>"
SENTINELS = 100

_SETS: dict[MarkSet, tuple[list[str], str]] = {
    "document": ([END], UNKNOWN),
    "bert": (["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], "[UNK]"),
    "t5": (["<pad>", "</s>", UNKNOWN, *(f"<extra_id_{number}>" for number in range(SENTINELS))], UNKNOWN),
}
_NAMES = {
    "begin": ("[CLS]", "<s>", "<|begin_of_text|>", "<bos>", END),
    "separator": ("[SEP]", "</s>", "<|end_of_text|>", "<eos>", END),
    "mask": ("[MASK]", "<mask>"),
    "pad": ("[PAD]", "<pad>", "<|pad|>"),
    "end": (END, "</s>", "<|end_of_text|>", "<eos>", "[SEP]"),
    "unknown": ("[UNK]", UNKNOWN),
}
"""What a mark is called, the likeliest first."""
_SENTINEL = re.compile(r"<extra_id_(\d{1,4})>")


def marks_of(kind: MarkSet, unknown: bool) -> tuple[list[str], str]:
    """The marks a trained tokenizer begins with, and the one for what it does not know.

    Args:
        kind: see `TokenizerConfig.marks`.
        unknown: whether the tokenizer can meet what it does not know; without it "document" has one mark.
    """
    names, mark = _SETS[kind]
    return ([*names, mark] if unknown and mark not in names else list(names)), mark


@dataclass(frozen=True)
class Marks:
    """Where each mark stands in a vocabulary.

    Attributes:
        special: every mark and its id.
        vocabulary: every token and its id; an end mark may be an ordinary one in published vocabularies.
    """

    special: Mapping[str, int]
    vocabulary: Mapping[str, int]

    def find(self, role: str) -> int | None:
        """The id of the mark for a role, a key of the names above; None if there is none."""
        return next((self.vocabulary[name] for name in _NAMES[role] if name in self.vocabulary), None)

    def get(self, role: str) -> int:
        """As `find`.

        Raises:
            UserError: this tokenizer has no such mark.
        """
        found = self.find(role)
        if found is None:
            raise UserError(
                f"this tokenizer has no mark to {_PURPOSE[role]}",
                expected="one of " + ", ".join(_NAMES[role]),
                hint="train one with tokenizer.marks=bert" if role == "mask" else None,
            )
        return found

    @property
    def sentinels(self) -> tuple[int, ...]:
        """The ids of <extra_id_0>, <extra_id_1>, ... as far as they go."""
        matches = ((_SENTINEL.fullmatch(name), index) for name, index in self.vocabulary.items())
        numbered = {int(match[1]): index for match, index in matches if match}
        count = next((number for number in range(len(numbered)) if number not in numbered), len(numbered))
        return tuple(numbered[number] for number in range(count))


_PURPOSE = {
    "begin": "begin a row",
    "separator": "set texts apart",
    "mask": "hide a token",
    "pad": "fill a row",
    "end": "end a document",
}
