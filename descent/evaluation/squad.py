"""How an answer is compared with the right ones, by the rules of SQuAD and of CMRC.

English, as SQuAD's script: letters small, punctuation and the articles a, an, the removed; F1 is of the words
that both have (P. Rajpurkar et al., SQuAD, arXiv:1606.05250, section 6.1). Where there is no answer, saying
so is right and anything else is wrong (P. Rajpurkar et al., Know What You Don't Know, arXiv:1806.03822).

Chinese, as the script of CMRC 2018: letters small, its signs removed; a Chinese character is a piece of its
own, and what stands between two is cut into words; F1 is of the longest run of pieces that both have, not of
all that both have (Y. Cui et al., arXiv:1810.07366, section 3). What it leaves to a tokenizer of English
words is cut here at white space and before and after punctuation, which differs in contractions alone.

Of several right answers the one nearest to what was given counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

__all__ = ["Language", "exact_match", "f1", "language_of"]

Language = Literal["en", "zh"]

_CHINESE = re.compile("[\u4e00-\u9fa5]")
_SIGNS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""What CMRC's script takes out (its list also has the sign of two characters "……", which is never met)."""
_WORDS = re.compile(r"\w+(?:[.,]\w+)*|[^\w\s]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def language_of(text: str) -> Language:
    """Whose rule a text asks for: Chinese if at least a tenth of its characters are."""
    return "zh" if len(_CHINESE.findall(text)) * 10 >= len(text) > 0 else "en"


def exact_match(given: str, answers: Sequence[str], language: Language) -> float:
    """1 if the answer given is a right one, else 0.

    Args:
        given: empty for "there is none".
        answers: the right ones; none where the text holds none.
        language: whose rule is asked.
    """
    if not answers:
        return float(not given)
    plain = _plain_english if language == "en" else _plain_chinese
    return max(float(plain(given) == plain(answer)) for answer in answers)


def f1(given: str, answers: Sequence[str], language: Language) -> float:
    """The harmonic mean of precision and recall of the pieces of an answer, 0 to 1; see `exact_match`."""
    if not answers:
        return float(not given)
    cut, shared = (_plain_english_words, _common) if language == "en" else (_pieces, _longest_run)
    found = cut(given)
    return max(_mean(found, cut(answer), shared) for answer in answers)


def _mean(given: list[str], right: list[str], shared: Callable[[list[str], list[str]], int]) -> float:
    if not given or not right:
        return float(given == right)
    # 2 P R / (P + R) with P = n / given and R = n / right
    return 2 * shared(given, right) / (len(given) + len(right))


def _plain_english(text: str) -> str:
    without = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", without).split())


def _plain_english_words(text: str) -> list[str]:
    return _plain_english(text).split()


def _common(given: list[str], right: list[str]) -> int:
    return sum((Counter(given) & Counter(right)).values())


def _plain_chinese(text: str) -> str:
    return "".join(char for char in text.lower().strip() if char not in _SIGNS)


def _pieces(text: str) -> list[str]:
    found: list[str] = []
    for part in re.split(f"({_CHINESE.pattern})", _plain_chinese(text)):
        found += [part] if _CHINESE.fullmatch(part) else _WORDS.findall(part)
    return found


def _longest_run(given: list[str], right: list[str]) -> int:
    """The length of the longest run of pieces that stands in both."""
    best, above = 0, [0] * (len(right) + 1)
    for piece in given:
        row = [0] * (len(right) + 1)
        for place, other in enumerate(right):
            if piece == other:
                row[place + 1] = above[place] + 1
        best, above = max(best, *row), row
    return best
