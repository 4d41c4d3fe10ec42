r"""How predictable a text is to a model that only counts: character n-grams with modified Kneser–Ney smoothing.

With c the counts of an n-gram (context h, then character w), and h' the context without its oldest character,

    p_n(w|h) = [max(c(hw) − D(c(hw)), 0) + γ(h) p_{n−1}(w|h')] / c(h)                                     (1)
    γ(h)     = D₁ N₁(h) + D₂ N₂(h) + D₃ N₃₊(h),      N_i(h) = how many w have c(hw) = i                   (2)
    D_i      = i − (i+1) Y n_{i+1}/n_i,   Y = n₁/(n₁ + 2n₂),     n_i = how many n-grams occur i times      (3)

and p_n = p_{n−1} where h never occurred (Chen & Goodman 1999, eqs. 23–26; interpolated). Below the highest order c
is not how often hw occurred but after how many different characters it did: "Francisco" is frequent, but only ever
follows "San". An n-gram that begins at the start of a text has nothing before it, and keeps its count. p₀ is
uniform over the vocabulary.

Every text is modelled on its own. n−1 marks stand before it, which are contexts only; the character END is coded
after it. The vocabulary is closed: the characters of the training texts, END, and an escape for all others, after
which the character itself is coded at log₂ of the number of other Unicode characters. So every text has finite
bits. Bits per character are all bits, END and escapes included, over the number of characters without END.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Ints = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

UNICODE = 0x110000 - 0x800  # code points less surrogates
BEGIN, END, ESCAPE, FIRST = 0, 1, 2, 3  # numbers of symbols; characters begin at FIRST


@dataclass(frozen=True)
class _Stream:
    """All symbols of some texts in one row, `order` − 1 marks before each; `events` are the places predicted."""

    symbols: Ints
    events: Ints
    characters: int
    escapes: int


def _stream(texts: Sequence[str], alphabet: Ints, order: int) -> _Stream:
    """`alphabet` holds the sorted code points of the known characters."""
    lead = order - 1
    joined = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    place = np.searchsorted(alphabet, joined)
    known = alphabet[np.minimum(place, len(alphabet) - 1)] == joined if len(alphabet) else joined < 0
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    ends = np.cumsum(lengths + lead + 1)  # one past each text's END
    symbols = np.full(int(ends[-1]) if len(ends) else 0, BEGIN, dtype=np.int64)
    symbols[ends - 1] = END
    inner = np.arange(len(joined)) + np.repeat((lead + 1) * np.arange(1, len(texts) + 1) - 1, lengths)
    symbols[inner] = np.where(known, place + FIRST, ESCAPE)
    events = np.sort(np.concatenate([inner, ends - 1]))
    return _Stream(symbols, events, len(joined), int((~known).sum()))


@dataclass(frozen=True)
class _Level:
    """n-grams of one length by their sorted keys, context · size + symbol, and what eq. (1) needs of each context.

    `contexts` are the sorted keys of the contexts themselves: shorter context · size + the oldest symbol.
    """

    contexts: Ints
    grams: Ints
    context_of: Ints
    raw: Ints
    adjusted: Ints


@dataclass(frozen=True)
class _Smoothing:
    """Eqs. (2) and (3) for one set of counts: discounts of counts 0, 1, 2, 3+, totals and γ by context."""

    counts: Ints
    discounts: Floats
    totals: Floats
    gammas: Floats


def _discounts(counts: Ints) -> Floats:
    """Eq. (3); where a count of counts is 0, or the estimate is not positive, the usual ½, 1, 3⁄2 (as in KenLM)."""
    n = np.bincount(np.minimum(counts, 5), minlength=6).astype(float)
    usual = np.array([0.0, 0.5, 1.0, 1.5])
    if (n[1:5] == 0).any():
        return usual
    y = n[1] / (n[1] + 2 * n[2])
    found = np.array([0.0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))])
    return found if (found[1:] > 0).all() else usual  # at 0, γ might be 0, and unseen characters endless bits


def _smoothing(counts: Ints, context_of: Ints, contexts: int) -> _Smoothing:
    discounts = _discounts(counts)
    taken = discounts[np.minimum(counts, 3)]
    totals = np.bincount(context_of, counts, minlength=contexts).astype(float)
    gammas = np.bincount(context_of, taken, minlength=contexts).astype(float)
    return _Smoothing(counts, discounts, totals, gammas)


def _find(keys: Ints, wanted: Ints) -> Ints:
    """Place of each wanted key among the sorted keys, −1 where it is not."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, -1)


