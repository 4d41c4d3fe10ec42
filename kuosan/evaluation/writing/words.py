"""Words and pieces: how every measure of texts cuts them.

A word is a run of letters and digits (with apostrophes inside), a mark of punctuation is a word of its own, and
white space parts words without being one. Scripts that are written without blanks (Chinese, Japanese, Thai, Lao,
Khmer, Burmese, Tibetan) offer no such runs, so each of their characters stands for a word.

Real texts may be a few long ones where samples are many short ones. Measures that depend on length then compare
samples with `pieces` of the real texts: what is longer than the longest sample is cut into parts of that length.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Kana, bopomofo, the ideographs of all planes; Thai and Lao; Tibetan and Burmese; Khmer.
_BLANKLESS = (
    "\u3040-\u312f\u31a0-\u31bf\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
    "\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff"
)
_LETTER = rf"[^\W_{_BLANKLESS}]"
_WORD = re.compile(rf"[{_BLANKLESS}]|{_LETTER}+(?:['’]{_LETTER}+)*|[^\w\s]|_")


def words(text: str) -> list[str]:
    """The words of a text, in their order; case is kept."""
    return _WORD.findall(text)


def is_word(token: str) -> bool:
    """Whether a token of `words` holds letters or digits, and is not punctuation."""
    return any(c.isalnum() for c in token)


@dataclass(frozen=True)
class Pieces:
    """Parts of texts: `texts`, and the number of the text that each comes from."""

    texts: tuple[str, ...]
    source: np.ndarray[Any, np.dtype[np.int64]]

    def __len__(self) -> int:
        return len(self.texts)


def pieces(texts: Sequence[str], longest: int) -> Pieces:
    """Texts up to `longest` characters as they are; longer ones in parts of that length.

    A last part of less than half the length is dropped. Empty texts are dropped as well: they are no real items.
    """
    parts, source = [], []
    for number, text in enumerate(texts):
        for start in range(0, len(text), longest):
            part = text[start : start + longest]
            if start == 0 or 2 * len(part) >= longest:
                parts.append(part)
                source.append(number)
    return Pieces(tuple(parts), np.array(source, dtype=np.int64))
