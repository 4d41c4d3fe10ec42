"""Known answers of the classifier test and of slices, and of telling two numbers apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kuosan.evaluation.two_sample import GRID, Slices, directions, sliced_wasserstein, two_sample_test
from kuosan.evaluation.versus import Estimated, between, interval, over_runs, samples_needed


def rows(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sets_of_one_law_are_told_apart_no_more_often_than_the_level_says() -> None:
    false = sum(two_sample_test(rows(120, 4, 2 * s), rows(120, 4, 2 * s + 1)).p < 0.05 for s in range(200))
    assert false <= 200 * 0.05 + 3 * math.sqrt(200 * 0.05 * 0.95)
    assert false >= 1  # nor never


def test_sets_far_apart_are_told_apart_and_copies_of_one_set_are_not() -> None:
    x = rows(100, 3, 0)
    far = two_sample_test(x, x + 20)
    assert far.accuracy == 1 and far.p < 1e-20
    assert two_sample_test(rows(400, 3, 1), rows(400, 3, 2) * 3).p < 1e-3  # of one mean


def test_what_is_moved_is_as_far_as_it_was_moved() -> None:
    x, v = rows(300, 5, 0), torch.tensor([3.0, 0, 0, -4.0, 0], dtype=torch.float64)
    assert sliced_wasserstein(x, x + v) == pytest.approx(25 / 5, rel=1e-9)
    assert sliced_wasserstein(x, 2 * x) == pytest.approx(float(x.square().sum(1).mean()) / 5, rel=1e-9)
    assert sliced_wasserstein(x, x[torch.randperm(300, generator=torch.Generator().manual_seed(1))]) == 0


def test_directions_are_whole_rotations() -> None:
    for d in (3, 200):
        along = directions(d)
        assert along.shape[1] % d == 0
        assert torch.allclose(
            along @ along.T, along.shape[1] / d * torch.eye(d, dtype=torch.float64), atol=1e-9
        )


def test_runs_that_agree_by_luck_are_not_free_of_error() -> None:
    assert over_runs([2.0, 2.0, 2.0], [0.3, 0.3, 0.3]).stderr == pytest.approx(0.3 / math.sqrt(3))
    assert over_runs([1.0, 3.0], [None, None]).stderr == pytest.approx(1.0)  # √2 / √2


def test_welch_s_interval() -> None:
    """Equal errors of three runs each: four degrees of freedom, t = 2.776."""
    d = between(Estimated(5, 1, 3), Estimated(1, 1, 3))
    assert d.value == 4 and d.high - d.value == pytest.approx(2.7764451 * math.sqrt(2))
    assert d.told and not between(Estimated(4.9, 1, 3), Estimated(1, 1, 3)).told
    assert interval(0, 1).high == pytest.approx(1.959964, abs=1e-5)


def test_as_many_samples_as_are_said_to_be_needed_have_the_power() -> None:
    """With the error of that n, a difference of (1.96 + 0.84) errors is seen four times in five."""
    n, d, a, b = 500, 0.1, 0.004, 0.0002
    needed = samples_needed(d, a, b, n)
    assert needed is not None
    error = math.sqrt(a * n / needed + b)
    assert d / error == pytest.approx(1.959964 + 0.841621, rel=1e-3)
    assert samples_needed(0.01, a, 0.01, n) is None


def test_slices_that_leave_rows_out_are_those_of_the_rows_that_stay() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(90, 7, generator=generator)
    keep = torch.rand(90, generator=generator) < 0.7
    # To rounding: how a product of matrices sums depends on how many rows it has, and on the processor.
    torch.testing.assert_close(Slices.of(rows).kept(keep), Slices.of(rows[keep]).values, rtol=0, atol=1e-13)


def test_sets_of_different_sizes_are_compared_by_their_quantiles() -> None:
    """Of repeated rows, whose law is the same, the distance is what torch's own quantiles say."""
    generator = torch.Generator().manual_seed(4)
    x, y = torch.randn(80, 3, generator=generator), torch.randn(120, 3, generator=generator)
    u = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    a, b = (torch.quantile(rows.double() @ directions(3), u, dim=0) for rows in (x, y))
    assert sliced_wasserstein(x, y) == pytest.approx(float((a - b).square().mean()), rel=1e-12)