class KneserNey:
    """Counts of character n-grams up to `order`, 1 ≤ order; memory and time grow as order · characters.

    Raises ValueError where there is no training text.
    """

    def __init__(self, texts: Sequence[str], order: int = 6) -> None:
        if order < 1 or not texts:
            raise ValueError(
                f"n-grams: need an order from 1 and a training text, got {order} and {len(texts)}"
            )
        self.order = order
        self.characters = "".join(sorted(set("".join(texts))))
        self.alphabet = np.array([ord(c) for c in self.characters], dtype=np.int64)
        self.size = len(self.alphabet) + FIRST  # symbols, with BEGIN
        stream = _stream(texts, self.alphabet, order)
        symbols, events = stream.symbols, stream.events
        context, contexts = np.zeros_like(events), np.zeros(1, np.int64)
        levels: list[_Level] = []
        for n in range(1, order + 1):
            if n > 1:
                contexts, context = np.unique(
                    context * self.size + symbols[events - n + 1], return_inverse=True
                )
            grams, raw = np.unique(context * self.size + symbols[events], return_counts=True)
            levels.append(_Level(contexts, grams, grams // self.size, raw, raw))
        for n in range(1, order):
            levels[n - 1] = self._continued(levels[n - 1], levels[n], begins=n > 1)
        self._levels = levels
        self._lower = [_smoothing(v.adjusted, v.context_of, len(v.contexts)) for v in self._levels]

    def _continued(self, level: _Level, longer: _Level, *, begins: bool) -> _Level:
        """A level with the numbers of characters that its n-grams follow, where anything comes before them."""
        shorter = longer.contexts // self.size  # each longer context without its oldest symbol
        keys = shorter[longer.context_of] * self.size + longer.grams % self.size
        after = np.bincount(_find(level.grams, keys), minlength=len(level.grams))
        first = (level.contexts % self.size == BEGIN) & begins
        return replace(level, adjusted=np.where(first[level.context_of], level.raw, after))

    def probabilities(self, context: str, order: int | None = None) -> Floats:
        """p(w | context) for `characters`, then END, then the escape, at the start of a text if it is short.

        Only the last order − 1 characters count. The numbers sum to 1.
        """
        order = order or self.order
        stream = _stream([context], self.alphabet, self.order)
        wanted = np.array([*range(FIRST, self.size), END, ESCAPE], dtype=np.int64)
        place = np.full(len(wanted), stream.events[-1])
        return self._predict(stream.symbols, place, wanted, order)

    def bits(self, texts: Sequence[str], order: int | None = None) -> float:
        """Bits per character of the texts under the n-gram model of `order` (≤ the order counted).

        Raises ValueError where the texts hold no character.
        """
        stream = _stream(texts, self.alphabet, self.order)
        if not stream.characters:
            raise ValueError("n-grams: the texts to be measured hold no character")
        events = stream.events
        p = self._predict(stream.symbols, events, stream.symbols[events], order or self.order)
        escaped = stream.escapes * math.log2(UNICODE - len(self.alphabet))
        return float((escaped - np.log2(p).sum()) / stream.characters)

    def _predict(self, symbols: Ints, places: Ints, wanted: Ints, order: int) -> Floats:
        """Eq. (1) from the bottom up: p of the `wanted` symbols, each after what stands before its place."""
        if not 1 <= order <= self.order:
            raise ValueError(f"n-grams: counted up to order {self.order}, asked for {order}")
        p = np.full(len(wanted), 1 / (self.size - 1))  # all symbols but BEGIN
        context = np.zeros(len(places), dtype=np.int64)
        for n, level in enumerate(self._levels[:order], 1):
            if n > 1:
                found = _find(level.contexts, context * self.size + symbols[places - n + 1])
                context = np.where(context >= 0, found, -1)
            top = n == order
            smoothing = (
                _smoothing(level.raw, level.context_of, len(level.contexts)) if top else self._lower[n - 1]
            )
            gram = _find(level.grams, context * self.size + wanted)
            counts = np.where((gram >= 0) & (context >= 0), smoothing.counts[gram], 0)
            left = counts - smoothing.discounts[np.minimum(counts, 3)]
            total = smoothing.totals[context]
            p = np.where(context >= 0, (left + smoothing.gammas[context] * p) / np.maximum(total, 1), p)
        return p
