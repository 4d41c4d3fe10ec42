"""Near copies: the estimate is Jaccard's, and linked texts are found among many others."""

from __future__ import annotations

import numpy as np
import pytest

from kuosan.modalities.near_copies import near_copies, resemblance, shingle_width, sketch


def sentence(n: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    return "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), n))


def jaccard(one: str, other: str) -> float:
    a, b = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (one, other))
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("cut", [3, 12, 25, 50])
def test_short_texts_are_compared_exactly(cut: int) -> None:
    text = sentence(60, 1)
    other = text[cut:] + sentence(4, 2)
    assert resemblance(sketch(text), sketch(other)) == pytest.approx(jaccard(text, other))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_long_texts_are_compared_without_bias(share: float) -> None:
    errors = []
    for seed in range(30):
        text = sentence(4_000, seed)
        other = text[: int(4_000 * share)] + sentence(4_000 - int(4_000 * share), 1_000 + seed)
        true = jaccard(text, other)
        errors.append((resemblance(sketch(text), sketch(other)) - true) / (true * (1 - true) / 128) ** 0.5)
    assert abs(np.mean(errors)) < 4 / 30**0.5 and 0.5 < np.std(errors) < 1.5


def test_case_and_blanks_do_not_count_and_repetition_neither() -> None:
    assert np.array_equal(sketch("One  Two\nthree "), sketch("one two THREE"))
    assert len(sketch("a" * 9_000)) == 1 and len(sketch("")) == 1


def test_near_copies_are_found_and_others_are_not() -> None:
    texts = [sentence(300, i) for i in range(200)]
    texts[150] = texts[3][:290] + "another end"
    texts[160] = texts[150] + "and more of it"
    texts[170] = texts[4][:150] + texts[170][:150]
    assert near_copies(texts) == [[3, 150, 160]]
    assert near_copies(texts[:100]) == []


def test_a_common_opening_makes_no_copies() -> None:
    opening = "Once upon a time there was, in a land far away beyond the hills. "
    texts = [opening + sentence(200, i) for i in range(300)]
    texts[200] = texts[50] + "."
    assert near_copies(texts) == [[50, 200]]


@pytest.mark.parametrize(
    ("alphabet", "widest"), [("ab", 48), ("acgt", 24), ("abcdefghijklmnopqrstuvwxyz", 5)]
)
def test_texts_of_few_letters_need_long_runs(alphabet: str, widest: int) -> None:
    rng = np.random.default_rng(8)
    texts = ["".join(rng.choice(list(alphabet), 2_000)) for _ in range(60)]
    assert shingle_width(texts) <= widest and near_copies(texts) == []
    texts[50] = texts[10][:700] + alphabet[0] * 3 + texts[10][700:]
    assert near_copies(texts) == [[10, 50]]
