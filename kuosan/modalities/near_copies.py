"""Near copies among texts: the same text with a few words changed, a line added, other spaces.

A text is the set S of its shingles, all runs of w characters (case and white space aside).  Two texts resemble
each other as Jaccard's J = |S ∩ T| / |S ∪ T| tells.  In texts of few words (genomes, game records, forms) any
two share most of their short runs, so w is the least width at which texts taken at random have little in
common (`shingle_width`).  Of each set only the k smallest hashes are kept,

    J ≈ |s_k(S ∪ T) ∩ s_k(S) ∩ s_k(T)| / |s_k(S ∪ T)|,        s_k: the k smallest hashes                  (1)

which is unbiased with a standard error of √(J(1 - J)/k), and exact where the union has at most k shingles
(Broder 1997).  Only texts are compared that share one of their 16 smallest hashes, and of these the eight that
fewest others have: what all texts begin with says nothing about two of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.8  # J from which two texts count as copies
MOST_TEXTS = 100_000  # more than this are not compared
WIDTHS = (5, 8, 12, 16, 24, 32, 48)
_KEPT, _KEYS, _RAREST = 128, 16, 8
_PAIRS, _LITTLE = 64, 0.1  # texts are compared in so many pairs, whose median J is to be at most so much
_MOST_COMPARED = 20  # with one text, of those that share a key: boilerplate would meet everybody


def near_copies(texts: Sequence[str], alike: float = ALIKE) -> list[list[int]]:
    """Groups of at least two texts that are linked by a resemblance of at least `alike`, by their places."""
    width = shingle_width(texts)
    sketches = [sketch(text, width) for text in texts]
    sets = [frozenset(one.tolist()) for one in sketches]
    leader = list(range(len(texts)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    smallest = [one[:_KEYS].tolist() for one in sketches]
    common = Counter(key for keys in smallest for key in keys)
    seen: dict[int, list[int]] = {}
    for i, one in enumerate(sketches):
        shared = sorted((common[key], key) for key in smallest[i] if common[key] > 1)
        lists = [seen.setdefault(key, []) for _, key in shared[:_RAREST]]
        for j in {j: None for fellows in lists for j in fellows[:_MOST_COMPARED]}:
            if _possible(sets[i], sets[j], alike):
                a, b = find(i), find(j)
                if a != b and resemblance(one, sketches[j]) >= alike:
                    leader[max(a, b)] = min(a, b)
        for fellows in lists:
            fellows.append(i)
    groups: dict[int, list[int]] = {}
    for i in range(len(texts)):
        groups.setdefault(find(i), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def shingle_width(texts: Sequence[str]) -> int:
    """The least of `WIDTHS` at which the texts have little in common; a quarter of their length at most."""
    half = len(texts) // 2
    places = sorted({round(i * max(0, half - 1) / _PAIRS) for i in range(_PAIRS + 1)}) if half else []
    pairs = [(texts[i], texts[i + half]) for i in places]
    longest = np.median([len(text) for pair in pairs for text in pair]) / 4 if pairs else 0
    for width in WIDTHS[:-1]:
        if width >= longest:
            return width
        if np.median([resemblance(sketch(a, width), sketch(b, width)) for a, b in pairs]) <= _LITTLE:
            return width
    return WIDTHS[-1]


def sketch(text: str, width: int = WIDTHS[0]) -> NDArray[np.uint64]:
    """The smallest hashes of a text's shingles, in ascending order and without repetition."""
    plain = " ".join(text.casefold().split())
    codes = np.frombuffer(plain.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    if len(codes) < width:
        codes = np.pad(codes, (0, width - len(codes)))
    n = len(codes) - width + 1
    h = np.zeros(n, np.uint64)
    for i in range(width):
        h = h * np.uint64(0x100000001B3) + codes[i : i + n]
    h = _mix(h)
    most = 16 * _KEPT
    few = np.unique(np.partition(h, most)[:most] if n > most else h)  # no need to sort a whole book
    return (few if len(few) >= _KEPT else np.unique(h))[:_KEPT]


def resemblance(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Equation (1) of two sketches."""
    union = np.union1d(one, other)[:_KEPT]
    both = np.intersect1d(one, other, assume_unique=True)
    return float(np.isin(union, both, assume_unique=True).mean())


def _possible(one: frozenset[int], other: frozenset[int], alike: float) -> bool:
    """Whether (1) can reach `alike`: a bound that is quick to tell."""
    both = len(one & other)
    return both >= alike * min(_KEPT, len(one) + len(other) - both)


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser (Steele, Lea & Flood 2014): every bit depends on every bit."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
