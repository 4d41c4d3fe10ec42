"""Self-BLEU: how much every text of a set looks like the rest of it (Zhu et al. 2018).

    BLEU = min(1, exp(1 − r/c)) · (Π_n p_n)^{1/N},   p_n = Σ_g min(c_g, max over the others of c_g) / Σ_g c_g    (1)

with c the length of the text, r the length nearest to it among the others (Papineni et al. 2002), N = 4, or the
number of words of a shorter text. For n > 1 one is added above and below p_n (Lin & Och 2004), so a text that
shares no 4-gram with the others still has a value. Texts without words have none.

The largest count of an n-gram *among the others* is the largest of all unless the text itself holds that, and then the
second largest: two numbers per n-gram serve all texts, in the time that it takes to sort the n-grams once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kuosan.evaluation.writing.grams import Grams, grams
from kuosan.evaluation.writing.statistics import Mask
from kuosan.evaluation.writing.words import words

LONGEST = 4
Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class _Counts:
    """How often each text has each of its n-grams; of one n-gram, the largest count comes first."""

    gram: Ints
    owner: Ints
    count: Ints

    @classmethod
    def of(cls, found: Grams, texts: int) -> _Counts:
        keys, count = np.unique(found.gram * texts + found.owner, return_counts=True)
        gram, owner = keys // texts, keys % texts
        order = np.lexsort((-count, gram))
        return cls(gram[order], owner[order], count[order])

    def matches(self, keep: Mask) -> Floats:
        """Σ_g min(c_g, max over the other kept texts of c_g), of every kept text."""
        here = keep[self.owner]
        gram, owner, count = self.gram[here], self.owner[here], self.count[here]
        if not len(gram):
            return np.zeros(len(keep))
        starts = np.r_[True, gram[1:] != gram[:-1]]
        first = np.flatnonzero(starts)
        second = np.where(np.r_[starts[1:], True], 0, np.r_[count[1:], 0])[first]
        which = np.cumsum(starts) - 1
        rest = np.where(owner == owner[first][which], second[which], count[first][which])
        return np.bincount(owner, np.minimum(count, rest), minlength=len(keep)).astype(float)


def nearest_lengths(lengths: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """For every length the nearest among the others, the shorter of two equally near; two or more are needed."""
    order = np.argsort(lengths, kind="stable")
    line = lengths[order]
    far = 2 * int(line[-1]) + 2
    below, above = np.r_[-far, line[:-1]], np.r_[line[1:], far * 2]
    nearest = np.empty_like(lengths)
    nearest[order] = np.where(line - below <= above - line, below, above)
    return nearest


class SelfBleu:
    """Eq. (1) of texts against each other, also of some of them only."""

    def __init__(self, texts: Sequence[str]) -> None:
        cut = [words(text) for text in texts]
        self.lengths = np.array([len(ws) for ws in cut], dtype=np.int64)
        self.counts = [_Counts.of(grams(cut, n), len(texts)) for n in range(1, LONGEST + 1)]

    def of(self, keep: Mask) -> Floats:
        """BLEU of every text that is kept and has a word, in their order. Raises ValueError for fewer than two."""
        some = np.flatnonzero(keep & (self.lengths > 0))
        if len(some) < 2:
            raise ValueError(f"self_bleu: needs two texts with words, got {len(some)}")
        lengths, logs = self.lengths[some], np.zeros(len(some))
        for n, counts in enumerate(self.counts, 1):
            added = int(n > 1)
            total = np.maximum(lengths - n + 1, 0)
            with np.errstate(divide="ignore"):
                log = np.log((counts.matches(keep)[some] + added) / np.maximum(total + added, 1))
            logs += np.where(total > 0, log, 0.0)
        brevity = np.minimum(0.0, 1 - nearest_lengths(lengths) / lengths)
        return np.exp(logs / np.minimum(lengths, LONGEST) + brevity)

    def __call__(self, keep: Mask) -> float:
        return float(self.of(keep).mean())
