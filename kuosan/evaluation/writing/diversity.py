"""How varied is a set of texts, and does it stay with one thing?

    entropy_characters, entropy_words   −Σ p log₂ p of the pooled frequencies, in bits
    distinct_1 … distinct_4             different n-grams of words over all n-grams, pooled (Li et al. 2016)
    self_bleu                           mean BLEU-4 of a text against all others (Zhu et al. 2018)
    repetition                          mean share of a text's 4-grams of words that it had before (Welleck et al. 2020)
    known_words                         share of words that occur in the training texts, whatever their case

None of these has a best value; real texts have one, and both sides of it are faults: low entropy and high self-BLEU
are collapse, entropy *above* real texts is noise. A score of quality alone (a perplexity under some other model, or a
share of known words) rewards collapse, so it belongs beside these. All depend on n and on the texts' lengths, hence
the floors. Words are those of words.py: characters, in scripts without blanks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np

from kuosan.evaluation.writing.bleu import SelfBleu
from kuosan.evaluation.writing.grams import Grams, grams
from kuosan.evaluation.writing.statistics import Mask, Statistic, Value
from kuosan.evaluation.writing.words import is_word, words

NOISE = "below the floor is collapse, above it noise"


def _one_in(n: int) -> Callable[[Sequence[str]], float]:
    """One of all n-grams of the texts."""
    return lambda texts: 1 / max(1, sum(max(0, len(words(text)) - n + 1) for text in texts))


def _entropy(cut: Callable[[str], Iterable[str]], texts: Sequence[str]) -> Value:
    found = grams([cut(text) for text in texts], 1)

    def value(keep: Mask) -> float:
        counts = np.bincount(found.gram[keep[found.owner]])
        if not counts.any():
            raise ValueError("entropy: the texts are empty")
        p = counts[counts > 0] / counts.sum()
        return float(-(p * np.log2(p)).sum())

    return value


def _distinct(n: int, texts: Sequence[str]) -> Value:
    found = grams(map(words, texts), n)

    def value(keep: Mask) -> float:
        kept = found.gram[keep[found.owner]]
        if not len(kept):
            raise ValueError(f"distinct_{n}: no text has {n} words")
        return float(np.count_nonzero(np.bincount(kept)) / len(kept))

    return value


def repetition_of(found: Grams, texts: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """1 − different n-grams / n-grams of each text; NaN where it has none."""
    total = np.bincount(found.owner, minlength=texts)
    pairs = np.unique(np.stack([found.owner, found.gram], 1), axis=0)
    different = np.bincount(pairs[:, 0], minlength=texts)
    return np.where(total > 0, 1 - different / np.maximum(total, 1), np.nan)


def _repetition(texts: Sequence[str]) -> Value:
    per_text = repetition_of(grams(map(words, texts), 4), len(texts))

    def value(keep: Mask) -> float:
        kept = per_text[keep & ~np.isnan(per_text)]
        if not len(kept):
            raise ValueError("repetition: no text has 4 words")
        return float(kept.mean())

    return value


def _known(vocabulary: Collection[str], texts: Sequence[str]) -> Value:
    cut = [[w.casefold() for w in words(text) if is_word(w)] for text in texts]
    total = np.array([len(ws) for ws in cut])
    known = np.array([sum(w in vocabulary for w in ws) for ws in cut])

    def value(keep: Mask) -> float:
        if not total[keep].any():
            raise ValueError("known_words: the texts hold no word")
        return float(known[keep].sum() / total[keep].sum())

    return value


ENTROPY_CHARACTERS = Statistic(
    "entropy_characters", "higher", "characters", f"bits; {NOISE}", lambda texts: _entropy(list, texts)
)
ENTROPY_WORDS = Statistic(
    "entropy_words", "higher", "words", f"bits; {NOISE}", lambda texts: _entropy(words, texts)
)
SELF_BLEU = Statistic(
    "self_bleu",
    "lower",
    "words",
    "BLEU-4 against all other texts, one added to counts of 2-grams and longer; above the floor is collapse",
    SelfBleu,
)
REPETITION = Statistic(
    "repetition", "lower", "words", "share of a text's 4-grams that it had before", _repetition, _one_in(4)
)


def distinct(n: int) -> Statistic:
    """Different n-grams of words over all n-grams."""
    return Statistic(
        f"distinct_{n}",
        "higher",
        "words",
        f"{n}-grams; {NOISE}",
        lambda texts: _distinct(n, texts),
        _one_in(n),
    )


def vocabulary_of(texts: Iterable[str]) -> frozenset[str]:
    """All words of the texts, case folded."""
    return frozenset(w.casefold() for text in texts for w in words(text) if is_word(w))


def known_words(vocabulary: Collection[str]) -> Statistic:
    """Share of words that are in `vocabulary` (case folded, as from `vocabulary_of`)."""
    return Statistic(
        "known_words",
        "higher",
        "words",
        f"share found among {len(vocabulary)} words of training; floor: held-out texts",
        lambda texts: _known(vocabulary, texts),
        _one_in(1),
    )


DIVERSITY = (ENTROPY_CHARACTERS, ENTROPY_WORDS, *(distinct(n) for n in (1, 2, 3, 4)), SELF_BLEU, REPETITION)
