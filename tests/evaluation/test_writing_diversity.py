"""Diversity of texts: closed forms, definitions done slowly, collapse is seen, real texts measure as real."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kuosan.evaluation.writing import (
    DIVERSITY,
    Statistic,
    distinct,
    known_words,
    measure_texts,
    vocabulary_of,
)
from kuosan.evaluation.writing.bleu import SelfBleu, nearest_lengths
from kuosan.evaluation.writing.diversity import ENTROPY_CHARACTERS, ENTROPY_WORDS, REPETITION, SELF_BLEU
from kuosan.evaluation.writing.grams import grams
from kuosan.evaluation.writing.words import pieces, words

TEXTS = st.lists(st.lists(st.sampled_from("abcd"), max_size=8).map(" ".join), min_size=2, max_size=6)
KNOWN = known_words({"a", "b"})


def zipf(n: int, seed: int, most: int = 300, length: int = 30) -> list[str]:
    generator = np.random.default_rng(seed)
    weight = 1 / np.arange(1, most + 1)
    draws = generator.choice(most, (n, length), p=weight / weight.sum())
    return [" ".join(f"w{i}" for i in row) for row in draws]


def test_words_of_several_scripts() -> None:
    assert words("Don't stop—now, x2 _") == ["Don't", "stop", "—", "now", ",", "x2", "_"]
    assert words("我用Python3寫。") == ["我", "用", "Python3", "寫", "。"]
    assert words("Ελλάδα é\n") == ["Ελλάδα", "é"]


def test_pieces_cut_only_what_is_longer() -> None:
    cut = pieces(["abcdefgh", "xy", "", "abcde"], 4)
    assert cut.texts == ("abcd", "efgh", "xy", "abcd") and cut.source.tolist() == [0, 0, 1, 3]
    assert pieces(["abcdef"], 4).texts == ("abcd", "ef"), "half a piece is kept"


@settings(max_examples=40)
@given(TEXTS, st.integers(1, 4))
def test_grams_are_equal_where_the_tokens_are(texts: list[str], n: int) -> None:
    cut = [words(t) for t in texts]
    plain = [(i, tuple(ws[j : j + n])) for i, ws in enumerate(cut) for j in range(len(ws) - n + 1)]
    found = grams(cut, n)
    assert found.owner.tolist() == [i for i, _ in plain]
    names: dict[int, tuple[str, ...]] = {}
    for number, (_, gram) in zip(found.gram.tolist(), plain, strict=True):
        assert names.setdefault(number, gram) == gram
    assert len(set(names.values())) == len(names)


def test_closed_forms() -> None:
    assert ENTROPY_CHARACTERS(["abcd", "dcba"]) == pytest.approx(2)
    assert ENTROPY_WORDS(["yes no", "no yes", "yes no"]) == pytest.approx(1)
    assert ENTROPY_CHARACTERS(["aaaa"]) == 0
    assert distinct(1)(["a b c", "a b"]) == pytest.approx(3 / 5)
    assert distinct(2)(["a b c", "a b"]) == pytest.approx(2 / 3)
    assert distinct(2)(["天地天地"]) == pytest.approx(2 / 3), "characters, where there are no blanks"
    assert REPETITION(["a b c d a b c d", "a b c"]) == pytest.approx(1 - 4 / 5)
    assert known_words(vocabulary_of(["The cat, the dog"]))(["A DOG sat.", "the"]) == pytest.approx(2 / 4)
    assert SELF_BLEU(["the same old words"] * 3) == pytest.approx(1)
    assert SELF_BLEU(["a b c d e", "f g h i j"]) == 0


def slow_bleu(text: list[str], others: list[list[str]]) -> float:
    """Eq. (1) of bleu.py, from the definition."""

    def count(ws: list[str], n: int) -> Counter[tuple[str, ...]]:
        return Counter(tuple(ws[i : i + n]) for i in range(len(ws) - n + 1))

    logs, orders = 0.0, min(4, len(text))
    for n in range(1, orders + 1):
        mine = count(text, n)
        best: Counter[tuple[str, ...]] = Counter()
        for other in others:
            best |= count(other, n)
        p = (sum((mine & best).values()) + (n > 1)) / (mine.total() + (n > 1))
        if p == 0:
            return 0.0
        logs += math.log(p) / orders
    r = min((abs(len(o) - len(text)), len(o)) for o in others)[1]
    return math.exp(logs + min(0.0, 1 - r / len(text)))


@settings(max_examples=40)
@given(TEXTS, st.data())
def test_self_bleu_is_its_definition_also_on_some_of_the_texts(texts: list[str], data: st.DataObject) -> None:
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    kept = [words(t) for t, k in zip(texts, keep, strict=True) if k and t]
    if len(kept) < 2:
        with pytest.raises(ValueError, match="two texts"):
            SelfBleu(texts)(keep)
        return
    slow = [slow_bleu(text, kept[:i] + kept[i + 1 :]) for i, text in enumerate(kept)]
    assert SelfBleu(texts).of(keep) == pytest.approx(slow, rel=1e-9)


def test_nearest_lengths() -> None:
    assert nearest_lengths(np.array([5, 9, 6, 7, 9])).tolist() == [6, 9, 5, 6, 9]


@pytest.mark.parametrize("statistic", [*DIVERSITY, KNOWN], ids=lambda s: s.name)
@settings(max_examples=40)
@given(texts=TEXTS, data=st.data())
def test_a_mask_is_a_choice_of_texts(statistic: Statistic, texts: list[str], data: st.DataObject) -> None:
    """The statistic of some of the prepared texts is that of those texts alone, in any order."""
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))))
    chosen = [t for t, k in zip(texts, keep, strict=True) if k]

    def value(of: list[str], mask: np.ndarray) -> float | None:
        try:
            return statistic.prepare(of)(mask)
        except ValueError:
            return None

    found = value(texts, keep)
    alone = value(chosen[::-1], np.ones(len(chosen), dtype=bool))
    assert found == pytest.approx(alone, rel=1e-9) if alone is not None else found is None


@pytest.mark.parametrize("statistic", DIVERSITY, ids=lambda s: s.name)
def test_real_texts_measure_as_real_and_the_error_is_their_spread(statistic: Statistic) -> None:
    values, errors, gaps = [], [], []
    most = 20 if statistic is REPETITION else 300  # of many words hardly any 4-gram comes twice
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        real = zipf(320, 1000 + seed, most)
        m = measure_texts(statistic, zipf(60, seed, most), real, generator=generator)
        assert m.n == 60 and m.stderr is not None and m.floor is not None and m.sigmas is not None
        values.append(m.value)
        errors.append(m.stderr)
        gaps.append(m.sigmas)
    assert abs(np.mean(gaps)) * math.sqrt(len(gaps)) < 4 and max(map(abs, gaps)) < 4.5
    assert 0.5 < np.mean(errors) / np.std(values, ddof=1) < 2.2


@pytest.mark.parametrize("statistic", DIVERSITY, ids=lambda s: s.name)
def test_collapse_is_seen(statistic: Statistic) -> None:
    """Samples from a few words only, and a sample that says one thing again and again."""
    collapsed = [t if i % 3 else " ".join(t.split()[:5] * 6) for i, t in enumerate(zipf(60, 1, most=8))]
    m = measure_texts(statistic, collapsed, zipf(300, 2), generator=torch.Generator().manual_seed(0))
    assert m.sigmas is not None and m.sigmas > 4


def test_the_floor_takes_the_same_n_and_few_are_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    m = measure_texts(distinct(1), zipf(90, 1), zipf(40, 2), generator=generator)
    assert m.n == 40 and "1 × 40 real texts" in m.note
    with pytest.raises(ValueError, match="got 9 and 40"):
        measure_texts(distinct(1), zipf(9, 1), zipf(40, 2), generator=generator)
    same = [
        measure_texts(SELF_BLEU, zipf(30, 1), zipf(90, 2), generator=torch.Generator().manual_seed(3))
        for _ in "ab"
    ]
    assert same[0] == same[1]
