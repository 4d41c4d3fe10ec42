"""How varied a set is: known answers of the Vendi score, of pairwise distances, and of frequencies of classes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kuosan.evaluation import (
    ClassFrequency,
    Pairwise,
    PairwiseBetween,
    PairwiseWithin,
    Vendi,
    measure,
)
from kuosan.evaluation.kernel import median_distance
from kuosan.evaluation.recognition import class_shares
from kuosan.evaluation.variety import vendi


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sizes", [(6, 6, 6, 6), (20,), (1, 3, 12)])
def test_the_vendi_score_counts_groups_that_have_nothing_in_common(sizes: tuple[int, ...]) -> None:
    """With K of blocks of ones, the eigenvalues are the shares of the groups."""
    rows = torch.cat([torch.full((n, 2), 1000.0 * i) for i, n in enumerate(sizes)])
    shares = [n / sum(sizes) for n in sizes]
    entropy = -sum(p * math.log(p) for p in shares)
    assert vendi(rows, 1.0) == pytest.approx(math.exp(entropy), rel=1e-9)


def test_the_vendi_score_of_two_items_is_in_closed_form() -> None:
    """K/2 has the eigenvalues (1 ± k)/2."""
    k = math.exp(-(3.0**2) / (2 * 2.0**2))
    a, b = (1 + k) / 2, (1 - k) / 2
    expected = math.exp(-a * math.log(a) - b * math.log(b))
    assert vendi(torch.tensor([[0.0], [3.0]]), 2.0) == pytest.approx(expected, rel=1e-12)


def test_the_vendi_score_lies_between_one_and_n_whatever_the_scale() -> None:
    rows = normal(60, 3, 0)
    assert 1 <= vendi(rows, median_distance(rows)) <= 60
    assert vendi(7 * rows + 100, 7 * median_distance(rows)) == pytest.approx(
        vendi(rows, median_distance(rows)), rel=1e-6
    )


def test_pairwise_distances_of_gaussians() -> None:
    """E|x - x'| of N(0, s²I) in d dimensions is 2 s Γ((d+1)/2)/Γ(d/2); errors cover it, and the law is the floor's."""
    d, s, misses = 5, 1.7, 0
    expected = 2 * s * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    for seed in range(40):
        found = Pairwise().estimate(s * normal(120, d, seed), normal(10, d, 99))
        assert found.stderr is not None
        misses += abs(found.value - expected) > 2 * found.stderr
    assert misses <= 6


def test_distances_within_and_between_conditions_are_those_of_their_pairs() -> None:
    rows = normal(30, 4, 1)
    labels = torch.arange(30) % 3
    shares = {"labels": labels, "reference_labels": labels}
    apart = torch.cdist(rows, rows)
    same = labels[:, None] == labels[None, :]
    other = ~torch.eye(30, dtype=torch.bool)
    assert PairwiseWithin().value(rows, rows, **shares) == pytest.approx(float(apart[same & other].mean()))
    assert PairwiseBetween().value(rows, rows, **shares) == pytest.approx(float(apart[~same].mean()))


def test_real_pairs_are_weighted_to_the_conditions_that_were_asked_for() -> None:
    """Class 1 is three times as wide; asked in shares 3 : 1, and drawn 1 : 1 in the reference."""
    asked = torch.tensor([0] * 300 + [1] * 100)
    true = torch.tensor([0, 1] * 200)

    def drawn(labels: Tensor, seed: int) -> Tensor:
        return normal(len(labels), 4, seed) * (1 + 2 * labels[:, None])

    found = PairwiseWithin().estimate(drawn(asked, 1), drawn(true, 2), labels=asked, reference_labels=true)
    unit = 2 * math.exp(math.lgamma(2.5) - math.lgamma(2))
    assert found.floor == pytest.approx(unit * (0.75 + 0.25 * 3), rel=0.05)
    assert abs(found.value - found.floor) < 3 * math.hypot(found.stderr, found.floor_stderr)


def test_conditions_without_pairs_are_no_measure() -> None:
    rows, each = normal(12, 2, 0), torch.arange(12)
    with pytest.raises(ValueError, match="make pairs"):
        PairwiseWithin()(rows, rows, labels=each, reference_labels=each)
    alike = torch.zeros(12, dtype=torch.int64)
    with pytest.raises(ValueError, match="make pairs"):
        PairwiseBetween()(rows, rows, labels=alike, reference_labels=alike)


def test_the_share_that_should_be_of_another_class() -> None:
    """A tenth of the samples moved from class 0 to class 2: TV is a tenth, and zero against themselves."""
    shown = torch.tensor([0] * 40 + [1] * 30 + [2] * 30)
    moved = torch.tensor([0] * 30 + [1] * 30 + [2] * 40)
    one_hot = torch.nn.functional.one_hot
    real, mine = one_hot(shown, 3).double(), one_hot(moved, 3).double()
    assert ClassFrequency().value(mine, real) == pytest.approx(0.1)
    assert ClassFrequency().value(real, real) == 0
    assert class_shares(mine).tolist() == [0.3, 0.3, 0.4]


def test_frequencies_are_held_against_as_many_real_items() -> None:
    """TV of finite sets is positive by chance alone; the floor has the same chance in it."""
    generator = torch.Generator().manual_seed(0)
    gaps = []
    for _ in range(20):
        scores = torch.nn.functional.one_hot(torch.randint(10, (1400,), generator=generator), 10).double()
        found = measure(ClassFrequency(), scores[:100], scores[100:400], scores[400:], generator=generator)
        assert found.floor is not None and found.floor > 0.03
        gaps.append(found.value - found.floor)
    mean = sum(gaps) / len(gaps)
    spread = (sum((g - mean) ** 2 for g in gaps) / 19 / 20) ** 0.5
    assert abs(mean) < 3 * spread


def test_vendi_of_samples_is_taken_by_the_ruler_of_real_items() -> None:
    """Samples shrunk to a tenth are fewer different items, though their own median distance would not tell."""
    real = normal(400, 3, 5)
    shrunk = 0.1 * normal(200, 3, 6)
    assert Vendi().value(shrunk, real) < 1.2 < Vendi().value(normal(200, 3, 7), real)
