"""Near copies among texts: the same text with a few words changed, a line added, other spaces.

A text is the set S of its shingles, all runs of five characters (case and white space aside).  Two texts
resemble each other as Jaccard's J = |S ∩ T| / |S ∪ T| tells.  Of each set only the k smallest hashes are kept,

    J ≈ |s_k(S ∪ T) ∩ s_k(S) ∩ s_k(T)| / |s_k(S ∪ T)|,        s_k: the k smallest hashes                  (1)

which is unbiased with a standard error of √(J(1 - J)/k), and exact where the union has at most k shingles
(Broder 1997).  Only texts are compared that share one of their smallest hashes: a pair at J misses all of
m with a probability of about (1 - J)^m, 3 · 10⁻⁶ at J = 0.8 and m = 8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ALIKE = 0.8  # J from which two texts count as copies
MOST_TEXTS = 200_000  # more than this are not compared
_SHINGLE, _KEPT, _KEYS = 5, 128, 8
_MOST_COMPARED = 20  # with one text, of those that share a key: boilerplate would meet everybody


def near_copies(texts: Sequence[str], alike: float = ALIKE) -> list[list[int]]:
    """Groups of at least two texts that are linked by a resemblance of at least `alike`, by their places."""
    sketches = [sketch(text) for text in texts]
    sets = [frozenset(one.tolist()) for one in sketches]
    leader = list(range(len(texts)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    seen: dict[int, list[int]] = {}
    for i, one in enumerate(sketches):
        for key in one[:_KEYS].tolist():
            fellows = seen.setdefault(key, [])
            for j in fellows[:_MOST_COMPARED]:
                a, b = find(i), find(j)
                if a != b and _possible(sets[i], sets[j], alike) and resemblance(one, sketches[j]) >= alike:
                    leader[max(a, b)] = min(a, b)
            fellows.append(i)
    groups: dict[int, list[int]] = {}
    for i in range(len(texts)):
        groups.setdefault(find(i), []).append(i)
    return [group for group in groups.values() if len(group) > 1]


def sketch(text: str) -> NDArray[np.uint64]:
    """The smallest hashes of a text's shingles, in ascending order and without repetition."""
    plain = " ".join(text.casefold().split())
    codes = np.frombuffer(plain.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    if len(codes) < _SHINGLE:
        codes = np.pad(codes, (0, _SHINGLE - len(codes)))
    n = len(codes) - _SHINGLE + 1
    h = np.zeros(n, np.uint64)
    for i in range(_SHINGLE):
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
