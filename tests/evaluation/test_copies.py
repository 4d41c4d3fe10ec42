"""Copies are found where there are copies, and only there."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kuosan.evaluation import ClassAccuracy, Copies, NearestDistance
from kuosan.evaluation.copies import calibrate, first_of_each, honest_distances, nearest_table
from kuosan.evaluation.estimates import nearest, share_stderr


def normal(n: int, seed: int, d: int = 6) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_a_fifth_of_copies_is_found_and_named() -> None:
    train, heldout, samples = normal(800, 1), normal(300, 2), normal(200, 3)
    samples[:40] = train[100:140]
    index, distance = nearest(samples, train)
    honest = honest_distances(train, heldout)
    found = Copies()(distance[:, None], honest.distances)
    assert found.value == pytest.approx(0.2, abs=0.03)
    assert found.sigmas is not None and found.sigmas > 5
    table = nearest_table(index, distance, honest.distances, 40)
    assert {row.sample: row.train for row in table} == {i: 100 + i for i in range(40)}
    assert all(row.distance == 0 and row.percentile == 0 for row in table)


def test_noisy_copies_are_found_too() -> None:
    train, samples = normal(800, 1), normal(200, 3)
    samples[:40] = train[:40] + 0.02 * normal(40, 4)
    honest = honest_distances(train, normal(300, 2))
    assert Copies().value(nearest(samples, train)[1][:, None], honest.distances) >= 0.2


def test_honest_samples_fall_below_as_often_as_expected() -> None:
    """Eq. (1) is exact: over fresh training, held-out and samples, the mean share is j/(H+1)."""
    shares, floors = [], []
    for seed in range(60):
        train, heldout, samples = normal(200, 3 * seed), normal(60, 3 * seed + 1), normal(60, 3 * seed + 2)
        honest = honest_distances(train, heldout)
        found = Copies()(nearest(samples, train)[1][:, None], honest.distances)
        shares.append(found.value)
        floors.append((found.floor, found.floor_stderr))
    assert {floor for floor, _ in floors} == {1 / 61}
    assert np.mean(shares) == pytest.approx(1 / 61, abs=3 * np.std(shares) / math.sqrt(60))
    # The share varies by the threshold's own luck and by the binomial of 60 samples.
    expected = math.hypot(floors[0][1], math.sqrt(1 / 61 * 60 / 61 / 60))
    assert np.std(shares) == pytest.approx(expected, rel=0.35)


def test_exact_duplicates_in_held_out_do_not_set_the_threshold() -> None:
    train, heldout = normal(300, 1), normal(100, 2)
    clean = calibrate(honest_distances(train, heldout).distances)
    heldout = torch.cat([heldout, train[:30]])
    honest = honest_distances(train, heldout)
    assert calibrate(honest.distances) == clean
    assert "30 exact duplicates" in honest.source


def test_an_item_that_is_held_out_many_times_counts_once() -> None:
    """Else one that lies near to training would set the threshold alone, and every honest sample would pass."""
    train, heldout = normal(300, 1), normal(150, 2)
    near = heldout[nearest(heldout, train)[1].argmin()]
    clean = calibrate(honest_distances(train, heldout).distances)
    honest = honest_distances(train, torch.cat([heldout, near.expand(40, -1)]))
    assert calibrate(honest.distances) == clean and "40 exact duplicates" in honest.source
    assert first_of_each(torch.tensor([[1.0], [2.0], [1.0], [3.0], [2.0]])).tolist() == [0, 1, 3]


def test_false_alarms_are_as_rare_as_stated_where_data_has_duplicates() -> None:
    """Held-out items of which some stand in training, and some twice: fresh items still fall below in j/(H+1)."""
    shares, floor = [], 0.0
    for seed in range(60):
        train, heldout, samples = normal(200, 3 * seed), normal(99, 3 * seed + 1), normal(50, 3 * seed + 2)
        honest = honest_distances(train, torch.cat([heldout, train[:20], heldout[:30], heldout[:30]]))
        found = Copies()(nearest(samples, train)[1][:, None], honest.distances)
        shares.append(found.value)
        floor = float(found.floor or 0)
    assert floor == pytest.approx(0.01)
    assert np.mean(shares) == pytest.approx(floor, abs=3 * np.std(shares) / math.sqrt(60))


def test_few_held_out_items_are_replaced_by_training_items() -> None:
    train = normal(200, 1)
    honest = honest_distances(train, normal(5, 2))
    assert len(honest.distances) == 200 and "each to the rest" in honest.source
    with pytest.raises(ValueError, match="20 distinct"):
        calibrate(honest_distances(train[:10], normal(5, 2)).distances)


def test_nearest_is_exact_and_zero_for_equal_rows() -> None:
    x, y = normal(70, 1) + 300, normal(90, 2) + 300
    x[5] = y[33]
    index, distance = nearest(x, y, chunk=16)
    plain = (x[:, None].double() - y[None].double()).norm(dim=2)
    assert torch.equal(index, plain.argmin(1))
    assert distance[5] == 0 and torch.allclose(distance, plain.min(1).values, rtol=1e-12, atol=0)
    others, apart = nearest(y, y, exclude_self=True)
    assert (others != torch.arange(90)).all() and (apart > 0).all()


def test_nearest_distance_against_its_floor() -> None:
    train = normal(400, 1)
    honest = honest_distances(train, normal(200, 2)).distances
    copied = NearestDistance()(nearest(train[:50] + 0.01, train)[1][:, None], honest)
    assert copied.value == pytest.approx(0.01 * math.sqrt(6), rel=1e-3) and copied.value < copied.floor


def test_share_stderr_is_calibrated_and_never_zero() -> None:
    rng = np.random.default_rng(0)
    for p in (0.05, 0.5, 0.9):
        shares = rng.binomial(300, p, 4000) / 300
        inside = np.mean([abs(s - p) < 2 * share_stderr(s, 300) for s in shares])
        assert 0.92 < inside < 0.99
    assert 0 < share_stderr(0.0, 10) < 0.1


def test_ceiling_is_weighted_to_the_classes_asked_for() -> None:
    """Class 0 is always recognised, class 1 half of the time; asked 3 : 1 the ceiling is 0.875."""
    reference_labels = torch.tensor([0, 0, 1, 1])
    reference = torch.tensor([[1.0, 0], [1, 0], [0, 1], [1, 0]])
    labels = torch.tensor([0, 0, 0, 1])
    found = ClassAccuracy()(
        torch.tensor([[1.0, 0]] * 4), reference, labels=labels, reference_labels=reference_labels
    )
    assert found.value == 0.75 and found.floor == pytest.approx(0.875)
