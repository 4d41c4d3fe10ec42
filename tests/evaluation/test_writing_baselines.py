"""Baselines of texts: probabilities sum to 1, order 1 is an entropy and a divergence, and a case done by hand."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuosan.errors import UserError
from kuosan.evaluation.writing import KneserNey, compressed_bits, compressors, text_baselines
from kuosan.evaluation.writing.ngrams import UNICODE

LETTERS = st.text("abc 天地", max_size=12)


def zipf(n: int, seed: int, length: int = 60) -> list[str]:
    """Texts of made-up words, frequent ones far more often than rare ones."""
    generator = np.random.default_rng(seed)
    pool = ["".join(row) for row in np.random.default_rng(0).choice(list("abcdefghij"), (400, 4))]
    weight = 1 / np.arange(1, 401)
    return [" ".join(generator.choice(pool, length // 5, p=weight / weight.sum())) for _ in range(n)]


@settings(max_examples=40)
@given(st.lists(LETTERS, min_size=1, max_size=8), LETTERS, st.integers(1, 6))
def test_probabilities_sum_to_one_after_any_context(texts: list[str], context: str, order: int) -> None:
    p = KneserNey(texts, 6).probabilities(context, order)
    assert p.sum() == pytest.approx(1, abs=1e-12) and (p > 0).all()


def test_probabilities_sum_to_one_with_fitted_discounts() -> None:
    """Many texts, so that all counts of counts are there and the discounts are not the stand-in ones."""
    model = KneserNey(zipf(300, 1), 6)
    for order in range(1, 7):
        for context in ("", "a", "ab c", "jjjjjj", "never 天", "abc" * 9):
            assert model.probabilities(context, order).sum() == pytest.approx(1, abs=1e-12)


@settings(max_examples=40)
@given(st.lists(LETTERS, min_size=1, max_size=5), st.text(max_size=10).filter(bool))
def test_bits_are_those_of_the_probabilities_one_after_another(texts: list[str], text: str) -> None:
    """The sum over characters and END of −log₂ p(next | before), with the escape's price for new characters."""
    model = KneserNey(texts, 3)
    names = [*model.characters, "END", "ESCAPE"]
    total = 0.0
    for i in range(len(text) + 1):
        p = dict(zip(names, model.probabilities(text[:i]), strict=True))
        following = text[i] if i < len(text) else "END"
        if following in p:
            total -= math.log2(p[following])
        else:
            total += math.log2(UNICODE - len(model.characters)) - math.log2(p["ESCAPE"])
    assert model.bits([text]) == pytest.approx(total / len(text), rel=1e-12)


def test_order_one_is_entropy_and_divergence() -> None:
    train, val = zipf(50, 2), zipf(20, 3)
    model = KneserNey(train, 1)
    q = dict(zip([*model.characters, "END"], model.probabilities("")[:-1], strict=True))
    counts = Counter("".join(val)) + Counter({"END": len(val)})
    n = counts.total()
    entropy = -sum(c / n * math.log2(c / n) for c in counts.values())
    divergence = sum(c / n * math.log2(c / n / q[x]) for x, c in counts.items())
    assert divergence > 0
    assert model.bits(val) * (n - len(val)) / n == pytest.approx(entropy + divergence, rel=1e-12)


def test_a_bigram_model_by_hand() -> None:
    """Training "ab", "ab", "ac". Bigrams: ^a 3, ab 2, ac 1, b$ 2, c$ 1. Stand-in discounts ½, 1, 3⁄2.

    Unigram continuations: a follows 1 symbol (^), b 1 (a), c 1 (a), END 2 (b, c); five in all, their discounts
    3·½ + 1 = 5⁄2; base 1/5 of {a, b, c, END, escape}. So p₁(a) = (½ + 5⁄2·1⁄5)/5 = 1⁄5, p₁(END) = (1 + ½)/5 = 3⁄10,
    p₁(escape) = 1⁄10. After a: total 3, discounts 1 + ½, γ = 3⁄2.
    """
    model = KneserNey(["ab", "ab", "ac"], 2)
    assert model.characters == "abc"
    after_a = [(0 + 1.5 * 0.2) / 3, (1 + 1.5 * 0.2) / 3, (0.5 + 1.5 * 0.2) / 3, 1.5 * 0.3 / 3, 1.5 * 0.1 / 3]
    assert model.probabilities("a") == pytest.approx(after_a, rel=1e-12)
    # At the start ^a 3 times of 3, discount 3⁄2: p(a) = (3 − 3⁄2 + 3⁄2·1⁄5)/3.
    assert model.probabilities("")[0] == pytest.approx((1.5 + 1.5 * 0.2) / 3, rel=1e-12)
    unseen = model.probabilities("?")
    assert unseen == pytest.approx([0.2, 0.2, 0.2, 0.3, 0.1], rel=1e-12), "an unknown context adds nothing"


def test_discounts_are_those_of_the_counts_of_counts() -> None:
    """n₁, n₂, n₃, n₄ = 8, 4, 2, 1 give Y = ½ and D = ½, 2 − 3·½·½, 3 − 4·½·½ (Chen & Goodman, eq. 26)."""
    from kuosan.evaluation.writing.ngrams import _discounts

    counts = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4] + [9] * 3)
    assert _discounts(counts) == pytest.approx([0, 0.5, 1.25, 2.0])


def test_francisco_follows_san_only() -> None:
    """A frequent character of one context is rare elsewhere: below the top, contexts are counted, not occurrences."""
    model = KneserNey(["qu" * 30 + "abacadbc"], 2)
    p = dict(zip(model.characters, model.probabilities("z"), strict=False))
    assert p["u"] < p["a"], "u is the most frequent character, but follows only q"


def test_a_longer_memory_pays_and_nothing_is_endless() -> None:
    train, val = zipf(400, 4), zipf(40, 5)
    bits = [KneserNey(train, 4).bits(val, order) for order in (1, 2, 3, 4)]
    assert bits == sorted(bits, reverse=True) and bits[0] > bits[3] + 1
    strange = KneserNey(train, 4).bits(["天地玄黃\ud800"])
    assert math.isfinite(strange) and strange > 20
    with pytest.raises(ValueError, match="no character"):
        KneserNey(train, 2).bits([""])
    with pytest.raises(ValueError, match="order"):
        KneserNey(train, 2).bits(val, 3)
    with pytest.raises(ValueError, match="order"):
        KneserNey([], 2)


@pytest.mark.parametrize("name", compressors())
def test_compressors_know_what_they_have_seen(name: str) -> None:
    """Noise of two equal characters costs its bit; a text that stands in training costs next to nothing."""
    bits = "".join(np.random.default_rng(0).choice(["a", "b"], 40_000))
    assert 0.995 < compressed_bits(compressors()[name], [bits]) < 1.6, (
        "two symbols, one bit, and their overhead"
    )
    text = "".join(np.random.default_rng(1).choice(list("abcdefgh"), 4000))
    alone, given = (compressed_bits(compressors()[name], [text], known) for known in ([], [text]))
    assert alone > 2.9 and given < 0.3


def test_text_baselines_name_all_and_refuse_nothingness() -> None:
    found = text_baselines(zipf(60, 6), zipf(9, 7), orders=(2, 4))
    assert {
        "unigram",
        "kneser_ney_2",
        "kneser_ney_4",
        "xz",
        "xz_given_train",
        "zstd",
        "zstd_given_train",
    } <= set(found)
    assert all(0 < v < 20 for v in found.values())
    assert found["xz_given_train"] < found["xz"]
    for train, val in (([], ["a"]), (["a"], []), (["a"], ["", ""])):
        with pytest.raises(UserError, match="nothing to measure"):
            text_baselines(train, val)


def test_shakespeare_is_no_harder_than_under_witten_bell(shared_data: Callable[[str], Path]) -> None:
    """Known: Witten-Bell smoothing reaches 4.83, 3.59, 2.96, 2.56, 2.41 bits on the last tenth, orders 1 to 5."""
    text = (shared_data("tinyshakespeare") / "input.txt").read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    model = KneserNey([text[:cut]], 5)
    for order, known in enumerate((4.83, 3.59, 2.96, 2.56, 2.41), 1):
        bits = model.bits([text[cut:]], order)
        assert known - 0.2 < bits < known + 0.005, order
